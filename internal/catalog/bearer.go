package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"shale/internal/bearer"
	"shale/internal/identity"
)

// A BearerToken is what is known of one: everything but its secret.
type BearerToken struct {
	ID          string
	Account     string // 12 digits
	AccountName string
	User        string // ID of the user that it stands for; empty: the account's root user
	UserName    string
	Name        string // for people; may be empty
	Sum         bearer.Sum
	Created     time.Time
	Expires     time.Time // zero: never
}

// CreateBearer adds a token for the account with the name t.AccountName, or
// for its user t.UserName if that is not empty, and returns it with its IDs and
// times filled in; life 0 is for ever. found is false if there is no such
// account or user.
func (c *Catalog) CreateBearer(ctx context.Context, t BearerToken, life time.Duration) (created BearerToken, found bool, err error) {
	if err := c.checkRoom(); err != nil {
		return BearerToken{}, false, err
	}
	t.Created = c.now().UTC().Truncate(time.Millisecond)
	if life > 0 {
		t.Expires = t.Created.Add(life)
	}
	err = c.update(ctx, func(tx *sql.Tx) error {
		query, args := `SELECT id, '' FROM accounts WHERE name = ?`, []any{t.AccountName}
		if t.UserName != "" {
			query = `SELECT a.id, e.id FROM accounts a JOIN entities e ON e.account = a.id WHERE a.name = ? AND e.kind = ? AND e.name = ?`
			args = append(args, int(identity.User), t.UserName)
		}
		err := tx.QueryRowContext(ctx, query, args...).Scan(&t.Account, &t.User)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		_, err = tx.ExecContext(ctx, `INSERT INTO bearer_tokens (id, account, name, secret, created_ms, expires_ms, entity)
			VALUES (?, ?, ?, ?, ?, ?, ?)`,
			t.ID, t.Account, t.Name, t.Sum[:], millis(t.Created), millis(t.Expires), sql.NullString{String: t.User, Valid: t.User != ""})
		return err
	})
	if err != nil {
		return BearerToken{}, false, fmt.Errorf("create bearer token: %w", err)
	}
	return t, found, nil
}

const bearerQuery = `SELECT b.id, b.account, a.name, coalesce(b.entity, ''), coalesce(e.name, ''), b.name, b.secret, b.created_ms, b.expires_ms
	FROM bearer_tokens b JOIN accounts a ON a.id = b.account LEFT JOIN entities e ON e.id = b.entity `

func scanBearer(row scanner) (BearerToken, error) {
	var t BearerToken
	var sum []byte
	var created, expires int64
	if err := row.Scan(&t.ID, &t.Account, &t.AccountName, &t.User, &t.UserName, &t.Name, &sum, &created, &expires); err != nil {
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
