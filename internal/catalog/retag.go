package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"shale/internal/snapshot"
)

// SetTags implements snapshot.Catalog.
func (c *Catalog) SetTags(ctx context.Context, key int64, account string, tags []snapshot.Tag) (bool, error) {
	if err := c.checkRoom(); err != nil && len(tags) > 0 {
		return false, err
	}
	return c.changeTags(ctx, key, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM tags WHERE snapshot = ? AND account = ?`, key, account); err != nil {
			return err
		}
		for i, t := range tags {
			if _, err := tx.ExecContext(ctx, `INSERT INTO tags (snapshot, account, position, key, value) VALUES (?, ?, ?, ?, ?)`,
				key, account, i, t.Key, t.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveTag implements snapshot.Catalog.
func (c *Catalog) RemoveTag(ctx context.Context, key int64, account, tag string) (bool, error) {
	return c.changeTags(ctx, key, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM tags WHERE snapshot = ? AND account = ? AND key = ?`, key, account, tag)
		return err
	})
}

// changeTags runs change in a transaction, if the snapshot is there.
func (c *Catalog) changeTags(ctx context.Context, key int64, change func(*sql.Tx) error) (done bool, err error) {
	err = c.update(ctx, func(tx *sql.Tx) error {
		var there int
		err := tx.QueryRowContext(ctx, `SELECT 1 FROM snapshots WHERE key = ? AND state <> 5`, key).Scan(&there)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		done = true
		return change(tx)
	})
	if err != nil {
		return false, fmt.Errorf("change tags: %w", err)
	}
	return done, nil
}
