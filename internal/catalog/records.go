package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/snapshot"
)

// Locate implements blockstore.Index.
func (c *Catalog) Locate(ctx context.Context, id block.ID) (blockstore.Location, bool, error) {
	var loc blockstore.Location
	var crc int64 // SQL has no unsigned numbers
	var sealing blockstore.Sealing
	var nonce, digest []byte
	err := c.stmt.locate.QueryRowContext(ctx, id[:]).Scan(&loc.Container, &loc.Offset, &loc.Length, &crc, &loc.Codec, &loc.Damaged,
		&sealing.Domain, &sealing.Cipher, &nonce, &digest)
	if errors.Is(err, sql.ErrNoRows) {
		return blockstore.Location{}, false, nil
	}
	if err != nil {
		return blockstore.Location{}, false, fmt.Errorf("locate record %v: %w", id, err)
	}
	loc.CRC = uint64(crc)
	if sealing.Domain == domain.Unencrypted {
		return loc, true, nil
	}
	if len(nonce) != len(sealing.Nonce) || len(digest) != len(sealing.Digest) {
		return blockstore.Location{}, false, fmt.Errorf("locate record %v: nonce of %d and sealed digest of %d bytes", id, len(nonce), len(digest))
	}
	sealing.Nonce, sealing.Digest = domain.Nonce(nonce), domain.SealedDigest(digest)
	loc.Sealing = &sealing
	return loc, true, nil
}

// sealingValues are the column values of a sealing: domain, cipher, nonce,
// sealed digest.
func sealingValues(s *blockstore.Sealing) (domain.Number, blockstore.Cipher, []byte, []byte) {
	if s == nil {
		return domain.Unencrypted, blockstore.CipherNone, nil, nil
	}
	return s.Domain, s.Cipher, s.Nonce[:], s.Digest[:]
}

// Commit implements blockstore.Index.
func (c *Catalog) Commit(ctx context.Context, b *blockstore.Commit) ([]error, error) {
	verdicts := make([]error, len(b.Refs))
	if len(b.Refs) > 0 { // map nodes complete what is begun
		if err := c.checkRoom(); err != nil {
			return nil, err
		}
	}
	err := c.update(ctx, func(tx *sql.Tx) error {
		if b.Container != 0 {
			if _, err := tx.StmtContext(ctx, c.stmt.putContainer).ExecContext(ctx, b.Container, b.Committed); err != nil {
				return fmt.Errorf("record container %d: %w", b.Container, err)
			}
		}
		if len(b.Stored) > 0 {
			rows := make([][]any, len(b.Stored))
			for i := range b.Stored {
				s := &b.Stored[i]
				l := &s.Location
				domain, cipher, nonce, digest := sealingValues(l.Sealing)
				rows[i] = []any{s.ID[:], s.Kind, l.Container, l.Offset, l.Length, int64(l.CRC), l.Codec, domain, cipher, nonce, digest}
			}
			put, err := c.db.execAll(ctx, tx.StmtContext(ctx, c.stmt.putRecord), rows)
			if err != nil {
				return fmt.Errorf("record locations: %w", err)
			}
			var kept []block.ID // of which there was one already
			for i, n := range put {
				if n == 0 {
					kept = append(kept, b.Stored[i].ID)
				}
			}
			if err := c.renew(ctx, tx, kept); err != nil {
				return err
			}
		}
		if len(b.Moved) > 0 {
			rows := make([][]any, len(b.Moved))
			for i := range b.Moved {
				m := &b.Moved[i]
				rows[i] = []any{m.Location.Container, m.Location.Offset, m.ID[:], m.From.Container, m.From.Offset}
			}
			if _, err := c.db.execAll(ctx, tx.StmtContext(ctx, c.stmt.moveRecord), rows); err != nil {
				return fmt.Errorf("record moves: %w", err)
			}
		}
		return c.commitRefs(ctx, tx, b.Refs, verdicts)
	})
	return verdicts, err
}

// commitRefs records the refs that may be recorded and fills in the verdicts.
func (c *Catalog) commitRefs(ctx context.Context, tx *sql.Tx, refs []blockstore.Ref, verdicts []error) error {
	if len(refs) == 0 {
		return nil
	}
	open := make(map[int64]error, 1) // by snapshot: why it takes no writes
	for i := range refs {
		r := &refs[i]
		reason, asked := open[r.Snapshot]
		if !asked {
			var err error
			if reason, err = c.touch(ctx, tx, r.Snapshot); err != nil {
				return err
			}
			open[r.Snapshot] = reason
		}
		verdicts[i] = reason
	}
	// In their order, as far as they are alike.
	for from, to := 0, 0; from < len(refs); from = to {
		hit := refs[from].Hit
		for to = from; to < len(refs) && refs[to].Hit == hit; to++ {
		}
		put := c.stmt.putPending
		if hit { // which may have been stored long ago
			put = c.stmt.putHit
			if err := c.renewHits(ctx, tx, refs[from:to]); err != nil {
				return err
			}
		}
		if err := c.putRefs(ctx, tx.StmtContext(ctx, put), refs[from:to], verdicts[from:to]); err != nil {
			return err
		}
	}
	return nil
}

// putRefs records the refs that nothing speaks against yet.
func (c *Catalog) putRefs(ctx context.Context, put *sql.Stmt, refs []blockstore.Ref, verdicts []error) error {
	rows, at := make([][]any, 0, len(refs)), make([]int, 0, len(refs))
	for i := range refs {
		if r := &refs[i]; verdicts[i] == nil {
			rows, at = append(rows, []any{r.Snapshot, r.Index, r.ID[:]}), append(at, i)
		}
	}
	recorded, err := c.db.execAll(ctx, put, rows)
	if err != nil {
		return fmt.Errorf("record pending blocks: %w", err)
	}
	for i, n := range recorded {
		if n == 0 {
			verdicts[at[i]] = blockstore.ErrMissed
		}
	}
	return nil
}

