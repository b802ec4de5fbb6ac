package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"shale/internal/manifest"
	"shale/internal/snapshot"
)

// noteChange says, in the transaction of a change, that the snapshots s with
// the condition need a new manifest. Those that were never completed need none,
// unless a manifest has been written for a completion that did not come about.
func noteChange(ctx context.Context, tx *sql.Tx, condition string, args ...any) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO manifests_due (snapshot, version)
		SELECT s.id, coalesce(m.version, 0) + 1 FROM snapshots s
		LEFT JOIN manifests m ON m.snapshot = s.id LEFT JOIN manifests_due d ON d.snapshot = s.id
		WHERE (s.state IN (3, 7) OR m.snapshot IS NOT NULL OR d.snapshot IS NOT NULL) AND `+condition+`
		ON CONFLICT (snapshot) DO UPDATE SET version = manifests_due.version + 1`, args...)
	if err != nil {
		return fmt.Errorf("note that a manifest is due: %w", err)
	}
	return nil
}

// renewManifests says, in the transaction that marks their records as damaged,
// that the manifests m with the condition have to be written anew. That of a
// snapshot that is gone is one of them: it keeps rebuild from bringing it back.
func renewManifests(ctx context.Context, tx *sql.Tx, condition string, args ...any) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO manifests_due (snapshot, version)
		SELECT m.snapshot, m.version + 1 FROM manifests m WHERE `+condition+`
		ON CONFLICT (snapshot) DO UPDATE SET version = manifests_due.version + 1`, args...)
	if err != nil {
		return fmt.Errorf("note that a damaged manifest is due: %w", err)
	}
	return nil
}

// noteChangeThen is noteChange of the snapshot with the key, to follow another
// statement.
func noteChangeThen(ctx context.Context, key int64, then func(*sql.Tx) error) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		if err := then(tx); err != nil {
			return err
		}
		return noteChange(ctx, tx, `s.key = ?`, key)
	}
}

// DescribeCompletion implements snapshot.ManifestCatalog.
func (c *Catalog) DescribeCompletion(ctx context.Context, key int64, r snapshot.CopyResult) (snapshot.Map, error) {
	r.Map.CompletedAt = c.now().UTC().Truncate(time.Millisecond)
	var m manifest.Manifest
	err := c.update(ctx, func(tx *sql.Tx) error {
		// The version is taken for good: whatever happens now, none is used
		// for two different manifests.
		err := tx.QueryRowContext(ctx, `INSERT INTO manifests_due (snapshot, version)
			SELECT id, 1 FROM snapshots WHERE key = ? AND state IN (2, 6)
			ON CONFLICT (snapshot) DO UPDATE SET version = manifests_due.version + 1 RETURNING snapshot, version`, key).
			Scan(&m.ID, &m.Version)
		if err != nil {
			return err
		}
		m.State = manifest.Completed
		m.Snapshot, err = describe(ctx, tx, m.ID)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return r.Map, nil // it is gone, as the completion will find out
	}
	if err != nil {
		return snapshot.Map{}, fmt.Errorf("describe completion: %w", err)
	}
	s := m.Snapshot
	s.Root, s.Blocks, s.RootMAC = manifest.HexID(r.Map.Root), r.Map.Blocks, manifest.HexID(r.Map.MAC)
	s.CompletedMS = millis(r.Map.CompletedAt)
	if r.Lineage != 0 {
		s.VolumeGiB, s.Lineage = r.VolumeSize, r.Lineage
	}
	r.Map.Manifest, err = encodeManifest(&m)
	return r.Map, err
}

func encodeManifest(m *manifest.Manifest) (snapshot.Manifest, error) {
	id, data, dropped, err := m.Encode()
	return snapshot.Manifest{Snapshot: m.ID, Version: m.Version, Record: id, Data: data, Dropped: dropped}, err
}

// completeThen is what completes a snapshot besides its row.
func (c *Catalog) completeThen(ctx context.Context, key int64, m *snapshot.Map) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		if err := c.startLock(ctx, key)(tx); err != nil {
			return err
		}
		return complete(ctx, tx, key, &m.Manifest)
	}
}

// completedMillis is when a snapshot is completed.
func (c *Catalog) completedMillis(m *snapshot.Map) int64 {
	if m.CompletedAt.IsZero() {
		return millis(c.now())
	}
	return millis(m.CompletedAt)
}

// complete records, in the transaction that completes a snapshot, the manifest
// that was written for it. If the snapshot has changed since, or changes by
// being completed, a further one is due.
func complete(ctx context.Context, tx *sql.Tx, key int64, m *snapshot.Manifest) error {
	result, err := tx.ExecContext(ctx, `DELETE FROM manifests_due WHERE snapshot = ? AND version = ?
		AND NOT EXISTS (SELECT 1 FROM locks WHERE locks.snapshot = ?)`, m.Snapshot, m.Version, key)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return noteChange(ctx, tx, `s.key = ?`, key)
	}
	return putManifest(ctx, tx, m)
}

