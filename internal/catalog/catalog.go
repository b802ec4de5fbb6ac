// Package catalog keeps everything small in SQL: accounts, snapshots, tags,
// the pending writes of open snapshots, and where each block and map node is
// stored. It implements snapshot.Catalog and blockstore.Index, in SQLite or in
// PostgreSQL: what the two do differently is in a file for each.
//
// Every state change is one transaction whose precondition stands in a WHERE
// clause: of two that race, one finds no row. A method that changes something
// returns once the change is durable. In SQLite (WAL, synchronous=FULL) pages
// carry checksums, so that a bit that flips on the disk is an error and not
// another value.
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
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"

	"shale/internal/blockstore"
	"shale/internal/snapshot"
)

//go:embed migrations/*.sql
var embedded embed.FS

// migrations are the files of the schema, by number.
var migrations = func() fs.FS {
	dir, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // the name above is wrong
	}
	return dir
}()

// reserve is the room that is left for what ends in less being kept: deleting,
// completing, sweeping. Segments leave more (segment.reserve).
const reserve = 16 << 20

// maxAttempts is how often a transaction is tried that the database has undone
// because of another one.
const maxAttempts = 5

// closeChecks is how often Close looks, each millisecond, whether the last
// connection is closed.
const closeChecks = 2000

type clock = func() time.Time

// A database is what holds a catalog.
type database interface {
	// String names it in messages; no secrets.
	String() string
	// begin is called before all else, end after all else. failed is to be
	// called with errors after which nobody knows what was recorded, and that
	// no query gives.
	begin(failed func(error)) error
	end()
	// exists says ErrNone, or why it cannot be looked at.
	exists(ctx context.Context) error
	// writer opens the one connection that writes, and reader those that only
	// read.
	writer() (*sql.DB, error)
	reader() (*sql.DB, error)
	// schema gives the migrations as the database understands them, and
	// versionsQuery asks it whether there is a table of those that were made.
	schema() (goose.Dialect, fs.FS)
	versionsQuery() string
	// take makes this process the only one that changes snapshots.
	take(ctx context.Context, writer *sql.DB) error
	// secure makes all durable that can be seen.
	secure(ctx context.Context, writer *sql.DB) error
	// oneMoment are the options of a transaction that reads several times and
	// sees one moment.
	oneMoment() *sql.TxOptions
	// free says how much room there is, in bytes.
	free() (uint64, error)
	// execAll runs a statement for each row of arguments, in their order, and
	// says how many rows each has changed.
	execAll(ctx context.Context, stmt *sql.Stmt, rows [][]any) (affected []int64, err error)
	// shrink gives back the space that the database does not need.
	shrink(ctx context.Context, writer *sql.DB) error
	// isFatal says that nobody knows, or ever will, what was recorded; isFull
	// that nothing was, for lack of room; isPassing that nothing was, because
	// of another transaction, and that the same may now go well.
	isFatal(err error) bool
	isFull(err error, free func() (uint64, error)) bool
	isPassing(err error) bool
}

// A Catalog is an open database.
type Catalog struct {
	db     database
	writer *sql.DB // one connection
	reader *sql.DB
	now    clock
	free   func() (uint64, error) // room on the disk, bytes
	stmt   statements
	// counted is how many records are counted at a time.
	counted int

	completed, open snapshotCache

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

// An OlderError says that a database has the format of an older program.
type OlderError struct {
	Path              string
	Version, Supports int64
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program's is %d: start the server of this version on it first; nothing was changed",
		e.Path, e.Version, e.Supports)
}

// ErrNone says that there is no database.
var ErrNone = errors.New("there is no catalog")

// databaseAt gives the database at the place: the path of a file of SQLite's,
// or the URL of a database of PostgreSQL's.
func databaseAt(place string) (database, error) {
	if IsURL(place) {
		return newPostgres(place)
	}
	return &sqlite{path: place, disk: LocalDisk{}}, nil
}

