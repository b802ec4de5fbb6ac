package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"shale/internal/snapshot"
)

// bin moves a completed snapshot that is not locked into the recycle bin, until
// the time.
func bin(ctx context.Context, tx *sql.Tx, account, region, id string, now, until time.Time) (done bool, err error) {
	var key int64
	err = tx.QueryRowContext(ctx, `UPDATE snapshots SET state = 7, bin_enter_ms = ?, bin_exit_ms = ?
		WHERE id = ? AND account = ? AND region = ? AND state = 3 AND `+notLocked+` RETURNING key`,
		millis(now), millis(until), id, account, region).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("into the recycle bin: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tags (snapshot, account, position, key, value)
		SELECT ?1, ?2, coalesce(max(position), -1) + 1, ?3, ?4 FROM tags WHERE snapshot = ?1 AND account = ?2`,
		key, account, snapshot.BinTag.Key, snapshot.BinTag.Value)
	return err == nil, err
}

// Binned implements snapshot.BinCatalog.
func (c *Catalog) Binned(ctx context.Context, account, region string, after snapshot.Cursor, limit int) ([]snapshot.BinnedSnapshot, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+snapshotColumns+`, bin_enter_ms, bin_exit_ms FROM snapshots
		WHERE account = ? AND region = ? AND (start_ms, id) > (?, ?) AND state = 7 AND bin_exit_ms > ?
		ORDER BY start_ms, id LIMIT ?`, account, region, millis(after.Start), after.ID, millis(c.now()), limit)
	if err != nil {
		return nil, fmt.Errorf("list recycle bin: %w", err)
	}
	defer rows.Close()
	var list []snapshot.BinnedSnapshot
	for rows.Next() {
		var enter, exit int64
		s, err := scanSnapshot(withMore{rows, []any{&enter, &exit}})
		if err != nil {
			return nil, fmt.Errorf("list recycle bin: %w", err)
		}
		list = append(list, snapshot.BinnedSnapshot{Snapshot: s, EnteredAt: fromMillis(enter), ExitsAt: fromMillis(exit)})
	}
	return list, rows.Err()
}

// withMore is a row that has more columns behind those that are scanned.
type withMore struct {
	row  scanner
	more []any
}

// Scan implements scanner.
func (w withMore) Scan(dest ...any) error { return w.row.Scan(append(dest, w.more...)...) }

// Restore implements snapshot.BinCatalog.
func (c *Catalog) Restore(ctx context.Context, account, region, id string) (s snapshot.Snapshot, done bool, err error) {
	err = c.update(ctx, func(tx *sql.Tx) error {
		s, err = scanSnapshot(tx.QueryRowContext(ctx, `UPDATE snapshots SET state = 3, bin_enter_ms = 0, bin_exit_ms = 0
			WHERE id = ? AND account = ? AND region = ? AND state = 7 AND bin_exit_ms > ? RETURNING `+snapshotColumns,
			id, account, region, millis(c.now())))
		if done = err == nil; errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM tags WHERE snapshot = ? AND key = ?`, s.Key, snapshot.BinTag.Key)
		if err != nil {
			return err
		}
		return noteChange(ctx, tx, `s.key = ?`, s.Key)
	})
	if err != nil {
		return snapshot.Snapshot{}, false, fmt.Errorf("restore from recycle bin: %w", err)
	}
	return s, done, nil
}

// Purge implements snapshot.BinCatalog.
func (c *Catalog) Purge(ctx context.Context) (int64, error) {
	// Most calls find nothing, and need no transaction for it.
	var due bool
	now := millis(c.now())
	err := c.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE state = 7 AND bin_exit_ms <= ?)`, now).Scan(&due)
	if err != nil || !due {
		return 0, err
	}
	var n int64
	err = c.update(ctx, func(tx *sql.Tx) error {
		if err := noteChange(ctx, tx, `s.state = 7 AND s.bin_exit_ms <= ?`, now); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `UPDATE snapshots SET state = 5, deleted_ms = ?1, leftover = 1
			WHERE state = 7 AND bin_exit_ms <= ?1 AND `+notLocked, now)
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge recycle bin: %w", err)
	}
	return n, nil
}
