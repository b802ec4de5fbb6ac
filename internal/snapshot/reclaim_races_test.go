package snapshot_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// The races that have cost others data. Each test names its guard.

// Proxmox PSA-2025-00019-1: a child is made and its parent deleted between the
// listing of what is in use and the marking, or after it. Guards: that base is
// in catalog.held, for states 1 and 2; and for what the child is written, that
// Held marks the rows of pending. TestRaceLateChild has the third.
func TestRaceChildOfDeletedParent(t *testing.T) {
	for at := range 5 {
		f := newFixture(t)
		blocks := map[int64][]byte{0: data(1), 1000: data(2)}
		parent := f.stored("", blocks)
		child := ""
		swap := func(context.Context) error {
			child = f.start(parent)
			f.mustPut(child, 5, data(3))
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
		f.finish(child, 1)
		f.cycle()
		f.cycle()
		f.Restart(t) // where a record was is still in memory
		blocks[5] = data(3)
		f.holds(child, blocks)
	}
}

// The parent is found, deleted and reclaimed, and only then does its child come
// into the catalog, or the copy that takes over its map. Guards: that Create
// needs the parent, and FinishCopy the source, to be there (state = 3), and so
// to be listed by any cycle that begins before.
func TestRaceLateChild(t *testing.T) {
	f := newFixture(t)
	parent := f.stored("", map[int64][]byte{0: data(1), 1000: data(2)})
	found, _, err := f.Catalog.Snapshot(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := f.Service.Copy(t.Context(), caller, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: parent})
	if err != nil {
		t.Fatal(err)
	}
	waiting, _, err := f.Catalog.Snapshot(t.Context(), copied.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Service.Delete(t.Context(), caller, parent); err != nil { // and the copy is not looked at again
		t.Fatal(err)
	}
	late := found
	late.ID, late.ParentID, late.Base, late.BaseBlocks = "snap-00000000000000001", parent, found.Root, found.Blocks
	_, err = f.Catalog.Create(t.Context(), snapshot.NewSnapshot{Snapshot: late, ParentKey: found.Key})
	if !errors.Is(err, snapshot.ErrRaced) {
		t.Errorf("a child of what is deleted: got %v", err)
	}
	done, err := f.Catalog.FinishCopy(t.Context(), waiting.Key, snapshot.CopyResult{
		SourceKey: found.Key, Map: snapshot.Map{Root: found.Root, Blocks: found.Blocks}, VolumeSize: 1, Lineage: found.Lineage,
	})
	if done || err != nil {
		t.Errorf("a copy of what is deleted: %v, %v", done, err)
	}
}

// A sweeping catalog lets something happen between a sweep's look at records
// and what it does to them.
type sweeping struct {
	*catalog.Catalog
	between func()
}

// CarryOut implements reclaim.Catalog.
func (s *sweeping) CarryOut(ctx context.Context, g reclaim.Generation, sentence *reclaim.Sentence) error {
	if do := s.between; do != nil {
		s.between = nil
		do()
	}
	return s.Catalog.CarryOut(ctx, g, sentence)
}

// longhorn/longhorn#612: a write finds a block that is about to be deleted, and
// a completion nodes that are. The store's memory still says that the block is
// there. Guards: "condemned = 0" in statements.putHit, and in Renew for nodes,
// or the hit counts on what the second cycle removes; "condemned <> 0" in
// putRecord, which takes the sentence away, and "condemned = ?" of the DELETE in
// CarryOut, which sees that; "generation < ?" there with the renewal before
// putHit, or a cycle condemns what it has not seen the hit on. That alone loses
// nothing, as its successor marks anew: the two prove the same twice. The look
// at the generation in cycle.decide only saves work.
func TestRaceHitOnCondemned(t *testing.T) {
	const steps = 10 // of the two cycles; and in either's sweep
	for at := range 2 * (steps + 2) {
		at, completes := at/2, at%2 == 1
		f := newFixture(t)
		blocks := map[int64][]byte{7: data(9)}
		f.remove(f.stored("", blocks))
		id := ""
		write := func() {
			id = f.start("")
			f.mustPut(id, 7, data(9))
			if completes {
				f.finish(id, 1)
			}
		}
		check := func(after string) {
			if id == "" {
				return
			}
			needed := []block.ID{block.ID(digest(data(9)))}
			if completes {
				needed = append(needed, f.root(id))
			}
			for _, n := range needed {
				page, err := f.Catalog.Candidates(t.Context(), block.ID{}, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(page, func(c reclaim.Candidate) bool { return c.ID == n && c.Condemned == 0 }) {
					t.Fatalf("written at %d, completed %v, after %s: %v is needed, and condemned or gone", at, completes, after, n)
				}
			}
		}
		for cycle := range 2 {
			c := sweeping{Catalog: f.Catalog}
			if at == steps+cycle {
				c.between = write
			}
			y, err := reclaim.New(reclaim.Options{Catalog: &c, Store: f.Store, Now: f.Clock.Now}).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, step := range []struct {
				name string
				do   func(context.Context) error
			}{{"Barrier", y.Barrier}, {"Mark", y.Mark}, {"Sweep", y.Sweep}, {"Compact", y.Compact}, {"Drop", y.Drop}} {
				if at == 5*cycle+i {
					write()
				}
				f.run(step.do)
				check(step.name)
			}
			if c.between != nil {
				t.Fatal("the sweep had nothing to do")
			}
		}
		if !completes {
			f.finish(id, 1) // while nothing but its row says that the block is needed
		}
		f.holds(id, blocks)
		f.cycle()
		f.cycle()
		f.Restart(t)
		f.holds(id, blocks)
	}
}

// A hit that is refused, as its record is condemned, leaves that as it was, and
// the catalog as shale check has it, whether or not the write comes back.
func TestRefusedHit(t *testing.T) {
	f := newFixture(t)
	blocks := map[int64][]byte{7: data(9)}
	first := f.stored("", blocks)
	root := f.root(first)
	f.remove(first)
	f.cycle()
	snap, _, err := f.Catalog.Snapshot(t.Context(), f.start(""))
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := f.Catalog.Commit(t.Context(), &blockstore.Commit{
		Refs: []blockstore.Ref{{Snapshot: snap.Key, Index: 7, ID: block.ID(digest(data(9))), Hit: true}},
	})
	if err != nil || !errors.Is(verdicts[0], blockstore.ErrMissed) {
		t.Fatalf("a hit on what is condemned: got %v, %v", verdicts, err)
	}
	if found, err := f.Catalog.Renew(t.Context(), []block.ID{root}); err != nil || found[0] {
		t.Fatalf("a map node that is condemned: found %v, %v", found, err)
	}
	findings, err := f.Catalog.Violations(t.Context())
	for i := range findings {
		if findings[i].Invariant != 3 { // of what only a server makes
			t.Errorf("invariant %d: %v", findings[i].Invariant, &findings[i])
		}
	}
	if err != nil {
		t.Fatal(err)
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
	f.Restart(t)
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

	broken := unlisting{f.Catalog, errors.New("broken")}
	y, err := reclaim.New(reclaim.Options{Catalog: broken, Store: f.Store, Now: f.Clock.Now}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := y.Mark(t.Context()); !errors.Is(err, broken.err) {
		t.Fatalf("Mark without having listed anything: got %v", err)
	}
}

// An unlisting catalog cannot list what is held.
type unlisting struct {
	*catalog.Catalog
	err error
}

// Held implements reclaim.Catalog.
func (u unlisting) Held(context.Context, func(block.ID)) ([]block.ID, error) { return nil, u.err }

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
