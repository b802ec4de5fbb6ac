package catalog_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/catalog/postgrestest"
	"shale/internal/identity"
	"shale/internal/snapshot"
)

func TestNumbered(t *testing.T) {
	for query, want := range map[string]string{
		`a = ? AND b = ?`:                                `a = $1 AND b = $2`,
		`a = ?2 AND b = ?1 AND c = ?`:                    `a = $2 AND b = $1 AND c = $3`,
		`a = '?' AND b = 'it''s ?' AND c = ?12 OR d = ?`: `a = '?' AND b = 'it''s ?' AND c = $12 OR d = $13`,
		`a = $1`: `a = $1`,
		``:       ``,
	} {
		for range 2 { // made, and found
			if got := catalog.Numbered(query); got != want {
				t.Errorf("%q: got %q, want %q", query, got, want)
			}
		}
	}
}

// A column is one of a table, in words that both databases have.
type column struct {
	kind    string // of SQLite's; those that PostgreSQL has another for in its words
	notNull bool
}

// Both databases have the same tables and columns. SQLite's INTEGER is
// PostgreSQL's BIGINT, and texts are compared by their bytes.
func TestSchemasAgree(t *testing.T) {
	lite, _, _ := create(t)
	post, _ := createAt(t, postgrestest.URL(t))
	columns := func(db *sql.DB, query string) map[string]column {
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		all := map[string]column{}
		for rows.Next() {
			var table, name string
			var c column
			if err := rows.Scan(&table, &name, &c.kind, &c.notNull); err != nil {
				t.Fatal(err)
			}
			all[table+"."+name] = c
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	want := columns(lite.Reader(), `SELECT m.name, c.name, CASE c.type WHEN 'INTEGER' THEN 'BIGINT' ELSE c.type END, c."notnull" OR c.pk > 0
		FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT IN ('goose_db_version', 'sqlite_sequence')`)
	got := columns(post.Reader(), `SELECT table_name, column_name,
			CASE data_type WHEN 'bytea' THEN 'BLOB' WHEN 'text' THEN CASE collation_name WHEN 'C' THEN 'TEXT' ELSE 'TEXT of the locale' END
				ELSE upper(data_type) END, is_nullable = 'NO'
		FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT IN ('goose_db_version', 'writer')`)
	if len(want) < 50 {
		t.Errorf("only %d columns", len(want))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: PostgreSQL has %+v, SQLite %+v", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, found := want[name]; !found {
			t.Errorf("SQLite has no %s", name)
		}
	}
	indexes := func(db *sql.DB, query string) (names []string) {
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	if a, b := indexes(lite.Reader(), `SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`),
		indexes(post.Reader(), `SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE c.relnamespace = current_schema()::regnamespace
				AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)`); !slices.Equal(a, b) {
		t.Errorf("indexes of SQLite %v, of PostgreSQL %v", a, b)
	}
}

// Text that one of the databases cannot hold is no error of the server's.
func TestOddText(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, _ := createAt(t, place)
		for i, text := range []string{"a\x00b", "\xff", "'; DROP TABLE snapshots; --", "?1 $1"} {
			now := time.Now()
			_, err := c.Create(t.Context(), snapshot.NewSnapshot{Token: "t" + text, Request: []byte("{}"), Snapshot: snapshot.Snapshot{
				ID: fmt.Sprintf("snap-0000000000000001%d", i), Account: account, Region: "us-east-1", Description: &text,
				VolumeSize: 1, StartTime: now, Timeout: time.Hour, Deadline: now.Add(time.Hour),
			}})
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if _, _, found, err := c.Bound(t.Context(), account, "us-east-1", "t"+text); err != nil || !found {
				t.Errorf("token %q: found %v, %v", text, found, err)
			}
			if _, found, err := c.Snapshot(t.Context(), "snap-"+text); err != nil || found {
				t.Errorf("snapshot %q: found %v, %v", text, found, err)
			}
		}
	})
}

// A database that would lose what was acknowledged is refused.
func TestSettingsThatLose(t *testing.T) {
	base := postgrestest.URL(t)
	for _, with := range []string{"synchronous_commit=off", "search_path=nowhere"} {
		name, _, _ := strings.Cut(with, "=")
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set(name, strings.TrimPrefix(with, name+"="))
		u.RawQuery = q.Encode()
		var setting *catalog.SettingError
		if _, err := catalog.Open(t.Context(), u.String(), time.Now); !errors.As(err, &setting) || setting.Name != name {
			t.Errorf("%s: got %v, want a *SettingError", with, err)
		}
	}
	// Nor is it switched off while it is in use.
	c := open(t, base)
	var value string
	if err := c.Writer().QueryRowContext(t.Context(), `SELECT source FROM pg_settings WHERE name = 'synchronous_commit'`).Scan(&value); err != nil {
		t.Fatal(err)
	}
	if value != "session" {
		t.Errorf("synchronous_commit comes from %s, want it fixed for the session", value)
	}
}

