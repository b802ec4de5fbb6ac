package snapshot_test

import (
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

// copyTo copies into the domain of the KMS key and gives the copy's ID.
func (f *fixture) copyTo(source, key string) string {
	f.Helper()
	snap, err := f.Service.Copy(f.Context(), caller, snapshot.CopyRequest{
		SourceRegion: caller.Region, SourceID: source, Encrypted: ptr(true), KMSKey: &key,
	})
	if err != nil {
		f.Fatalf("Copy(%s): %v", source, err)
	}
	return snap.ID
}

// many are blocks enough for several rounds of a copy, some equal, some zeros.
func many() map[int64][]byte {
	blocks := make(map[int64][]byte)
	for i := range int64(40) {
		blocks[i*51] = data(uint64(i % 30))
	}
	return blocks
}

// A copy under another key has the same bytes and is a lineage of its own;
// under the same key it takes over the map. Spec: ec2-snapshots §5.
func TestCopyBetweenDomains(t *testing.T) {
	f := newFixture(t)
	one, two := f.KMS.Create(caller.Account, caller.Region), f.KMS.Create(caller.Account, caller.Region)
	source := f.made(many())
	want := f.blocks(source)
	first := f.copyTo(source, one)
	f.settle()
	second := f.copyTo(first, two)
	f.settle()
	same := f.copyTo(second, two)
	f.settle()
	for range 2 {
		for _, id := range []string{first, second, same} {
			snap := f.describe(id)
			if got := f.blocks(id); !maps.Equal(got, want) || snap.Blocks != int64(len(want)) || snap.FullBytes() != int64(len(want))<<19 {
				t.Errorf("%s: got %d blocks, %+v", id, len(got), snap)
			}
		}
		f.Restart(t)
	}
	related := func(a, b string) bool {
		page, err := f.Service.ListChangedBlocks(t.Context(), caller, snapshot.ListChangedRequest{FirstSnapshotID: &a, SecondSnapshotID: b})
		if err != nil && code(err) != snapshot.Unrelated || len(page.Blocks) > 0 {
			t.Errorf("ListChangedBlocks: got %+v, %v", page.Blocks, err)
		}
		return err == nil
	}
	if related(source, first) || related(first, second) || !related(second, same) {
		t.Error("copies under another key are of another lineage, under the same key of the same")
	}
	child := f.start(same)
	f.mustPut(child, 51, data(99))
	if snap := f.complete(child, 1, nil); snap.State != snapshot.Completed || snap.KMSKeyARN != two {
		t.Errorf("child of a copy: got %v %q under %s", snap.State, snap.Message, snap.KMSKeyARN)
	}
	if a, b := f.describe(second), f.describe(same); a.Root != b.Root || a.MAC == b.MAC {
		t.Error("a copy under the same key has the map of its source and a MAC of its own")
	}
}

// What the target's domain holds is neither read nor stored again.
func TestCopyReadsNoMoreThanItMust(t *testing.T) {
	f := newFixture(t)
	key := f.KMS.Create(caller.Account, caller.Region)
	source := f.made(many())
	f.copyTo(source, key)
	f.settle()
	stats := f.Store.Stats()
	read, stored := stats.BlocksRead.Load(), stats.BlocksStored.Load()
	// A block is read once more if it comes again before it is stored.
	if read >= 40 || stored != 30+30 {
		t.Errorf("the first copy read %d blocks, and %d were stored; want fewer than 40, and 60", read, stored)
	}
	again := f.copyTo(source, key)
	f.settle()
	if snap := f.describe(again); snap.State != snapshot.Completed {
		t.Fatalf("got %v %q", snap.State, snap.Message)
	}
	if r, s := stats.BlocksRead.Load(), stats.BlocksStored.Load(); r != read || s != stored {
		t.Errorf("the second copy read %d blocks and stored %d", r-read, s-stored)
	}
}

// A copy that is interrupted anywhere begins anew and is whole.
func TestCopyBetweenDomainsInterrupted(t *testing.T) {
	f := newFixture(t)
	key := f.KMS.Create(caller.Account, caller.Region)
	source := f.made(many())
	want := f.blocks(source)
	for range 4 {
		id := f.copyTo(source, key)
		for range 2 {
			f.Restart(t)
		}
		f.settle()
		if got := f.blocks(id); !maps.Equal(got, want) {
			t.Fatalf("got %d blocks, want %d", len(got), len(want))
		}
		key = f.KMS.Create(caller.Account, caller.Region)
	}
}

// A copy that is deleted, or whose source is, while it is being written is
// whole, has failed, or is gone, and leaves no rows behind.
func TestCopyBetweenDomainsAgainstDeletion(t *testing.T) {
	f := newFixture(t)
	outcomes := map[snapshot.State]int{}
	for round := range 4 {
		source := f.made(many())
		want := f.blocks(source)
		key := f.KMS.Create(caller.Account, caller.Region)
		id, doomed := f.copyTo(source, key), f.copyTo(source, key)
		key1, key2 := f.describe(id), f.describe(doomed)
		for range round {
			_ = f.blocks(source) // anywhere in the copying
		}
		for _, gone := range []string{source, doomed} {
			if err := f.Service.Delete(t.Context(), caller, gone); err != nil {
				t.Fatal(err)
			}
		}
		f.settle()
		snap := f.describe(id)
		outcomes[snap.State]++
		switch {
		case snap.State == snapshot.Completed:
			if got := f.blocks(id); !maps.Equal(got, want) {
				t.Errorf("completed copy: got %d blocks, want %d", len(got), len(want))
			}
		case snap.State != snapshot.Failed || snap.Message != "Source snapshot is not found" || snap.VolumeSize != 0:
			t.Errorf("got %v %q, %d GiB", snap.State, snap.Message, snap.VolumeSize)
		}
		for more := true; more; {
			var err error
			if more, err = f.Catalog.Sweep(t.Context(), f.Clock.Now(), 1000); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []snapshot.Snapshot{key1, key2} {
			if rows, err := f.Catalog.Pending(t.Context(), &s, 0, 10); err != nil || len(rows) > 0 {
				t.Errorf("%s: %d rows are left, %v", s.ID, len(rows), err)
			}
		}
	}
	t.Log(outcomes)
}

// Damage in the source's blocks fails the copy, for a reason; it is never
// sealed under the digest of what was there.
func TestCopyOfDamage(t *testing.T) {
	f := newFixture(t)
	key := f.KMS.Create(caller.Account, caller.Region)
	source := f.made(map[int64][]byte{3: data(1)})
	f.Restart(t) // nothing is in memory any more
	files, _ := filepath.Glob(filepath.Join(f.Dir, "segments", "*.seg"))
	segment, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	segment[4096+4096+1000] ^= 1 // of the block, behind header and frame
	if err := os.WriteFile(files[0], segment, 0o600); err != nil {
		t.Fatal(err)
	}
	id := f.copyTo(source, key)
	f.settle()
	if snap := f.describe(id); snap.State != snapshot.Failed || snap.Message != "Damaged data in the source snapshot" || snap.VolumeSize != 0 {
		t.Errorf("got %v %q, %d GiB", snap.State, snap.Message, snap.VolumeSize)
	}
}

// What is encrypted is never copied into the clear: not if it came to be seen
// only after the copy had been asked for, and been taken for one of nothing.
// Spec: ec2-snapshots §5.
func TestCopyOfALateSourceStaysEncrypted(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	arn := f.newKey()
	f.KMS.Grant(arn, snapshottest.Other.Account)
	source := f.encrypted(arn)
	f.mustPut(source, 0, data(1))
	f.complete(source, 1, nil)
	for name, step := range map[string]struct {
		hide, show func() error
		by         snapshot.Caller
	}{
		"shared later": {
			func() error { return nil },
			func() error {
				return f.Service.Share(t.Context(), caller, snapshot.ShareRequest{SnapshotID: source, Accounts: []string{snapshottest.Other.Account}})
			},
			snapshottest.Other,
		},
		"out of the bin": {
			func() error { return f.Service.Delete(t.Context(), caller, source) },
			func() error {
				return second(f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: source}))
			},
			caller,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := step.hide(); err != nil {
				t.Fatal(err)
			}
			f.Halt()
			copied, err := f.Service.Copy(t.Context(), step.by, snapshot.CopyRequest{SourceRegion: step.by.Region, SourceID: source})
			if err != nil {
				t.Fatal(err)
			}
			if err := step.show(); err != nil {
				t.Fatal(err)
			}
			f.Resume()
			f.settle()
			page, err := f.Service.Describe(t.Context(), step.by, snapshot.DescribeRequest{IDs: []string{copied.ID}})
			if err != nil {
				t.Fatal(err)
			}
			if snap := page.Snapshots[0]; snap.State != snapshot.Failed || snap.Message != "Source snapshot is not found" {
				t.Errorf("got %v %q, encrypted %v", snap.State, snap.Message, snap.Encrypted())
			}
		})
	}
}

