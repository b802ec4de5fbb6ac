package snapshot_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// The races that have cost others data. Each test names its guard.

// Proxmox PSA-2025-00019-1: a child is made and its parent deleted between the
// listing of what is in use and the marking, or after it. Guards: that base is
// in catalog.held, for states 1 and 2; and where the child has not been listed,
// that Create needs its parent to be there (state = 3), which so was listed.
func TestRaceChildOfDeletedParent(t *testing.T) {
	for at := range 5 {
		f := newFixture(t)
		blocks := map[int64][]byte{0: data(1), 1000: data(2)}
		parent := f.stored("", blocks)
		child := ""
		swap := func(context.Context) error {
			child = f.start(parent)
			f.remove(parent)
			return nil
		}
		y := f.begin()
		list := []func(context.Context) error{y.Barrier, y.Mark, y.Sweep, y.Compact, y.Drop}
		f.run(list[:at]...)
		f.run(swap)
		f.run(list[at:]...)
		f.cycle()
		f.cycle()
		f.finish(child, 0)
		f.cycle()
		f.cycle()
		f.holds(child, blocks)
	}
}

// longhorn/longhorn#612: a write finds a block that is about to be deleted. The
// store's memory still says that the block is there. Guards: "condemned = 0" in
// statements.putHit, or the hit counts on what the second cycle removes; and
// "generation < ?" in CarryOut with the renewal behind commitRefs, or a cycle
// that has not seen the hit condemns the block, and its successor removes it.
func TestRaceHitOnCondemned(t *testing.T) {
	for at := range 10 {
		f := newFixture(t)
		blocks := map[int64][]byte{7: data(9)}
		f.remove(f.stored("", blocks))
		id := ""
		write := func(context.Context) error {
			id = f.start("")
			return f.put(id, 7, data(9))
		}
		a, b := f.begin(), steps(nil)
		list := []func(context.Context) error{
			a.Barrier, a.Mark, a.Sweep, a.Compact, a.Drop,
			func(context.Context) error { b = f.begin(); return nil },
			func(ctx context.Context) error { return b.Mark(ctx) }, func(ctx context.Context) error { return b.Sweep(ctx) },
			func(ctx context.Context) error { return b.Compact(ctx) }, func(ctx context.Context) error { return b.Drop(ctx) },
		}
		f.run(list[:at]...)
		f.run(write)
		f.run(list[at:]...)
		f.finish(id, 1) // while nothing but its row says that the block is needed
		f.holds(id, blocks)
		f.cycle()
		f.cycle()
		f.holds(id, blocks)
	}
}

// elemental-lf/benji#119: two clean-ups at once, of which the older has marked
// before a write that the younger counts. Guard: ErrSuperseded in CarryOut.
func TestRaceTwoCleanups(t *testing.T) {
	f := newFixture(t)
	f.remove(f.stored("", map[int64][]byte{0: data(1), 1: data(5)}))
	a := f.begin()
	f.run(a.Barrier, a.Mark)
	b := f.begin()
	f.run(b.Barrier, b.Mark)
	blocks := map[int64][]byte{0: data(1)}
	id := f.start("")
	f.mustPut(id, 0, data(1))
	if err := a.Sweep(t.Context()); !errors.Is(err, reclaim.ErrSuperseded) {
		t.Fatalf("the older of two cycles: got %v", err)
	}
	f.run(b.Sweep, b.Compact, b.Drop)
	f.finish(id, 1)
	f.cycle()
	f.holds(id, blocks)
}

// juicedata/juicefs#6479: what cannot be read, or listed, is not empty. A node
// cannot be read for three cycles, and is whole again. Guard: that Mark returns
// the error of Reach, and Cycle ends with it.
func TestRaceUnreadableNode(t *testing.T) {
	f := newFixture(t)
	blocks := map[int64][]byte{0: data(1), 1000: data(2)}
	id := f.stored("", blocks)
	other := map[int64][]byte{0: data(3)}
	second := f.stored("", other)
	loc, found, err := f.Catalog.Locate(t.Context(), f.root(id))
	if err != nil || !found {
		t.Fatalf("locate the root: %v, %v", found, err)
	}
	name := filepath.Join(f.Dir, "segments", segment.FileName(loc.Container))
	flip := func() {
		f.Stop(t)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[loc.Offset+5] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f.Restart(t)
	}
	flip()
	f.remove(f.stored("", map[int64][]byte{9: data(4)})) // there is something to reclaim
	for range 3 {
		if _, err := f.collector(nil).Cycle(t.Context()); !errors.As(err, new(*blockstore.DamagedError)) {
			t.Fatalf("beside an unreadable node: got %v", err)
		}
	}
	flip()
	f.cycle()
	f.cycle()
	f.holds(id, blocks)
	f.holds(second, other)
	flip()
	f.remove(id) // and with it the damage
	f.cycle()
	f.cycle()
	f.holds(second, other)

	ctx, cancel := context.WithCancel(t.Context())
	y := f.begin()
	cancel() // a listing that fails
	if err := y.Mark(ctx); err == nil {
		t.Fatal("Mark without having listed anything")
	}
}

