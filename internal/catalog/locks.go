package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"shale/internal/snapshot"
)

// lockTimeStep is how far the recorded time of locks may be behind while locks
// are in force.
const lockTimeStep = time.Minute

// notLocked is the precondition of what deletes a row of snapshots. endLocks
// comes before it in the same transaction.
const notLocked = `NOT EXISTS (SELECT 1 FROM locks WHERE locks.snapshot = snapshots.key AND locks.state < 4)`

// endLocks moves the recorded time of locks up to now, ends what comes to its
// end by it, and returns it, in milliseconds.
func (c *Catalog) endLocks(ctx context.Context, tx *sql.Tx) (now int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE lock_time SET latest_ms = CASE WHEN latest_ms < ?1 THEN ?1 ELSE latest_ms END RETURNING latest_ms`,
		millis(c.now())).Scan(&now)
	if err != nil {
		return 0, fmt.Errorf("time of locks: %w", err)
	}
	for _, query := range []string{
		`UPDATE locks SET state = 3 WHERE state = 2 AND cooloff_ms <= ?`,
		`UPDATE locks SET state = 4 WHERE state < 4 AND expires_ms > 0 AND expires_ms <= ?`,
	} {
		if _, err := tx.ExecContext(ctx, query, now); err != nil {
			return 0, fmt.Errorf("end locks: %w", err)
		}
	}
	return now, nil
}

// startLock lets the days of a snapshot's lock begin to count.
func (c *Catalog) startLock(ctx context.Context, key int64) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		now, err := c.endLocks(ctx, tx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE locks SET start_ms = ?1,
			expires_ms = CASE expires_ms WHEN 0 THEN ?1 + days * ?2 ELSE expires_ms END
			WHERE snapshot = ?3 AND start_ms = 0 AND state < 4`, now, (24 * time.Hour).Milliseconds(), key)
		return err
	}
}

// cancelQuery finds the snapshots that have failed just now by what is left of
// them, however many locks there are.
const cancelQuery = `DELETE FROM locks WHERE snapshot IN (SELECT key FROM snapshots WHERE leftover = 1 AND state = 4)`

// cancelLocks removes the locks of snapshots that have failed, with leftover
// set, in the same transaction.
func cancelLocks(ctx context.Context) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, cancelQuery)
		return err
	}
}

