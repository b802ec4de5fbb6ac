package blockstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

// data is a block of the seed that cannot be compressed.
func data(seed uint64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, block.Size)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// fixture is a store with one open snapshot, over a disk that can fail.
type fixture struct {
	*snapshottest.Env
	testing.TB
	disk *errorfs.FS
	key  int64
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t}
	f.Env = snapshottest.NewFS(t, func(fs vfs.FS) vfs.FS {
		f.disk = errorfs.Wrap(fs)
		return f.disk
	})
	size := int64(1)
	snap, err := f.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: &size})
	if err != nil {
		t.Fatal(err)
	}
	f.key = snap.Key
	return f
}

func (f *fixture) write(index block.Index, b []byte) error {
	w := blockstore.Write{Snapshot: f.key, Index: index, Digest: sha256.Sum256(b), Data: slices.Clone(b)}
	if w.Digest == block.ZeroDigest {
		w.Data = nil
	}
	return f.Store.Write(f.Context(), w)
}

func (f *fixture) mustWrite(index block.Index, b []byte) {
	f.Helper()
	if err := f.write(index, b); err != nil {
		f.Fatalf("Write(%d): %v", index, err)
	}
}

// read reads the block and checks that it is the one.
func (f *fixture) read(want []byte) error {
	f.Helper()
	got := make([]byte, block.Size)
	_, err := f.Store.Read(f.Context(), nil, sha256.Sum256(want), got)
	if err == nil && !bytes.Equal(got, want) {
		f.Error("Read gave wrong bytes")
	}
	return err
}

