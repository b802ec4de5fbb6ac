package snapshot_test

import (
	"maps"
	"sync"
	"testing"
	"time"

	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// copy asks for a copy of a snapshot in the region of the tests.
func (f *fixture) copy(source string) string {
	f.Helper()
	snap, err := f.Service.Copy(f.Context(), caller, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source})
	if err != nil {
		f.Fatalf("Copy(%s): %v", source, err)
	}
	return snap.ID
}

func (f *fixture) settle() {
	f.Helper()
	if err := f.Service.Settle(f.Context()); err != nil {
		f.Fatal(err)
	}
}

// made makes a completed snapshot of 1 GiB with the blocks.
func (f *fixture) made(blocks map[int64][]byte) string {
	f.Helper()
	id := f.start("")
	for i, b := range blocks {
		f.mustPut(id, i, b)
	}
	f.complete(id, int64(len(blocks)), nil)
	return id
}

// A copy has the blocks of its source and belongs to its lineage, whatever
// becomes of the source. Spec: ec2-snapshots §5; ebs-direct §8.2.
func TestCopy(t *testing.T) {
	f := newFixture(t)
	source := f.made(map[int64][]byte{0: data(1), 7: data(0), 2047: data(2)})
	copied := f.copy(source)
	f.settle()
	child := f.start(copied)
	f.mustPut(child, 7, data(3))
	f.complete(child, 1, nil)
	page, err := f.Service.ListChangedBlocks(t.Context(), caller, snapshot.ListChangedRequest{FirstSnapshotID: &source, SecondSnapshotID: child})
	if err != nil || len(page.Blocks) != 1 || page.Blocks[0].Index != 7 {
		t.Errorf("ListChangedBlocks of source and the copy's child: got %+v, %v, want block 7", page.Blocks, err)
	}
	want := f.blocks(source)
	if err := f.Service.Delete(t.Context(), caller, source); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := f.blocks(copied); !maps.Equal(got, want) {
			t.Errorf("blocks of the copy: got %v, want %v", got, want)
		}
		f.Restart(t)
	}
	if snap := f.describe(copied); snap.VolumeSize != 1 || snap.Blocks != 3 || snap.ParentID != "" || snap.Message != "" {
		t.Errorf("got %+v", snap)
	}
}

// A copy is not written to, and not a parent before it is completed. Spec:
// ebs-direct §5.
func TestCopyIsNoUpload(t *testing.T) {
	f := newFixture(t)
	source := f.made(nil)
	f.Halt()
	id := f.copy(source)
	if err := f.put(id, 0, data(1)); code(err) != snapshot.NotFound {
		t.Errorf("PutBlock: got %v, want NotFound", err)
	}
	complete := func() error {
		return second(f.Service.Complete(t.Context(), caller, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(0))}))
	}
	if err := complete(); code(err) != snapshot.NotFound {
		t.Errorf("Complete: got %v, want NotFound", err)
	}
	if _, err := f.startWith(snapshot.StartRequest{ParentSnapshotID: &id}); code(err) != snapshot.ParentIncomplete {
		t.Errorf("child: got %v, want ParentIncomplete", err)
	}
	if _, err := f.Service.ListBlocks(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id}); code(err) != snapshot.NotFound {
		t.Errorf("ListBlocks: got %v, want NotFound", err)
	}
	f.Resume()
	f.settle()
	if err := complete(); code(err) != snapshot.NotFound {
		t.Errorf("Complete of a completed copy: got %v, want NotFound", err)
	}
}

// What was in progress when the process ended is completed by the next one.
func TestCopyGoesOnAfterARestart(t *testing.T) {
	f := newFixture(t)
	source := f.made(map[int64][]byte{3: data(1)})
	f.Halt()
	good, bad := f.copy(source), f.copy("snap-0123456789abcdef0")
	f.Resume()
	f.Halt()
	f.Restart(t)
	f.settle()
	if got := f.describe(good); got.State != snapshot.Completed || got.Blocks != 1 {
		t.Errorf("got %v with %d blocks, want completed with 1", got.State, got.Blocks)
	}
	if got := f.describe(bad); got.State != snapshot.Failed || got.Message != "Source snapshot is not found" || got.VolumeSize != 0 {
		t.Errorf("of an unknown source: got %v %q, %d GiB", got.State, got.Message, got.VolumeSize)
	}
}