// Open opens the database at the place, a path or a URL (IsURL), and brings it
// up to date; that of a path is made if it does not exist, that of a URL has
// to exist, and may be empty. now is the clock of deadlines.
//
// A catalog at a path is protected by the lock of its folder. One at a URL is
// taken for this process until Close: another process gets a *TakenError.
func Open(ctx context.Context, place string, now clock) (*Catalog, error) {
	db, err := databaseAt(place)
	if err != nil {
		return nil, err
	}
	return openWith(ctx, db, now, (*Catalog).migrate)
}

// OpenOn is Open of a path on another disk than this machine's.
func OpenOn(ctx context.Context, disk Disk, path string, now clock) (*Catalog, error) {
	return openWith(ctx, &sqlite{path: path, disk: disk}, now, (*Catalog).migrate)
}

// OpenBeside opens a database that a server may be using at the same time, to
// look after its accounts and tokens; while it is, nothing else may be changed, as
// the server keeps snapshots in memory. The database is neither made nor brought up to date:
// the error is ErrNone if there is none, and an *OlderError or *NewerError if
// its format is not this program's.
func OpenBeside(ctx context.Context, place string, now clock) (*Catalog, error) {
	db, err := databaseAt(place)
	if err != nil {
		return nil, err
	}
	if err := db.exists(ctx); err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", db, err)
	}
	return openWith(ctx, db, now, (*Catalog).checkVersion)
}

// openWith opens a database and has it made ready before it is used.
func openWith(ctx context.Context, db database, now clock, ready func(*Catalog, context.Context) error) (*Catalog, error) {
	c := &Catalog{db: db, now: now, free: db.free, counted: countedAtOnce}
	err := db.begin(c.stop)
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", db, err)
	}
	if c.writer, err = db.writer(); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog %s: %w", db, err), c.Close())
	}
	if err := ready(c, ctx); err != nil {
		if db.isFull(err, c.free) {
			err = fmt.Errorf("open catalog %s: no space left on its disk", db)
		}
		return nil, errors.Join(err, c.Close())
	}
	if c.reader, err = db.reader(); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog %s: %w", db, err), c.Close())
	}
	if err := c.stmt.prepare(ctx, c.writer, c.reader); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// checkVersion refuses a database whose format is not this program's.
func (c *Catalog) checkVersion(ctx context.Context) error {
	_, version, supports, err := c.versions(ctx)
	if err == nil && version < supports {
		err = &OlderError{c.db.String(), version, supports}
	}
	return err
}

// versions gives the format that the database has, and the newest that this
// program can bring it to. A newer one is an error.
func (c *Catalog) versions(ctx context.Context) (p *goose.Provider, version, supports int64, err error) {
	dialect, dir := c.db.schema()
	if p, err = goose.NewProvider(dialect, c.writer, dir); err != nil {
		return nil, 0, 0, fmt.Errorf("open catalog %s: %w", c.db, err)
	}
	if err := c.checkVersions(ctx); err != nil {
		return nil, 0, 0, fmt.Errorf("open catalog %s: %w", c.db, err)
	}
	if version, err = p.GetDBVersion(ctx); err != nil {
		return nil, 0, 0, fmt.Errorf("open catalog %s: %w", c.db, err)
	}
	sources := p.ListSources()
	if supports = sources[len(sources)-1].Version; version > supports {
		return nil, 0, 0, &NewerError{c.db.String(), version, supports}
	}
	return p, version, supports, nil
}

func (c *Catalog) migrate(ctx context.Context) error {
	if err := c.db.take(ctx, c.writer); err != nil {
		return fmt.Errorf("open catalog %s: %w", c.db, err)
	}
	p, _, _, err := c.versions(ctx)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring catalog %s up to date: %w", c.db, err)
	}
	if err := c.db.secure(ctx, c.writer); err != nil {
		return fmt.Errorf("open catalog %s: %w", c.db, err)
	}
	return c.Err()
}

