package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/scrub"
)

var _ scrub.Catalog = (*Catalog)(nil)

// errDisorder is of rows that are not where they are sought: pages of the
// database are in each other's place. Who reads on behind the last of some rows
// would never come to an end.
var errDisorder = errors.New("rows are out of order: the database is damaged, and shale check says where")

const storedColumns = `id, kind, container, pos, length, crc, codec, damaged, domain, cipher, nonce, sealed`

// scanStored scans storedColumns.
func scanStored(row scanner) (blockstore.Stored, error) {
	var r blockstore.Stored
	l := &r.Location
	var crc int64 // SQL has no unsigned numbers
	var id, nonce, digest []byte
	var sealing blockstore.Sealing
	if err := row.Scan(&id, &r.Kind, &l.Container, &l.Offset, &l.Length, &crc, &l.Codec, &l.Damaged,
		&sealing.Domain, &sealing.Cipher, &nonce, &digest); err != nil {
		return blockstore.Stored{}, err
	}
	if len(id) != len(r.ID) {
		return blockstore.Stored{}, fmt.Errorf("an id of %d bytes", len(id))
	}
	r.ID, l.CRC = block.ID(id), uint64(crc)
	if sealing.Domain == domain.Unencrypted {
		return r, nil
	}
	if len(nonce) != len(sealing.Nonce) || len(digest) != len(sealing.Digest) {
		return r, fmt.Errorf("record %v: nonce of %d and sealed digest of %d bytes", r.ID, len(nonce), len(digest))
	}
	sealing.Nonce, sealing.Digest = domain.Nonce(nonce), domain.SealedDigest(digest)
	l.Sealing = &sealing
	return r, nil
}

// Record implements scrub.Catalog.
func (c *Catalog) Record(ctx context.Context, id block.ID) (blockstore.Stored, bool, error) {
	r, err := scanStored(c.stmt.record.QueryRowContext(ctx, id[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return blockstore.Stored{}, false, nil
	}
	if err != nil {
		return blockstore.Stored{}, false, fmt.Errorf("look up record %v: %w", id, err)
	}
	return r, true, nil
}

// stored gives the records of a query by id, from after the id on. Rows that make
// no sense are left out: the invariants name them.
func (c *Catalog) stored(ctx context.Context, after block.ID, where string, args ...any) ([]blockstore.Stored, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+storedColumns+` FROM records WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	defer rows.Close()
	var list []blockstore.Stored
	for rows.Next() {
		r, err := scanStored(rows)
		if err != nil {
			continue
		}
		if bytes.Compare(r.ID[:], after[:]) <= 0 {
			return nil, fmt.Errorf("list records: %w", errDisorder)
		}
		list, after = append(list, r), r.ID
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	return list, nil
}

// RecordsIn implements scrub.Catalog.
func (c *Catalog) RecordsIn(ctx context.Context, container blockstore.ContainerID, after block.ID, limit int) ([]blockstore.Stored, error) {
	return c.stored(ctx, after, `container = ? AND id > ? ORDER BY id LIMIT ?`, container, after[:], limit)
}

// DamagedRecords implements scrub.Catalog.
func (c *Catalog) DamagedRecords(ctx context.Context, after block.ID, limit int) ([]blockstore.Stored, error) {
	return c.stored(ctx, after, `damaged = 1 AND id > ? ORDER BY id LIMIT ?`, after[:], limit) // by the index records_damaged
}

// CountDamaged counts the records that are marked as damaged.
func (c *Catalog) CountDamaged(ctx context.Context) (n int64, err error) {
	if err := c.reader.QueryRowContext(ctx, `SELECT count(*) FROM records WHERE damaged = 1`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count damaged records: %w", err)
	}
	return n, nil
}

// countedAtOnce is how many records are counted at a time: SQLite sorts in memory
// what it groups.
const countedAtOnce = 1 << 16

// CountRecords implements scrub.Catalog. A record that is moved meanwhile counts
// where it was or where it is.
func (c *Catalog) CountRecords(ctx context.Context, pause func(ctx context.Context, records int64) error) (map[blockstore.ContainerID]int64, error) {
	counts := make(map[blockstore.ContainerID]int64)
	behindAll := bytes.Repeat([]byte{0xff}, len(block.ID{})+1)
	for after := []byte{}; !bytes.Equal(after, behindAll); {
		var last []byte
		err := c.reader.QueryRowContext(ctx, `SELECT id FROM records WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?`, after, c.counted-1).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			last, err = behindAll, nil
		}
		if err == nil && bytes.Compare(last, after) <= 0 {
			err = errDisorder
		}
		var n int64
		if err == nil {
			n, err = c.countRecords(ctx, after, last, counts)
		}
		if err == nil && pause != nil {
			err = pause(ctx, n)
		}
		if err != nil {
			return nil, fmt.Errorf("count records: %w", err)
		}
		after = last
	}
	return counts, nil
}

// countRecords adds the records from after one id to another to the counts, and
// gives their number.
func (c *Catalog) countRecords(ctx context.Context, after, last []byte, counts map[blockstore.ContainerID]int64) (all int64, err error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT container, count(*) FROM records WHERE id > ? AND id <= ? GROUP BY container`, after, last)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id blockstore.ContainerID
		var n int64
		if err := rows.Scan(&id, &n); err != nil {
			return 0, err
		}
		counts[id] += n
		all += n
	}
	return all, rows.Err()
}

