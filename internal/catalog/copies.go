package catalog

import (
	"context"
	"database/sql"
	"fmt"

	"shale/internal/snapshot"
)

// CreateCopy implements snapshot.CopyCatalog.
func (c *Catalog) CreateCopy(ctx context.Context, n snapshot.Copy, l snapshot.Limits) (snapshot.Copy, error) {
	if err := c.checkRoom(); err != nil {
		return snapshot.Copy{}, err
	}
	s := &n.Snapshot
	limits := []limit{copyLimit(l.Copies), snapshotLimit(l.Snapshots)}
	err := c.createWithin(ctx, limits, s.Account, s.Region, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO snapshots (id, account, region, state, message, lineage, description, volume_gib,
				start_ms, timeout_ms, deadline_ms, completion_minutes, domain, kms_key_arn, root_mac)
			VALUES (?, ?, ?, 6, ?, 0, ?, 0, ?, 0, 0, ?, ?, ?, ?) RETURNING key`,
			s.ID, s.Account, s.Region, s.Message, s.Description, millis(s.StartTime), s.CompletionMinutes,
			s.Domain, s.KMSKeyARN, macValue(s.MAC)).Scan(&s.Key)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE snapshots SET lineage = key WHERE key = ?`, s.Key); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO copies (snapshot, source_region, source_id, refused) VALUES (?, ?, ?, ?)`,
			s.Key, n.SourceRegion, n.SourceID, n.Refused); err != nil {
			return err
		}
		return putTags(ctx, tx, s)
	})
	if err != nil {
		return snapshot.Copy{}, fmt.Errorf("create copy: %w", err)
	}
	s.State, s.Lineage = snapshot.Copying, s.Key
	return n, nil
}

// Copies implements snapshot.CopyCatalog.
func (c *Catalog) Copies(ctx context.Context) ([]snapshot.Copy, error) {
	snapshots, err := c.list(ctx, `state = 6 ORDER BY key`)
	if err != nil || len(snapshots) == 0 {
		return nil, err
	}
	copies := make([]snapshot.Copy, len(snapshots))
	for i, s := range snapshots {
		copies[i].Snapshot = s
		err := c.reader.QueryRowContext(ctx, `SELECT source_region, source_id, refused FROM copies WHERE snapshot = ?`, s.Key).
			Scan(&copies[i].SourceRegion, &copies[i].SourceID, &copies[i].Refused)
		if err != nil {
			return nil, fmt.Errorf("list copies: %s: %w", s.ID, err)
		}
	}
	return copies, nil
}

// FinishCopy implements snapshot.CopyCatalog.
func (c *Catalog) FinishCopy(ctx context.Context, key int64, r snapshot.CopyResult) (bool, error) {
	n, err := c.changeThen(ctx, "complete copy", c.completeThen(ctx, key, &r.Map),
		`UPDATE snapshots SET state = 3, message = '', root = ?1, blocks = ?2, volume_gib = ?3, lineage = ?4, root_mac = ?5,
			completed_ms = ?6, leftover = 1
		WHERE key = ?7 AND state = 6 AND (CAST(?8 AS BIGINT) = 0 OR EXISTS (SELECT 1 FROM snapshots WHERE key = ?8 AND state = 3))`,
		idValue(r.Map.Root), r.Map.Blocks, r.VolumeSize, r.Lineage, macValue(r.Map.MAC), c.completedMillis(&r.Map), key, r.SourceKey)
	return n == 1, err
}
