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
		return putTags(ctx, tx, &snapshot.Snapshot{Key: key, Account: account, Tags: tags})
	})
}

// changeTags runs change in a transaction, if the snapshot is there.
func (c *Catalog) changeTags(ctx context.Context, key int64, change func(*sql.Tx) error) (done bool, err error) {
	err = c.update(ctx, func(tx *sql.Tx) error {
		var there int
		err := tx.QueryRowContext(ctx, `SELECT 1 FROM snapshots WHERE key = ? AND state NOT IN (5, 7)`, key).Scan(&there)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		done = true
		if err := noteChange(ctx, tx, `s.key = ?`, key); err != nil {
			return err
		}
		return change(tx)
	})
	if err != nil {
		return false, fmt.Errorf("change tags: %w", err)
	}
	return done, nil
}
