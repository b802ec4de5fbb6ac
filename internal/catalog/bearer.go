package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"shale/internal/bearer"
)

// A BearerToken is what is known of one: everything but its secret.
type BearerToken struct {
	ID          string
	Account     string // 12 digits
	AccountName string
	Name        string // for people; may be empty
	Sum         bearer.Sum
	Created     time.Time
	Expires     time.Time // zero: never
}

// CreateBearer adds a token for the account with the name t.AccountName and
// returns it with its account and times filled in; life 0 is for ever. found
// is false if there is no such account.
func (c *Catalog) CreateBearer(ctx context.Context, t BearerToken, life time.Duration) (created BearerToken, found bool, err error) {
	if err := c.checkRoom(); err != nil {
		return BearerToken{}, false, err
	}
	t.Created = c.now().UTC().Truncate(time.Millisecond)
	if life > 0 {
		t.Expires = t.Created.Add(life)
	}
	err = c.update(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT id FROM accounts WHERE name = ?`, t.AccountName).Scan(&t.Account)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		_, err = tx.ExecContext(ctx, `INSERT INTO bearer_tokens (id, account, name, secret, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?)`,
			t.ID, t.Account, t.Name, t.Sum[:], millis(t.Created), millis(t.Expires))
		return err
	})
	if err != nil {
		return BearerToken{}, false, fmt.Errorf("create bearer token: %w", err)
	}
	return t, found, nil
}

const bearerQuery = `SELECT b.id, b.account, a.name, b.name, b.secret, b.created_ms, b.expires_ms
	FROM bearer_tokens b JOIN accounts a ON a.id = b.account `

func scanBearer(row scanner) (BearerToken, error) {
	var t BearerToken
	var sum []byte
	var created, expires int64
	if err := row.Scan(&t.ID, &t.Account, &t.AccountName, &t.Name, &sum, &created, &expires); err != nil {
		return BearerToken{}, err
	}
	if len(sum) != len(t.Sum) {
		return BearerToken{}, fmt.Errorf("bearer token %s: sum of %d bytes", t.ID, len(sum))
	}
	t.Sum, t.Created, t.Expires = bearer.Sum(sum), fromMillis(created), fromMillis(expires)
	return t, nil
}

// Bearer finds a token that has not expired by its ID. It asks the database
// each time: another process may have added or revoked it just now.
func (c *Catalog) Bearer(ctx context.Context, id string) (t BearerToken, found bool, err error) {
	t, err = scanBearer(c.reader.QueryRowContext(ctx, bearerQuery+`WHERE b.id = ? AND (b.expires_ms = 0 OR b.expires_ms > ?)`, id, millis(c.now())))
	if errors.Is(err, sql.ErrNoRows) {
		return BearerToken{}, false, nil
	}
	if err != nil {
		return BearerToken{}, false, fmt.Errorf("look up bearer token: %w", err)
	}
	return t, true, nil
}

// Bearers gives all tokens, expired ones too, the oldest first.
func (c *Catalog) Bearers(ctx context.Context) ([]BearerToken, error) {
	rows, err := c.reader.QueryContext(ctx, bearerQuery+`ORDER BY b.created_ms, b.id`)
	if err != nil {
		return nil, fmt.Errorf("list bearer tokens: %w", err)
	}
	defer rows.Close()
	var list []BearerToken
	for rows.Next() {
		t, err := scanBearer(rows)
		if err != nil {
			return nil, fmt.Errorf("list bearer tokens: %w", err)
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

// RevokeBearer removes a token.
func (c *Catalog) RevokeBearer(ctx context.Context, id string) (done bool, err error) {
	n, err := c.change(ctx, "revoke bearer token", `DELETE FROM bearer_tokens WHERE id = ?`, id)
	return n == 1, err
}
