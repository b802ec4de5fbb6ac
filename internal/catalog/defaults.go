package catalog

import (
	"context"
	"fmt"
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
