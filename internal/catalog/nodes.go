package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// idsAtOnce is how many records one query finds: the nodes below a node, or the
// blocks of a leaf.
const idsAtOnce = 64

var manyIDs = `id IN (?` + strings.Repeat(`, ?`, idsAtOnce-1) + `)`

// locateNodes finds map nodes, which are in no domain.
var locateNodes = `SELECT id, container, pos, length, crc, codec, damaged FROM records WHERE kind = 2 AND ` + manyIDs

// chunks gives the ids as the arguments of such queries.
func chunks(ids []block.ID) iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		args := make([]any, idsAtOnce)
		for part := range slices.Chunk(ids, idsAtOnce) {
			for i := range args {
				args[i] = part[min(i, len(part)-1)][:] // the last once more
			}
			if !yield(args) {
				return
			}
		}
	}
}

// LocateNodes implements blockstore.Index.
func (c *Catalog) LocateNodes(ctx context.Context, ids []block.ID) (map[block.ID]blockstore.Location, error) {
	found := make(map[block.ID]blockstore.Location, len(ids))
	for args := range chunks(ids) {
		if err := c.locatePart(ctx, args, found); err != nil {
			return nil, fmt.Errorf("locate map nodes: %w", err)
		}
	}
	return found, nil
}

func (c *Catalog) locatePart(ctx context.Context, ids []any, found map[block.ID]blockstore.Location) error {
	rows, err := c.stmt.locateNodes.QueryContext(ctx, ids...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id sql.RawBytes
		var loc blockstore.Location
		var crc int64
		if err := rows.Scan(&id, &loc.Container, &loc.Offset, &loc.Length, &crc, &loc.Codec, &loc.Damaged); err != nil {
			return err
		}
		if len(id) != len(block.ID{}) {
			return fmt.Errorf("id of %d bytes", len(id))
		}
		loc.CRC = uint64(crc)
		found[block.ID(id)] = loc
	}
	return rows.Err()
}
