package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"shale/internal/block"
	"shale/internal/domain"
	"shale/internal/snapshot"
)

// States of a row that the service does not see: from a snapshot's deletion
// until the sweep, and in the recycle bin.
const (
	deleted = 5
	binned  = 7
)

type scanner interface{ Scan(dest ...any) error }

// scanSnapshot scans snapshotColumns.
func scanSnapshot(row scanner) (snapshot.Snapshot, error) {
	var s snapshot.Snapshot
	var description sql.NullString
	var start, completed, timeout, deadline int64
	var base, root, checksum, mac []byte
	err := row.Scan(&s.Key, &s.ID, &s.Account, &s.Region, &s.State, &s.Message, &s.ParentID, &s.Lineage, &description, &s.VolumeSize,
		&start, &completed, &timeout, &deadline, &base, &root, &s.BaseBlocks, &s.Blocks, &s.Claim.ChangedBlocks, &checksum,
		&s.Domain, &s.KMSKeyARN, &mac, &s.CompletionMinutes)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	if description.Valid {
		s.Description = &description.String
	}
	s.StartTime, s.CompletedAt, s.Deadline = fromMillis(start), fromMillis(completed), fromMillis(deadline)
	s.Timeout = time.Duration(timeout) * time.Millisecond
	if s.Base, err = nullableID(base); err != nil {
		return snapshot.Snapshot{}, fmt.Errorf("snapshot %s: base: %w", s.ID, err)
	}
	if s.Root, err = nullableID(root); err != nil {
		return snapshot.Snapshot{}, fmt.Errorf("snapshot %s: root: %w", s.ID, err)
	}
	if checksum != nil {
		if len(checksum) != len(block.Digest{}) {
			return snapshot.Snapshot{}, fmt.Errorf("snapshot %s: claimed checksum of %d bytes", s.ID, len(checksum))
		}
		d := block.Digest(checksum)
		s.Claim.Aggregate = &d
	}
	if mac != nil {
		if len(mac) != len(s.MAC) {
			return snapshot.Snapshot{}, fmt.Errorf("snapshot %s: MAC of %d bytes", s.ID, len(mac))
		}
		s.MAC = domain.MAC(mac)
	}
	return s, nil
}

// macValue is the column value of a MAC: NULL for none.
func macValue(m domain.MAC) any {
	if m == (domain.MAC{}) {
		return nil
	}
	return m[:]
}

func nullableID(b []byte) (block.ID, error) {
	if b == nil {
		return block.ID{}, nil
	}
	if len(b) != len(block.ID{}) {
		return block.ID{}, fmt.Errorf("id of %d bytes", len(b))
	}
	return block.ID(b), nil
}

