package catalog

import (
	"context"
	"fmt"

	"shale/internal/snapshot"
)

// Names of an account's settings in a region.
const (
	settingByDefault  = "encryption-by-default" // "1" or absent
	settingDefaultKey = "default-key"           // a key ARN, or absent
)

// Encryption implements snapshot.Defaults.
func (c *Catalog) Encryption(ctx context.Context, account, region string) (byDefault bool, key string, err error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT name, value FROM account_settings WHERE account = ? AND region = ? AND name IN (?, ?)`,
		account, region, settingByDefault, settingDefaultKey)
	if err != nil {
		return false, "", fmt.Errorf("read encryption defaults: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return false, "", fmt.Errorf("read encryption defaults: %w", err)
		}
		if name == settingByDefault {
			byDefault = value == "1"
		} else {
			key = value
		}
	}
	return byDefault, key, rows.Err()
}

// SetAccountSetting sets one of the caller's settings in his region; an empty
// value removes it. It is durable on return.
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
