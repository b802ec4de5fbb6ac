package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// nodesAtOnce is how many map nodes one query finds.
const nodesAtOnce = 64

// locateNodes finds nodesAtOnce map nodes, which are in no domain.
var locateNodes = `SELECT id, container, pos, length, crc, codec, damaged FROM records WHERE kind = 2 AND id IN (?` +
	strings.Repeat(`, ?`, nodesAtOnce-1) + `)`

// LocateNodes implements blockstore.Index.
func (c *Catalog) LocateNodes(ctx context.Context, ids []block.ID) (map[block.ID]blockstore.Location, error) {
	found := make(map[block.ID]blockstore.Location, len(ids))
	args := make([]any, nodesAtOnce)
	for part := range slices.Chunk(ids, nodesAtOnce) {
		for i := range args {
			args[i] = part[min(i, len(part)-1)][:] // the last once more
		}
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
