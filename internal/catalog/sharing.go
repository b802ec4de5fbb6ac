package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"shale/internal/snapshot"
)

// notHidden is true for a snapshot s whose owner lets public snapshots be seen.
const notHidden = `NOT EXISTS (SELECT 1 FROM account_settings h WHERE h.account = s.account AND h.region = s.region
	AND h.name = '` + snapshot.SettingPublicAccess + `' AND h.value = '` + string(snapshot.BlockAll) + `')`

// accessQuery tells whether the snapshot ?1 is shared with the account ?2, and
// whether it is public. A snapshot that is not there to see is neither.
const accessQuery = `SELECT EXISTS (SELECT 1 FROM grants WHERE snapshot = ?1 AND account = ?2), EXISTS (SELECT 1 FROM grants
		WHERE snapshot = ?1 AND account = '` + snapshot.Everybody + `' AND ` + notHidden + `)
	FROM snapshots s WHERE s.key = ?1 AND s.state NOT IN (5, 7)`

// Access implements snapshot.Sharing.
func (c *Catalog) Access(ctx context.Context, key int64, account string) (snapshot.Access, error) {
	var a snapshot.Access
	err := c.stmt.access.QueryRowContext(ctx, key, account).Scan(&a.Granted, &a.Public)
	if errors.Is(err, sql.ErrNoRows) {
		return snapshot.Access{}, nil
	}
	if err != nil {
		return snapshot.Access{}, fmt.Errorf("look up grants: %w", err)
	}
	return a, nil
}

// Shared implements snapshot.Sharing. What is granted to the caller and what is
// public are two runs of one index; each begins after the cursor and needs no
// more than the limit. A snapshot may be in both.
func (c *Catalog) Shared(ctx context.Context, caller snapshot.Caller, after snapshot.Cursor, limit int) ([]snapshot.Snapshot, error) {
	run := func(condition string) string {
		return `SELECT * FROM (SELECT g.snapshot, g.start_ms, g.id FROM grants g CROSS JOIN snapshots s
			WHERE s.key = g.snapshot AND g.account = ` + condition + ` AND g.region = ?2 AND (g.start_ms, g.id) > (?3, ?4)
				AND s.state NOT IN (5, 7) AND s.account <> ?1 ORDER BY g.start_ms, g.id LIMIT ?5) run`
	}
	return c.list(ctx, `key IN (SELECT snapshot FROM (`+run(`?1`)+` UNION `+run(`'`+snapshot.Everybody+`' AND `+notHidden)+`
		ORDER BY start_ms, id LIMIT ?5) shared) ORDER BY start_ms, id`,
		caller.Account, caller.Region, millis(after.Start), after.ID, limit)
}

// Grants implements snapshot.Sharing.
func (c *Catalog) Grants(ctx context.Context, list []snapshot.Snapshot, accounts []string) (map[int64][]string, error) {
	keys, err := json.Marshal(keysOf(list))
	if err != nil {
		return nil, err
	}
	among, err := json.Marshal(accounts)
	if err != nil {
		return nil, err
	}
	rows, err := c.reader.QueryContext(ctx, `SELECT g.snapshot, g.account FROM grants g JOIN snapshots s ON s.key = g.snapshot
		WHERE g.snapshot IN (SELECT CAST(value AS BIGINT) FROM json_each(?1)) AND g.account IN (SELECT value FROM json_each(?2))
			AND (g.account <> '`+snapshot.Everybody+`' OR `+notHidden+`)`, string(keys), string(among))
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	defer rows.Close()
	grants := map[int64][]string{}
	for rows.Next() {
		var key int64
		var account string
		if err := rows.Scan(&key, &account); err != nil {
			return nil, fmt.Errorf("list grants: %w", err)
		}
		grants[key] = append(grants[key], account)
	}
	return grants, rows.Err()
}

