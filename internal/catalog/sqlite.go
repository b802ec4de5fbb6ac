package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/pressly/goose/v3"

	"shale/internal/vfs"
)

const (
	// sqliteReaders is the number of connections that read beside the writer.
	sqliteReaders = 4
	// cachePages is each connection's page cache: 8 MiB, as negative KiB.
	cachePages = -8 << 10
	// noRoom is the free space, in bytes, at which a failed write is put down
	// to there being none.
	noRoom = 1 << 20
)

// An sqlite is a database in a file.
type sqlite struct {
	path string
	vfs  string // the name of SQLite's file system under it
}

// openOn is Open on one of SQLite's file systems.
func openOn(ctx context.Context, system, path string, now clock) (*Catalog, error) {
	return openWith(ctx, &sqlite{path, system}, now, (*Catalog).migrate)
}

// String implements database.
func (s *sqlite) String() string { return s.path }

// exists implements database.
func (s *sqlite) exists(context.Context) error {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		// SQLite would throw away the log beside an empty database.
		return ErrNone
	}
	return err
}

// writer implements database. It makes an empty file for a database that does
// not exist, which only its owner can read; SQLite would give it to everybody.
func (s *sqlite) writer() (*sql.DB, error) {
	if err := create(s.path); err != nil {
		return nil, err
	}
	return s.open(writerConn, 1)
}

// create makes an empty file for a database, unless there is one.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

// reader implements database.
func (s *sqlite) reader() (*sql.DB, error) { return s.open(readerConn, sqliteReaders) }

func (s *sqlite) open(init func(*sqlite3.Conn) error, connections int) (*sql.DB, error) {
	query := url.Values{"vfs": {s.vfs}}
	// A transaction that begins by reading could not go on to write if another
	// process, one that adds an account, had written in between.
	query.Set("_txlock", "immediate")
	name := (&url.URL{Scheme: "file", OmitHost: true, Path: s.path, RawQuery: query.Encode()}).String()
	db, err := driver.Open(name, init)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// writerConn sets up the connection that writes.
func writerConn(conn *sqlite3.Conn) error {
	// At the first start, while there is no page to rewrite; then it is done.
	if err := conn.Exec(`PRAGMA auto_vacuum = incremental`); err != nil {
		return err
	}
	if err := conn.EnableChecksums("main"); err != nil {
		return err
	}
	return conn.Exec(fmt.Sprintf(`PRAGMA busy_timeout = 60000; PRAGMA journal_mode = wal; PRAGMA synchronous = full;
		PRAGMA foreign_keys = on; PRAGMA temp_store = memory; PRAGMA cache_size = %d`, cachePages))
}

// readerConn sets up a connection that only reads.
func readerConn(conn *sqlite3.Conn) error {
	return conn.Exec(fmt.Sprintf(`PRAGMA busy_timeout = 60000; PRAGMA query_only = on; PRAGMA temp_store = memory;
		PRAGMA cache_size = %d`, cachePages))
}

// schema implements database.
func (s *sqlite) schema() (goose.Dialect, fs.FS) { return goose.DialectSQLite3, migrations }

// versionsQuery implements database.
func (s *sqlite) versionsQuery() string {
	return `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'goose_db_version')`
}

// take implements database: whoever holds the folder has its catalog alone.
func (s *sqlite) take(context.Context, *sql.DB) error { return nil }

// free implements database.
func (s *sqlite) free() (uint64, error) { return vfs.Dir(filepath.Dir(s.path)).Free() }

// execAll implements database.
func (s *sqlite) execAll(ctx context.Context, stmt *sql.Stmt, rows [][]any) ([]int64, error) {
	affected := make([]int64, len(rows))
	for i, row := range rows {
		result, err := stmt.ExecContext(ctx, row...)
		if err != nil {
			return nil, err
		}
		if affected[i], err = result.RowsAffected(); err != nil {
			return nil, err
		}
	}
	return affected, nil
}

// shrink implements database. It takes little steps, so that writers get in
// between. Files of before version 6 are not made for it: their free pages are
// used again, and not given back.
func (s *sqlite) shrink(ctx context.Context, writer *sql.DB) error {
	for before := int64(-1); ; {
		var free int64
		if err := writer.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free); err != nil {
			return err
		}
		if free == 0 || free == before {
			break
		}
		before = free
		if _, err := writer.ExecContext(ctx, `PRAGMA incremental_vacuum(1024)`); err != nil {
			return err
		}
	}
	_, err := writer.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return err
}

// fatal are the errors after which nobody knows what is on the disk.
var fatal = []sqlite3.ExtendedErrorCode{
	sqlite3.IOERR_WRITE, sqlite3.IOERR_FSYNC, sqlite3.IOERR_DIR_FSYNC, sqlite3.IOERR_TRUNCATE,
}

// isFatal implements database.
func (s *sqlite) isFatal(err error) bool {
	for _, code := range fatal {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// isFull implements database. A sync that failed is never taken for a full
// disk, as nothing is known after a failed sync.
func (s *sqlite) isFull(err error, free func() (uint64, error)) bool {
	switch {
	case errors.Is(err, sqlite3.FULL):
		return true
	case errors.Is(err, sqlite3.IOERR_WRITE), errors.Is(err, sqlite3.IOERR_SHMSIZE):
		// SQLite does not pass on why; that there is no room is the reason
		// that does not speak against the disk.
		room, statErr := free()
		return statErr == nil && room <= noRoom
	default:
		return false
	}
}

// isPassing implements database: writers wait for one another.
func (s *sqlite) isPassing(error) bool { return false }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
