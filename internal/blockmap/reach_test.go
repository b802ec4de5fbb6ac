package blockmap_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shale/internal/block"
	"shale/internal/blockmap"
)

// A noting blockmap.Marker notes what it is told of. It knows the nodes that it
// has not been made to forget.
type noting struct {
	nodes, blocks map[block.ID]bool
	forgets       func(block.ID) bool
}

func (n *noting) Known(node block.ID, _ bool) bool { return n.nodes[node] && !n.forgets(node) }

func (n *noting) Reached(node block.ID, blocks []block.ID) {
	n.nodes[node] = true
	for _, id := range blocks {
		n.blocks[id] = true
	}
}

// Of maps that have much or little in common, one after the other, all is
// reached that they refer to, and nothing else, whatever is forgotten meanwhile,
// read singly or many at a time. If a node is missing that says an error.
func TestReachMissesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := newMemory()
		roots := []block.ID{{}}
		for range rapid.IntRange(1, 6).Draw(t, "snapshots") {
			parent := rapid.IntRange(0, len(roots)-1).Draw(t, "parent")
			roots = append(roots, fold(t, mem, roots[parent], writes(t)).Root)
		}
		held := rapid.SliceOfN(rapid.SampledFrom(roots), 1, 6).Draw(t, "held")
		want := noting{nodes: make(map[block.ID]bool), blocks: make(map[block.ID]bool)}
		for _, root := range held {
			read := reading{mem, want.nodes}
			entries, err := collect(blockmap.Walk(context.Background(), read, root, 0))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				want.blocks[e.ID] = true
			}
		}
		forgets := rapid.IntRange(0, 2).Draw(t, "forgets") // nothing, half of it, everything
		got := noting{
			nodes: make(map[block.ID]bool), blocks: make(map[block.ID]bool),
			forgets: func(id block.ID) bool { return int(id[0]%2) < forgets },
		}
		var r blockmap.Reader = mem
		if rapid.Bool().Draw(t, "many at a time") {
			r = &verified{memory: mem}
		}
		lost := false
		if rapid.Bool().Draw(t, "lose a node") {
			for id := range mem.nodes {
				delete(mem.nodes, id)
				lost = want.nodes[id]
				break
			}
		}
		var last block.ID
		for _, root := range held {
			if err := blockmap.Reach(context.Background(), r, last, root, &got); err != nil {
				if !lost {
					t.Fatal(err)
				}
				return
			}
			last = root
		}
		if lost {
			t.Fatal("a node is missing, and there is no error")
		}
		if d := gocmp.Diff(want.nodes, got.nodes); d != "" {
			t.Fatalf("nodes (-want +got):\n%s", d)
		}
		if d := gocmp.Diff(want.blocks, got.blocks); d != "" {
			t.Fatalf("blocks (-want +got):\n%s", d)
		}
	})
}

// reading notes the nodes that are read.
type reading struct {
	*memory
	read map[block.ID]bool
}

func (r reading) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	r.read[id] = true
	return r.memory.ReadNode(ctx, id)
}

// What two maps have in the same place is not read again though it is
// forgotten, and the leaves of a node are read together.
func TestReachSkips(t *testing.T) {
	mem, base := newMemory(), make(model)
	for i := range block.Index(64 * 100) {
		base[i] = blockID(uint64(i))
	}
	first := fold(t, mem, block.ID{}, base).Root
	second := fold(t, mem, first, model{64 * 50: blockID(1 << 40)}).Root
	m := &noting{nodes: make(map[block.ID]bool), blocks: make(map[block.ID]bool), forgets: func(block.ID) bool { return true }}
	v := &verified{memory: mem}
	if err := blockmap.Reach(t.Context(), v, block.ID{}, first, m); err != nil {
		t.Fatal(err)
	}
	if v.batches.Load() != 2 {
		t.Errorf("100 leaves were read in %d batches, want 2", v.batches.Load())
	}
	mem.reads = 0
	if err := blockmap.Reach(t.Context(), v, first, second, m); err != nil {
		t.Fatal(err)
	}
	if mem.reads != 7 {
		t.Errorf("one change took %d nodes, want a path of 4 and one of 3 beside it", mem.reads)
	}
	if len(m.blocks) != len(base)+1 {
		t.Errorf("%d blocks, want %d", len(m.blocks), len(base)+1)
	}
	// A map that cannot be read any more, because it was deleted, holds up none
	// that has something in common with it.
	delete(mem.nodes, first)
	again := &noting{nodes: maps.Clone(m.nodes), blocks: make(map[block.ID]bool), forgets: m.forgets}
	if err := blockmap.Reach(t.Context(), v, first, second, again); err != nil || len(again.blocks) != len(base) {
		t.Errorf("beside a map that is gone: %d blocks, want %d, %v", len(again.blocks), len(base), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := blockmap.Reach(ctx, v, block.ID{}, second, m); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: got %v", err)
	}
}
