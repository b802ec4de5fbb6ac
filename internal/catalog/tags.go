package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"shale/internal/snapshot"
)

// Tags implements snapshot.Tagging.
func (c *Catalog) Tags(ctx context.Context, account string, list []snapshot.Snapshot) error {
	if len(list) == 0 {
		return nil
	}
	keys, err := json.Marshal(keysOf(list))
	if err != nil {
		return err
	}
	rows, err := c.reader.QueryContext(ctx, `SELECT snapshot, key, value FROM tags
		WHERE account = ?1 AND snapshot IN (SELECT CAST(value AS BIGINT) FROM json_each(?2)) ORDER BY snapshot, position`, account, string(keys))
	if err != nil {
		return fmt.Errorf("read tags: %w", err)
	}
	defer rows.Close()
	tags := map[int64][]snapshot.Tag{}
	for rows.Next() {
		var key int64
		var t snapshot.Tag
		if err := rows.Scan(&key, &t.Key, &t.Value); err != nil {
			return fmt.Errorf("read tags: %w", err)
		}
		tags[key] = append(tags[key], t)
	}
	for i := range list {
		list[i].Tags = tags[list[i].Key]
	}
	return rows.Err()
}

// target finds the key of the snapshot ?1 in the region ?2 if the account ?3
// owns it, in whatever state, or may see it, or for the other reason.
func target(other string) string {
	return `SELECT s.key FROM snapshots s WHERE s.id = ?1 AND s.region = ?2 AND s.state <> 5 AND (s.account = ?3
		OR s.state NOT IN (5, 7) AND EXISTS (SELECT 1 FROM grants WHERE snapshot = s.key AND (account = ?3
			OR account = '` + snapshot.Everybody + `' AND ` + notHidden + `)) OR ` + other + `)`
}

