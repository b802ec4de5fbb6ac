package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
)

const (
	// postgresReaders is the number of connections that read beside the
	// writer: more than of SQLite's, as most of their time is spent waiting.
	postgresReaders = 8
	// connectTime bounds one attempt to connect.
	connectTime = 10 * time.Second
	// settleTime is the one of postgres: longer than a restart of the database,
	// or another server taking over for it.
	settleTime = time.Minute
	// takeTime is how long a predecessor's connection may take to be noticed
	// as dead.
	takeTime = 5 * time.Second
	// downTime is how long a connection that failed is not tried again, so
	// that whoever comes in between need not wait for it.
	downTime = time.Second
	// silence is after how much of it a connection is taken for dead, by
	// either side.
	silence = 30 * time.Second
	// oldest is the version of PostgreSQL that this has been tried on.
	oldest = 15
)

// IsURL tells the URL of a database of PostgreSQL's from the path of a file.
func IsURL(place string) bool {
	return strings.HasPrefix(place, "postgres://") || strings.HasPrefix(place, "postgresql://")
}

// A TakenError says that another server uses the catalog.
type TakenError struct{ Catalog string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s is in use by another server; stop that one, or use another database or schema", e.Catalog)
}

// A SettingError says that the database is set up in a way that would lose
// what was acknowledged, or garble it.
type SettingError struct{ Name, Value, Want string }

func (e *SettingError) Error() string {
	return fmt.Sprintf("PostgreSQL's %s is %s: it has to be %s", e.Name, e.Value, e.Want)
}

// A ReplacedError says that another server has taken the catalog since.
type ReplacedError struct{ Catalog string }

func (e *ReplacedError) Error() string {
	return fmt.Sprintf("another server has taken over %s", e.Catalog)
}

// An UnknownError says that nobody knows whether a transaction took place.
type UnknownError struct{ Commit, Asking error }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("the answer to a commit was lost (%v), and what became of it could not be learned: %v", e.Commit, e.Asking)
}

// Unwrap returns both.
func (e *UnknownError) Unwrap() []error { return []error{e.Commit, e.Asking} }

// A postgres is a database of a PostgreSQL server.
//
// Its writer is one connection, so transactions of this process never overlap.
// Those of two servers do not either: each begins by leaving its mark in the row
// with the epoch that the server made when it started, and a later start, which
// raises the epoch, waits for those that have and ends those that come. So READ COMMITTED
// is enough. That two servers do not alternate is for a lock of the session,
// which keeps the second out while the first is alive; safety does not rest on
// it. Other processes add and remove accounts and tokens only, whose keys are
// unique.
type postgres struct {
	config *pgx.ConnConfig
	name   string
	// settleTime bounds how long it may take to learn what became of a commit
	// whose answer was lost.
	settleTime time.Duration

	server atomic.Bool  // take was called: this process changes snapshots
	epoch  atomic.Int64 // of this process; 0 before it has one
}

// newPostgres takes a URL apart; the password may also come from the places
// where libpq looks. The errors do not repeat the URL.
func newPostgres(url string) (*postgres, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the catalog's URL cannot be understood; it should look like postgres://user@host:5432/database, " +
			"with the password in PGPASSWORD or in a password file")
	}
	config.ConnectTimeout = connectTime
	config.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence / 3, Interval: silence / 6, Count: 4},
		Control: func(_, _ string, c syscall.RawConn) error {
			// What was sent and not acknowledged is else waited for for a
			// quarter of an hour. A Unix socket has no such thing.
			return c.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
			})
		},
	}).DialContext
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
	config.RuntimeParams["application_name"] = "shale"
	config.RuntimeParams["tcp_keepalives_idle"] = seconds(silence / 3)
	config.RuntimeParams["tcp_keepalives_interval"] = seconds(silence / 6)
	config.RuntimeParams["tcp_keepalives_count"] = "4"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = seconds(2*silence) + "s"
	return &postgres{
		config: config, name: fmt.Sprintf("postgres://%s:%d/%s", config.Host, config.Port, config.Database), settleTime: settleTime,
	}, nil
}