// checkVersions reads goose's table of versions, if there is one: goose takes
// one that it cannot read for one that is missing.
func (c *Catalog) checkVersions(ctx context.Context) error {
	var exists bool
	err := c.writer.QueryRowContext(ctx, c.db.versionsQuery()).Scan(&exists)
	if err != nil || !exists {
		return err
	}
	var newest sql.NullInt64
	if err := c.writer.QueryRowContext(ctx, `SELECT max(version_id + 0) FROM goose_db_version`).Scan(&newest); err != nil {
		return fmt.Errorf("its table of versions cannot be read, put a sound copy back: %w", err)
	}
	return nil
}

// Close closes the database.
func (c *Catalog) Close() error {
	err := c.stmt.close()
	open := 0
	for _, db := range []*sql.DB{c.reader, c.writer} {
		if db == nil { // it was not opened
			continue
		}
		err = errors.Join(err, db.Close())
		// A transaction that was given up is rolled back in the background, and
		// its connection is closed after that.
		for range closeChecks {
			if db.Stats().OpenConnections == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		open += db.Stats().OpenConnections
	}
	if open == 0 { // else one may need its file system yet
		c.db.end()
	}
	return err
}

// update runs f in one transaction, which is durable on return. If f fails
// nothing is changed. A client that hangs up does not end it half way. f may
// run more than once; only its last run counts. After an error that leaves the
// outcome unknown all further ones fail.
func (c *Catalog) update(ctx context.Context, f func(*sql.Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	for attempt := 1; ; attempt++ {
		if e := c.stopped.Load(); e != nil {
			return e
		}
		err := c.try(ctx, f)
		if err == nil || attempt == maxAttempts || !c.db.isPassing(err) {
			return err
		}
	}
}

// try runs f in one transaction.
func (c *Catalog) try(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := c.writer.BeginTx(ctx, nil)
	if err != nil {
		return c.undone(err)
	}
	if err := f(tx); err != nil {
		// The database may have rolled it back by itself already; then that
		// fails.
		return c.undone(errors.Join(err, tx.Rollback()))
	}
	return c.judge(tx.Commit())
}

// undone is the error of a transaction that did not come to its commit.
func (c *Catalog) undone(err error) error {
	if err = c.judge(err); c.Err() == nil && !errors.Is(err, blockstore.ErrFull) {
		err = fmt.Errorf("%w: %w", blockstore.ErrRolledBack, err)
	}
	return err
}

// Err says why the catalog takes no more changes, or is nil.
func (c *Catalog) Err() error {
	if e := c.stopped.Load(); e != nil {
		return e
	}
	return nil
}

// Reach says why the database does not answer, or nil.
func (c *Catalog) Reach(ctx context.Context) error {
	if err := c.reader.PingContext(ctx); err != nil {
		return fmt.Errorf("catalog %s does not answer: %w", c.db, err)
	}
	return nil
}

// judge tells a full disk, after which work goes on, from a commit whose
// outcome is unknown, after which it must not.
func (c *Catalog) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case c.db.isFull(err, c.free):
		return fmt.Errorf("catalog: %w", blockstore.ErrFull)
	case c.db.isFatal(err):
		c.stop(err)
	}
	if stopped := c.Err(); stopped != nil {
		return stopped
	}
	return err
}

// stop ends all changes: nobody knows any more what was recorded.
func (c *Catalog) stop(cause error) {
	c.stopped.CompareAndSwap(nil, &blockstore.StoppedError{Cause: fmt.Errorf("catalog: %w", cause)})
}

// checkRoom refuses what makes the catalog grow while there is still room to
// delete, before anything is begun. Errors: ErrFull, ErrRolledBack.
func (c *Catalog) checkRoom() error {
	free, err := c.free()
	if err != nil {
		return fmt.Errorf("%w: catalog: free space: %w", blockstore.ErrRolledBack, err)
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