// The errors and names that messages are made of hold no password.
func TestNoPasswordInErrors(t *testing.T) {
	for _, url := range []string{
		"postgres://me:hunter2@127.0.0.1:1/db", "postgres://me:hunter2@127.0.0.1:x/db", "postgres://me:hunter2@/db?sslmode=hunter2",
		"postgres://me:hunt%zzer2@127.0.0.1/db", "postgresql://hunter2:hunter2@[::1/db",
	} {
		for name, open := range map[string]func(context.Context, string, func() time.Time) (*catalog.Catalog, error){
			"Open": catalog.Open, "OpenBeside": catalog.OpenBeside,
		} {
			if _, err := open(t.Context(), url, time.Now); err == nil || strings.Contains(err.Error(), "er2") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// One server at a time has a catalog.
func TestTaken(t *testing.T) {
	place := postgrestest.URL(t)
	first, _ := createAt(t, place)
	var taken *catalog.TakenError
	if _, err := catalog.Open(t.Context(), place, time.Now); !errors.As(err, &taken) {
		t.Errorf("beside another: got %v, want a *TakenError", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, place)
}

// A server that was taken for dead cannot change anything once another has
// taken over, whatever became of the lock that should have kept that one out.
// What guards this is the epoch, in session.BeginTx.
func TestReplaced(t *testing.T) {
	place := postgrestest.URL(t)
	old, snap := createAt(t, place)
	unlock(t, old)
	fresh := open(t, place)
	var replaced *catalog.ReplacedError
	var stopped *blockstore.StoppedError
	b := blockstore.Commit{Refs: []blockstore.Ref{{Snapshot: snap.Key, Index: 1}}}
	if _, err := old.Commit(t.Context(), &b); !errors.As(err, &replaced) || !errors.As(err, &stopped) {
		t.Errorf("Commit: got %v, want a *StoppedError for a *ReplacedError", err)
	}
	if err := old.Err(); !errors.As(err, &replaced) {
		t.Errorf("Err: got %v", err)
	}
	if list, err := fresh.Pending(t.Context(), &snap, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("%d blocks, %v; want none", len(list), err)
	}
	commit(t, fresh, snap, 0, 3)

	// Likewise over a new connection.
	unlock(t, fresh)
	fresher := open(t, place)
	if _, err := fresh.Writer().ExecContext(t.Context(), `SELECT pg_terminate_backend(pg_backend_pid())`); err == nil {
		t.Error("the connection goes on")
	}
	if _, err := fresh.Delete(t.Context(), account, "us-east-1", snap.ID, 0); !errors.As(err, &replaced) {
		t.Errorf("Delete: got %v, want a *ReplacedError", err)
	}
	if _, found, err := fresher.Snapshot(t.Context(), snap.ID); err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
}

// unlock takes the lock from a server that believes to have it.
func unlock(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	if _, err := c.Writer().ExecContext(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
}

// A server that starts waits for a transaction of its predecessor, and sees
// what that one changed.
func TestReplacementWaits(t *testing.T) {
	place := postgrestest.URL(t)
	old, snap := createAt(t, place)
	unlock(t, old)
	var done atomic.Bool
	var starting sync.WaitGroup
	err := old.Update(t.Context(), func(tx *sql.Tx) error {
		starting.Go(func() {
			fresh, err := catalog.Open(t.Context(), place, time.Now)
			if err != nil {
				t.Error(err)
				return
			}
			defer fresh.Close()
			if !done.Load() {
				t.Error("it did not wait")
			}
			if _, found, err := fresh.Snapshot(t.Context(), snap.ID); err != nil || found {
				t.Errorf("what was deleted meanwhile is found: %v, %v", found, err)
			}
		})
		for waiting := false; !waiting; {
			err := old.Reader().QueryRowContext(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
				WHERE NOT l.granted AND ? = ANY (pg_blocking_pids(l.pid)))`, pid(t, tx)).Scan(&waiting)
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(t.Context(), `UPDATE snapshots SET state = 5`)
		done.Store(true)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	starting.Wait()
}

func pid(t *testing.T, tx *sql.Tx) (n int) {
	t.Helper()
	if err := tx.QueryRowContext(t.Context(), `SELECT pg_backend_pid()`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A proxy stands before PostgreSQL and loses what it is told to.
type proxy struct {
	net.Listener
	to   string
	lose atomic.Int32
}

// What a proxy loses, once.
const (
	nothing    = iota
	theRequest // to commit
	theAnswer
	everything // from the request on, for good
)

// through gives a URL that leads through a new proxy.
func through(t *testing.T, place string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: u.Host}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	if p.lose.Load() == everything {
		return
	}
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	var answering sync.WaitGroup
	answering.Go(func() {
		defer client.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := server.Read(buffer)
			if err != nil || mute.Load() { // the answer has come, so it is done
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	defer answering.Wait()
	defer server.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], []byte("COMMIT\x00")) {
			switch p.lose.Load() {
			case theRequest:
				p.lose.Store(nothing)
				return
			case everything:
				return
			case theAnswer:
				p.lose.Store(nothing)
				mute.Store(true)
				if _, err := server.Write(buffer[:n]); err == nil {
					_, _ = io.Copy(io.Discard, client) // until it is closed
				}
				return
			}
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// The connection breaks while a transaction is committed. What became of it is
// found out: done if the request arrived, undone if it did not, and only if
// PostgreSQL cannot be asked does the store stop.
func TestLostCommit(t *testing.T) {
	place := postgrestest.URL(t)
	p, url := through(t, place)
	c, _ := createAt(t, url)
	c.SetSettleTime(10 * time.Second)
	add := func(id string) error {
		return c.CreateAccount(t.Context(), id, catalog.AccessKey{ID: id, Account: id})
	}
	there := func(id string) bool {
		_, err := c.Key(t.Context(), id)
		if err != nil && !errors.Is(err, identity.ErrNone) {
			t.Fatal(err)
		}
		return err == nil
	}
	p.lose.Store(theAnswer)
	if err := add("1"); err != nil || !there("1") {
		t.Errorf("the answer is lost: %v, found %v", err, there("1"))
	}
	p.lose.Store(theRequest)
	if err := add("2"); !errors.Is(err, blockstore.ErrRolledBack) || there("2") {
		t.Errorf("the request is lost: %v, found %v", err, there("2"))
	}
	if err := c.Err(); err != nil {
		t.Errorf("it stopped: %v", err)
	}
	if err := add("2"); err != nil || !there("2") {
		t.Errorf("afterwards: %v, found %v", err, there("2"))
	}
	c.SetSettleTime(time.Millisecond)
	p.lose.Store(everything)
	var unknown *catalog.UnknownError
	var stopped *blockstore.StoppedError
	if err := add("3"); !errors.As(err, &unknown) || !errors.As(err, &stopped) {
		t.Errorf("everything is lost: got %v, want a *StoppedError for an *UnknownError", err)
	}
	p.lose.Store(nothing)
	if err := add("4"); !errors.As(err, &stopped) {
		t.Errorf("after it: got %v, want a *StoppedError", err)
	}
}

// Transactions that PostgreSQL ends because of one another are repeated.
func TestDeadlock(t *testing.T) {
	place := postgrestest.URL(t)
	c, snap := createAt(t, place)
	other, err := sql.Open("pgx", place)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	runs := 0
	var crossing sync.WaitGroup
	err = c.Update(t.Context(), func(tx *sql.Tx) error {
		runs++
		if _, err := tx.ExecContext(t.Context(), `UPDATE snapshots SET message = 'x' WHERE key = ?`, snap.Key); err != nil {
			return err
		}
		if runs == 1 {
			held := make(chan struct{})
			crossing.Go(func() {
				theirs, err := other.BeginTx(t.Context(), nil)
				if err != nil {
					t.Error(err)
				}
				defer theirs.Rollback()
				// It waits longer before it looks, so that the other one is ended.
				_, err = theirs.ExecContext(t.Context(), `SET LOCAL deadlock_timeout = '1h'; UPDATE accounts SET name = name`)
				if err != nil {
					t.Error(err)
				}
				close(held)
				if _, err := theirs.ExecContext(t.Context(), `UPDATE snapshots SET message = 'y'`); err != nil {
					t.Error(err)
				}
			})
			<-held
		}
		_, err := tx.ExecContext(t.Context(), `UPDATE accounts SET name = 'z' WHERE id = ?`, account)
		return err
	})
	crossing.Wait()
	if err != nil || runs < 2 {
		t.Errorf("%d runs, %v; want it repeated", runs, err)
	}
}
