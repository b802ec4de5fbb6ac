// Package snapshottest starts the real service on a fresh folder, for tests.
package snapshottest

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/catalog/postgrestest"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/kms/kmstest"
	"shale/internal/quota"
	"shale/internal/snapshot"
	"shale/internal/token"
	"shale/internal/vfs"
)

// Account, AccessKey and Secret are those of the first account.
const (
	Account   = "111122223333"
	AccessKey = "AKIDEXAMPLE"
	Secret    = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" //nolint:gosec // AWS's published example
	Region    = "us-east-1"
)

// Caller is the account in its region.
var Caller = snapshot.Caller{Account: Account, Region: Region}

// Other is another account in that region.
var Other = snapshot.Caller{Account: "444455556666", Region: Region}

// A Clock is a clock that tests move.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now gives the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// An Env is a running service on real storage.
type Env struct {
	Service *snapshot.Service
	Catalog *catalog.Catalog
	Medium  *segment.Store
	Store   *blockstore.Store
	Keyring *keyring.Keyring
	KMS     *kmstest.Provider
	Clock   *Clock
	Dir     string
	// Place is where the catalog is: a path, or a URL. With SHALE_TEST_CATALOG
	// set to postgres it is a schema on the PostgreSQL of postgrestest.
	Place string
	// Provider holds the KMS keys, from the next start on; KMS if it is nil.
	Provider kms.Provider
	// FS is under the segments. Set it with NewFS.
	FS vfs.FS
	// BinTime is how long deleted snapshots stay in the recycle bin, from the
	// next start on; 0 for not at all.
	BinTime time.Duration
	// Quota has the quotas from the next start on.
	Quota quota.Config
	// SegmentSize closes a segment, from the next start on; 0 for the usual.
	SegmentSize int64

	stop         func(testing.TB)
	halt, resume func()
}

// New starts a service on a fresh folder and stops it when the test ends.
func New(t testing.TB) *Env {
	t.Helper()
	return NewFS(t, func(fs vfs.FS) vfs.FS { return fs })
}

// NewFS is New with something between the segments and their folder.
func NewFS(t testing.TB, wrap func(vfs.FS) vfs.FS) *Env {
	t.Helper()
	e := &Env{Dir: t.TempDir(), KMS: kmstest.New(), Clock: &Clock{now: time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC)}}
	for _, folder := range []string{"segments", "keys"} {
		if err := os.Mkdir(filepath.Join(e.Dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	e.FS = wrap(vfs.DirectDir(filepath.Join(e.Dir, "segments")))
	e.Place = filepath.Join(e.Dir, "catalog.db")
	if os.Getenv("SHALE_TEST_CATALOG") == "postgres" {
		e.Place = postgrestest.URL(t)
	}
	e.start(t)
	key := catalog.AccessKey{ID: AccessKey, Account: Account, Secret: Secret}
	if err := e.Catalog.CreateAccount(t.Context(), "default", key); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.CreateAccount(t.Context(), "other", catalog.AccessKey{ID: "AKIDOTHER", Account: Other.Account, Secret: Secret}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Stop(t) })
	return e
}

// Stop stops the service before its test ends.
func (e *Env) Stop(t testing.TB) {
	t.Helper()
	if e.stop != nil {
		e.stop(t)
		e.stop = nil
	}
}

// Restart stops the service and starts it again on the same folder.
func (e *Env) Restart(t testing.TB) {
	t.Helper()
	e.Stop(t)
	e.start(t)
}

func (e *Env) start(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	var err error
	if e.Catalog, err = catalog.Open(ctx, e.Place, e.Clock.Now); err != nil {
		t.Fatal(err)
	}
	last, committed, err := e.Catalog.LastContainer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e.Medium, err = segment.Open(segment.Options{FS: e.FS, Last: last, Committed: committed, MaxSize: e.SegmentSize}); err != nil {
		t.Fatal(err)
	}
	e.Store = blockstore.New(blockstore.Options{Medium: e.Medium, Index: e.Catalog, NodeLength: blockmap.Length})
	var provider kms.Provider = e.KMS
	if e.Provider != nil {
		provider = e.Provider
	}
	if e.Keyring, err = keyring.Open(vfs.Dir(filepath.Join(e.Dir, "keys")), provider, nil); err != nil {
		t.Fatal(err)
	}
	e.Service = snapshot.New(snapshot.Options{
		Catalog: e.Catalog, Store: e.Store, Keyring: e.Keyring, Tokens: token.New(bytes.Repeat([]byte{7}, token.KeySize)), Now: e.Clock.Now,
		BinTime: e.BinTime, Scratch: vfs.Dir(e.Dir), Quotas: quota.New(e.Quota, e.Clock.Now),
	})
	e.resume = func() {
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		service := e.Service // the test may put another one into its place
		running.Go(func() { service.Run(ctx) })
		e.halt = func() {
			cancel()
			running.Wait()
		}
	}
	e.resume()
	e.stop = func(t testing.TB) {
		e.halt()
		if err := e.Store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
		if err := e.Catalog.Close(); err != nil {
			t.Errorf("close catalog: %v", err)
		}
	}
}

// OpenDatabase opens the stopped service's catalog as whoever can write to it
// might. Parameters are $1 and on.
func (e *Env) OpenDatabase(t testing.TB) *sql.DB {
	t.Helper()
	driver, name := "sqlite3", "file:"+e.Place
	if catalog.IsURL(e.Place) {
		driver, name = "pgx", e.Place
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Halt ends the background work, until Resume or a start. Settle must not be
// called meanwhile if anything is to be completed.
func (e *Env) Halt() { e.halt() }

// Resume lets the background work go on.
func (e *Env) Resume() { e.resume() }

// Open starts another service on a folder that is a copy of this one's, with
// its clock and its KMS, and stops it when the test ends.
func (e *Env) Open(t testing.TB, dir string) *Env {
	t.Helper()
	o := &Env{
		Dir: dir, Place: filepath.Join(dir, "catalog.db"), KMS: e.KMS, Clock: e.Clock, BinTime: e.BinTime, SegmentSize: e.SegmentSize,
		FS: vfs.Dir(filepath.Join(dir, "segments")),
	}
	o.start(t)
	t.Cleanup(func() { o.Stop(t) })
	return o
}
