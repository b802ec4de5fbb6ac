package catalog_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/snapshot"
)

const account = "111122223333"

func open(t testing.TB, place string) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), place, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// create makes a catalog with an account and an open snapshot.
func create(t testing.TB) (c *catalog.Catalog, path string, snap snapshot.Snapshot) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "catalog.db")
	c, snap = createAt(t, path)
	return c, path, snap
}

// createAt is create at a place.
func createAt(t testing.TB, place string) (c *catalog.Catalog, snap snapshot.Snapshot) {
	t.Helper()
	c = open(t, place)
	if err := c.CreateAccount(t.Context(), "default", catalog.AccessKey{ID: "AKIA", Account: account, Secret: "secret"}); err != nil {
		t.Fatal(err)
	}
	return c, start(t, c, "snap-00000000000000001", "")
}

func start(t testing.TB, c *catalog.Catalog, id, token string) snapshot.Snapshot {
	t.Helper()
	now := time.Now()
	snap, err := c.Create(t.Context(), snapshot.NewSnapshot{Token: token, Snapshot: snapshot.Snapshot{
		ID: id, Account: account, Region: "us-east-1", VolumeSize: 1, StartTime: now, Timeout: time.Hour, Deadline: now.Add(time.Hour),
	}, Request: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// commit records n blocks of the snapshot from the index on.
func commit(t testing.TB, c *catalog.Catalog, snap snapshot.Snapshot, from, n int) []error {
	t.Helper()
	b := blockstore.Commit{Container: 1, Committed: 1 << 20}
	for i := from; i < from+n; i++ {
		id := block.ID{byte(i), byte(i >> 8), 1}
		b.Stored = append(b.Stored, blockstore.Stored{Kind: blockstore.KindBlock, ID: id, Location: blockstore.Location{Container: 1, Offset: int64(i)}})
		b.Refs = append(b.Refs, blockstore.Ref{Snapshot: snap.Key, Index: block.Index(i), ID: id})
	}
	verdicts, err := c.Commit(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	return verdicts
}

// A bit that flips in the database is an error, never another value.
func TestFlippedBitInAPage(t *testing.T) {
	c, path, snap := create(t)
	const blocks = 600
	commit(t, c, snap, 0, blocks)
	if err := c.Close(); err != nil { // everything is in the one file now
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	noticed := 0
	for at := page + 100; at < len(good); at += page {
		bad := append([]byte(nil), good...)
		bad[at] ^= 4
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := catalog.Open(t.Context(), path, time.Now)
		if err != nil {
			noticed++
			continue
		}
		list, err := c.Pending(t.Context(), &snap, 0, blocks+1)
		if err == nil && len(list) != blocks {
			t.Errorf("byte %d: %d blocks without an error", at, len(list))
		}
		if err != nil {
			noticed++
		}
		for i, b := range list {
			if b.Index != block.Index(i) || b.ID != (block.ID{byte(i), byte(i >> 8), 1}) {
				t.Errorf("byte %d: block %d came back as block %d with id %v", at, i, b.Index, b.ID)
			}
		}
		for i := range blocks {
			loc, found, err := c.Locate(t.Context(), block.ID{byte(i), byte(i >> 8), 1})
			if err != nil {
				noticed++
				break
			}
			if !found || loc.Offset != int64(i) {
				t.Errorf("byte %d: block %d is at %+v, found %v", at, i, loc, found)
			}
		}
		_ = c.Close()
	}
	if noticed < 10 {
		t.Errorf("%d flipped bits were noticed, want most of %d", noticed, len(good)/page)
	}
}

// A damaged table of versions is told as damage, not as tables that exist
// already.
func TestDamagedVersions(t *testing.T) {
	c, path, _ := create(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	var root int64
	err = db.QueryRow(`SELECT rootpage FROM sqlite_master WHERE name = 'goose_db_version'`).Scan(&root)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[root*4096-100] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.Open(t.Context(), path, time.Now); err == nil || !strings.Contains(err.Error(), "table of versions") {
		t.Errorf("got %v, want an error about the table of versions", err)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	c, path, _ := create(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	var newer *catalog.NewerError
	if _, err := catalog.Open(t.Context(), path, time.Now); !errors.As(err, &newer) || newer.Version != 9999 {
		t.Errorf("got %v, want a *NewerError for version 9999", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the database was changed")
	}
}

// Near the end of the disk nothing is added, and deleting goes on.
func TestReserve(t *testing.T) { onBoth(t, testReserve) }

func testReserve(t *testing.T, place string) {
	c, snap := createAt(t, place)
	c.SetFree(10 << 20)
	if _, err := c.Create(t.Context(), snapshot.NewSnapshot{}); !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("Create: got %v, want ErrFull", err)
	}
	if _, err := c.Commit(t.Context(), &blockstore.Commit{Refs: []blockstore.Ref{{Snapshot: snap.Key}}}); !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("Commit: got %v, want ErrFull", err)
	}
	caller := snapshot.Caller{Account: account, Region: "us-east-1"}
	if _, err := c.Share(t.Context(), caller, snap.ID, []string{snapshot.Everybody}); !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("Share: got %v, want ErrFull", err)
	}
	if err := c.TagSnapshots(t.Context(), caller, []string{snap.ID}, []snapshot.Tag{{Key: "k"}}, 50); !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("TagSnapshots: got %v, want ErrFull", err)
	}
	if done, err := c.Unshare(t.Context(), caller, snap.ID, nil); err != nil || !done {
		t.Errorf("Unshare: %v, %v", done, err)
	}
	if err := c.UntagSnapshots(t.Context(), caller, []string{snap.ID}, nil); err != nil {
		t.Errorf("UntagSnapshots: %v", err)
	}
	if done, err := c.Delete(t.Context(), account, "us-east-1", snap.ID, 0); err != nil || !done {
		t.Errorf("Delete: %v, %v", done, err)
	}
}

// Of two that race for a state, one finds that it has gone.
func TestPreconditions(t *testing.T) { onBoth(t, testPreconditions) }

func testPreconditions(t *testing.T, place string) {
	c, snap := createAt(t, place)
	ctx := context.Background()
	check := func(what string, want bool) func(bool, error) {
		return func(done bool, err error) {
			t.Helper()
			if err != nil || done != want {
				t.Errorf("%s: got %v, %v, want %v", what, done, err, want)
			}
		}
	}
	check("finish an open one", false)(c.Finish(ctx, snap.Key, snapshot.Map{}))
	check("seal", true)(c.Seal(ctx, snap.Key, snapshot.Claim{}))
	check("seal again", false)(c.Seal(ctx, snap.Key, snapshot.Claim{}))
	for i, err := range commit(t, c, snap, 0, 3) {
		var e *snapshot.Error
		if !errors.As(err, &e) || e.Code != snapshot.AlreadyCompleted {
			t.Errorf("write %d after the seal: got %v, want AlreadyCompleted", i, err)
		}
	}
	check("finish", true)(c.Finish(ctx, snap.Key, snapshot.Map{}))
	check("fail a completed one", false)(c.Fail(ctx, snap.Key, "x"))
	check("delete another account's", false)(c.Delete(ctx, "999999999999", "us-east-1", snap.ID, 0))
	check("delete in another region", false)(c.Delete(ctx, account, "eu-west-1", snap.ID, 0))
	check("delete", true)(c.Delete(ctx, account, "us-east-1", snap.ID, 0))
	check("delete again", false)(c.Delete(ctx, account, "us-east-1", snap.ID, 0))
	_, err := c.Create(ctx, snapshot.NewSnapshot{ParentKey: snap.Key, Snapshot: snapshot.Snapshot{
		ID: "snap-00000000000000002", Account: account, Region: "us-east-1", VolumeSize: 1, Deadline: time.Now(),
	}})
	if !errors.Is(err, snapshot.ErrRaced) {
		t.Errorf("child of a deleted snapshot: got %v, want ErrRaced", err)
	}
	start(t, c, "snap-00000000000000003", "token")
	_, err = c.Create(ctx, snapshot.NewSnapshot{Token: "token", Request: []byte("{}"), Snapshot: snapshot.Snapshot{
		ID: "snap-00000000000000004", Account: account, Region: "us-east-1", VolumeSize: 1, Deadline: time.Now(),
	}})
	if !errors.Is(err, snapshot.ErrRaced) {
		t.Errorf("token bound before: got %v, want ErrRaced", err)
	}
	if _, found, _ := c.Snapshot(ctx, "snap-00000000000000004"); found {
		t.Error("the loser of a race left a snapshot behind")
	}
}

// The sweep removes the rows of closed snapshots in bounded steps, and deleted
// snapshots with all that hangs on them once they are old enough.
func TestSweep(t *testing.T) { onBoth(t, testSweep) }

func testSweep(t *testing.T, place string) {
	c, snap := createAt(t, place)
	bound := start(t, c, "snap-00000000000000002", "token")
	commit(t, c, snap, 0, 25)
	commit(t, c, bound, 0, 5)
	if done, err := c.Delete(t.Context(), account, "us-east-1", snap.ID, 0); err != nil || !done {
		t.Fatal(done, err)
	}
	count := func(s snapshot.Snapshot) int {
		list, err := c.Pending(t.Context(), &s, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for _, want := range []int{15, 5, 0} {
		if _, err := c.Sweep(t.Context(), time.Now().Add(-time.Hour), 10); err != nil {
			t.Fatal(err)
		}
		if got := count(snap); got != want {
			t.Errorf("%d pending rows left, want %d", got, want)
		}
	}
	if got := count(bound); got != 5 {
		t.Errorf("an open snapshot has %d pending rows left, want 5", got)
	}
	if done, err := c.Delete(t.Context(), account, "us-east-1", bound.ID, 0); err != nil || !done {
		t.Fatal(done, err)
	}
	for _, old := range []bool{false, true} {
		before := time.Now().Add(-time.Hour)
		if old {
			before = time.Now().Add(time.Hour)
		}
		for more := true; more; {
			var err error
			if more, err = c.Sweep(t.Context(), before, 10); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, found, err := c.Bound(t.Context(), account, "us-east-1", "token"); err != nil || found == old {
			t.Errorf("old enough %v: the client token of a deleted snapshot is bound: %v, %v", old, found, err)
		}
	}
}

// A snapshot that is kept for its writes is seen in each other state as soon as it
// is in it, and for as long as writes keep it open.
func TestWritable(t *testing.T) { onBoth(t, testWritable) }

func testWritable(t *testing.T, place string) {
	now := time.Now()
	c, err := catalog.Open(t.Context(), place, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.CreateAccount(t.Context(), "default", catalog.AccessKey{ID: "AKIA", Account: account, Secret: "secret"}); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	check := func(what, id string, want snapshot.State, found bool) {
		t.Helper()
		for range 2 { // from the database, and as it is kept
			s, ok, err := c.SnapshotToWrite(ctx, id)
			if err != nil || ok != found || s.State != want || found && s.ID != id {
				t.Errorf("%s: got %v %v, %v, %v", what, s.ID, s.State, ok, err)
			}
		}
	}
	check("one that is not there", "snap-0", 0, false)
	snap := start(t, c, "snap-00000000000000001", "")
	check("an open one", snap.ID, snapshot.Open, true)
	now = now.Add(59 * time.Minute)
	commit(t, c, snap, 0, 1)
	now = now.Add(59 * time.Minute)
	check("an open one that a write has kept open", snap.ID, snapshot.Open, true)
	if done, err := c.Seal(ctx, snap.Key, snapshot.Claim{}); err != nil || !done {
		t.Fatal(done, err)
	}
	check("a sealed one", snap.ID, snapshot.Completing, true)
	now = time.Now()
	other := start(t, c, "snap-00000000000000002", "")
	check("another", other.ID, snapshot.Open, true)
	if done, err := c.Delete(ctx, account, "us-east-1", other.ID, 0); err != nil || !done {
		t.Fatal(done, err)
	}
	check("a deleted one", other.ID, 0, false)
	late := start(t, c, "snap-00000000000000003", "")
	check("a third", late.ID, snapshot.Open, true)
	now = now.Add(2 * time.Hour)
	if n, err := c.Expire(ctx, "late"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	now = now.Add(-2 * time.Hour)
	check("one whose time is over", late.ID, snapshot.Failed, true)
}
