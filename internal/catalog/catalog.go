// Package catalog keeps everything small in SQL: accounts, snapshots, tags,
// the pending writes of open snapshots, and where each block and map node is
// stored. It implements snapshot.Catalog and blockstore.Index.
//
// Every state change is one transaction whose precondition stands in a WHERE
// clause: of two that race, one finds no row. A method that changes something
// returns once the change is durable (WAL, synchronous=FULL). Pages carry
// checksums, so that a bit that flips on the disk is an error and not another
// value.
//
// A Catalog is safe for concurrent use; writers take turns on one connection.
package catalog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/pressly/goose/v3"

	"shale/internal/blockstore"
	"shale/internal/snapshot"
	"shale/internal/vfs"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// readers is the number of connections that read beside the writer.
	readers = 4
	// cachePages is each connection's page cache: 8 MiB, as negative KiB.
	cachePages = -8 << 10
	// reserve is the room that is left for what ends in less being kept:
	// deleting, completing, sweeping. Segments leave more (segment.reserve).
	reserve = 16 << 20
	// noRoom is the free space, in bytes, at which it is put down to there being
	// none that the index of the log cannot grow.
	noRoom = 1 << 20
)

// A Catalog is an open database.
type Catalog struct {
	writer *sql.DB // one connection
	reader *sql.DB
	now    func() time.Time
	free   func() (uint64, error) // room on the disk, bytes
	forget func()                 // what SQLite was told of the disk
	stmt   statements

	completed completed

	stopped atomic.Pointer[blockstore.StoppedError]
}

var (
	_ snapshot.Catalog = (*Catalog)(nil)
	_ blockstore.Index = (*Catalog)(nil)
)

// A NewerError says that a database was last used by a newer program.
type NewerError struct {
	Path              string
	Version, Supports int64
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program supports up to %d: use a newer shale; nothing was changed",
		e.Path, e.Version, e.Supports)
}

// Open opens the database, makes it if it does not exist and brings it up to
// date. now is the clock of deadlines.
func Open(ctx context.Context, path string, now func() time.Time) (*Catalog, error) {
	return OpenOn(ctx, LocalDisk{}, path, now)
}

// OpenOn is Open on another disk than this machine's.
func OpenOn(ctx context.Context, disk Disk, path string, now func() time.Time) (*Catalog, error) {
	if err := create(disk.Folder(filepath.Dir(path)), filepath.Base(path)); err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	return openWith(ctx, disk, path, now, (*Catalog).migrate)
}

// OpenBeside opens a database that a server may be using at the same time, to
// look after its accounts and tokens; nothing else may be changed, as the server keeps
// snapshots in memory. The database is neither made nor brought up to date:
// the error is ErrNone if there is none, and an *OlderError or *NewerError if
// its format is not this program's.
func OpenBeside(ctx context.Context, path string, now func() time.Time) (*Catalog, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		// SQLite would throw away the log beside an empty database.
		return nil, fmt.Errorf("open catalog %s: %w", path, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	return openWith(ctx, LocalDisk{}, path, now, (*Catalog).checkVersion)
}

// ErrNone says that there is no database.
var ErrNone = errors.New("there is no catalog")

// openWith opens a database that exists and has it made ready before it is
// used.
func openWith(
	ctx context.Context, disk Disk, path string, now func() time.Time, ready func(*Catalog, context.Context, string) error,
) (*Catalog, error) {
	c := &Catalog{now: now, free: disk.Folder(filepath.Dir(path)).Free}
	system, forget, err := register(disk, c.stop)
	if err != nil {
		return nil, err
	}
	c.forget = forget
	if c.writer, err = open(system, path, writerConn, 1); err != nil {
		forget()
		return nil, err
	}
	if err := ready(c, ctx, path); err != nil {
		if err = c.full(err); errors.Is(err, blockstore.ErrFull) {
			err = fmt.Errorf("open catalog %s: no space left on its disk", path)
		}
		return nil, errors.Join(err, c.Close())
	}
	if c.reader, err = open(system, path, readerConn, readers); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.stmt.prepare(ctx, c.writer, c.reader); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// create makes an empty file for a database that does not exist, which only
// its owner can read; SQLite would give it to everybody.
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

func open(system, path string, init func(*sqlite3.Conn) error, connections int) (*sql.DB, error) {
	query := url.Values{"vfs": {system}}
	// A transaction that begins by reading could not go on to write if another
	// process, one that adds an account, had written in between.
	query.Set("_txlock", "immediate")
	name := (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}).String()
	db, err := driver.Open(name, init)
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// writerConn sets up the connection that writes.
func writerConn(conn *sqlite3.Conn) error {
	// At the first start, while there is no page to rewrite; then it is done.
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

// An OlderError says that a database has the format of an older program.
type OlderError struct {
	Path              string
	Version, Supports int64
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program's is %d: start the server of this version on it first; nothing was changed",
		e.Path, e.Version, e.Supports)
}

// checkVersion refuses a database whose format is not this program's.
func (c *Catalog) checkVersion(ctx context.Context, path string) error {
	_, version, supports, err := c.versions(ctx, path)
	if err == nil && version < supports {
		err = &OlderError{path, version, supports}
	}
	return err
}

// versions gives the format that the database has, and the newest that this
// program can bring it to. A newer one is an error.
func (c *Catalog) versions(ctx context.Context, path string) (p *goose.Provider, version, supports int64, err error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, 0, 0, err
	}
	if p, err = goose.NewProvider(goose.DialectSQLite3, c.writer, dir); err != nil {
		return nil, 0, 0, fmt.Errorf("open catalog %s: %w", path, err)
	}
	if err := c.checkVersions(ctx); err != nil {
		return nil, 0, 0, fmt.Errorf("open catalog %s: %w", path, err)
	}
	if version, err = p.GetDBVersion(ctx); err != nil {
		return nil, 0, 0, fmt.Errorf("open catalog %s: %w", path, err)
	}
	sources := p.ListSources()
	if supports = sources[len(sources)-1].Version; version > supports {
		return nil, 0, 0, &NewerError{path, version, supports}
	}
	return p, version, supports, nil
}

func (c *Catalog) migrate(ctx context.Context, path string) error {
	p, _, _, err := c.versions(ctx, path)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring catalog %s up to date: %w", path, err)
	}
	// A process that was killed may have left commits that were not synced; what
	// is seen from here on has to be.
	if _, err := c.writer.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`); err != nil {
		return fmt.Errorf("open catalog %s: %w", path, err)
	}
	return c.Err()
}

// checkVersions reads goose's table of versions, if there is one: goose takes
// one that it cannot read for one that is missing.
func (c *Catalog) checkVersions(ctx context.Context) error {
	var exists bool
	err := c.writer.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'goose_db_version')`).Scan(&exists)
	if err != nil || !exists {
		return err
	}
	var newest sql.NullInt64
	if err := c.writer.QueryRowContext(ctx, `SELECT max(version_id + 0) FROM goose_db_version`).Scan(&newest); err != nil {
		return fmt.Errorf("its table of versions cannot be read, put a sound copy of the folder back: %w", err)
	}
	return nil
}

