package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"shale/internal/blockstore"
	"shale/internal/manifest"
	"shale/internal/snapshot"
)

// A Restorer fills a catalog that is made anew, in transactions of many rows.
// It is for one caller at a time, and nobody else may use the catalog.
type Restorer struct{ c *Catalog }

// Restorer gives one for the catalog.
func (c *Catalog) Restorer() Restorer { return Restorer{c} }

// A RestoredRecord is a record that was found in a container.
type RestoredRecord struct {
	Stored  blockstore.Stored
	Damaged bool
}

// Records adds records. Of those with one id the last wins, but a damaged one
// never takes the place of another.
func (r Restorer) Records(ctx context.Context, list []RestoredRecord) error {
	return r.update(ctx, "records", func(tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO records (id, kind, container, pos, length, crc, codec, domain, cipher, nonce, sealed, damaged)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET container = excluded.container, pos = excluded.pos, length = excluded.length,
				crc = excluded.crc, codec = excluded.codec, domain = excluded.domain, cipher = excluded.cipher,
				nonce = excluded.nonce, sealed = excluded.sealed, damaged = excluded.damaged WHERE excluded.damaged = 0`)
		if err != nil {
			return err
		}
		defer put.Close()
		for i := range list {
			s := &list[i].Stored
			l := &s.Location
			domain, cipher, nonce, digest := sealingValues(l.Sealing)
			if _, err := put.ExecContext(ctx, s.ID[:], s.Kind, l.Container, l.Offset, l.Length, int64(l.CRC), l.Codec,
				domain, cipher, nonce, digest, boolInt(list[i].Damaged)); err != nil {
				return err
			}
		}
		return nil
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Containers adds containers with their committed lengths.
func (r Restorer) Containers(ctx context.Context, lengths map[blockstore.ContainerID]int64) error {
	return r.update(ctx, "containers", func(tx *sql.Tx) error {
		for c, length := range lengths {
			if _, err := tx.ExecContext(ctx, `INSERT INTO containers (id, length) VALUES (?, ?)`, c, length); err != nil {
				return err
			}
		}
		return nil
	})
}

// A RestoredManifest is the newest manifest of a snapshot.
type RestoredManifest struct {
	Manifest *manifest.Manifest
	Record   [32]byte // its id
}

// Snapshots adds snapshots as their manifests describe them, with tags, grants
// and locks; of those that were deleted only that. Their accounts are there.
// Locks are not over before the latest time that any manifest has seen.
func (r Restorer) Snapshots(ctx context.Context, list []RestoredManifest) error {
	return r.update(ctx, "snapshots", func(tx *sql.Tx) error {
		for i := range list {
			m := list[i].Manifest
			if _, err := tx.ExecContext(ctx, `INSERT INTO manifests (snapshot, version, record) VALUES (?, ?, ?)`,
				m.ID, m.Version, list[i].Record[:]); err != nil {
				return err
			}
			if m.Snapshot == nil {
				continue
			}
			if err := r.snapshot(ctx, tx, m); err != nil {
				return fmt.Errorf("snapshot %s: %w", m.ID, err)
			}
		}
		_, err := r.c.endLocks(ctx, tx) // those that were cooling off, or in force, in an older manifest
		return err
	})
}

func (r Restorer) snapshot(ctx context.Context, tx *sql.Tx, m *manifest.Manifest) error {
	s := m.Snapshot
	state := int(snapshot.Completed)
	if m.State == manifest.Binned {
		state = binned
	}
	var checksum, root, mac any
	if s.ClaimChecksum != nil {
		checksum = s.ClaimChecksum[:]
	}
	if !s.Root.IsZero() {
		root = s.Root[:]
	}
	if !s.RootMAC.IsZero() {
		mac = s.RootMAC[:]
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO snapshots (key, id, account, region, state, parent_id, lineage, description, volume_gib,
			start_ms, completed_ms, timeout_ms, deadline_ms, root, blocks, claim_blocks, claim_checksum, domain, kms_key_arn, root_mac,
			completion_minutes, bin_enter_ms, bin_exit_ms)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Key, m.ID, s.Account, s.Region, state, s.ParentID, s.Lineage, s.Description, s.VolumeGiB,
		s.StartMS, s.CompletedMS, s.TimeoutMS, root, s.Blocks, s.ClaimBlocks, checksum, s.Domain, s.KMSKeyARN, mac,
		s.CompletionMinutes, s.BinEnterMS, s.BinExitMS)
	if err != nil {
		return err
	}
	for _, t := range s.Tags {
		if _, err := tx.ExecContext(ctx, `INSERT INTO tags (snapshot, account, position, key, value) VALUES (?, ?, ?, ?, ?)`,
			s.Key, t.Account, t.Position, t.Key, t.Value); err != nil {
			return err
		}
	}
	for _, account := range s.Grants {
		if _, err := tx.ExecContext(ctx, `INSERT INTO grants (snapshot, account, region, start_ms, id) VALUES (?, ?, ?, ?, ?)`,
			s.Key, account, s.Region, s.StartMS, m.ID); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE lock_time SET latest_ms = ? WHERE latest_ms < ?`, s.LockTimeMS, s.LockTimeMS); err != nil {
		return err
	}
	l := s.Lock
	if l == nil {
		return nil
	}
	start, expires := l.StartMS, l.ExpiresMS
	if start == 0 && l.State < int64(snapshot.LockExpired) {
		// It was completed just before the catalog was lost, and the days had
		// not begun to count in the manifest yet: they begin now.
		start = max(millis(r.c.now()), s.LockTimeMS)
		if expires == 0 {
			expires = start + l.Days*(24*time.Hour).Milliseconds()
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO locks (snapshot, state, created_ms, days, start_ms, expires_ms, cooloff_hours, cooloff_ms)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, s.Key, l.State, l.CreatedMS, l.Days, start, expires, l.CoolOffHours, l.CoolOffMS)
	return err
}

// Families tells children where they began, as far as their parents are there,
// and copies that they are such: what has no parent and is of another's lineage
// can be nothing else. It is for when all snapshots are there.
func (r Restorer) Families(ctx context.Context) error {
	return r.update(ctx, "families", func(tx *sql.Tx) error {
		for _, query := range []string{
			`UPDATE snapshots SET base = p.root, base_blocks = p.blocks
				FROM (SELECT id, root, blocks FROM snapshots) AS p WHERE p.id = snapshots.parent_id`,
			`INSERT INTO copies (snapshot, source_region, source_id, refused)
				SELECT key, '', '', '' FROM snapshots WHERE parent_id = '' AND lineage <> key`,
		} {
			if _, err := tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r Restorer) update(ctx context.Context, what string, f func(*sql.Tx) error) error {
	if err := r.c.update(ctx, f); err != nil {
		return fmt.Errorf("restore %s: %w", what, err)
	}
	return nil
}
