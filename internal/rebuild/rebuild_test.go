package rebuild_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shale/internal/catalog"
	"shale/internal/domain"
	"shale/internal/rebuild"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

// busy is a store with a little of everything, in segments of a few batches,
// and its inventory.
func busy(t *testing.T) (e *snapshottest.Env, inventory []string, pending string) {
	t.Helper()
	e = snapshottest.New(t)
	e.SegmentSize = 4 << 20
	pending = e.Busy(t)
	inventory = e.Inventory(t)
	return e, inventory, pending
}

// rebuildIn stops the store, moves its catalog away and makes a new one.
func rebuildIn(t *testing.T, e *snapshottest.Env, o rebuild.Options) *rebuild.Report {
	t.Helper()
	e.Stop(t)
	path := filepath.Join(e.Dir, "catalog.db")
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	c, err := catalog.Open(t.Context(), path, e.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o.Catalog = c
	if o.Segments == nil {
		o.Segments = vfs.Dir(filepath.Join(e.Dir, "segments"))
	}
	o.AccessKey = func(account, name string) (catalog.AccessKey, bool, error) {
		return catalog.AccessKey{ID: "AKID" + name, Account: account, Secret: "s"}, name == "default", nil
	}
	if o.HasDomain == nil {
		o.HasDomain = func(domain.Number) (bool, error) { return true, nil }
	}
	report, err := rebuild.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// All completed snapshots come back as they were, and none that was deleted.
func TestRebuild(t *testing.T) {
	e, want, pending := busy(t)
	if len(want) < 60 {
		t.Fatalf("the store has only %d things to lose", len(want))
	}
	for round := range 2 { // what was rebuilt can be rebuilt
		report := rebuildIn(t, e, rebuild.Options{Verify: round == 1})
		if report.Damaged != 0 || report.Incomplete != nil || report.Keyless != nil || report.Ignored != nil {
			t.Errorf("of a sound store the report is %+v", report)
		}
		if report.Segments < 3 || report.Snapshots != 10 || report.Binned != 1 || report.Deleted != 1 || len(report.Accounts) != 2 {
			t.Errorf("got %+v", report)
		}
		e.Restart(t)
		snapshottest.Compare(t, e.Inventory(t), want)
		broken, err := e.Catalog.Violations(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range broken {
			if f.Invariant != 3 { // settings, which whoever calls makes
				t.Errorf("invariant %d: %s", f.Invariant, f.Why)
			}
		}
		if page, err := e.Service.Describe(t.Context(), snapshottest.Caller, snapshot.DescribeRequest{IDs: []string{pending}}); err == nil {
			t.Errorf("the pending snapshot came back: %+v", page.Snapshots)
		}
	}
	// The store goes on: equal blocks are found, tags get manifests.
	before := e.Store.Stats().BlocksStored.Load()
	id := e.Make(t, snapshottest.Caller, snapshot.StartRequest{}, map[int64]uint64{0: 1, 1: 2})
	if n := e.Store.Stats().BlocksStored.Load() - before; n != 0 {
		t.Errorf("%d blocks were stored a second time", n)
	}
	if err := e.Service.Delete(t.Context(), snapshottest.Caller, id); err != nil {
		t.Fatal(err)
	}
	want = e.Inventory(t)
	rebuildIn(t, e, rebuild.Options{})
	e.Restart(t)
	snapshottest.Compare(t, e.Inventory(t), want)
}

// A lock is not over any sooner for the clock having been turned back.
func TestLockTime(t *testing.T) {
	e, _, _ := busy(t)
	locks := func() snapshot.LockPage {
		page, err := e.Service.Locks(t.Context(), snapshottest.Caller, snapshot.LocksRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	e.Clock.Advance(6 * time.Hour) // the cooling-off period is over
	if err := e.Service.CreateTags(t.Context(), snapshottest.Caller,
		snapshot.TagRequest{IDs: []string{locks().Snapshots[0].ID}, Tags: []snapshot.Tag{{Key: "later", Value: "1"}}}); err != nil {
		t.Fatal(err)
	}
	want := locks()
	e.Clock.Advance(-6 * time.Hour)
	rebuildIn(t, e, rebuild.Options{})
	e.Restart(t)
	got := locks()
	for i := range want.Snapshots {
		if i >= len(got.Snapshots) || got.Snapshots[i] != want.Snapshots[i] {
			t.Errorf("got %+v, want %+v", got.Snapshots, want.Snapshots)
		}
	}
}

// What is damaged or missing is named, and costs what it concerns.
func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, segments []string)
		verify bool
		check  func(r *rebuild.Report) bool
	}{
		"a header": {func(t *testing.T, s []string) { flip(t, s[1], 20) }, false, func(r *rebuild.Report) bool {
			return r.Damaged == 1 && r.Incomplete == nil && r.Snapshots == 10
		}},
		"a frame": {func(t *testing.T, s []string) { flip(t, s[1], 4096+100) }, false, func(r *rebuild.Report) bool {
			return r.Damaged == 1 && len(r.Incomplete) > 0
		}},
		"a payload": {func(t *testing.T, s []string) { flip(t, s[0], lastFrame(t, s[0], 1)+4096+100) }, true, func(r *rebuild.Report) bool {
			return r.Damaged >= 1
		}},
		"a segment": {func(t *testing.T, s []string) {
			if err := os.Remove(s[1]); err != nil {
				t.Fatal(err)
			}
		}, false, func(r *rebuild.Report) bool { return len(r.Incomplete) > 0 || r.Snapshots < 10 }},
		"another store's": {func(t *testing.T, s []string) {
			b, err := os.ReadFile(s[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s[1]+".copy", b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false, func(r *rebuild.Report) bool { return len(r.Ignored) == 1 && r.Incomplete == nil && r.Snapshots == 10 }},
		"a torn tail": {func(t *testing.T, s []string) {
			f, err := os.OpenFile(s[len(s)-1], os.O_RDWR|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write(append([]byte("shalefrm\x02"), make([]byte, 10_000)...)); err != nil {
				t.Fatal(err)
			}
		}, false, func(r *rebuild.Report) bool { return r.Damaged == 0 && r.Incomplete == nil && r.Snapshots == 10 }},
	} {
		t.Run(name, func(t *testing.T) {
			e, want, _ := busy(t)
			e.Stop(t)
			segments, _ := filepath.Glob(filepath.Join(e.Dir, "segments", "*.seg"))
			c.damage(t, segments)
			report := rebuildIn(t, e, rebuild.Options{Verify: c.verify})
			if !c.check(report) {
				t.Errorf("got %+v", report)
			}
			e.Restart(t)
			if report.Damaged == 0 && report.Incomplete == nil && report.Snapshots == 10 {
				snapshottest.Compare(t, e.Inventory(t), want)
				return
			}
			// Nothing is other than it was: blocks are there or are not.
			var broken []string
			for _, i := range report.Incomplete {
				broken = append(broken, i.Snapshot)
			}
			page, err := e.Service.Describe(t.Context(), snapshottest.Caller, snapshot.DescribeRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, snap := range page.Snapshots {
				if slices.Contains(broken, snap.ID) {
					continue
				}
				for _, line := range e.Blocks(t, snapshottest.Caller, snap.ID) {
					if !slices.Contains(want, line) {
						t.Errorf("of a snapshot that is said to be whole: %s", line)
					}
				}
			}
		})
	}
}

// What the disk cannot read is damaged, and keeps nobody from having the rest.
func TestUnreadableSectors(t *testing.T) {
	e, _, _ := busy(t)
	e.Stop(t)
	segments, err := vfs.Dir(filepath.Join(e.Dir, "segments")).List()
	if err != nil {
		t.Fatal(err)
	}
	for name, off := range map[string]int64{
		"a header":  0,
		"a frame":   4096,
		"a payload": lastFrame(t, filepath.Join(e.Dir, "segments", segments[0]), 1) + 4096,
	} {
		t.Run(name, func(t *testing.T) {
			disk := errorfs.Wrap(vfs.Dir(filepath.Join(e.Dir, "segments")))
			disk.BadSector(segments[0], off)
			report := rebuildIn(t, e, rebuild.Options{Segments: disk, Verify: true})
			if report.Damaged == 0 || report.Snapshots == 0 {
				t.Errorf("got %+v, want damage, and snapshots all the same", report)
			}
		})
	}
}

func flip(t *testing.T, path string, off int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lastFrame is the offset of the last frame in the file but so many.
func lastFrame(t *testing.T, path string, but int) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b)
	for range but + 1 {
		at = bytes.LastIndex(b[:at], []byte("shalefrm"))
	}
	return int64(at)
}

// A format of a later version is refused, by its name.
func TestNewerFormat(t *testing.T) {
	e, _, _ := busy(t)
	e.Stop(t)
	segments, _ := filepath.Glob(filepath.Join(e.Dir, "segments", "*.seg"))
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b = snapshottest.WithSegmentVersion(b, 99)
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(context.Background(), filepath.Join(t.TempDir(), "catalog.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = rebuild.Run(t.Context(), rebuild.Options{Segments: vfs.Dir(filepath.Join(e.Dir, "segments")), Catalog: c})
	if err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("got %v", err)
	}
}