func putManifest(ctx context.Context, tx *sql.Tx, m *snapshot.Manifest) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO manifests (snapshot, version, record) VALUES (?, ?, ?)
		ON CONFLICT (snapshot) DO UPDATE SET version = excluded.version, record = excluded.record
		WHERE manifests.version < excluded.version`, m.Snapshot, m.Version, m.Record[:])
	if err != nil {
		return fmt.Errorf("record manifest: %w", err)
	}
	return nil
}

// DueManifests implements snapshot.ManifestCatalog.
func (c *Catalog) DueManifests(ctx context.Context, ids []string, limit int) ([]snapshot.Manifest, error) {
	// The version and what it stands for are of one moment.
	tx, err := c.reader.BeginTx(ctx, c.db.oneMoment())
	if err != nil {
		return nil, fmt.Errorf("due manifests: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was changed
	const query = `SELECT d.snapshot, d.version, coalesce(s.state, 5) FROM manifests_due d LEFT JOIN snapshots s ON s.id = d.snapshot
		WHERE coalesce(s.state, 5) IN (3, 4, 5, 7) AND `
	var due []manifest.Manifest
	if ids == nil {
		due, err = dueManifests(ctx, tx, query+`true ORDER BY d.snapshot LIMIT ?`, limit)
	}
	for _, id := range ids {
		one, err := dueManifests(ctx, tx, query+`d.snapshot = ?`, id)
		if err != nil {
			return nil, err
		}
		due = append(due, one...)
	}
	if err != nil {
		return nil, err
	}
	list := make([]snapshot.Manifest, len(due))
	for i := range due {
		if due[i].State != manifest.Deleted {
			if due[i].Snapshot, err = describe(ctx, tx, due[i].ID); err != nil {
				return nil, fmt.Errorf("due manifests: %w", err)
			}
		}
		if list[i], err = encodeManifest(&due[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func dueManifests(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]manifest.Manifest, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("due manifests: %w", err)
	}
	defer rows.Close()
	var list []manifest.Manifest
	for rows.Next() {
		var m manifest.Manifest
		var state snapshot.State
		if err := rows.Scan(&m.ID, &m.Version, &state); err != nil {
			return nil, fmt.Errorf("due manifests: %w", err)
		}
		switch state {
		case snapshot.Completed:
			m.State = manifest.Completed
		case binned:
			m.State = manifest.Binned
		default: // of one that failed after all nothing is to come back
			m.State = manifest.Deleted
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// describe reads what a manifest has to say of a snapshot.
func describe(ctx context.Context, tx *sql.Tx, id string) (*manifest.Snapshot, error) {
	var m manifest.Snapshot
	row := tx.QueryRowContext(ctx, `SELECT `+snapshotColumns+`, bin_enter_ms, bin_exit_ms, (SELECT name FROM accounts WHERE accounts.id = account),
		(SELECT latest_ms FROM lock_time) FROM snapshots WHERE id = ?`, id)
	s, err := scanSnapshot(withMore{row, []any{&m.BinEnterMS, &m.BinExitMS, &m.AccountName, &m.LockTimeMS}})
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	m.Key, m.Lineage, m.Account, m.Region, m.ParentID, m.Description = s.Key, s.Lineage, s.Account, s.Region, s.ParentID, s.Description
	m.VolumeGiB, m.StartMS, m.CompletedMS, m.TimeoutMS = s.VolumeSize, millis(s.StartTime), millis(s.CompletedAt), s.Timeout.Milliseconds()
	m.CompletionMinutes, m.Root, m.Blocks, m.ClaimBlocks = s.CompletionMinutes, manifest.HexID(s.Root), s.Blocks, s.Claim.ChangedBlocks
	m.Domain, m.KMSKeyARN, m.RootMAC = s.Domain, s.KMSKeyARN, manifest.HexID(s.MAC)
	if s.Claim.Aggregate != nil {
		sum := manifest.HexID(*s.Claim.Aggregate)
		m.ClaimChecksum = &sum
	}
	if err := describeTags(ctx, tx, &m); err != nil {
		return nil, err
	}
	if m.Grants, err = queryStrings(ctx, tx, `SELECT account FROM grants WHERE snapshot = ? ORDER BY account`, m.Key); err != nil {
		return nil, err
	}
	var l manifest.Lock
	err = tx.QueryRowContext(ctx, `SELECT `+lockColumns+` FROM locks WHERE snapshot = ?`, m.Key).
		Scan(&l.State, &l.CreatedMS, &l.Days, &l.StartMS, &l.ExpiresMS, &l.CoolOffHours, &l.CoolOffMS)
	switch {
	case err == nil:
		m.Lock = &l
	case !errors.Is(err, sql.ErrNoRows):
		return nil, err
	}
	return &m, nil
}

// describeTags reads the tags of a snapshot, the owner's first.
func describeTags(ctx context.Context, tx *sql.Tx, m *manifest.Snapshot) error {
	rows, err := tx.QueryContext(ctx, `SELECT account, position, key, value FROM tags WHERE snapshot = ?
		ORDER BY CASE account WHEN ? THEN 0 ELSE 1 END, account, position`, m.Key, m.Account)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var t manifest.Tag
		if err := rows.Scan(&t.Account, &t.Position, &t.Key, &t.Value); err != nil {
			return err
		}
		m.Tags = append(m.Tags, t)
	}
	return rows.Err()
}

func queryStrings(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// RecordManifests implements snapshot.ManifestCatalog.
func (c *Catalog) RecordManifests(ctx context.Context, list []snapshot.Manifest) error {
	err := c.update(ctx, func(tx *sql.Tx) error {
		for i := range list {
			if err := putManifest(ctx, tx, &list[i]); err != nil {
				return err
			}
			// A change that came meanwhile has raised the version.
			if _, err := tx.ExecContext(ctx, `DELETE FROM manifests_due WHERE snapshot = ? AND version = ?`,
				list[i].Snapshot, list[i].Version); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record manifests: %w", err)
	}
	return nil
}
