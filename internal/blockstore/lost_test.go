package blockstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/vfs"
)

// slow is a medium that does not say how long its containers are before it is
// told to go on.
type slow struct {
	*segment.Store
	goOn chan struct{}
	err  error
}

func (m *slow) Short(ctx context.Context, committed map[blockstore.ContainerID]int64) (map[blockstore.ContainerID]int64, error) {
	<-m.goOn
	if m.err != nil {
		return nil, m.err
	}
	return m.Store.Short(ctx, committed)
}

// over opens the segments anew, as a start does.
func (m *slow) over(f *fixture) *slow {
	f.Helper()
	last, committed, err := f.Catalog.LastContainer(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	if m.Store, err = segment.Open(segment.Options{FS: f.disk, Last: last, Committed: committed}); err != nil {
		f.Fatal(err)
	}
	return m
}

// inOwnSegment writes a block and a map node, and ends their segment.
func (f *fixture) inOwnSegment(n uint64) {
	f.Helper()
	f.mustWrite(0, data(n))
	if err := errors.Join(f.Store.WriteNodes(f.Context(), nodes(n)), f.Store.Rotate(f.Context())); err != nil {
		f.Fatal(err)
	}
}

func nodes(n uint64) []blockstore.Node {
	b := bytes.Repeat([]byte{byte(n)}, 100)
	return []blockstore.Node{{ID: sha256.Sum256(b), Data: b}}
}

// What a start does not know yet holds up who writes, not who reads; and what
// is then found to be lost is stored anew, though the index had it.
func TestLostBeforeTheFirstWrite(t *testing.T) {
	f := newFixture(t)
	f.inOwnSegment(1)
	f.inOwnSegment(2)
	if err := os.Truncate(f.segments()[0], vfs.PageSize); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := (&slow{goOn: make(chan struct{})}).over(f)
		f := f.over(t, m, f.Catalog)
		if err := f.read(data(2)); err != nil {
			t.Errorf("read meanwhile: %v", err)
		}
		written := make(chan error, 4)
		for _, n := range []uint64{1, 3} {
			go func() { written <- f.write(0, data(n)) }()
			go func() { written <- f.Store.WriteNodes(f.Context(), nodes(n)) }()
		}
		synctest.Wait()
		if len(written) > 0 {
			t.Errorf("%d writes did not wait: %v", len(written), <-written)
		}
		close(m.goOn)
		for range cap(written) {
			if err := <-written; err != nil {
				t.Errorf("write: %v", err)
			}
		}
		for _, n := range []uint64{1, 2, 3} {
			_, err := f.Store.Scan().ReadNode(f.Context(), nodes(n)[0].ID)
			if err := errors.Join(f.read(data(n)), err); err != nil {
				t.Errorf("read of %d: %v", n, err)
			}
		}
	})
}

// While the lengths cannot be had nothing may be relied on.
func TestUnknownLengthsStopWrites(t *testing.T) {
	f := newFixture(t)
	f.inOwnSegment(1)
	m := (&slow{goOn: make(chan struct{}), err: syscall.EIO}).over(f)
	close(m.goOn)
	f = f.over(t, m, f.Catalog)
	var stopped *blockstore.StoppedError
	if err := f.write(0, data(1)); !errors.As(err, &stopped) || !errors.Is(err, syscall.EIO) {
		t.Errorf("write: got %v, want a *StoppedError", err)
	}
	if err := f.Store.WriteNodes(t.Context(), nodes(1)); !errors.As(err, &stopped) {
		t.Errorf("write of a node: got %v, want a *StoppedError", err)
	}
	if err := f.read(data(1)); err != nil {
		t.Errorf("read: %v", err)
	}
}

// droppedMeanwhile is an index whose first container is gone when it is asked
// again.
type droppedMeanwhile struct {
	blockstore.Index
	asked atomic.Int32
}

func (x *droppedMeanwhile) Containers(ctx context.Context) (map[blockstore.ContainerID]int64, error) {
	all, err := x.Index.Containers(ctx)
	if x.asked.Add(1) > 1 {
		delete(all, 1)
	}
	return all, err
}

// A container that is removed while lengths are asked for has lost nothing.
func TestDroppedIsNotLost(t *testing.T) {
	f := newFixture(t)
	f.inOwnSegment(1)
	f.inOwnSegment(2)
	files := f.segments()
	if err := errors.Join(os.Remove(files[0]), os.Truncate(files[1], vfs.PageSize)); err != nil {
		t.Fatal(err)
	}
	m := (&slow{goOn: make(chan struct{})}).over(f)
	close(m.goOn)
	f = f.over(t, m, &droppedMeanwhile{Index: f.Catalog})
	f.mustWrite(0, data(3))
	for n, damaged := range map[uint64]bool{1: false, 2: true} {
		if loc := f.locate(sha256.Sum256(data(n))); loc.Damaged != damaged {
			t.Errorf("block of segment %d: damaged %v, want %v", n, loc.Damaged, damaged)
		}
	}
}
