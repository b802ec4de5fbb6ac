package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"shale/internal/backup"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// open opens a folder for a backup.
func open(t *testing.T, path string) *datadir.Dir {
	t.Helper()
	d, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// begin is a store with an id, in segments of a few batches.
func begin(t *testing.T) *snapshottest.Env {
	t.Helper()
	e := snapshottest.New(t)
	e.SegmentSize = 4 << 20
	if _, _, err := e.Catalog.Setting(t.Context(), catalog.SettingStoreID, func() []byte { return make([]byte, 16) }); err != nil {
		t.Fatal(err)
	}
	e.Busy(t)
	return e
}

func run(t *testing.T, e *snapshottest.Env, dest *datadir.Dir) *backup.Report {
	t.Helper()
	c, err := catalog.OpenBeside(t.Context(), filepath.Join(e.Dir, "catalog.db"), e.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	report, err := backup.Run(t.Context(), backup.Options{Source: e.Dir, Catalog: c, Dest: dest, WithKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// restored starts a service on a copy of the folder, as the server does.
func restored(t *testing.T, e *snapshottest.Env, dest *datadir.Dir) *snapshottest.Env {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored")
	if err := os.CopyFS(path, os.DirFS(dest.Path())); err != nil {
		t.Fatal(err)
	}
	dir := open(t, path)
	if err := backup.Check(dir); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(t.Context(), dir.Catalog(), e.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(backup.Adopt(t.Context(), dir, c), c.Close()); err != nil {
		t.Fatal(err)
	}
	return e.Open(t, path)
}

// A copy is what the store was, a second one copies what is new, and one that
// is interrupted leaves the one of before.
func TestBackup(t *testing.T) {
	e := begin(t)
	dest := open(t, filepath.Join(t.TempDir(), "dest"))
	first := run(t, e, dest)
	if first.Segments < 3 || first.Copied != first.Segments {
		t.Errorf("the first copied %d of %d segments", first.Copied, first.Segments)
	}
	want := e.Inventory(t)
	snapshottest.Compare(t, restored(t, e, dest).Inventory(t), want)

	// The catalog is not in its place yet, and the segments are.
	e.Make(t, snapshottest.Caller, snapshot.StartRequest{}, map[int64]uint64{1: 101, 2: 102, 3: 103, 4: 104, 5: 105, 6: 106, 7: 107, 8: 108, 9: 109})
	kept, err := os.ReadFile(dest.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	second := run(t, e, dest)
	if second.Copied == 0 || second.Copied >= second.Segments {
		t.Errorf("the second copied %d of %d segments", second.Copied, second.Segments)
	}
	whole, err := os.ReadFile(dest.Catalog())
	if err == nil {
		err = os.WriteFile(dest.Catalog(), kept, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dest.Segments(), "00000000000000ff.seg.part"), []byte("half"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	snapshottest.Compare(t, restored(t, e, dest).Inventory(t), want)

	if err := os.WriteFile(dest.Catalog(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	snapshottest.Compare(t, restored(t, e, dest).Inventory(t), e.Inventory(t))
	if again := run(t, e, dest); again.Copied != 0 {
		t.Errorf("with nothing new %d segments were copied", again.Copied)
	}
}

// Beside writers a copy is the store of one moment: what it has is whole, and
// what was completed before it began is there.
func TestBackupUnderLoad(t *testing.T) {
	e := begin(t)
	dest := open(t, filepath.Join(t.TempDir(), "dest"))
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for w := range uint64(3) {
		load.Go(func() {
			for i := uint64(1); ctx.Err() == nil; i++ {
				e.Make(t, snapshottest.Caller, snapshot.StartRequest{}, map[int64]uint64{0: w<<32 | i, 1: w<<32 | i<<16})
			}
		})
	}
	for range 5 {
		before, err := e.Service.Describe(t.Context(), snapshottest.Caller, snapshot.DescribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, e, dest)
		r := restored(t, e, dest)
		for _, snap := range before.Snapshots {
			if snap.State != snapshot.Completed {
				continue
			}
			if got, want := r.Blocks(t, snapshottest.Caller, snap.ID), e.Blocks(t, snapshottest.Caller, snap.ID); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", snap.ID, got, want)
			}
		}
		r.Inventory(t) // fails if anything cannot be listed
	}
	stop()
	load.Wait()
}

// A folder that is no backup of the store is left alone.
func TestOtherFolders(t *testing.T) {
	e := begin(t)
	own := open(t, filepath.Join(t.TempDir(), "own"))
	run(t, e, own)
	if err := os.Remove(filepath.Join(own.Path(), "backup")); err != nil { // as a start does
		t.Fatal(err)
	}
	others := open(t, filepath.Join(t.TempDir(), "others"))
	if err := os.WriteFile(filepath.Join(others.Path(), "backup"), []byte(`{"version":1,"store_id":"00"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := open(t, filepath.Join(t.TempDir(), "newer"))
	if err := os.WriteFile(filepath.Join(newer.Path(), "backup"), []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dest := range []*datadir.Dir{own, others, newer} {
		before := names(t, dest.Path())
		if _, err := backup.Run(t.Context(), backup.Options{Source: e.Dir, Catalog: e.Catalog, Dest: dest}); err == nil {
			t.Errorf("%s was taken", filepath.Base(dest.Path()))
		}
		if after := names(t, dest.Path()); !slices.Equal(after, before) {
			t.Errorf("%s: got %v, want %v", filepath.Base(dest.Path()), after, before)
		}
	}
	begun := open(t, filepath.Join(t.TempDir(), "begun"))
	if err := os.WriteFile(filepath.Join(begun.Path(), "backup"), []byte(`{"version":1,"store_id":"00"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := backup.Check(begun); err == nil {
		t.Error("a first backup that was interrupted is taken for a store")
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
