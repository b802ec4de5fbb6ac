package catalog_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/catalog/postgrestest"
)

// A crash of PostgreSQL that loses a transaction before its commit may give the
// transaction's number to another one, which is committed. The lost one is
// known to be lost all the same.
func TestLostCommitNumberedAnew(t *testing.T) {
	pg := postgrestest.Start(t)
	postgrestest.Exec(t, pg.URL(), `ALTER SYSTEM SET wal_writer_delay = '10s'`)
	postgrestest.Exec(t, pg.URL(), `ALTER SYSTEM SET autovacuum = off`)
	pg.Restart(t, "fast")
	place := postgrestest.Schema(t, pg.URL())
	c := open(t, place)
	c.SetSettleTime(10 * time.Second)
	other, err := sql.Open("pgx", pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	number := func(q interface {
		QueryRow(query string, args ...any) *sql.Row
	},
	) (n int64) {
		t.Helper()
		var text string
		if err := q.QueryRow(`SELECT pg_current_xact_id()::text`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		if n, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		return n
	}
	err = c.Update(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO accounts (id, name, created_ms) VALUES ('1', 'lost', 0)`); err != nil {
			return err
		}
		mine := number(tx)
		pg.Restart(t, "immediate")
		theirs := number(other)
		if theirs > mine {
			t.Fatalf("after the crash the next number is %d, and the lost transaction had %d: nothing is shown", theirs, mine)
		}
		for ; theirs < mine; theirs = number(other) {
		}
		return nil
	})
	if !errors.Is(err, blockstore.ErrRolledBack) || c.Err() != nil {
		t.Errorf("got %v, %v; want ErrRolledBack and a catalog that goes on", err, c.Err())
	}
	var lost int
	if err := c.Writer().QueryRowContext(t.Context(), `SELECT count(*) FROM accounts`).Scan(&lost); err != nil || lost != 0 {
		t.Errorf("%d accounts, %v; want none", lost, err)
	}
	if err := c.CreateAccount(t.Context(), "next", catalog.AccessKey{ID: "A", Account: "2"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Another server takes over before what became of a commit is asked for. It has
// kept what the last one was of the server before it, and no more than that.
func TestLostCommitAfterTakeover(t *testing.T) {
	place := postgrestest.URL(t)
	for _, takeovers := range []int{1, 2} {
		old := open(t, place)
		old.SetSettleTime(10 * time.Second)
		err := old.Update(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO accounts (id, name, created_ms) VALUES ('1', 'lost', 0)`); err != nil {
				return err
			}
			postgrestest.Exec(t, place, fmt.Sprintf(`SELECT pg_terminate_backend(%d)`, pid(t, tx)))
			for range takeovers {
				fresh := open(t, place)
				if err := fresh.CreateAccount(t.Context(), "theirs", catalog.AccessKey{ID: "A", Account: "2"}); err != nil && !errors.Is(err, catalog.ErrAccountExists) {
					t.Error(err)
				}
				unlock(t, fresh)
			}
			return nil
		})
		var unknown *catalog.UnknownError
		if takeovers == 1 && !errors.Is(err, blockstore.ErrRolledBack) || takeovers == 2 && !errors.As(err, &unknown) {
			t.Errorf("taken over %d times: got %v", takeovers, err)
		}
	}
}