// stored is the length of all segments in bytes.
func (f *fixture) stored() int64 {
	f.Helper()
	var n int64
	for _, file := range f.segments() {
		info, err := os.Stat(file)
		if err != nil {
			f.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func (f *fixture) segments() []string {
	f.Helper()
	files, err := filepath.Glob(filepath.Join(f.Dir, "segments", "*.seg"))
	if err != nil {
		f.Fatal(err)
	}
	return files
}

func TestDeduplication(t *testing.T) {
	f := newFixture(t)
	f.mustWrite(0, data(1))
	before := f.stored()
	var wg sync.WaitGroup
	for i := range block.Index(32) {
		wg.Go(func() { f.mustWrite(i, data(1)) })
	}
	wg.Wait()
	if after := f.stored(); after != before {
		t.Errorf("32 writes of a stored block: segments grew by %d bytes", after-before)
	}
	f.mustWrite(3, make([]byte, block.Size))
	if grown := f.stored() - before; grown != blockstore.PageSize {
		t.Errorf("a block of zeros: segments grew by %d bytes, want the frame's %d", grown, blockstore.PageSize)
	}
	f.mustWrite(4, make([]byte, block.Size))
	if grown := f.stored() - before; grown != blockstore.PageSize {
		t.Errorf("a second block of zeros: segments grew by %d bytes in all", grown)
	}
	for _, b := range [][]byte{data(1), make([]byte, block.Size)} {
		if err := f.read(b); err != nil {
			t.Error(err)
		}
	}
}

// Many writers of the same new blocks at once: each write is recorded, and all
// read back.
func TestParallelWritersOfEqualBlocks(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	for i := range block.Index(64) {
		wg.Go(func() { f.mustWrite(i, data(uint64(i%8)+1)) })
	}
	wg.Wait()
	pending, err := f.Catalog.Pending(t.Context(), &snapshot.Snapshot{Key: f.key}, 0, 100)
	if err != nil || len(pending) != 64 {
		t.Fatalf("%d pending blocks, %v, want 64", len(pending), err)
	}
	for _, p := range pending {
		want := data(uint64(p.Index%8) + 1)
		if p.ID != sha256.Sum256(want) {
			t.Errorf("block %d is recorded as another", p.Index)
		}
		if err := f.read(want); err != nil {
			t.Error(err)
		}
	}
}

// The outcome of a failed sync is final: the write fails, later ones do too
// though the disk works again, reads go on, and after a restart everything
// acknowledged is there.
func TestFailedSyncIsFinal(t *testing.T) {
	for _, op := range []errorfs.Op{errorfs.Sync, errorfs.Write} {
		t.Run(string(op), func(t *testing.T) {
			f := newFixture(t)
			f.mustWrite(0, data(1))
			f.disk.Fail(func(o errorfs.Op, _ string) error {
				if o == op {
					return syscall.EIO
				}
				return nil
			})
			var stopped *blockstore.StoppedError
			if err := f.write(1, data(2)); !errors.As(err, &stopped) || !errors.Is(err, syscall.EIO) {
				t.Errorf("write with a failing disk: got %v, want a *StoppedError for EIO", err)
			}
			f.disk.Fail(nil)
			if err := f.write(1, data(2)); !errors.As(err, &stopped) {
				t.Errorf("write after it: got %v, want a *StoppedError", err)
			}
			if err := f.Service.Ready(); !errors.As(err, &stopped) {
				t.Errorf("Ready: got %v, want a *StoppedError", err)
			}
			if err := f.read(data(1)); err != nil {
				t.Errorf("read after it: %v", err)
			}
			f.Restart(t)
			f.mustWrite(1, data(2))
			for seed := range uint64(2) {
				if err := f.read(data(seed + 1)); err != nil {
					t.Errorf("after a restart: %v", err)
				}
			}
		})
	}
}

// A full disk refuses writes cleanly, reads go on, and room makes writes
// possible again.
func TestFullDisk(t *testing.T) {
	enospc := func(op errorfs.Op) func(errorfs.Op, string) error {
		return func(o errorfs.Op, _ string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		}
	}
	for name, fill := range map[string]func(*errorfs.FS){
		"no space before writing": func(d *errorfs.FS) { d.SetFree(1 << 20) },
		"no space in the write":   func(d *errorfs.FS) { d.Fail(enospc(errorfs.Write)) },
		"no space for a segment":  func(d *errorfs.FS) { d.Fail(enospc(errorfs.Create)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if name != "no space for a segment" {
				f.mustWrite(0, data(1))
			}
			fill(f.disk)
			if err := f.write(1, data(2)); !errors.Is(err, blockstore.ErrFull) {
				t.Errorf("write: got %v, want ErrFull", err)
			}
			if err := f.Service.Ready(); err != nil {
				t.Errorf("Ready: %v", err)
			}
			f.disk.Fail(nil)
			f.disk.SetFree(1 << 40)
			f.mustWrite(0, data(1))
			f.mustWrite(1, data(2))
			for seed := range uint64(2) {
				if err := f.read(data(seed + 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// flip flips one bit of the only segment, at the end of which the last block
// stands.
func (f *fixture) flip(fromEnd int64) {
	f.Helper()
	file, err := os.OpenFile(f.segments()[0], os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		f.Fatal(err)
	}
	var b [1]byte
	if _, err := file.ReadAt(b[:], info.Size()-fromEnd); err != nil {
		f.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := file.WriteAt(b[:], info.Size()-fromEnd); err != nil {
		f.Fatal(err)
	}
}

// A flipped bit is an error and never wrong bytes, other blocks stay readable,
// and writing the same content again heals it.
func TestDamageAndHealing(t *testing.T) {
	f := newFixture(t)
	f.mustWrite(0, data(1))
	f.mustWrite(1, data(2)) // a batch of its own, as data(1) has been acknowledged
	f.flip(block.Size / 2)
	var damaged *blockstore.DamagedError
	for range 2 { // the second time it is known
		if err := f.read(data(2)); !errors.As(err, &damaged) {
			t.Fatalf("read of the damaged block: got %v, want a *DamagedError", err)
		}
	}
	if err := f.read(data(1)); err != nil {
		t.Errorf("read of the other block: %v", err)
	}
	f.mustWrite(2, data(2))
	if err := f.read(data(2)); err != nil {
		t.Errorf("read after it was written again: %v", err)
	}
}

// A read error that passes is not damage.
func TestPassingReadError(t *testing.T) {
	f := newFixture(t)
	f.mustWrite(0, data(1))
	f.disk.Fail(func(o errorfs.Op, _ string) error {
		if o == errorfs.Read {
			return syscall.EMFILE
		}
		return nil
	})
	var damaged *blockstore.DamagedError
	if err := f.read(data(1)); err == nil || errors.As(err, &damaged) {
		t.Errorf("read with EMFILE: got %v, want an error that is not damage", err)
	}
	f.disk.Fail(nil)
	if err := f.read(data(1)); err != nil {
		t.Errorf("read after it: %v", err)
	}
}

func TestUnknownBlock(t *testing.T) {
	f := newFixture(t)
	if err := f.read(data(9)); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// forgetful is the real index, but claims to have a block that it has not,
// once.
type forgetful struct {
	blockstore.Index
	once sync.Once
}

func (x *forgetful) Locate(ctx context.Context, id block.ID) (loc blockstore.Location, found bool, err error) {
	loc, found, err = x.Index.Locate(ctx, id)
	x.once.Do(func() { loc, found = blockstore.Location{}, true })
	return loc, found, err
}

// A dedup hit whose block turns out not to be stored is stored from the data
// that the writer still holds.
func TestHitThatIsNone(t *testing.T) {
	f := newFixture(t)
	store := blockstore.New(blockstore.Options{Medium: medium(t), Index: &forgetful{Index: f.Catalog}})
	t.Cleanup(func() { _ = store.Close() })
	b := data(1)
	if err := store.Write(t.Context(), blockstore.Write{Snapshot: f.key, Digest: sha256.Sum256(b), Data: b}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, block.Size)
	if _, err := store.Read(t.Context(), nil, sha256.Sum256(b), got); err != nil || !bytes.Equal(got, b) {
		t.Errorf("Read: %v", err)
	}
}

// failing is the real index, but fails to commit as it is told.
type failing struct {
	blockstore.Index
	err error
}

func (x *failing) Commit(ctx context.Context, c *blockstore.Commit) ([]error, error) {
	if x.err != nil {
		return nil, x.err
	}
	return x.Index.Commit(ctx, c)
}

// After a commit whose outcome is unknown nothing more is written; one that
// found no room changes nothing.
func TestFailedCommit(t *testing.T) {
	f := newFixture(t)
	index := &failing{Index: f.Catalog, err: blockstore.ErrFull}
	store := blockstore.New(blockstore.Options{Medium: medium(t), Index: index})
	t.Cleanup(func() { _ = store.Close() })
	w := blockstore.Write{Snapshot: f.key, Digest: sha256.Sum256(data(1)), Data: data(1)}
	if err := store.Write(t.Context(), w); !errors.Is(err, blockstore.ErrFull) || store.Err() != nil {
		t.Errorf("no room: got %v and %v, want ErrFull and a store that goes on", err, store.Err())
	}
	index.err = nil
	if err := store.Write(t.Context(), w); err != nil {
		t.Errorf("with room again: %v", err)
	}
	index.err = syscall.EIO
	var stopped *blockstore.StoppedError
	if err := store.Write(t.Context(), w); !errors.As(err, &stopped) {
		t.Errorf("commit failed: got %v, want a *StoppedError", err)
	}
	index.err = nil
	if err := store.Write(t.Context(), w); !errors.As(err, &stopped) {
		t.Errorf("after it: got %v, want a *StoppedError", err)
	}
}

// An index without room does not let the medium run ahead of it for ever, and
// once there is room writing goes on.
func TestIndexWithoutRoom(t *testing.T) {
	f := newFixture(t)
	index := &failing{Index: f.Catalog, err: blockstore.ErrFull}
	dir := t.TempDir()
	m, err := segment.Open(segment.Options{FS: vfs.Dir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	store := blockstore.New(blockstore.Options{Medium: m, Index: index})
	t.Cleanup(func() { _ = store.Close() })
	write := func(i int) error {
		b := data(uint64(i) + 1)
		return store.Write(t.Context(), blockstore.Write{Snapshot: f.key, Index: block.Index(i), Digest: sha256.Sum256(b), Data: b})
	}
	for i := range 2 * blockstore.MaxUncommitted / block.Size {
		if err := write(i); !errors.Is(err, blockstore.ErrFull) {
			t.Fatalf("write %d: got %v, want ErrFull", i, err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if info, err := os.Stat(files[0]); err != nil || info.Size() >= blockstore.MaxUncommitted {
		t.Errorf("the segment has grown to %d bytes, %v: a restart would not take that for a torn tail", info.Size(), err)
	}
	index.err = nil
	if err := write(0); !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("the write that finds that there is room again: got %v, want ErrFull", err)
	}
	if err := write(0); err != nil {
		t.Errorf("the next: %v", err)
	}
}

// A segment that was away is read again once it is back.
func TestSegmentThatComesBack(t *testing.T) {
	f := newFixture(t)
	f.mustWrite(0, data(1))
	segment := f.segments()[0]
	f.Restart(t) // nothing is held open
	if err := os.Rename(segment, segment+".away"); err != nil {
		t.Fatal(err)
	}
	var damaged *blockstore.DamagedError
	if err := f.read(data(1)); !errors.As(err, &damaged) || damaged.Err == nil {
		t.Errorf("while it is away: got %v, want a *DamagedError with a cause", err)
	}
	if err := os.Rename(segment+".away", segment); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.read(data(1)); err != nil {
			t.Errorf("when it is back: %v", err)
		}
	}
	before := f.stored()
	f.mustWrite(1, data(1))
	if grown := f.stored() - before; grown != 0 {
		t.Errorf("it is not taken for sound: a write of its block stored %d bytes", grown)
	}
}

// Near the end of the disk new blocks are refused, and what completes
// snapshots is not.
func TestRoomForNodes(t *testing.T) {
	f := newFixture(t)
	f.disk.SetFree(40 << 20)
	if err := f.write(0, data(1)); !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("write of a block: got %v, want ErrFull", err)
	}
	if err := f.Store.WriteNodes(t.Context(), []blockstore.Node{{ID: block.ID{9}, Data: []byte("node")}}); err != nil {
		t.Errorf("write of a node: %v", err)
	}
}

// Small nodes cost more in the frame than by themselves: batches are bounded
// by both, and equal ones are stored once.
func TestManySmallNodes(t *testing.T) {
	f := newFixture(t)
	var nodes []blockstore.Node
	for size, i := 0, uint64(0); size < blockstore.MaxNodes; i++ {
		data := binary.BigEndian.AppendUint64(make([]byte, 48), i)
		n := blockstore.Node{ID: sha256.Sum256(data), Data: data}
		nodes = append(nodes, n, n)
		size += n.Size()
	}
	before := f.stored()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := f.Store.WriteNodes(t.Context(), nodes); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if grown := f.stored() - before; grown > 4*(blockstore.MaxNodes+1<<20) {
		t.Errorf("four times %d bytes of nodes took %d bytes", blockstore.MaxNodes, grown)
	}
	for _, n := range nodes[:10] {
		if got, err := f.Store.ReadNode(t.Context(), n.ID); err != nil || !bytes.Equal(got, n.Data) {
			t.Errorf("ReadNode: %v", err)
		}
	}
}

// refusing is the real index, but for commits that it rolls back.
type refusing struct {
	blockstore.Index
	refuses func(*blockstore.Commit) bool
}

func (x *refusing) Commit(ctx context.Context, c *blockstore.Commit) ([]error, error) {
	if x.refuses(c) {
		return nil, blockstore.ErrRolledBack
	}
	return x.Index.Commit(ctx, c)
}

// refsTo are the commits with a ref to the block.
func refsTo(b []byte) func(*blockstore.Commit) bool {
	id := block.ID(sha256.Sum256(b))
	return func(c *blockstore.Commit) bool {
		return slices.ContainsFunc(c.Refs, func(r blockstore.Ref) bool { return r.ID == id })
	}
}

// What cannot be recorded for a reason of its own fails alone.
func TestRolledBackCommit(t *testing.T) {
	f := newFixture(t)
	bad := data(3)
	store := blockstore.New(blockstore.Options{Medium: medium(t), Index: &refusing{f.Catalog, refsTo(bad)}})
	t.Cleanup(func() { _ = store.Close() })
	var wg sync.WaitGroup
	for i := range block.Index(8) {
		wg.Go(func() {
			b := data(uint64(i))
			err := store.Write(t.Context(), blockstore.Write{Snapshot: f.key, Index: i, Digest: sha256.Sum256(b), Data: b})
			if failed := errors.Is(err, blockstore.ErrRolledBack); failed != bytes.Equal(b, bad) || !failed && err != nil {
				t.Errorf("write %d: got %v", i, err)
			}
		})
	}
	wg.Wait()
	if err := store.Err(); err != nil {
		t.Errorf("the store stopped: %v", err)
	}
}

// While the index records nothing, no more is appended than a start takes for what
// a crash has left, however many blocks share a batch; once it records again, all
// goes on.
func TestIndexThatRecordsNothing(t *testing.T) {
	f := newFixture(t)
	dir := vfs.Dir(t.TempDir())
	m, err := segment.Open(segment.Options{FS: dir})
	if err != nil {
		t.Fatal(err)
	}
	var refuses atomic.Bool
	store := blockstore.New(blockstore.Options{
		Medium: m, Index: &refusing{f.Catalog, func(*blockstore.Commit) bool { return refuses.Load() }},
	})
	t.Cleanup(func() { _ = store.Close() })
	write := func(seed uint64) error {
		b := data(seed)
		return store.Write(t.Context(), blockstore.Write{Snapshot: f.key, Index: block.Index(seed), Digest: sha256.Sum256(b), Data: b})
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	refuses.Store(true)
	const atOnce, rounds = 48, 3 // 72 MiB
	for round := range rounds {
		var wg sync.WaitGroup
		for i := range atOnce {
			wg.Go(func() {
				if err := write(uint64(1 + round*atOnce + i)); !errors.Is(err, blockstore.ErrRolledBack) && !errors.Is(err, blockstore.ErrFull) {
					t.Errorf("got %v, want a refusal", err)
				}
			})
		}
		wg.Wait()
	}
	last, committed, err := f.Catalog.LastContainer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := segment.Open(segment.Options{FS: dir, Last: last, Committed: committed}); err != nil {
		t.Errorf("a start after this: %v", err)
	} else {
		_ = again.Close()
	}
	refuses.Store(false)
	if err := write(0); err != nil { // a hit, which records what was appended
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := write(1)
		if err == nil {
			break
		}
		if !errors.Is(err, blockstore.ErrFull) || time.Now().After(deadline) {
			t.Fatalf("a write once the index records again: %v", err)
		}
	}
}

// What was appended and could not be recorded keeps nobody from beginning another
// container: a store that is never written to again could not shrink.
func TestRotateBehindRolledBackCommit(t *testing.T) {
	f := newFixture(t)
	bad := data(3)
	store := blockstore.New(blockstore.Options{Medium: medium(t), Index: &refusing{f.Catalog, refsTo(bad)}})
	t.Cleanup(func() { _ = store.Close() })
	err := store.Write(t.Context(), blockstore.Write{Snapshot: f.key, Digest: sha256.Sum256(bad), Data: bad})
	if !errors.Is(err, blockstore.ErrRolledBack) {
		t.Fatalf("got %v, want ErrRolledBack", err)
	}
	if err := store.Rotate(t.Context()); err != nil {
		t.Errorf("Rotate: %v", err)
	}
	if containers, err := f.Catalog.Containers(t.Context()); err != nil || len(containers) != 2 || containers[1] < block.Size {
		t.Errorf("there are %v, %v; want one that holds the block and a new one", containers, err)
	}
}

// A container that was begun and could not be recorded is recorded before another
// is: a start refuses two that the index does not know.
func TestRotateBehindUnrecordedContainer(t *testing.T) {
	f := newFixture(t)
	dir := vfs.Dir(t.TempDir())
	m, err := segment.Open(segment.Options{FS: dir})
	if err != nil {
		t.Fatal(err)
	}
	refuse := 1
	store := blockstore.New(blockstore.Options{Medium: m, Index: &refusing{f.Catalog, func(c *blockstore.Commit) bool {
		refuse--
		return len(c.Refs) == 0 && refuse >= 0
	}}})
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Rotate(t.Context()); !errors.Is(err, blockstore.ErrRolledBack) {
		t.Fatalf("got %v, want ErrRolledBack", err)
	}
	if err := store.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	containers, err := f.Catalog.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names, err := dir.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		c, ok := segment.ParseName(name)
		if _, known := containers[c]; ok && !known {
			t.Errorf("there is segment %d, and the index knows %v", c, containers)
		}
	}
}

// Who gives up before map nodes are looked up, as a completion does when its server
// is stopped, leaves the store as it is.
func TestNodesThatAreGivenUp(t *testing.T) {
	f := newFixture(t)
	if err := f.Store.FindLost(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // half of which would be given up yet earlier
		if err := f.Store.WriteNodes(ctx, nodes(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was given up", err)
		}
	}
	if err := f.Store.Err(); err != nil {
		t.Errorf("the store stopped: %v", err)
	}
}

func medium(t *testing.T) blockstore.Medium {
	t.Helper()
	m, err := segment.Open(segment.Options{FS: vfs.Dir(t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestClosedStore(t *testing.T) {
	f := newFixture(t)
	store := blockstore.New(blockstore.Options{Medium: medium(t), Index: f.Catalog})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Write(t.Context(), blockstore.Write{Snapshot: f.key, Digest: block.Digest{1}, Data: data(1)}); !errors.Is(err, blockstore.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
