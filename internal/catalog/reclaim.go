package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/reclaim"
)

var _ reclaim.Catalog = (*Catalog)(nil)

// OpenGeneration implements reclaim.Catalog.
func (c *Catalog) OpenGeneration(ctx context.Context) (g reclaim.Generation, err error) {
	err = c.update(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `UPDATE reclaim SET generation = generation + 1 RETURNING generation`).Scan(&g)
	})
	if err != nil {
		return 0, fmt.Errorf("open generation: %w", err)
	}
	return g, nil
}

// held are the roots that keep what is below them. Those of open snapshots and
// of copies are their parents', whose own rows may be gone; what was written to
// them are rows of pending. Of the recycle bin things come back; and so would,
// without the catalog, what was deleted, until a manifest says so. A lineage's
// follow one another by age, as each has most of what the one before it has.
const held = `SELECT root FROM (
	SELECT lineage, key, root FROM snapshots WHERE state IN (3, 7)
	UNION ALL SELECT lineage, key, base FROM snapshots WHERE state IN (1, 2, 6)
	UNION ALL SELECT lineage, key, root FROM snapshots WHERE state IN (1, 2, 6)
	UNION ALL SELECT s.lineage, s.key, s.root FROM snapshots s JOIN manifests_due d ON d.snapshot = s.id WHERE s.state IN (4, 5)
	) AS kept WHERE root IS NOT NULL ORDER BY lineage, key`

// Held implements reclaim.Catalog.
func (c *Catalog) Held(ctx context.Context, mark func(id block.ID)) (roots []block.ID, err error) {
	// One transaction, that sees one moment: a child that is made of a parent
	// that is deleted has either the one root or the other.
	tx, err := c.reader.BeginTx(ctx, c.db.oneMoment())
	if err != nil {
		return nil, fmt.Errorf("list what is held: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was changed
	// In PostgreSQL each query sees a moment of its own. Rows before roots: a
	// snapshot that is completed in between is seen with one of them at least.
	// The roots with one query: a child that is made of a parent that is deleted
	// has either the one root or the other.
	for _, list := range []struct {
		query string
		each  func(block.ID)
	}{
		{`SELECT id FROM pending`, mark},
		{`SELECT record FROM manifests`, mark},
		{held, func(root block.ID) { roots = append(roots, root) }},
	} {
		if err := eachID(ctx, tx, list.query, list.each); err != nil {
			return nil, fmt.Errorf("list what is held: %w", err)
		}
	}
	return roots, nil
}

func eachID(ctx context.Context, tx *sql.Tx, query string, each func(block.ID)) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id sql.RawBytes
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if len(id) != len(block.ID{}) {
			return fmt.Errorf("an id of %d bytes", len(id))
		}
		each(block.ID(id))
	}
	return rows.Err()
}

// Records implements reclaim.Catalog.
func (c *Catalog) Records(ctx context.Context) (n int64, err error) {
	if err := c.reader.QueryRowContext(ctx, `SELECT count(*) FROM records`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count records: %w", err)
	}
	return n, nil
}

