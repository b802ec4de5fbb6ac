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
	// busyTimeout is how long one waits for another, in milliseconds.
	busyTimeout = 60_000
	// noRoom is the free space, in bytes, at which it is put down to there being
	// none that the index of the log cannot grow.
	noRoom = 1 << 20
)

// An sqlite is a database in a file.
type sqlite struct {
	path   string
	disk   Disk
	vfs    string // the name that SQLite has for the disk
	forget func() // takes that back
}

// begin implements database.
func (s *sqlite) begin(failed func(error)) (err error) {
	s.vfs, s.forget, err = register(s.disk, failed)
	return err
}

// end implements database.
func (s *sqlite) end() { s.forget() }

// secure implements database. A process that was killed may have left commits
// that were not synced; what is seen from here on has to be.
func (s *sqlite) secure(ctx context.Context, writer *sql.DB) error {
	_, err := writer.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`)
	return err
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
	if err := create(s.folder(), filepath.Base(s.path)); err != nil {
		return nil, err
	}
	return s.open(writerConn, 1)
}

// create makes an empty file for a database, unless there is one.
func create(folder vfs.FS, name string) error {
	f, err := folder.Create(name)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), folder.SyncDir())
}

// folder is the one that the file is in.
func (s *sqlite) folder() vfs.FS { return s.disk.Folder(filepath.Dir(s.path)) }

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
	if err := shrinkable(conn); err != nil {
		return err
	}
	if err := conn.EnableChecksums("main"); err != nil {
		return err
	}
	return conn.Exec(fmt.Sprintf(`PRAGMA busy_timeout = %d; PRAGMA journal_mode = wal; PRAGMA synchronous = full;
		PRAGMA foreign_keys = on; PRAGMA temp_store = memory; PRAGMA cache_size = %d`, busyTimeout, cachePages))
}

// shrinkable lets a database give pages back, if it has none yet.
func shrinkable(conn *sqlite3.Conn) error {
	mode, _, err := conn.Prepare(`PRAGMA auto_vacuum`)
	if err != nil {
		return err
	}
	off := mode.Step() && mode.ColumnInt(0) == 0
	if err := errors.Join(mode.Err(), mode.Close()); err != nil || !off {
		return err
	}
	return conn.Exec(`PRAGMA auto_vacuum = incremental`)
}

// readerConn sets up a connection that only reads.
func readerConn(conn *sqlite3.Conn) error {
	return conn.Exec(fmt.Sprintf(`PRAGMA busy_timeout = %d; PRAGMA query_only = on; PRAGMA temp_store = memory;
		PRAGMA cache_size = %d`, busyTimeout, cachePages))
}

// schema implements database.
func (s *sqlite) schema() (goose.Dialect, fs.FS) { return goose.DialectSQLite3, migrations }

// versionsQuery implements database.
func (s *sqlite) versionsQuery() string {
	return `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'goose_db_version')`
}

// take implements database: whoever holds the folder has its catalog alone.
func (s *sqlite) take(context.Context, *sql.DB) error { return nil }

// oneMoment implements database: every transaction does.
func (s *sqlite) oneMoment() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

// free implements database.
func (s *sqlite) free() (uint64, error) { return s.folder().Free() }

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
	// The log can be cut off once nobody reads what was before it, and whoever waits
	// for that keeps all writers waiting. Behind a long reader (a backup's copy, a
	// check of the whole database) it is for the next time.
	conn, err := writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.ExecContext(ctx, `PRAGMA busy_timeout = 0`); err == nil {
		_, err = conn.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	_, back := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf(`PRAGMA busy_timeout = %d`, busyTimeout))
	return errors.Join(err, back)
}

// isFatal implements database. Failed writes and syncs are told by the files
// (unmappedFile), for SQLite passes over some.
func (s *sqlite) isFatal(err error) bool { return errors.Is(err, sqlite3.IOERR_DIR_FSYNC) }

// isFull implements database.
func (s *sqlite) isFull(err error, free func() (uint64, error)) bool {
	switch {
	case errors.Is(err, sqlite3.FULL): // see unmappedFile.WriteAt
		return true
	case errors.Is(err, sqlite3.IOERR_SHMSIZE):
		// The driver does not pass on why.
		room, statErr := free()
		return statErr == nil && room <= noRoom
	default:
		return false
	}
}

// isPassing implements database: writers wait for one another.
func (s *sqlite) isPassing(error) bool { return false }

// IsRuined reports whether err says that the database is none, or damaged.
func IsRuined(err error) bool {
	return errors.Is(err, sqlite3.NOTADB) || errors.Is(err, sqlite3.CORRUPT)
}