// String implements database.
func (p *postgres) String() string { return p.name }

// exists implements database.
func (p *postgres) exists(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, p.config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, p.versionsQuery()).Scan(&there); err != nil {
		return err
	}
	if !there {
		return ErrNone
	}
	return nil
}

// writer implements database.
func (p *postgres) writer() (*sql.DB, error) { return p.open(p.prepareWriter, 1, true), nil }

// reader implements database.
func (p *postgres) reader() (*sql.DB, error) {
	return p.open(p.prepareReader, postgresReaders, false), nil
}

func (p *postgres) open(prepare func(context.Context, *pgx.Conn) error, connections int, writes bool) *sql.DB {
	inner := stdlib.GetConnector(*p.config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		err := prepare(ctx, conn)
		if err != nil {
			err = errors.Join(err, conn.Close(ctx)) // nobody else does
		}
		return err
	}))
	db := sql.OpenDB(&connector{Connector: inner, postgres: p, writes: writes})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

func (p *postgres) prepareReader(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET default_transaction_read_only = on`)
	return err
}

// prepareWriter looks at the settings on which durability rests, and makes
// sure that nobody else has taken the catalog.
func (p *postgres) prepareWriter(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var encoding, fsync, commit string
	var standby bool
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()`).
		Scan(&version, &encoding, &fsync, &commit, &standby)
	if err != nil {
		return err
	}
	switch {
	case version < oldest*10_000:
		return &SettingError{"version", strconv.Itoa(version / 10_000), fmt.Sprintf("%d or newer", oldest)}
	case encoding != "UTF8":
		return &SettingError{"server_encoding", encoding, "UTF8; make the database with ENCODING 'UTF8' TEMPLATE template0"}
	case fsync != "on":
		return &SettingError{"fsync", fsync, "on: what is acknowledged has to survive a crash"}
	case commit == "off":
		return &SettingError{"synchronous_commit", commit, "on: what is acknowledged has to survive a crash"}
	case standby:
		return &SettingError{"role", "that of a standby", "the primary's"}
	}
	// What it is now it stays for this connection, whatever is reloaded.
	if _, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', $1, false)`, commit); err != nil {
		return err
	}
	if !p.server.Load() {
		return nil
	}
	if mine := p.epoch.Load(); mine != 0 {
		var epoch int64
		if err := conn.QueryRow(ctx, `SELECT epoch FROM writer`).Scan(&epoch); err != nil {
			return err
		}
		if epoch != mine {
			return &ReplacedError{p.name}
		}
	}
	return p.lock(ctx, conn)
}

