package blockmap_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shale/internal/block"
	"shale/internal/blockmap"
)

// verified is memory whose nodes have been checked already.
type verified struct {
	*memory
	batches atomic.Int32 // of more than one node
	inside  atomic.Int32 // calls in progress
	delay   time.Duration
}

func (v *verified) ReadVerified(ctx context.Context, ids []block.ID) (nodes [][]byte, err error) {
	v.inside.Add(1)
	defer v.inside.Add(-1)
	time.Sleep(v.delay)
	if len(ids) > 1 {
		v.batches.Add(1)
	}
	for _, id := range ids {
		if id.IsZero() {
			return nil, errors.New("asked for the zero ID")
		}
		node, err := v.ReadNode(ctx, id)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// Read one after the other or many at a time, the answer is the same, errors
// included: what can be read is told before the error is.
func TestManyLeavesAtATime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := newMemory()
		first := fold(t, mem, block.ID{}, writes(t)).Root
		second := fold(t, mem, first, writes(t)).Root
		if rapid.Bool().Draw(t, "lose a node") {
			for id := range mem.nodes {
				delete(mem.nodes, id)
				break
			}
		}
		from := indexes(t)
		want, wantErr := collect(blockmap.Diff(context.Background(), mem, first, second, from))
		got, err := collect(blockmap.Diff(context.Background(), &verified{memory: mem}, first, second, from))
		if d := gocmp.Diff(want, got); d != "" || (err == nil) != (wantErr == nil) {
			t.Fatalf("Diff: %v, want %v (-want +got):\n%s", err, wantErr, d)
		}
	})
}

// A long walk asks for leaves many at a time, a short one for no more than it
// needs.
func TestLeavesReadAhead(t *testing.T) {
	mem, base := newMemory(), make(model)
	for i := range block.Index(64 * 100) {
		base[i] = blockID(uint64(i))
	}
	root := fold(t, mem, block.ID{}, base).Root
	v := &verified{memory: mem}
	mem.reads = 0
	for range blockmap.Walk(t.Context(), v, root, 0) {
		break
	}
	if mem.reads != 4 {
		t.Errorf("the first block took %d nodes, want the path of 4", mem.reads)
	}
	if got, err := collect(blockmap.Walk(t.Context(), v, root, 0)); err != nil || len(got) != len(base) {
		t.Fatalf("%d blocks, %v", len(got), err)
	}
	if n := v.batches.Load(); n > 7 {
		t.Errorf("100 leaves were read in %d batches, want 1, 2, 4, 8, 16, 32, 37", n)
	}
}

// Wherever a node is missing in a long walk, and wherever that begins, all that
// comes before it is told before the error is, and nothing after it.
func TestLongWalkToAnError(t *testing.T) {
	mem, base := newMemory(), make(model)
	for i := range block.Index(300) { // one in each leaf
		base[64*i] = blockID(uint64(i))
	}
	root := fold(t, mem, block.ID{}, base).Root
	for id, node := range mem.nodes {
		delete(mem.nodes, id)
		for _, from := range []block.Index{0, 64*130 + 7} {
			want, wantErr := collect(blockmap.Walk(t.Context(), mem, root, from))
			got, err := collect(blockmap.Walk(t.Context(), &verified{memory: mem}, root, from))
			if len(got) != len(want) || len(got) > 0 && got[len(got)-1] != want[len(want)-1] || (err == nil) != (wantErr == nil) {
				t.Errorf("from %d, without a node of level %d: %d blocks and %v, want %d and %v", from, node[1], len(got), err, len(want), wantErr)
			}
		}
		mem.nodes[id] = node
	}
}

// Whoever stops in the middle of a walk leaves nothing behind that reads.
func TestStoppedWalkReadsNoMore(t *testing.T) {
	mem, base := newMemory(), make(model)
	for i := range block.Index(64 * 200) {
		base[i] = blockID(uint64(i))
	}
	root := fold(t, mem, block.ID{}, base).Root
	v := &verified{memory: mem}
	func() {
		defer func() { _ = recover() }()
		for e := range blockmap.Walk(t.Context(), v, root, 0) {
			if e.Index == 64*100 {
				panic("in the middle")
			}
		}
	}()
	if n := v.inside.Load(); n != 0 {
		t.Fatalf("%d calls are in progress after a panic", n)
	}
	for stop := range 200 {
		v := &verified{memory: mem, delay: 100 * time.Microsecond}
		seen := 0
		for _, err := range blockmap.Walk(t.Context(), v, root, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen > stop*64 {
				break
			}
		}
		if n := v.inside.Load(); n != 0 {
			t.Fatalf("%d calls are in progress after %d blocks", n, seen)
		}
	}
}