// Whether a copy is encrypted is settled when it is asked for, by what its
// source is then. A source that appears afterwards is not copied: an encrypted
// one would be in the clear. Spec: ec2-snapshots §5.
func TestCopyOfWhatAppearsLater(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	source := f.encrypted(f.newKey())
	f.mustPut(source, 0, data(1))
	f.complete(source, 1, nil)
	if err := f.Service.Delete(t.Context(), caller, source); err != nil {
		t.Fatal(err)
	}
	f.Halt()
	id := f.copy(source)
	if _, err := f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: source}); err != nil {
		t.Fatal(err)
	}
	f.Resume()
	f.settle()
	if got := f.describe(id); got.State != snapshot.Failed || got.Message != "Source snapshot is not found" {
		t.Errorf("got %v %q, encrypted: %v; want error", got.State, got.Message, got.Encrypted())
	}
}

// Of a copy and the deletion of its source, or of itself, one comes first: the
// copy is whole, has failed, or is gone.
func TestCopyAgainstDeletion(t *testing.T) {
	for name, keep := range map[string]time.Duration{"for good": 0, "into the bin": time.Hour} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.BinTime = keep
			f.Restart(t)
			outcomes := map[snapshot.State]int{}
			for range 10 {
				source := f.made(map[int64][]byte{0: data(1), 2000: data(2)})
				want := f.blocks(source)
				doomed, id := f.copy(source), f.copy(source)
				var wg sync.WaitGroup
				for _, gone := range []string{source, doomed} {
					wg.Go(func() {
						if err := f.Service.Delete(t.Context(), caller, gone); err != nil {
							t.Errorf("Delete(%s): %v", gone, err)
						}
					})
				}
				wg.Wait()
				f.settle()
				snap := f.describe(id)
				outcomes[snap.State]++
				switch {
				case snap.State == snapshot.Completed:
					if got := f.blocks(id); !maps.Equal(got, want) {
						t.Errorf("completed copy: got %v, want %v", got, want)
					}
				case snap.State != snapshot.Failed || snap.VolumeSize != 0 || snap.Message != "Source snapshot is not found":
					t.Errorf("got %v %q, %d GiB", snap.State, snap.Message, snap.VolumeSize)
				}
				if _, err := f.Service.Describe(t.Context(), caller, snapshot.DescribeRequest{IDs: []string{doomed}}); code(err) != snapshot.NotFound {
					t.Errorf("a deleted copy: got %v, want NotFound", err)
				}
			}
			t.Log(outcomes)
		})
	}
}

// The catalog takes a source over only while it is completed, and a copy only
// while it is in progress.
func TestFinishCopyPreconditions(t *testing.T) {
	f := newFixture(t)
	source := f.describe(f.made(nil))
	f.Halt()
	id := f.copy(source.ID)
	snap := f.describe(id)
	finish := func(what string, source int64, want bool) {
		t.Helper()
		done, err := f.Catalog.FinishCopy(t.Context(), snap.Key, snapshot.CopyResult{SourceKey: source, VolumeSize: 1, Lineage: 1})
		if err != nil || done != want {
			t.Errorf("%s: got %v, %v, want %v", what, done, err, want)
		}
	}
	open := f.start("")
	finish("an open source", f.describe(open).Key, false)
	if err := f.Service.Delete(t.Context(), caller, source.ID); err != nil {
		t.Fatal(err)
	}
	finish("a deleted source", source.Key, false)
	finish("none", 0, true)
	finish("again", 0, false)
	if done, err := f.Catalog.Fail(t.Context(), snap.Key, "x"); err != nil || done {
		t.Errorf("Fail of a completed copy: %v, %v", done, err)
	}
	f.Resume()
}

// The limit holds for requests at once, and per account. Spec: ec2-snapshots §5.
func TestCopyLimit(t *testing.T) {
	f := newFixture(t)
	source := f.made(nil)
	f.Halt()
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 30 {
		wg.Go(func() {
			_, err := f.Service.Copy(t.Context(), caller, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if code(err) != snapshot.TooManyCopies {
				t.Errorf("got %v, want TooManyCopies", err)
			}
		})
	}
	wg.Wait()
	if made != 20 {
		t.Errorf("%d copies at once, want 20", made)
	}
	if _, err := f.Service.Copy(t.Context(), snapshottest.Other, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source}); err != nil {
		t.Errorf("another account: %v", err)
	}
	f.Resume()
	f.settle()
	f.copy(source)
}