// A removal that arrives ten minutes late, after restarts and new writes, hits
// a number that nothing uses any more. Guard: "id < (SELECT max(id) …" in
// DropContainer, beside Drop's own look at the newest: a number that is gone
// from the catalog would be given again.
func TestRaceLateRemoval(t *testing.T) {
	f := newFixture(t)
	f.remove(f.stored("", map[int64][]byte{0: data(1)}))
	before, err := f.Catalog.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.cycle()
	f.cycle()
	now, err := f.Catalog.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for c := range now {
		if done, err := f.Catalog.DropContainer(t.Context(), c); done || err != nil {
			t.Fatalf("the newest container was dropped: %v, %v", done, err)
		}
	}
	f.Restart(t)
	blocks := map[int64][]byte{0: data(1), 9: data(2)}
	id := f.stored("", blocks)
	f.Clock.Advance(10 * time.Minute)
	for c := range before {
		if _, still := now[c]; still {
			t.Fatalf("container %d was not dropped", c)
		}
		if err := f.Store.Drop(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	f.holds(id, blocks)
	f.Restart(t)
	f.holds(id, blocks)
}

// reclaiming is the machine of TestModel with a collector.
type reclaiming struct {
	*machine
	next []func(context.Context) error // of the cycle that is going on
}

// Step goes one step on with a cycle, or begins one.
func (r *reclaiming) Step(*rapid.T) {
	if len(r.next) == 0 {
		y := r.begin()
		r.next = []func(context.Context) error{y.Barrier, y.Mark, y.Sweep, y.Compact, y.Drop}
	}
	r.run(r.next[0])
	r.next = r.next[1:]
}

// Whole runs a whole cycle, beside the one that is going on, which so ends.
func (r *reclaiming) Whole(*rapid.T) {
	r.next = nil
	r.cycle()
}

func (r *reclaiming) Crash(t *rapid.T) {
	r.next = nil
	r.machine.Crash(t)
}

// Whatever is done between any two steps of cycles, all that is there can be
// read; and once all is deleted nothing is left.
func TestReclaimModel(t *testing.T) {
	beside(t)
	rapid.Check(t, func(rt *rapid.T) {
		env := snapshottest.New(t)
		defer env.Stop(t)
		env.SegmentSize = 64 << 10
		env.Restart(t)
		m := &reclaiming{machine: &machine{fixture: &fixture{env, t}, t: rt, disabled: make(map[string]bool)}}
		m.keys = []string{"", m.newKey()}
		actions := map[string]func(*rapid.T){
			"start": m.Start, "put": m.Put, "complete": m.Complete, "read": m.Read, "delete": m.Delete,
			"wait": m.Wait, "restart": m.Crash, "step": m.Step, "cycle": m.Whole,
		}
		choice := rapid.SampledFrom(strings.Fields(
			"start start put put put put complete complete complete read delete delete wait restart step step step step step step cycle"))
		m.Start(rt)
		for range rapid.IntRange(30, 120).Draw(rt, "steps") {
			actions[choice.Draw(rt, "action")](rt)
		}
		completed := 0
		for _, s := range m.snaps {
			if !s.gone && s.state == snapshot.Completed {
				if got := m.blocks(s.id); !maps.Equal(got, s.blocks()) {
					rt.Fatalf("blocks of %s: got %v, want %v", s.id, got, s.blocks())
				}
			}
			if !s.gone {
				m.expect("Delete", m.Service.Delete(m.Context(), caller, s.id), never)
			}
		}
		m.Settle(t)
		m.cycle()
		m.cycle()
		page, err := m.Catalog.Candidates(m.Context(), block.ID{}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page {
			r, _, err := m.Catalog.Record(m.Context(), page[i].ID)
			if err != nil || r.Kind != blockstore.KindManifest {
				rt.Fatalf("a record of kind %v is left, %v", r.Kind, err)
			}
			completed++
		}
		if completed > len(m.snaps) {
			rt.Fatalf("%d manifests are left of %d snapshots", completed, len(m.snaps))
		}
	})
}