// renew puts records into the open generation, as the collector is told by it
// what has been named since it opened the generation. Only one writes at a time,
// so none can be in between.
func (c *Catalog) renew(ctx context.Context, tx *sql.Tx, ids []block.ID) error {
	if len(ids) == 0 {
		return nil
	}
	rows := make([][]any, len(ids))
	for i := range ids {
		rows[i] = []any{ids[i][:]}
	}
	if _, err := c.db.execAll(ctx, tx.StmtContext(ctx, c.stmt.renew), rows); err != nil {
		return fmt.Errorf("renew records: %w", err)
	}
	return nil
}

func (c *Catalog) renewHits(ctx context.Context, tx *sql.Tx, refs []blockstore.Ref) error {
	ids := make([]block.ID, len(refs))
	for i := range refs {
		ids[i] = refs[i].ID
	}
	return c.renew(ctx, tx, ids)
}

// Renew implements blockstore.Index.
func (c *Catalog) Renew(ctx context.Context, ids []block.ID) ([]bool, error) {
	found := make([]bool, len(ids))
	var known []block.ID
	for i := range ids {
		r, ok, err := c.Record(ctx, ids[i])
		if err != nil { // and nothing was begun
			return nil, fmt.Errorf("%w: %w", blockstore.ErrRolledBack, err)
		}
		if found[i] = ok && !r.Location.Damaged; found[i] {
			known = append(known, ids[i])
		}
	}
	if len(known) == 0 {
		return found, nil
	}
	err := c.update(ctx, func(tx *sql.Tx) error {
		if err := c.renew(ctx, tx, known); err != nil {
			return err
		}
		for i := range ids {
			if !found[i] {
				continue
			}
			err := tx.QueryRowContext(ctx, `SELECT damaged = 0 AND condemned = 0 FROM records WHERE id = ?`, ids[i][:]).Scan(&found[i])
			if errors.Is(err, sql.ErrNoRows) {
				found[i] = false
			} else if err != nil {
				return fmt.Errorf("look up record %v: %w", ids[i], err)
			}
		}
		return nil
	})
	return found, err
}

// touch restarts the snapshot's inactivity timer. reason says why the
// snapshot takes no writes.
func (c *Catalog) touch(ctx context.Context, tx *sql.Tx, key int64) (reason, err error) {
	result, err := tx.StmtContext(ctx, c.stmt.touch).ExecContext(ctx, millis(c.now()), key)
	if err != nil {
		return nil, fmt.Errorf("touch snapshot: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return nil, err
	}
	var id string
	var state snapshot.State
	err = tx.QueryRowContext(ctx, `SELECT id, state FROM snapshots WHERE key = ?`, key).Scan(&id, &state)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if state == snapshot.Completing || state == snapshot.Completed {
		return &snapshot.Error{Code: snapshot.AlreadyCompleted, Snapshot: id}, nil
	}
	return &snapshot.Error{Code: snapshot.NotFound, Snapshot: id}, nil // gone, failed, or timed out just now
}

// MarkDamaged implements blockstore.Index.
func (c *Catalog) MarkDamaged(ctx context.Context, id block.ID, loc blockstore.Location) error {
	_, err := c.changeThen(ctx, "mark record as damaged", func(tx *sql.Tx) error {
		return renewManifests(ctx, tx, `m.record = ?`, id[:])
	}, `UPDATE records SET damaged = 1 WHERE id = ? AND container = ? AND pos = ?`, id[:], loc.Container, loc.Offset)
	return err
}

// MarkSound implements blockstore.Index.
func (c *Catalog) MarkSound(ctx context.Context, id block.ID, loc blockstore.Location) error {
	_, err := c.change(ctx, "mark record as sound", `UPDATE records SET damaged = 0 WHERE id = ? AND container = ? AND pos = ?`,
		id[:], loc.Container, loc.Offset)
	return err
}

// MarkLost implements blockstore.Index.
func (c *Catalog) MarkLost(ctx context.Context, container blockstore.ContainerID, length int64) (int64, error) {
	return c.changeThen(ctx, "mark records as lost", func(tx *sql.Tx) error {
		return renewManifests(ctx, tx, `m.record IN (SELECT id FROM records WHERE container = ? AND pos + length > ?)`, container, length)
	}, `UPDATE records SET damaged = 1 WHERE container = ? AND pos + length > ? AND damaged = 0`, container, length)
}

// LastContainer gives the container with the highest number, which is never
// being removed, and its committed length; 0 if there is none.
func (c *Catalog) LastContainer(ctx context.Context) (id blockstore.ContainerID, length int64, err error) {
	err = c.reader.QueryRowContext(ctx, `SELECT id, length FROM containers ORDER BY id DESC LIMIT 1`).Scan(&id, &length)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, nil
	}
	if err != nil {
		err = fmt.Errorf("find the last container: %w", err)
	}
	return id, length, err
}

// Containers implements blockstore.Index.
func (c *Catalog) Containers(ctx context.Context) (map[blockstore.ContainerID]int64, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT id, length FROM containers WHERE dropped = 0`)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	defer rows.Close()
	lengths := make(map[blockstore.ContainerID]int64)
	for rows.Next() {
		var id blockstore.ContainerID
		var length int64
		if err := rows.Scan(&id, &length); err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		lengths[id] = length
	}
	return lengths, rows.Err()
}