// rootColumns are those of a scrub.Root: the map that holds a snapshot's blocks.
const rootColumns = `key, id, CASE WHEN state IN (3, 7) THEN 0 ELSE 1 END, CASE WHEN state IN (3, 7) THEN root ELSE base END,
	CASE WHEN state IN (3, 7) THEN blocks ELSE base_blocks END, domain, volume_gib`

func scanRoot(row scanner) (scrub.Root, error) {
	var r scrub.Root
	var root []byte
	if err := row.Scan(&r.Key, &r.ID, &r.Pending, &root, &r.Blocks, &r.Domain, &r.VolumeGiB); err != nil {
		return scrub.Root{}, err
	}
	var err error
	if r.Root, err = nullableID(root); err != nil {
		return scrub.Root{}, fmt.Errorf("snapshot %s: root: %w", r.ID, err)
	}
	return r, nil
}

// Roots implements scrub.Catalog.
func (c *Catalog) Roots(ctx context.Context) ([]scrub.Root, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+rootColumns+` FROM snapshots WHERE state NOT IN (4, 5) ORDER BY lineage, key`)
	if err != nil {
		return nil, fmt.Errorf("list roots: %w", err)
	}
	defer rows.Close()
	var list []scrub.Root
	for rows.Next() {
		r, err := scanRoot(rows)
		if err != nil {
			return nil, fmt.Errorf("list roots: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// Holds implements scrub.Catalog.
func (c *Catalog) Holds(ctx context.Context, r scrub.Root) (bool, error) {
	now, err := scanRoot(c.reader.QueryRowContext(ctx, `SELECT `+rootColumns+` FROM snapshots WHERE key = ? AND state NOT IN (4, 5)`, r.Key))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up root: %w", err)
	}
	// One that was completed meanwhile has another root, and the base's blocks
	// are no longer its own affair.
	return now.Root == r.Root && now.Pending == r.Pending, nil
}

// Written implements scrub.Catalog.
func (c *Catalog) Written(ctx context.Context, key int64, from block.Index, limit int) ([]blockmap.Entry, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT idx, id FROM pending WHERE snapshot = ? AND idx >= ? ORDER BY idx LIMIT ?`, key, from, limit)
	if err != nil {
		return nil, fmt.Errorf("list written blocks: %w", err)
	}
	defer rows.Close()
	var list []blockmap.Entry
	for rows.Next() {
		var e blockmap.Entry
		var id sql.RawBytes
		if err := rows.Scan(&e.Index, &id); err != nil {
			return nil, fmt.Errorf("list written blocks: %w", err)
		}
		if len(id) != len(e.ID) {
			return nil, fmt.Errorf("list written blocks: block %d has an id of %d bytes", e.Index, len(id))
		}
		if e.Index < from {
			return nil, fmt.Errorf("list written blocks: %w", errDisorder)
		}
		from = e.Index + 1
		e.ID = block.ID(id)
		list = append(list, e)
	}
	return list, rows.Err()
}

// Scrubbed implements scrub.Ledger.
func (c *Catalog) Scrubbed(ctx context.Context) (scrub.Progress, error) {
	var p scrub.Progress
	var began, lastBegan, lastEnded int64
	err := c.reader.QueryRowContext(ctx, `SELECT began_ms, container, bytes, records, last_began_ms, last_ended_ms, last_bytes, last_records, last_damaged
		FROM scrub`).Scan(&began, &p.Container, &p.Bytes, &p.Records, &lastBegan, &lastEnded, &p.Last.Bytes, &p.Last.Records, &p.Last.Damaged)
	if err != nil {
		return scrub.Progress{}, fmt.Errorf("read how far the scrub is: %w", err)
	}
	p.Began, p.Last.Began, p.Last.Ended = fromMillis(began), fromMillis(lastBegan), fromMillis(lastEnded)
	return p, nil
}

// SetScrubbed implements scrub.Ledger.
func (c *Catalog) SetScrubbed(ctx context.Context, p scrub.Progress) error {
	_, err := c.change(ctx, "record how far the scrub is", `UPDATE scrub SET began_ms = ?, container = ?, bytes = ?, records = ?,
			last_began_ms = ?, last_ended_ms = ?, last_bytes = ?, last_records = ?, last_damaged = ?`,
		millis(p.Began), p.Container, p.Bytes, p.Records, millis(p.Last.Began), millis(p.Last.Ended), p.Last.Bytes, p.Last.Records, p.Last.Damaged)
	return err
}

// ScrubEnded implements scrub.Ledger.
func (c *Catalog) ScrubEnded(ctx context.Context, last scrub.Pass) error {
	_, err := c.change(ctx, "record a scrub", `UPDATE scrub SET last_began_ms = ?, last_ended_ms = ?, last_bytes = ?, last_records = ?, last_damaged = ?
		WHERE last_began_ms < ?`,
		millis(last.Began), millis(last.Ended), last.Bytes, last.Records, last.Damaged, millis(last.Began))
	return err
}