// Candidates implements reclaim.Catalog.
func (c *Catalog) Candidates(ctx context.Context, after block.ID, limit int) ([]reclaim.Candidate, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT id, container, length, generation, condemned FROM records
		WHERE id > ? ORDER BY id LIMIT ?`, after[:], limit)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	defer rows.Close()
	list := make([]reclaim.Candidate, 0, limit)
	for rows.Next() {
		var r reclaim.Candidate
		var id sql.RawBytes
		if err := rows.Scan(&id, &r.Container, &r.Length, &r.Generation, &r.Condemned); err != nil {
			return nil, fmt.Errorf("list records: %w", err)
		}
		if len(id) != len(r.ID) {
			return nil, fmt.Errorf("list records: an id of %d bytes", len(id))
		}
		r.ID = block.ID(id)
		if bytes.Compare(r.ID[:], after[:]) <= 0 {
			return nil, fmt.Errorf("list records: %w", errDisorder)
		}
		list, after = append(list, r), r.ID
	}
	return list, rows.Err()
}

// CarryOut implements reclaim.Catalog.
func (c *Catalog) CarryOut(ctx context.Context, g reclaim.Generation, s *reclaim.Sentence) error {
	err := c.update(ctx, func(tx *sql.Tx) error {
		var open reclaim.Generation
		if err := tx.QueryRowContext(ctx, `SELECT generation FROM reclaim`).Scan(&open); err != nil {
			return err
		}
		if open != g {
			return reclaim.ErrSuperseded
		}
		for _, step := range []struct {
			query string
			list  []reclaim.Candidate
			args  func(*reclaim.Candidate) []any
		}{
			{
				`UPDATE records SET condemned = ? WHERE id = ? AND generation < ? AND condemned = 0`, s.Condemn,
				func(r *reclaim.Candidate) []any { return []any{g, r.ID[:], g} },
			},
			{
				`UPDATE records SET condemned = 0 WHERE id = ? AND condemned = ?`, s.Pardon,
				func(r *reclaim.Candidate) []any { return []any{r.ID[:], r.Condemned} },
			},
			{
				// Stored anew meanwhile it is condemned no more.
				`DELETE FROM records WHERE id = ? AND condemned = ?`, s.Remove,
				func(r *reclaim.Candidate) []any { return []any{r.ID[:], r.Condemned} },
			},
		} {
			if err := c.execEach(ctx, tx, step.query, step.list, step.args); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweep records: %w", err)
	}
	return nil
}

func (c *Catalog) execEach(
	ctx context.Context, tx *sql.Tx, query string, list []reclaim.Candidate, args func(*reclaim.Candidate) []any,
) error {
	if len(list) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	rows := make([][]any, len(list))
	for i := range list {
		rows[i] = args(&list[i])
	}
	_, err = c.db.execAll(ctx, stmt, rows)
	return err
}

// DropContainer implements reclaim.Catalog.
func (c *Catalog) DropContainer(ctx context.Context, id blockstore.ContainerID) (bool, error) {
	// The last one is appended to, and its number must never be used again.
	n, err := c.change(ctx, "drop container", `UPDATE containers SET dropped = 1 WHERE id = ? AND id < (SELECT max(id) FROM containers)`, id)
	return n == 1, err
}

// Dropped implements reclaim.Catalog.
func (c *Catalog) Dropped(ctx context.Context) ([]blockstore.ContainerID, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT id FROM containers WHERE dropped = 1 ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list dropped containers: %w", err)
	}
	defer rows.Close()
	var list []blockstore.ContainerID
	for rows.Next() {
		var id blockstore.ContainerID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list dropped containers: %w", err)
		}
		list = append(list, id)
	}
	return list, rows.Err()
}

// ForgetContainer implements reclaim.Catalog.
func (c *Catalog) ForgetContainer(ctx context.Context, id blockstore.ContainerID) error {
	_, err := c.change(ctx, "forget container", `DELETE FROM containers WHERE id = ? AND dropped = 1`, id)
	return err
}

// Reclaimed implements reclaim.Catalog.
func (c *Catalog) Reclaimed(ctx context.Context) (reclaim.Figures, error) {
	var f reclaim.Figures
	var began int64
	err := c.reader.QueryRowContext(ctx, `SELECT began_ms, live_bytes, dead_bytes, condemned FROM reclaim`).
		Scan(&began, &f.LiveBytes, &f.DeadBytes, &f.Condemned)
	if err != nil {
		return reclaim.Figures{}, fmt.Errorf("read what was reclaimed: %w", err)
	}
	f.Began = fromMillis(began)
	return f, nil
}

// SetReclaimed implements reclaim.Catalog.
func (c *Catalog) SetReclaimed(ctx context.Context, f reclaim.Figures) error {
	_, err := c.change(ctx, "record what was reclaimed", `UPDATE reclaim SET began_ms = ?, live_bytes = ?, dead_bytes = ?, condemned = ?`,
		millis(f.Began), f.LiveBytes, f.DeadBytes, f.Condemned)
	return err
}

// DeletedSince implements reclaim.Catalog.
func (c *Catalog) DeletedSince(ctx context.Context, t time.Time) (some bool, err error) {
	err = c.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE state = 5 AND deleted_ms >= ?)`, millis(t)).Scan(&some)
	if err != nil {
		return false, fmt.Errorf("look for deleted snapshots: %w", err)
	}
	return some, nil
}

// Shrink implements reclaim.Catalog.
func (c *Catalog) Shrink(ctx context.Context) error {
	if err := c.judge(c.db.shrink(ctx, c.writer)); err != nil {
		return fmt.Errorf("shrink catalog: %w", err)
	}
	return nil
}
