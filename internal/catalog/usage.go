package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"shale/internal/block"
	"shale/internal/snapshot"
)

// usageRows bounds one transaction that records usage, so that writes get in
// between.
const usageRows = 2000

// Holders implements snapshot.UsageCatalog.
func (c *Catalog) Holders(ctx context.Context) ([]snapshot.Holder, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT key, state NOT IN (3, 7), CASE WHEN state IN (3, 7) THEN root ELSE base END
		FROM snapshots WHERE state <> 5 AND state <> 4 ORDER BY lineage, key`)
	if err != nil {
		return nil, fmt.Errorf("list what holds blocks: %w", err)
	}
	defer rows.Close()
	var list []snapshot.Holder
	for rows.Next() {
		var h snapshot.Holder
		var root []byte
		if err := rows.Scan(&h.Key, &h.Pending, &root); err != nil {
			return nil, fmt.Errorf("list what holds blocks: %w", err)
		}
		if h.Root, err = nullableID(root); err != nil {
			return nil, fmt.Errorf("list what holds blocks: snapshot %d: %w", h.Key, err)
		}
		list = append(list, h)
	}
	return list, rows.Err()
}

// ZeroBlocks implements snapshot.UsageCatalog.
func (c *Catalog) ZeroBlocks(ctx context.Context) (map[block.ID]bool, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT id FROM records WHERE codec = 1`) // by the index records_zero
	if err != nil {
		return nil, fmt.Errorf("list blocks of zeros: %w", err)
	}
	defer rows.Close()
	zeros := make(map[block.ID]bool)
	for rows.Next() {
		var id sql.RawBytes
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list blocks of zeros: %w", err)
		}
		if len(id) != len(block.ID{}) {
			return nil, fmt.Errorf("list blocks of zeros: an id of %d bytes", len(id))
		}
		zeros[block.ID(id)] = true
	}
	return zeros, rows.Err()
}

// SetUsage implements snapshot.UsageCatalog.
func (c *Catalog) SetUsage(ctx context.Context, usage map[int64]snapshot.Usage, of snapshot.HoldersDigest) error {
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(usage)), usageRows) {
		if err := c.checkRoom(); err != nil {
			return err
		}
		err := c.update(ctx, func(tx *sql.Tx) error {
			set, err := tx.PrepareContext(ctx, `INSERT INTO usage (snapshot, unique_bytes, shared_bytes, counted_ms)
				SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM snapshots WHERE key = ?1 AND state IN (3, 7))
				ON CONFLICT (snapshot) DO UPDATE SET
					unique_bytes = excluded.unique_bytes, shared_bytes = excluded.shared_bytes, counted_ms = excluded.counted_ms`)
			if err != nil {
				return err
			}
			defer set.Close()
			for _, key := range keys {
				u := usage[key]
				if _, err := set.ExecContext(ctx, key, u.Unique, u.Shared, millis(u.CountedAt)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("record usage: %w", err)
		}
	}
	_, err := c.change(ctx, "record what usage is of", `INSERT INTO settings (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, usageOf, of[:])
	return err
}

// usageOf is the setting that holds a snapshot.HoldersDigest.
const usageOf = "usage_of"

// UsageOf implements snapshot.UsageCatalog.
func (c *Catalog) UsageOf(ctx context.Context) (of snapshot.HoldersDigest, err error) {
	var value []byte
	err = c.reader.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = ?`, usageOf).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) || err == nil && len(value) != len(of) {
		return of, nil // nothing else would be lost by it than a count
	}
	if err != nil {
		return of, fmt.Errorf("read what usage is of: %w", err)
	}
	return snapshot.HoldersDigest(value), nil
}

// Usage implements snapshot.UsageCatalog.
func (c *Catalog) Usage(ctx context.Context, list []snapshot.Snapshot) error {
	for i := range list {
		var u snapshot.Usage
		var counted int64
		err := c.reader.QueryRowContext(ctx, `SELECT unique_bytes, shared_bytes, counted_ms FROM usage WHERE snapshot = ?`, list[i].Key).
			Scan(&u.Unique, &u.Shared, &counted)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read usage of %s: %w", list[i].ID, err)
		}
		u.CountedAt = fromMillis(counted)
		list[i].Usage = &u
	}
	return nil
}