// KeepLockTime implements snapshot.LockCatalog.
func (c *Catalog) KeepLockTime(ctx context.Context) error {
	now := millis(c.now())
	// Most calls find nothing, and need no transaction for it.
	var due bool
	err := c.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM locks WHERE state < 4)
			AND (SELECT latest_ms FROM lock_time) <= ?2
		OR EXISTS (SELECT 1 FROM locks WHERE state = 2 AND cooloff_ms <= ?1)
		OR EXISTS (SELECT 1 FROM locks WHERE state < 4 AND expires_ms BETWEEN 1 AND ?1)`,
		now, now-lockTimeStep.Milliseconds()).Scan(&due)
	if err != nil {
		return fmt.Errorf("look for locks that end: %w", err)
	}
	if !due {
		return nil
	}
	return c.update(ctx, func(tx *sql.Tx) error {
		_, err := c.endLocks(ctx, tx)
		return err
	})
}

const lockColumns = `locks.state, locks.created_ms, days, locks.start_ms, expires_ms, cooloff_hours, cooloff_ms`

// lockScan gives where to scan lockColumns to, and what fills in the lock
// afterwards.
func lockScan(l *snapshot.Lock) (dest []any, fill func()) {
	var created, start, expires, coolOff int64
	return []any{&l.State, &created, &l.Days, &start, &expires, &l.CoolOffHours, &coolOff}, func() {
		l.CreatedAt, l.StartedAt = fromMillis(created), fromMillis(start)
		l.ExpiresAt, l.CoolOffEnds = fromMillis(expires), fromMillis(coolOff)
	}
}

// Lock implements snapshot.LockCatalog.
func (c *Catalog) Lock(ctx context.Context, key int64) (l snapshot.Lock, found bool, now time.Time, err error) {
	var latest int64
	if err := c.reader.QueryRowContext(ctx, `SELECT latest_ms FROM lock_time`).Scan(&latest); err != nil {
		return snapshot.Lock{}, false, time.Time{}, fmt.Errorf("time of locks: %w", err)
	}
	now = fromMillis(max(latest, millis(c.now())))
	dest, fill := lockScan(&l)
	err = c.reader.QueryRowContext(ctx, `SELECT `+lockColumns+` FROM locks WHERE snapshot = ?`, key).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return snapshot.Lock{}, false, now, nil
	}
	if err != nil {
		return snapshot.Lock{}, false, time.Time{}, fmt.Errorf("read lock: %w", err)
	}
	fill()
	return l, true, now, nil
}

// SetLock implements snapshot.LockCatalog.
func (c *Catalog) SetLock(ctx context.Context, key int64, state snapshot.State, old *snapshot.Lock, l snapshot.Lock) (done bool, err error) {
	if old == nil {
		if err := c.checkRoom(); err != nil {
			return false, err
		}
	}
	err = c.update(ctx, func(tx *sql.Tx) error {
		done = false
		if _, err := c.endLocks(ctx, tx); err != nil {
			return err
		}
		values := []any{
			key, l.State, millis(l.CreatedAt), l.Days, millis(l.StartedAt), millis(l.ExpiresAt), l.CoolOffHours, millis(l.CoolOffEnds),
			state == snapshot.Completed,
		}
		query := `INSERT INTO locks (snapshot, state, created_ms, days, start_ms, expires_ms, cooloff_hours, cooloff_ms)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
			WHERE EXISTS (SELECT 1 FROM snapshots WHERE key = ?1 AND state IN (1, 2, 3, 6) AND (state = 3) = ?9)
			ON CONFLICT DO NOTHING`
		if old != nil {
			query = `UPDATE locks SET state = ?2, created_ms = ?3, days = ?4, start_ms = ?5, expires_ms = ?6, cooloff_hours = ?7, cooloff_ms = ?8
				WHERE snapshot = ?1
				AND EXISTS (SELECT 1 FROM snapshots WHERE key = ?1 AND state IN (1, 2, 3, 6) AND (state = 3) = ?9)
				AND state = ?10 AND days = ?11 AND start_ms = ?12 AND expires_ms = ?13 AND cooloff_ms = ?14`
			values = append(values, old.State, old.Days, millis(old.StartedAt), millis(old.ExpiresAt), millis(old.CoolOffEnds))
		}
		result, err := tx.ExecContext(ctx, query, values...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if done = n == 1; err != nil || !done {
			return err
		}
		return noteChange(ctx, tx, `s.key = ?`, key)
	})
	if err != nil {
		return false, fmt.Errorf("lock snapshot: %w", err)
	}
	return done, nil
}

// Unlock implements snapshot.LockCatalog.
func (c *Catalog) Unlock(ctx context.Context, key int64) (done bool, err error) {
	err = c.update(ctx, func(tx *sql.Tx) error {
		done = false
		if _, err := c.endLocks(ctx, tx); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM locks WHERE snapshot = ? AND state IN (1, 2)`, key)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if done = n == 1; err != nil || !done {
			return err
		}
		return noteChange(ctx, tx, `s.key = ?`, key)
	})
	if err != nil {
		return false, fmt.Errorf("unlock snapshot: %w", err)
	}
	return done, nil
}

// lockedQuery goes along the account's own snapshots, so that a page costs no
// more for the locks of others, and all pages together one look at each.
const lockedQuery = `SELECT id, account, snapshots.start_ms, ` + lockColumns + ` FROM snapshots
	CROSS JOIN locks WHERE locks.snapshot = snapshots.key
	AND account = ? AND region = ? AND (snapshots.start_ms, id) > (?, ?) AND snapshots.state IN (1, 2, 3, 6)
	ORDER BY snapshots.start_ms, id LIMIT ?`

// Locked implements snapshot.LockCatalog.
func (c *Catalog) Locked(ctx context.Context, account, region string, after snapshot.Cursor, limit int) ([]snapshot.LockedSnapshot, error) {
	rows, err := c.reader.QueryContext(ctx, lockedQuery, account, region, millis(after.Start), after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list locks: %w", err)
	}
	defer rows.Close()
	var list []snapshot.LockedSnapshot
	for rows.Next() {
		var l snapshot.LockedSnapshot
		var start int64
		dest, fill := lockScan(&l.Lock)
		if err := rows.Scan(append([]any{&l.ID, &l.Account, &start}, dest...)...); err != nil {
			return nil, fmt.Errorf("list locks: %w", err)
		}
		fill()
		l.StartTime = fromMillis(start)
		list = append(list, l)
	}
	return list, rows.Err()
}