// lock takes the session's lock on the schema. A connection that has ended may
// hold it for a moment longer.
func (p *postgres) lock(ctx context.Context, conn *pgx.Conn) error {
	const query = `SELECT pg_try_advisory_lock(x'7368616c'::bigint << 32 | current_schema()::regnamespace::oid::bigint)`
	for deadline := time.Now().Add(takeTime); ; {
		var taken sql.NullBool
		if err := conn.QueryRow(ctx, query).Scan(&taken); err != nil {
			return err
		}
		switch {
		case !taken.Valid:
			return &SettingError{"search_path", "empty", "that of a schema that exists; make it, or name another with ?search_path="}
		case taken.Bool:
			return nil
		case time.Now().After(deadline):
			return &TakenError{p.name}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

//go:embed postgres.sql
var postgresSetup string

// take implements database.
func (p *postgres) take(ctx context.Context, writer *sql.DB) error {
	p.server.Store(true) // the writer's connections lock from here on
	if _, err := writer.ExecContext(ctx, postgresSetup); err != nil {
		return err
	}
	// It waits for a transaction of the predecessor; none of its comes after.
	var epoch int64
	if err := writer.QueryRowContext(ctx, `UPDATE writer SET epoch = epoch + 1, last_mark = mark, mark = 0 RETURNING epoch`).Scan(&epoch); err != nil {
		return err
	}
	p.epoch.Store(epoch)
	return nil
}

// dialect are the words of the migrations that PostgreSQL has others for. It
// compares texts by their bytes, as SQLite does.
var dialect = []struct {
	word *regexp.Regexp
	own  string
}{
	{regexp.MustCompile(`\bINTEGER PRIMARY KEY AUTOINCREMENT\b`), `BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY`},
	{regexp.MustCompile(`\bINTEGER\b`), `BIGINT`},
	{regexp.MustCompile(`\bBLOB\b`), `BYTEA`},
	{regexp.MustCompile(`\bTEXT\b`), `TEXT COLLATE "C"`},
	{regexp.MustCompile(`\) WITHOUT ROWID;`), `);`},
}

// schema implements database: the migrations are written for SQLite, in words
// that have an equivalent.
func (p *postgres) schema() (goose.Dialect, fs.FS) {
	return goose.DialectPostgres, translation{migrations}
}

// A translation is files in the words of PostgreSQL.
type translation struct{ fs.FS }

// Open implements fs.FS.
func (t translation) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	text, err := io.ReadAll(f)
	for _, d := range dialect {
		text = d.word.ReplaceAll(text, []byte(d.own))
	}
	return translatedFile{f, bytes.NewReader(text)}, err
}

type translatedFile struct {
	fs.File
	text *bytes.Reader
}

// Read implements fs.File.
func (f translatedFile) Read(p []byte) (int, error) { return f.text.Read(p) }

// versionsQuery implements database.
func (p *postgres) versionsQuery() string {
	return `SELECT to_regclass('goose_db_version') IS NOT NULL`
}

// free implements database: nobody knows. A full disk is told by isFull.
func (p *postgres) free() (uint64, error) { return math.MaxUint64, nil }

// SQLSTATEs that are told apart.
const (
	diskFull             = "53100"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

func hasState(err error, states ...string) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	for _, s := range states {
		if e.Code == s {
			return true
		}
	}
	return false
}

// isFatal implements database.
func (p *postgres) isFatal(err error) bool {
	var unknown *UnknownError
	var replaced *ReplacedError
	return errors.As(err, &unknown) || errors.As(err, &replaced)
}

// isFull implements database.
func (p *postgres) isFull(err error, _ func() (uint64, error)) bool {
	return !p.isFatal(err) && hasState(err, diskFull)
}

// isPassing implements database.
func (p *postgres) isPassing(err error) bool {
	return !p.isFatal(err) && hasState(err, serializationFailure, deadlockDetected)
}

// oneMoment implements database.
func (p *postgres) oneMoment() *sql.TxOptions {
	return &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
}

// begin implements database.
func (p *postgres) begin(func(error)) error { return nil }

// end implements database.
func (p *postgres) end() {}

// secure implements database: what can be seen is durable.
func (p *postgres) secure(context.Context, *sql.DB) error { return nil }

// shrink implements database: PostgreSQL does that by itself.
func (p *postgres) shrink(context.Context, *sql.DB) error { return nil }

// execAll implements database, in one round trip.
func (p *postgres) execAll(ctx context.Context, stmt *sql.Stmt, rows [][]any) ([]int64, error) {
	b := &bulk{rows: rows}
	_, err := stmt.ExecContext(ctx, b)
	return b.affected, err
}

// A connector makes connections for database/sql.
type connector struct {
	driver.Connector
	postgres *postgres
	writes   bool

	mu     sync.Mutex
	failed time.Time // when connecting failed last; zero if it has gone well since
	err    error     // why
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	c.mu.Lock()
	failed, err := c.failed, c.err
	c.mu.Unlock()
	if time.Since(failed) < downTime {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if ctx.Err() == nil {
		c.mu.Lock()
		if c.failed, c.err = (time.Time{}), err; err != nil {
			c.failed = time.Now()
		}
		c.mu.Unlock()
	}
	if err != nil {
		return nil, err
	}
	return &session{conn.(*stdlib.Conn), c.postgres, c.writes}, nil
}