// A key that is disabled while a copy is being written ends the copy there.
// Spec: ec2-snapshots §5.
func TestCopyEndsWithItsKey(t *testing.T) {
	var disk *errorfs.FS
	f := &fixture{snapshottest.NewFS(t, func(fs vfs.FS) vfs.FS {
		disk = errorfs.Wrap(fs)
		return disk
	}), t}
	for _, which := range []int{0, 1} {
		keys := []string{f.newKey(), f.newKey()}
		source := f.encrypted(keys[0])
		for i := range int64(60) {
			f.mustPut(source, i, data(uint64(i)+1))
		}
		f.complete(source, 60, nil)
		var writes atomic.Int32
		disk.Fail(func(op errorfs.Op, _ string) error {
			if op == errorfs.Write && writes.Add(1) == 3 {
				f.KMS.Disable(keys[which])
			}
			return nil
		})
		id := f.copyTo(source, keys[1])
		f.settle()
		disk.Fail(nil)
		if snap := f.describe(id); snap.State != snapshot.Failed || snap.Message != "Given key ID is not accessible" {
			t.Errorf("key %d: got %v %q", which, snap.State, snap.Message)
		}
	}
}

// Copies whose blocks are written anew, however many and slow, do not hold up
// one that only takes over a map.
func TestCopyDoesNotWaitForLongOnes(t *testing.T) {
	var disk *errorfs.FS
	f := &fixture{snapshottest.NewFS(t, func(fs vfs.FS) vfs.FS {
		disk = errorfs.Wrap(fs)
		return disk
	}), t}
	source := f.made(many())
	var keys []string
	for range 4 {
		keys = append(keys, f.newKey())
	}
	release, held := make(chan struct{}), make(chan struct{}, 1)
	disk.Fail(func(op errorfs.Op, _ string) error {
		if op == errorfs.Read { // blocks of the source, which are not needed to take over its map
			select {
			case held <- struct{}{}:
			default:
			}
			<-release
		}
		return nil
	})
	var long []string
	for _, key := range keys {
		long = append(long, f.copyTo(source, key))
	}
	<-held
	snap, err := f.Service.Copy(t.Context(), caller, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); f.describe(snap.ID).State != snapshot.Completed; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the copy waits for others")
			break
		}
	}
	for _, id := range long {
		if state := f.describe(id).State; state == snapshot.Completed {
			t.Errorf("%s is completed, though nothing could be read", id)
		}
	}
	disk.Fail(nil)
	close(release)
	f.settle()
	for _, id := range long {
		if state := f.describe(id).State; state != snapshot.Completed {
			t.Errorf("%s: got %v", id, state)
		}
	}
}
