package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"shale/internal/identity"
)

var _ identity.Store = (*Catalog)(nil)

const entityColumns = `id, account, kind, path, name, created_ms, trust, description, max_session_s`

func scanEntity(row scanner) (identity.Entity, error) {
	var e identity.Entity
	var created, longest int64
	err := row.Scan(&e.ID, &e.Account, &e.Kind, &e.Path, &e.Name, &created, &e.Trust, &e.Description, &longest)
	e.Created, e.MaxSession = fromMillis(created), time.Duration(longest)*time.Second
	return e, err
}

// none is ErrNone for a row that is not there, and err in the words of what was
// to be done.
func none(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return identity.ErrNone
	}
	return fmt.Errorf("%s: %w", what, err)
}

// AccountCreated implements identity.Store.
func (c *Catalog) AccountCreated(ctx context.Context, account string) (time.Time, error) {
	var created int64
	err := c.reader.QueryRowContext(ctx, `SELECT created_ms FROM accounts WHERE id = ?`, account).Scan(&created)
	return fromMillis(created), none("look up account", err)
}

// CreateEntity implements identity.Store.
func (c *Catalog) CreateEntity(ctx context.Context, e identity.Entity, limit int) error {
	if err := c.checkRoom(); err != nil {
		return err
	}
	err := c.update(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO entities (id, account, kind, path, name, folded, created_ms, trust, description, max_session_s)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
			WHERE (SELECT count(*) FROM entities WHERE account = ?2 AND kind = ?3) < ?11
			ON CONFLICT (account, kind, folded) DO NOTHING`,
			e.ID, e.Account, int(e.Kind), e.Path, e.Name, identity.Fold(e.Name), millis(e.Created),
			e.Trust, e.Description, int64(e.MaxSession/time.Second), limit)
		if err != nil {
			return err
		}
		var taken bool
		if rows, err := result.RowsAffected(); err != nil || rows == 1 {
			return err
		}
		err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM entities WHERE account = ? AND kind = ? AND folded = ?)`,
			e.Account, int(e.Kind), identity.Fold(e.Name)).Scan(&taken)
		switch {
		case err != nil:
			return err
		case taken:
			return identity.ErrExists
		}
		return identity.ErrLimit
	})
	return none("create "+e.Kind.String(), err)
}

// Entity implements identity.Store.
func (c *Catalog) Entity(ctx context.Context, account string, kind identity.Kind, name string) (identity.Entity, error) {
	e, err := scanEntity(c.reader.QueryRowContext(ctx, `SELECT `+entityColumns+` FROM entities
		WHERE account = ? AND kind = ? AND folded = ? AND name = ?`, account, int(kind), identity.Fold(name), name))
	return e, none("look up "+kind.String(), err)
}

// EntityByID implements identity.Store.
func (c *Catalog) EntityByID(ctx context.Context, id string) (identity.Entity, error) {
	e, err := scanEntity(c.reader.QueryRowContext(ctx, `SELECT `+entityColumns+` FROM entities WHERE id = ?`, id))
	return e, none("look up "+id, err)
}