// TagSnapshots implements snapshot.Tagging.
func (c *Catalog) TagSnapshots(ctx context.Context, caller snapshot.Caller, ids []string, tags []snapshot.Tag, limit int) error {
	if err := c.checkRoom(); err != nil {
		return err
	}
	keys, values, err := tagLists(tags)
	if err != nil {
		return err
	}
	err = c.update(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			key, err := tagTarget(ctx, tx, target(`false`), caller, id)
			if err != nil {
				return err
			}
			// Places only ascend; they may have gaps.
			if _, err := tx.ExecContext(ctx, `INSERT INTO tags (snapshot, account, position, key, value)
				SELECT ?1, ?2, (SELECT coalesce(max(position), -1) + 1 FROM tags WHERE snapshot = ?1 AND account = ?2) + k.key, k.value, v.value
				FROM json_each(?3) k JOIN json_each(?4) v ON v.key = k.key WHERE true
				ON CONFLICT (snapshot, account, key) DO UPDATE SET value = excluded.value`, key, caller.Account, keys, values); err != nil {
				return err
			}
			var count int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM tags WHERE snapshot = ? AND account = ? AND substr(key, 1, 4) <> 'aws:'`,
				key, caller.Account).Scan(&count); err != nil {
				return err
			}
			if count > limit {
				return &snapshot.Error{Code: snapshot.TooManyTags, Snapshot: id}
			}
			if err := noteChange(ctx, tx, `s.key = ?`, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tag snapshots: %w", err)
	}
	return nil
}

// tagLists gives the keys and the values of tags, each as a JSON list.
func tagLists(tags []snapshot.Tag) (keys, values string, err error) {
	k, v := make([]string, len(tags)), make([]string, len(tags))
	for i, t := range tags {
		k[i], v[i] = t.Key, t.Value
	}
	keyList, err := json.Marshal(k)
	if err != nil {
		return "", "", err
	}
	valueList, err := json.Marshal(v)
	return string(keyList), string(valueList), err
}

func tagTarget(ctx context.Context, tx *sql.Tx, query string, caller snapshot.Caller, id string) (key int64, err error) {
	err = tx.QueryRowContext(ctx, query, id, caller.Region, caller.Account).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, &snapshot.Error{Code: snapshot.NotFound, Snapshot: id}
	}
	return key, err
}

// ownTags says that an account that has lost sight of a snapshot still has tags
// on it.
const ownTags = `EXISTS (SELECT 1 FROM tags WHERE snapshot = s.key AND account = ?3)`

// TagTarget implements snapshot.Tagging.
func (c *Catalog) TagTarget(ctx context.Context, caller snapshot.Caller, id string) (snapshot.Snapshot, bool, error) {
	list, err := c.list(ctx, `key = (`+target(ownTags)+`)`, id, caller.Region, caller.Account)
	if err != nil || len(list) == 0 {
		return snapshot.Snapshot{}, false, err
	}
	return list[0], true, nil
}

// UntagSnapshots implements snapshot.Tagging.
func (c *Catalog) UntagSnapshots(ctx context.Context, caller snapshot.Caller, ids []string, matches []snapshot.TagMatch) error {
	wanted := map[string][]snapshot.TagMatch{}
	for _, m := range matches {
		wanted[m.Key] = append(wanted[m.Key], m)
	}
	err := c.update(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			key, err := tagTarget(ctx, tx, target(ownTags), caller, id)
			if err != nil {
				return err
			}
			if err := noteChange(ctx, tx, `s.key = ?`, key); err != nil {
				return err
			}
			if matches == nil {
				_, err := tx.ExecContext(ctx, `DELETE FROM tags WHERE snapshot = ? AND account = ? AND substr(key, 1, 4) <> 'aws:'`,
					key, caller.Account)
				if err != nil {
					return err
				}
				continue
			}
			tags, err := tagsIn(ctx, tx, key, caller.Account)
			if err != nil {
				return err
			}
			for _, t := range tags { // no more than a snapshot can have, however many matches there are
				if !slices.ContainsFunc(wanted[t.Key], func(m snapshot.TagMatch) bool { return m.Value == nil || *m.Value == t.Value }) {
					continue
				}
				if _, err := tx.ExecContext(ctx, `DELETE FROM tags WHERE snapshot = ? AND account = ? AND key = ? AND substr(key, 1, 4) <> 'aws:'`,
					key, caller.Account, t.Key); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("untag snapshots: %w", err)
	}
	return nil
}

// tagsIn gives the account's tags on a snapshot.
func tagsIn(ctx context.Context, tx *sql.Tx, key int64, account string) ([]snapshot.Tag, error) {
	rows, err := tx.QueryContext(ctx, `SELECT key, value FROM tags WHERE snapshot = ? AND account = ?`, key, account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tags []snapshot.Tag
	for rows.Next() {
		var t snapshot.Tag
		if err := rows.Scan(&t.Key, &t.Value); err != nil {
			return nil, err
		}
		tags = append(tags, t)
	}
	return tags, rows.Err()
}

// AccountTags implements snapshot.Tagging.
func (c *Catalog) AccountTags(
	ctx context.Context, caller snapshot.Caller, ids []string, after snapshot.TagCursor, limit int,
) ([]snapshot.PlacedTag, error) {
	const columns = `SELECT s.id, t.key, t.value, t.snapshot, t.position FROM `
	const where = ` AND s.region = ?2 AND s.state <> 5 AND (t.snapshot, t.position) > (?3, ?4) ORDER BY t.snapshot, t.position LIMIT ?5`
	query := columns + `tags t CROSS JOIN snapshots s WHERE s.key = t.snapshot AND t.account = ?1` + where
	args := []any{caller.Account, caller.Region, after.Snapshot, after.Position, limit}
	if ids != nil {
		list, err := json.Marshal(ids)
		if err != nil {
			return nil, err
		}
		query = columns + `(SELECT DISTINCT value FROM json_each(?6)) j CROSS JOIN snapshots s
			CROSS JOIN tags t WHERE s.id = j.value AND t.snapshot = s.key AND t.account = ?1` + where
		args = append(args, string(list))
	}
	rows, err := c.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	defer rows.Close()
	var found []snapshot.PlacedTag
	for rows.Next() {
		var t snapshot.PlacedTag
		if err := rows.Scan(&t.SnapshotID, &t.Tag.Key, &t.Tag.Value, &t.At.Snapshot, &t.At.Position); err != nil {
			return nil, fmt.Errorf("list tags: %w", err)
		}
		found = append(found, t)
	}
	return found, rows.Err()
}
