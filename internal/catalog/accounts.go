package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// SettingStoreID is the setting with the id of the store, 16 bytes.
const SettingStoreID = "store_id"

// An AccessKey is what the root user of an account signs requests with.
type AccessKey struct {
	ID      string
	Account string // 12 digits
	Secret  string
}

// ErrAccountExists says that there is an account of the name.
var ErrAccountExists = errors.New("there is an account of this name")

// ErrNoAccount says that there is no account of the name.
var ErrNoAccount = errors.New("there is no account of this name")

// CreateAccount adds an account and its first access key, durably. The error is
// ErrAccountExists if the name is taken.
func (c *Catalog) CreateAccount(ctx context.Context, name string, key AccessKey) error {
	err := c.update(ctx, func(tx *sql.Tx) error {
		now := millis(c.now())
		result, err := tx.ExecContext(ctx, `INSERT INTO accounts (id, name, created_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING`,
			key.Account, name, now)
		if err != nil {
			return err
		}
		if rows, err := result.RowsAffected(); err != nil || rows == 0 {
			return errors.Join(ErrAccountExists, err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO access_keys (id, account, secret, created_ms) VALUES (?, ?, ?, ?)`,
			key.ID, key.Account, key.Secret, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("create account %s: %w", name, err)
	}
	return nil
}

// RotateAccountKey puts a key in the place of all that the root user of the account
// with the name has, durably. The error is ErrNoAccount if there is none.
func (c *Catalog) RotateAccountKey(ctx context.Context, name, id, secret string) error {
	err := c.update(ctx, func(tx *sql.Tx) error {
		var account string
		// This changes nothing: it has PostgreSQL lock the row, so that of two
		// rotations at once the later one sees the key of the other, and removes it.
		err := tx.QueryRowContext(ctx, `UPDATE accounts SET name = name WHERE name = ? RETURNING id`, name).Scan(&account)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoAccount
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM access_keys WHERE account = ? AND entity IS NULL`, account); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO access_keys (id, account, secret, created_ms) VALUES (?, ?, ?, ?)`,
			id, account, secret, millis(c.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("rotate the key of account %s: %w", name, err)
	}
	return nil
}

// An Account is who owns snapshots.
type Account struct {
	Name      string
	ID        string // 12 digits
	AccessKey string // the ID of the oldest access key of its root user
	Created   time.Time
}

// Accounts gives all accounts by the time at which they were made.
func (c *Catalog) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT a.name, a.id, a.created_ms, coalesce((SELECT k.id FROM access_keys k
		WHERE k.account = a.id AND k.entity IS NULL ORDER BY k.created_ms, k.id LIMIT 1), '') FROM accounts a ORDER BY a.created_ms, a.id`)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	defer rows.Close()
	var list []Account
	for rows.Next() {
		var a Account
		var created int64
		if err := rows.Scan(&a.Name, &a.ID, &created, &a.AccessKey); err != nil {
			return nil, fmt.Errorf("list accounts: %w", err)
		}
		a.Created = fromMillis(created)
		list = append(list, a)
	}
	return list, rows.Err()
}

// AccountKey finds the oldest access key of the root user of the account with
// the name.
func (c *Catalog) AccountKey(ctx context.Context, name string) (AccessKey, bool, error) {
	var k AccessKey
	err := c.reader.QueryRowContext(ctx, `SELECT k.id, k.account, k.secret FROM access_keys k JOIN accounts a ON a.id = k.account
		WHERE a.name = ? AND k.entity IS NULL ORDER BY k.created_ms, k.id LIMIT 1`, name).Scan(&k.ID, &k.Account, &k.Secret)
	if errors.Is(err, sql.ErrNoRows) {
		return AccessKey{}, false, nil
	}
	if err != nil {
		return AccessKey{}, false, fmt.Errorf("look up access key: %w", err)
	}
	return k, true, nil
}

// Setting gives the setting with the name. If there is none yet it is made
// first, from what initial returns; of callers that race, all get one value.
// A nil initial only looks.
func (c *Catalog) Setting(ctx context.Context, name string, initial func() []byte) (value []byte, found bool, err error) {
	err = c.update(ctx, func(tx *sql.Tx) error {
		if initial != nil {
			if _, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, initial()); err != nil {
				return err
			}
		}
		err := tx.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = ?`, name).Scan(&value)
		found = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("setting %s: %w", name, err)
	}
	return value, found, nil
}