// Entities implements identity.Store.
func (c *Catalog) Entities(ctx context.Context, account string, kind identity.Kind, prefix, after string, limit int) ([]identity.Entity, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+entityColumns+` FROM entities
		WHERE account = ?1 AND kind = ?2 AND folded > ?3 AND substr(path, 1, ?4) = ?5 ORDER BY folded LIMIT ?6`,
		account, int(kind), after, len(prefix), prefix, limit)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", kind, err)
	}
	defer rows.Close()
	var list []identity.Entity
	for rows.Next() {
		e, err := scanEntity(rows)
		if err != nil {
			return nil, fmt.Errorf("list %ss: %w", kind, err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// DeleteEntity implements identity.Store.
func (c *Catalog) DeleteEntity(ctx context.Context, id string) error {
	err := c.update(ctx, func(tx *sql.Tx) error {
		var keys, documents bool
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM access_keys k WHERE k.account = e.account AND k.entity = e.id),
			EXISTS (SELECT 1 FROM documents d WHERE d.entity = e.id) FROM entities e WHERE e.id = ?`, id).Scan(&keys, &documents)
		switch {
		case err != nil:
			return err
		case keys:
			return identity.ErrHasKeys
		case documents:
			return identity.ErrHasPolicies
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM bearer_tokens WHERE entity = ?`, id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM entities WHERE id = ?`, id)
		return err
	})
	return none("delete "+id, err)
}

// one is ErrNone for a change that has found no row.
func one(rows int64, err error) error {
	if err == nil && rows == 0 {
		err = identity.ErrNone
	}
	return err
}

// SetTrust implements identity.Store.
func (c *Catalog) SetTrust(ctx context.Context, id, trust string) error {
	return one(c.change(ctx, "set trust policy", `UPDATE entities SET trust = ? WHERE id = ? AND kind = ?`, trust, id, int(identity.Role)))
}

// PutDocument implements identity.Store.
func (c *Catalog) PutDocument(ctx context.Context, id string, d identity.Document, limit int) error {
	if err := c.checkRoom(); err != nil {
		return err
	}
	err := c.update(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO documents (entity, name, text, size)
			SELECT e.id, ?2, ?3, ?4 FROM entities e WHERE e.id = ?1
				AND (SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM documents WHERE entity = ?1 AND name <> ?2) + ?4 <= ?5
			ON CONFLICT (entity, name) DO UPDATE SET text = excluded.text, size = excluded.size`,
			id, d.Name, d.Text, d.Size, limit)
		if err != nil {
			return err
		}
		return c.limited(ctx, tx, result, id)
	})
	return none("put policy", err)
}

// limited says why nothing was added to an entity, if nothing was: it is not
// there, or there would be too much.
func (c *Catalog) limited(ctx context.Context, tx *sql.Tx, result sql.Result, id string) error {
	if rows, err := result.RowsAffected(); err != nil || rows == 1 {
		return err
	}
	var found string
	if err := tx.QueryRowContext(ctx, `SELECT id FROM entities WHERE id = ?`, id).Scan(&found); err != nil {
		return err
	}
	return identity.ErrLimit
}

// DeleteDocument implements identity.Store.
func (c *Catalog) DeleteDocument(ctx context.Context, id, name string) error {
	return one(c.change(ctx, "delete policy", `DELETE FROM documents WHERE entity = ? AND name = ?`, id, name))
}

// Documents implements identity.Store.
func (c *Catalog) Documents(ctx context.Context, id string) ([]identity.Document, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT name, text, size FROM documents WHERE entity = ? ORDER BY name`, id)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	defer rows.Close()
	var list []identity.Document
	for rows.Next() {
		var d identity.Document
		if err := rows.Scan(&d.Name, &d.Text, &d.Size); err != nil {
			return nil, fmt.Errorf("list policies: %w", err)
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// CreateKey implements identity.Store.
func (c *Catalog) CreateKey(ctx context.Context, k identity.AccessKey, limit int) error {
	if err := c.checkRoom(); err != nil {
		return err
	}
	err := c.update(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO access_keys (id, account, secret, created_ms, entity)
			SELECT ?1, e.account, ?2, ?3, e.id FROM entities e WHERE e.id = ?4 AND e.account = ?5
				AND (SELECT count(*) FROM access_keys WHERE account = ?5 AND entity = ?4) < ?6`,
			k.ID, k.Secret, millis(k.Created), k.User, k.Account, limit)
		if err != nil {
			return err
		}
		return c.limited(ctx, tx, result, k.User)
	})
	return none("create access key", err)
}

const keyColumns = `id, account, secret, created_ms, coalesce(entity, ''), inactive`

func scanKey(row scanner) (identity.AccessKey, error) {
	var k identity.AccessKey
	var created, inactive int64
	err := row.Scan(&k.ID, &k.Account, &k.Secret, &created, &k.User, &inactive)
	k.Created, k.Status = fromMillis(created), identity.Status(inactive == 0)
	return k, err
}

// Keys implements identity.Store.
func (c *Catalog) Keys(ctx context.Context, account, user string) ([]identity.AccessKey, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+keyColumns+` FROM access_keys WHERE account = ? AND coalesce(entity, '') = ?
		ORDER BY created_ms, id`, account, user)
	if err != nil {
		return nil, fmt.Errorf("list access keys: %w", err)
	}
	defer rows.Close()
	var list []identity.AccessKey
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return nil, fmt.Errorf("list access keys: %w", err)
		}
		list = append(list, k)
	}
	return list, rows.Err()
}

// SetKeyStatus implements identity.Store.
func (c *Catalog) SetKeyStatus(ctx context.Context, user, key string, s identity.Status) error {
	return one(c.change(ctx, "update access key", `UPDATE access_keys SET inactive = ? WHERE id = ? AND entity = ?`, boolInt(s == identity.Inactive), key, user))
}

// DeleteKey implements identity.Store.
func (c *Catalog) DeleteKey(ctx context.Context, user, key string) error {
	return one(c.change(ctx, "delete access key", `DELETE FROM access_keys WHERE id = ? AND entity = ?`, key, user))
}

// Key implements identity.Store.
func (c *Catalog) Key(ctx context.Context, id string) (identity.AccessKey, error) {
	k, err := scanKey(c.reader.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM access_keys WHERE id = ?`, id))
	return k, none("look up access key", err)
}
