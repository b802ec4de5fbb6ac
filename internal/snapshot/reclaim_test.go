package snapshot_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

// noise is a block that cannot be compressed.
func noise(seed uint64) []byte {
	b := make([]byte, block.Size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b) // never fails
	return b
}

// A held says whether somebody copies the store.
type held bool

func (f *fixture) collector(h *held) *reclaim.Collector {
	return reclaim.New(reclaim.Options{
		Catalog: f.Catalog, Store: f.Store, Now: f.Clock.Now,
		Alone: func() (func() error, bool, error) {
			return func() error { return nil }, h == nil || !bool(*h), nil
		},
	})
}

// cycle runs a whole cycle.
func (f *fixture) cycle() reclaim.Report {
	f.Helper()
	r, err := f.collector(nil).Cycle(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// A steps is a cycle, step by step.
type steps interface {
	Barrier(context.Context) error
	Mark(context.Context) error
	Sweep(context.Context) error
	Compact(context.Context) error
	Drop(context.Context) error
}

func (f *fixture) begin() steps {
	f.Helper()
	y, err := f.collector(nil).Begin(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return y
}

func (f *fixture) run(list ...func(context.Context) error) {
	f.Helper()
	for _, step := range list {
		if err := step(f.Context()); err != nil {
			f.Fatal(err)
		}
	}
}

// stored makes a completed snapshot of the blocks; parent may be empty.
func (f *fixture) stored(parent string, blocks map[int64][]byte) string {
	f.Helper()
	id := f.start(parent)
	for i, b := range blocks {
		f.mustPut(id, i, b)
	}
	f.finish(id, len(blocks))
	return id
}

func (f *fixture) finish(id string, blocks int) {
	f.Helper()
	if snap := f.complete(id, int64(blocks), nil); snap.State != snapshot.Completed {
		f.Fatalf("%s: got %v, want completed: %s", id, snap.State, snap.Message)
	}
}

func (f *fixture) remove(id string) {
	f.Helper()
	if err := f.Service.Delete(f.Context(), caller, id); err != nil {
		f.Fatal(err)
	}
	f.Settle(f)
}

// holds checks that the snapshot has the blocks, reading all of them.
func (f *fixture) holds(id string, blocks map[int64][]byte) {
	f.Helper()
	want := make(map[block.Index]block.Digest)
	for i, b := range blocks {
		want[block.Index(i)] = digest(b)
	}
	if got := f.blocks(id); !maps.Equal(got, want) {
		f.Fatalf("blocks of %s: got %d, want %d, or they differ", id, len(got), len(want))
	}
}

// size gives the number of segments and the bytes in them.
func (f *fixture) size() (files int, bytes int64) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join(f.Dir, "segments", "*.seg"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			f.Fatal(err)
		}
		bytes += info.Size()
	}
	return len(names), bytes
}

// empty checks that nothing is left but what says that so many snapshots were
// deleted.
func (f *fixture) empty(deleted int) {
	f.Helper()
	files, size := f.size()
	// The records of one snapshot are in a batch of three pages at the most.
	if most := int64(2*4096 + deleted*2*4096); files > 2 || size > most {
		f.Fatalf("%d segments of %d bytes are left, want at most 2 of %d", files, size, most)
	}
	page, err := f.Catalog.Candidates(f.Context(), block.ID{}, 10_000)
	if err != nil || len(page) != deleted {
		f.Fatalf("%d records are left, %v, want %d", len(page), err, deleted)
	}
}

// root gives the root of a completed snapshot's map.
func (f *fixture) root(id string) block.ID {
	f.Helper()
	image, err := f.Service.OpenImage(f.Context(), caller, id)
	if err != nil {
		f.Fatal(err)
	}
	return image.Root
}

// After all is deleted nothing is left, whatever step the process ends at.
func TestReclaimAll(t *testing.T) {
	for ends := range 7 {
		f := newFixture(t)
		parent := f.stored("", map[int64][]byte{0: noise(1), 64: data(2), 100: data(0)})
		child := f.stored(parent, map[int64][]byte{64: noise(3)})
		pending := f.start(child)
		f.mustPut(pending, 5, noise(4))
		for _, id := range []string{parent, child, pending} {
			f.remove(id)
		}
		f.cycle()
		y := f.begin()
		list := []func(context.Context) error{y.Barrier, y.Mark, y.Sweep, y.Compact, y.Drop}
		if ends < 6 {
			f.run(list[:ends]...)
		} else {
			beside := held(true) // and it ends before the files are gone
			if _, err := f.collector(&beside).Cycle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.Restart(t)
		f.cycle()
		f.cycle()
		f.empty(2)
		dropped, err := f.Catalog.Dropped(t.Context())
		if err != nil || len(dropped) > 0 {
			t.Fatalf("dropped: %v, %v", dropped, err)
		}
		files, size := f.size()
		if r := f.cycle(); r.Relocated+r.Removed+r.Dropped+r.Condemned != 0 {
			t.Fatalf("a cycle with nothing to do: %+v", r)
		}
		if again, bytes := f.size(); again != files || bytes != size {
			t.Fatalf("a cycle with nothing to do: %d files of %d bytes, before %d of %d", again, bytes, files, size)
		}
		blocks := map[int64][]byte{0: noise(1), 3: data(0)}
		id := f.stored("", blocks)
		f.holds(id, blocks)
		f.Restart(t)
		f.holds(id, blocks)
	}
}

// sparse makes a segment of which a completed snapshot has a few blocks, and a
// deleted one had the rest.
func (f *fixture) sparse() (id string, kept map[int64][]byte) {
	f.Helper()
	kept = map[int64][]byte{5: noise(100), 70: data(0), 71: data(7)}
	id = f.stored("", kept)
	dead := make(map[int64][]byte)
	for i := range int64(20) {
		dead[i] = noise(uint64(i + 1))
	}
	f.remove(f.stored("", dead))
	return id, kept
}

// Compaction keeps what is in use, and the segment that it was in goes.
func TestReclaimCompacts(t *testing.T) {
	f := newFixture(t)
	id, kept := f.sparse()
	if r := f.cycle(); r.Relocated != 0 {
		t.Fatalf("what is only condemned is copied around: %+v", r)
	}
	if r := f.cycle(); r.Dropped != 1 || r.Relocated < 3 {
		t.Fatalf("got %+v", r)
	}
	f.holds(id, kept)
	f.Restart(t)
	f.holds(id, kept)
	if r := f.cycle(); r.Relocated+r.Condemned+r.Dropped != 0 {
		t.Fatalf("a cycle with nothing to do: got %+v", r)
	}
}

// A server's cycle rests while it marks and while it copies, and a rest that is
// called off ends it with nothing lost.
func TestReclaimRests(t *testing.T) {
	f := newFixture(t)
	id, kept := f.sparse()
	f.cycle()
	var step string
	rests := make(map[string]int)
	left, begun := 1<<30, 0
	errStop := errors.New("no more rest")
	collector := reclaim.New(reclaim.Options{
		Catalog: f.Catalog, Store: f.Store, Now: f.Clock.Now, Rate: 1 << 30, Step: func(what string) { step = what },
		Rest: func() func(context.Context) error {
			begun++
			return func(context.Context) error {
				if rests[step]++; left == 0 {
					return errStop
				}
				left--
				return nil
			}
		},
	})
	for left = range 3 {
		if _, err := collector.Cycle(t.Context()); !errors.Is(err, errStop) {
			t.Fatalf("a cycle that may rest %d times: got %v", left, err)
		}
		f.holds(id, kept)
	}
	if begun != 3 { // else the time between two cycles would count as work
		t.Errorf("3 cycles have begun to rest %d times", begun)
	}
	left = 1 << 30
	clear(rests)
	if r, err := collector.Cycle(t.Context()); err != nil || r.Dropped != 1 || r.Relocated < 3 {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, what := range []string{"marking what is in use", "compacting"} {
		if rests[what] == 0 {
			t.Errorf("no rest while %s: %v", what, rests)
		}
	}
	if begun < 5 { // nor does the wait for the rate
		t.Errorf("the fourth cycle has begun to rest %d times", begun-3)
	}
	f.holds(id, kept)
}

// A segment that is away, or has a damaged record, holds up no other.
func TestReclaimBesideMissingSegment(t *testing.T) {
	f := newFixture(t)
	f.SegmentSize = 4 << 20
	f.Restart(t)
	var kept string
	for i := range uint64(3) { // a little that is kept, and much that is not, in each
		parent := kept
		if kept = f.stored(parent, map[int64][]byte{int64(i): noise(i)}); parent != "" {
			f.remove(parent) // or its map could not be read
		}
		dead := make(map[int64][]byte)
		for j := range uint64(6) {
			dead[int64(j)] = noise(100 + 10*i + j)
		}
		f.remove(f.stored("", dead))
	}
	loc, _, err := f.Catalog.Locate(t.Context(), block.ID(digest(noise(0))))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(f.Dir, "segments", segment.FileName(loc.Container))
	if err := os.Rename(name, name+".away"); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	root := f.root(kept)
	if at, _, err := f.Catalog.Locate(t.Context(), root); err != nil || at.Container == loc.Container {
		t.Fatalf("the root is in the segment that is away, %v", err)
	}
	y := f.begin()
	if err := y.Mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.run(y.Sweep)
	r := f.cycle()
	if r.Dropped == 0 || r.Relocated == 0 {
		t.Fatalf("beside a missing segment: got %+v", r)
	}
	if err := os.Rename(name+".away", name); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	f.holds(kept, map[int64][]byte{0: noise(0), 1: noise(1), 2: noise(2)})
	f.cycle()
	f.holds(kept, map[int64][]byte{0: noise(0), 1: noise(1), 2: noise(2)})
}

// On a full disk space is given back all the same.
func TestReclaimOnFullDisk(t *testing.T) {
	var disk *errorfs.FS
	f := &fixture{snapshottest.NewFS(t, func(fs vfs.FS) vfs.FS {
		disk = errorfs.Wrap(fs)
		return disk
	}), t}
	f.SegmentSize = 4 << 20
	f.Restart(t)
	var kept []string
	var dead []string
	for i := range uint64(4) {
		kept = append(kept, f.stored("", map[int64][]byte{0: noise(i)}))
		for j := range uint64(6) {
			dead = append(dead, f.stored("", map[int64][]byte{0: noise(100 + 10*i + j)}))
		}
	}
	_, before := f.size()
	disk.SetFree(1 << 20)
	if err := f.put(f.start(""), 0, noise(99)); code(err) != snapshot.StorageFull {
		t.Fatalf("put on a full disk: got %v", err)
	}
	for _, id := range dead {
		f.remove(id) // which still writes a manifest
	}
	disk.SetFree(0)
	disk.Fail(func(op errorfs.Op, _ string) error {
		if op == errorfs.Create || op == errorfs.Write {
			return syscall.ENOSPC
		}
		return nil
	})
	f.cycle()
	r := f.cycle()
	if r.Removed < 24 {
		t.Fatalf("got %+v", r)
	}
	disk.Fail(nil)
	// With room for one copy of what is left of a segment, all are compacted.
	disk.SetFree(4<<20 + 2<<20 + 1<<20)
	f.cycle()
	if _, after := f.size(); after > before/2 {
		t.Fatalf("%d bytes of %d are left", after, before)
	}
	for i, id := range kept {
		f.holds(id, map[int64][]byte{0: noise(uint64(i))})
	}
	disk.SetFree(1 << 40)
	f.mustPut(f.start(""), 0, noise(99))
}

// Beside somebody who copies the store no file is removed, not by a start
// either; afterwards it is.
func TestReclaimBesideBackup(t *testing.T) {
	f := newFixture(t)
	f.remove(f.stored("", map[int64][]byte{0: noise(1)}))
	files, _ := f.size()
	beside := held(true)
	for range 3 {
		if _, err := f.collector(&beside).Cycle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.Restart(t)
	if now, _ := f.size(); now < files+1 {
		t.Fatalf("%d segments, before %d and one begun", now, files)
	}
	f.cycle()
	f.empty(1)
}

// An image that is being read is read to its end, whatever is deleted.
func TestReclaimBesideImage(t *testing.T) {
	f := newFixture(t)
	blocks := make(map[int64][]byte)
	for i := range int64(20) {
		blocks[100*i] = noise(uint64(i))
	}
	id := f.stored("", blocks)
	image, err := f.Service.OpenImage(t.Context(), caller, id)
	if err != nil {
		t.Fatal(err)
	}
	offset := int64(0)
	for piece, err := range image.Read(t.Context(), nil, 0, image.Size()) {
		if err != nil {
			t.Fatal(err)
		}
		if offset == 0 {
			f.remove(id)
			f.cycle()
			f.cycle()
			f.cycle()
		}
		want := blocks[offset/block.Size]
		if want == nil {
			want = data(0)
		}
		if digest(piece) != digest(want) {
			t.Fatalf("wrong bytes at %d", offset)
		}
		offset += int64(len(piece))
	}
	f.cycle()
	f.cycle()
	f.empty(1)
}

// Whoever may have stored nodes which nothing names yet is waited for.
func TestReclaimWaitsForHolds(t *testing.T) {
	f := newFixture(t)
	blocks := map[int64][]byte{0: data(1), 1000: data(2)}
	id := f.stored("", blocks)
	root := f.root(id)
	hold := f.Store.Hold()
	node, err := f.Store.ReadNode(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	y := f.begin()
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := y.Barrier(short); !errors.Is(err, context.Canceled) {
		t.Fatalf("beside a hold: got %v", err)
	}
	if err := f.Store.WriteNodes(t.Context(), []blockstore.Node{{ID: root, Data: node}}); err != nil {
		t.Fatal(err)
	}
	hold.Release()
	hold.Release() // as translate may
	f.run(y.Barrier, y.Mark, y.Sweep)
	f.holds(id, blocks)
}

// What is in the recycle bin is kept, as it can be restored; and what was
// deleted until a manifest says so, as a rebuild would restore it. Guards: state
// 7 and manifests_due in catalog.held.
func TestReclaimKeeps(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	blocks := map[int64][]byte{0: data(1), 1000: data(2)}
	id := f.stored("", blocks)
	f.remove(id)
	f.cycle()
	f.cycle()
	if _, err := f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: id}); err != nil {
		t.Fatal(err)
	}
	f.holds(id, blocks)

	root := f.root(id)
	// A crash comes between this and the manifest.
	if done, err := f.Catalog.Delete(t.Context(), caller.Account, caller.Region, id, 0); !done || err != nil {
		t.Fatalf("delete: %v, %v", done, err)
	}
	f.cycle()
	f.cycle()
	if _, found, err := f.Catalog.Locate(t.Context(), root); !found || err != nil {
		t.Fatalf("the map of what a rebuild would bring back: %v, %v", found, err)
	}
	f.Settle(t)
	f.cycle()
	f.cycle()
	f.empty(1)
}