// Close closes the database.
func (c *Catalog) Close() error {
	err := c.stmt.close()
	for _, db := range []*sql.DB{c.reader, c.writer} {
		if db != nil { // it was opened
			err = errors.Join(err, db.Close())
		}
	}
	c.forget()
	return err
}

// update runs f in one transaction, which is durable on return. If f fails
// nothing is changed. A client that hangs up does not end it half way. After
// an error that leaves the outcome unknown all further ones fail.
func (c *Catalog) update(ctx context.Context, f func(*sql.Tx) error) error {
	if e := c.stopped.Load(); e != nil {
		return e
	}
	ctx = context.WithoutCancel(ctx)
	tx, err := c.writer.BeginTx(ctx, nil)
	if err != nil {
		return c.judge(err)
	}
	if err := f(tx); err != nil {
		// SQLite may have rolled it back by itself already; then that fails.
		if err = c.judge(errors.Join(err, tx.Rollback())); c.Err() == nil && !errors.Is(err, blockstore.ErrFull) {
			err = fmt.Errorf("%w: %w", blockstore.ErrRolledBack, err)
		}
		return err
	}
	return c.judge(tx.Commit())
}

// Err says why the catalog takes no more changes, or is nil.
func (c *Catalog) Err() error {
	if e := c.stopped.Load(); e != nil {
		return e
	}
	return nil
}

// stop ends all changes: after a failed write or sync nobody knows what is on
// the disk.
func (c *Catalog) stop(cause error) {
	c.stopped.CompareAndSwap(nil, &blockstore.StoppedError{Cause: fmt.Errorf("catalog: %w", cause)})
}

// judge tells a full disk, after which work goes on, from a failed write or
// sync, after which it must not.
func (c *Catalog) judge(err error) error {
	if err = c.full(err); err == nil || errors.Is(err, blockstore.ErrFull) {
		return err
	}
	if errors.Is(err, sqlite3.IOERR_DIR_FSYNC) {
		c.stop(err)
	}
	if stopped := c.Err(); stopped != nil {
		return stopped
	}
	return err
}

// full tells a full disk apart from other errors. A write that found no room
// changed nothing. A sync that failed is never taken for it, as nothing is
// known after a failed sync.
func (c *Catalog) full(err error) error {
	switch {
	case errors.Is(err, sqlite3.FULL): // see unmappedFile.WriteAt
	case errors.Is(err, sqlite3.IOERR_SHMSIZE):
		// The driver does not pass on why.
		if free, statErr := c.free(); statErr != nil || free > noRoom {
			return err
		}
	default:
		return err
	}
	return fmt.Errorf("catalog: %w", blockstore.ErrFull)
}

// checkRoom refuses what makes the catalog grow while there is still room to
// delete.
func (c *Catalog) checkRoom() error {
	free, err := c.free()
	if err != nil {
		return fmt.Errorf("catalog: free space: %w", err)
	}
	if free < reserve {
		return fmt.Errorf("catalog: %w", blockstore.ErrFull)
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