// idValue is the column value of an ID: NULL for the zero ID.
func idValue(id block.ID) any {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

// Snapshot implements snapshot.Catalog.
func (c *Catalog) Snapshot(ctx context.Context, id string) (snapshot.Snapshot, bool, error) {
	kept, version, found := c.completed.get(id)
	if found {
		return kept, true, nil
	}
	s, err := scanSnapshot(c.stmt.snapshotByID.QueryRowContext(ctx, id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && (s.State == deleted || s.State == binned) {
		return snapshot.Snapshot{}, false, nil
	}
	if err != nil {
		return snapshot.Snapshot{}, false, fmt.Errorf("read snapshot %s: %w", id, err)
	}
	if s.State == snapshot.Completed {
		c.completed.put(s, version)
	}
	return s, true, nil
}

// SnapshotToWrite implements snapshot.Catalog.
func (c *Catalog) SnapshotToWrite(ctx context.Context, id string) (snapshot.Snapshot, bool, error) {
	cached, version, found := c.open.get(id)
	if found && c.now().Before(cached.Deadline) { // which writes have moved since
		return cached, true, nil
	}
	s, found, err := c.Snapshot(ctx, id)
	if found && s.State == snapshot.Open {
		c.open.put(s, version)
	}
	return s, found, err
}

// A snapshotCache keeps snapshots in memory, without tags: completed ones, which are looked
// up with each block that is read and change only by being deleted, and open ones,
// which are with each block that is written. It is right because one process alone
// has the database.
type snapshotCache struct {
	mu        sync.RWMutex
	version   int64 // counts the changes
	snapshots map[string]snapshot.Snapshot
}

// maxCached bounds the snapshots in one.
const maxCached = 1024

// get finds a snapshot. The version goes with what is read from the database
// from now on.
func (c *snapshotCache) get(id string) (s snapshot.Snapshot, version int64, found bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s, found = c.snapshots[id]
	return s, c.version, found
}

// put keeps a snapshot, unless one has changed since it was read.
func (c *snapshotCache) put(s snapshot.Snapshot, version int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version != c.version {
		return
	}
	if len(c.snapshots) >= maxCached || c.snapshots == nil {
		c.snapshots = make(map[string]snapshot.Snapshot)
	}
	c.snapshots[s.ID] = s
}

// clear forgets all. It is called after one of them has changed and before
// anybody is told.
func (c *snapshotCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	clear(c.snapshots)
}

// list gives the snapshots of a query over snapshotColumns.
func (c *Catalog) list(ctx context.Context, where string, args ...any) ([]snapshot.Snapshot, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	defer rows.Close()
	var list []snapshot.Snapshot
	for rows.Next() {
		s, err := scanSnapshot(rows)
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// Snapshots implements snapshot.Catalog.
func (c *Catalog) Snapshots(ctx context.Context, account, region string, after snapshot.Cursor, limit int) ([]snapshot.Snapshot, error) {
	return c.list(ctx, `account = ? AND region = ? AND (start_ms, id) > (?, ?) AND state NOT IN (5, 7) ORDER BY start_ms, id LIMIT ?`,
		account, region, millis(after.Start), after.ID, limit)
}

// Completing implements snapshot.Catalog.
func (c *Catalog) Completing(ctx context.Context) ([]snapshot.Snapshot, error) {
	return c.list(ctx, `state = 2 ORDER BY key`)
}

// Bound implements snapshot.Catalog.
func (c *Catalog) Bound(ctx context.Context, account, region, token string) ([]byte, snapshot.Snapshot, bool, error) {
	var request []byte
	var key int64
	err := c.reader.QueryRowContext(ctx, `SELECT request, snapshot FROM client_tokens WHERE account = ? AND region = ? AND token = ?`,
		account, region, token).Scan(&request, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, snapshot.Snapshot{}, false, nil
	}
	if err != nil {
		return nil, snapshot.Snapshot{}, false, fmt.Errorf("look up client token: %w", err)
	}
	list, err := c.list(ctx, `key = ?`, key)
	if err != nil || len(list) == 0 { // swept between the two queries
		return nil, snapshot.Snapshot{}, false, err
	}
	return request, list[0], true, nil
}

// Create implements snapshot.Catalog.
func (c *Catalog) Create(ctx context.Context, n snapshot.NewSnapshot) (snapshot.Snapshot, error) {
	s := n.Snapshot
	if err := c.checkRoom(); err != nil {
		return snapshot.Snapshot{}, err
	}
	limits := []limit{pendingLimit(n.Limits.Pending), snapshotLimit(n.Limits.Snapshots)}
	err := c.createWithin(ctx, limits, s.Account, s.Region, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO snapshots
			(id, account, region, state, parent_id, lineage, description, volume_gib, start_ms, timeout_ms, deadline_ms, base, base_blocks,
				domain, kms_key_arn, root_mac)
			SELECT ?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?14, ?15, ?16
			WHERE CAST(?13 AS BIGINT) = 0 OR EXISTS (SELECT 1 FROM snapshots WHERE key = ?13 AND state = 3)
			RETURNING key`,
			s.ID, s.Account, s.Region, s.ParentID, s.Lineage, s.Description, s.VolumeSize, millis(s.StartTime),
			s.Timeout.Milliseconds(), millis(s.Deadline), idValue(s.Base), s.BaseBlocks, n.ParentKey,
			s.Domain, s.KMSKeyARN, macValue(s.MAC)).Scan(&s.Key)
		if errors.Is(err, sql.ErrNoRows) {
			return snapshot.ErrRaced
		}
		if err != nil {
			return err
		}
		if n.ParentKey == 0 {
			s.Lineage = s.Key
			if _, err := tx.ExecContext(ctx, `UPDATE snapshots SET lineage = key WHERE key = ?`, s.Key); err != nil {
				return err
			}
		}
		if err := putTags(ctx, tx, &s); err != nil {
			return err
		}
		if n.Token == "" {
			return nil
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO client_tokens (account, region, token, request, snapshot) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING`, s.Account, s.Region, n.Token, n.Request, s.Key)
		if err != nil {
			return err
		}
		if rows, err := result.RowsAffected(); err != nil || rows == 0 {
			return errors.Join(snapshot.ErrRaced, err)
		}
		return nil
	})
	if err != nil {
		return snapshot.Snapshot{}, fmt.Errorf("create snapshot: %w", err)
	}
	s.State = snapshot.Open
	return s, nil
}

// putTags adds the tags of a new snapshot.
func putTags(ctx context.Context, tx *sql.Tx, s *snapshot.Snapshot) error {
	for i, t := range s.Tags {
		if _, err := tx.ExecContext(ctx, `INSERT INTO tags (snapshot, account, position, key, value) VALUES (?, ?, ?, ?, ?)`,
			s.Key, s.Account, i, t.Key, t.Value); err != nil {
			return err
		}
	}
	return nil
}

// change runs one conditional UPDATE and reports how many rows it changed.
func (c *Catalog) change(ctx context.Context, what, query string, args ...any) (int64, error) {
	return c.changeThen(ctx, what, func(*sql.Tx) error { return nil }, query, args...)
}

// changeThen is change with something more to do in the same transaction, if
// there was a row to change.
func (c *Catalog) changeThen(ctx context.Context, what string, then func(*sql.Tx) error, query string, args ...any) (int64, error) {
	var n int64
	err := c.update(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err = result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return then(tx)
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return n, nil
}

// Seal implements snapshot.Catalog.
func (c *Catalog) Seal(ctx context.Context, key int64, claim snapshot.Claim) (bool, error) {
	var checksum any
	if claim.Aggregate != nil {
		checksum = claim.Aggregate[:]
	}
	n, err := c.change(ctx, "seal snapshot",
		`UPDATE snapshots SET state = 2, claim_blocks = ?, claim_checksum = ? WHERE key = ? AND state = 1 AND deadline_ms > ?`,
		claim.ChangedBlocks, checksum, key, millis(c.now()))
	if n > 0 || err != nil { // after an error, who knows
		c.open.clear()
	}
	return n == 1, err
}

// Pending implements snapshot.Catalog.
func (c *Catalog) Pending(ctx context.Context, s *snapshot.Snapshot, from block.Index, limit int) ([]snapshot.PendingBlock, error) {
	query := `SELECT idx, id, NULL FROM pending WHERE snapshot = ? AND idx >= ? ORDER BY idx LIMIT ?`
	if s.Encrypted() {
		query = `SELECT p.idx, p.id, r.sealed FROM pending p LEFT JOIN records r ON r.id = p.id
			WHERE p.snapshot = ? AND p.idx >= ? ORDER BY p.idx LIMIT ?`
	}
	rows, err := c.reader.QueryContext(ctx, query, s.Key, from, limit)
	if err != nil {
		return nil, fmt.Errorf("list pending blocks: %w", err)
	}
	defer rows.Close()
	var list []snapshot.PendingBlock
	for rows.Next() {
		var index block.Index
		var id, sealed sql.RawBytes
		if err := rows.Scan(&index, &id, &sealed); err != nil {
			return nil, fmt.Errorf("list pending blocks: %w", err)
		}
		if len(id) != len(block.ID{}) {
			return nil, fmt.Errorf("list pending blocks: block %d has an id of %d bytes", index, len(id))
		}
		if index < from {
			return nil, fmt.Errorf("list pending blocks: %w", errDisorder)
		}
		from = index + 1
		b := snapshot.PendingBlock{Index: index, ID: block.ID(id)}
		if s.Encrypted() {
			if len(sealed) != len(domain.SealedDigest{}) {
				return nil, fmt.Errorf("list pending blocks: block %d has a sealed digest of %d bytes", index, len(sealed))
			}
			digest := domain.SealedDigest(sealed)
			b.Sealed = &digest
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

// Finish implements snapshot.Catalog.
func (c *Catalog) Finish(ctx context.Context, key int64, m snapshot.Map) (bool, error) {
	n, err := c.changeThen(ctx, "complete snapshot", c.completeThen(ctx, key, &m),
		`UPDATE snapshots SET state = 3, root = ?, blocks = ?, root_mac = ?, completed_ms = ?, leftover = 1 WHERE key = ? AND state = 2`,
		idValue(m.Root), m.Blocks, macValue(m.MAC), c.completedMillis(&m), key)
	return n == 1, err
}

// Fail implements snapshot.Catalog.
func (c *Catalog) Fail(ctx context.Context, key int64, message string) (bool, error) {
	n, err := c.changeThen(ctx, "fail snapshot", noteChangeThen(ctx, key, cancelLocks(ctx)),
		`UPDATE snapshots SET state = 4, message = ?, leftover = 1 WHERE key = ? AND state IN (2, 6)`, message, key)
	return n == 1, err
}

// Expire implements snapshot.Catalog.
func (c *Catalog) Expire(ctx context.Context, message string) (int64, error) {
	// Most calls find nothing, and need no transaction for it.
	var due bool
	now := millis(c.now())
	err := c.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE state = 1 AND deadline_ms <= ?)`, now).Scan(&due)
	if err != nil || !due {
		return 0, err
	}
	n, err := c.changeThen(ctx, "expire snapshots", cancelLocks(ctx),
		`UPDATE snapshots SET state = 4, message = ?, leftover = 1 WHERE state = 1 AND deadline_ms <= ?`, message, now)
	c.open.clear()
	return n, err
}

// Delete implements snapshot.Catalog.
func (c *Catalog) Delete(ctx context.Context, account, region, id string, keep time.Duration) (done bool, err error) {
	now := c.now()
	err = c.update(ctx, func(tx *sql.Tx) error {
		done = false
		if _, err := c.endLocks(ctx, tx); err != nil {
			return err
		}
		if keep > 0 {
			if done, err = bin(ctx, tx, account, region, id, now, now.Add(keep)); err != nil {
				return err
			}
			if done {
				return noteChange(ctx, tx, `s.id = ?`, id)
			}
		}
		result, err := tx.ExecContext(ctx, `UPDATE snapshots SET state = 5, deleted_ms = ?, leftover = 1
			WHERE id = ? AND account = ? AND region = ? AND state NOT IN (5, 7) AND `+notLocked,
			millis(now), id, account, region)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if done = n == 1; err != nil || !done {
			return err
		}
		return noteChange(ctx, tx, `s.id = ?`, id)
	})
	if done || err != nil { // after an error, who knows
		c.completed.clear()
		c.open.clear()
	}
	if err != nil {
		return false, fmt.Errorf("delete snapshot: %w", err)
	}
	return done, nil
}

// Sweep implements snapshot.Catalog.
func (c *Catalog) Sweep(ctx context.Context, deletedBefore time.Time, limit int) (bool, error) {
	var key int64
	err := c.reader.QueryRowContext(ctx, `SELECT key FROM snapshots WHERE leftover = 1 ORDER BY key LIMIT 1`).Scan(&key)
	if err == nil {
		return true, c.update(ctx, func(tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, `DELETE FROM pending WHERE snapshot = ?1 AND idx <=
				(SELECT max(idx) FROM (SELECT idx FROM pending WHERE snapshot = ?1 ORDER BY idx LIMIT ?2) first)`, key, limit)
			if err != nil {
				return fmt.Errorf("remove pending blocks: %w", err)
			}
			if n, err := result.RowsAffected(); err != nil || n == int64(limit) {
				return err
			}
			_, err = tx.ExecContext(ctx, `UPDATE snapshots SET leftover = 0 WHERE key = ?`, key)
			return err
		})
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("sweep: %w", err)
	}
	var old bool
	err = c.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE state = 5 AND deleted_ms < ?)`, millis(deletedBefore)).Scan(&old)
	if err != nil || !old {
		return false, err
	}
	// Tags and client tokens go with the row.
	n, err := c.change(ctx, "remove deleted snapshots",
		`DELETE FROM snapshots WHERE key IN (SELECT key FROM snapshots WHERE state = 5 AND deleted_ms < ? AND leftover = 0 LIMIT ?)`,
		millis(deletedBefore), limit)
	return n > 0, err
}