func keysOf(list []snapshot.Snapshot) []int64 {
	keys := make([]int64, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys
}

// Grantees implements snapshot.Sharing.
func (c *Catalog) Grantees(ctx context.Context, key int64) ([]string, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT account FROM grants WHERE snapshot = ?
		ORDER BY account <> '`+snapshot.Everybody+`', account`, key)
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var account string
		if err := rows.Scan(&account); err != nil {
			return nil, fmt.Errorf("list grants: %w", err)
		}
		list = append(list, account)
	}
	return list, rows.Err()
}

// Share implements snapshot.Sharing.
func (c *Catalog) Share(ctx context.Context, caller snapshot.Caller, id string, accounts []string) (done bool, err error) {
	if err := c.checkRoom(); err != nil {
		return false, err
	}
	list, err := json.Marshal(accounts)
	if err != nil {
		return false, err
	}
	err = c.update(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE id = ?1 AND account = ?2 AND region = ?3 AND state NOT IN (5, 7)
			AND NOT ('`+snapshot.Everybody+`' IN (SELECT value FROM json_each(?4)) AND EXISTS (SELECT 1 FROM account_settings
				WHERE account = ?2 AND region = ?3 AND name = '`+snapshot.SettingPublicAccess+`')))`,
			id, caller.Account, caller.Region, string(list)).Scan(&done)
		if err != nil || !done {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO grants (snapshot, account, region, start_ms, id)
			SELECT s.key, j.value, s.region, s.start_ms, s.id FROM snapshots s, json_each(?2) j WHERE s.id = ?1 ON CONFLICT DO NOTHING`,
			id, string(list))
		if err != nil {
			return err
		}
		return noteChange(ctx, tx, `s.id = ?`, id)
	})
	if err != nil {
		return false, fmt.Errorf("share snapshot: %w", err)
	}
	return done, nil
}

// Unshare implements snapshot.Sharing.
func (c *Catalog) Unshare(ctx context.Context, caller snapshot.Caller, id string, accounts []string) (done bool, err error) {
	list, err := json.Marshal(accounts)
	if err != nil {
		return false, err
	}
	err = c.update(ctx, func(tx *sql.Tx) error {
		var key int64
		err := tx.QueryRowContext(ctx, `SELECT key FROM snapshots WHERE id = ? AND account = ? AND region = ? AND state NOT IN (5, 7)`,
			id, caller.Account, caller.Region).Scan(&key)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		done = true
		query, args := `DELETE FROM grants WHERE snapshot = ?1`, []any{key}
		if accounts != nil {
			query, args = query+` AND account IN (SELECT value FROM json_each(?2))`, append(args, string(list))
		}
		if _, err = tx.ExecContext(ctx, query, args...); err != nil {
			return err
		}
		return noteChange(ctx, tx, `s.key = ?`, key)
	})
	if err != nil {
		return false, fmt.Errorf("unshare snapshot: %w", err)
	}
	return done, nil
}

// AccountSetting implements snapshot.AccountSettings.
func (c *Catalog) AccountSetting(ctx context.Context, caller snapshot.Caller, name string) (string, error) {
	var value string
	err := c.reader.QueryRowContext(ctx, `SELECT value FROM account_settings WHERE account = ? AND region = ? AND name = ?`,
		caller.Account, caller.Region, name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("setting %s: %w", name, err)
	}
	return value, nil
}

// SetAccountSetting implements snapshot.AccountSettings.
func (c *Catalog) SetAccountSetting(ctx context.Context, caller snapshot.Caller, name, value string) error {
	query := `INSERT INTO account_settings (account, region, name, value) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (account, region, name) DO UPDATE SET value = excluded.value`
	args := []any{caller.Account, caller.Region, name, value}
	if value == "" {
		query, args = `DELETE FROM account_settings WHERE account = ?1 AND region = ?2 AND name = ?3`, args[:3]
	}
	_, err := c.change(ctx, "setting "+name, query, args...)
	return err
}
