package blockmap_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shale/internal/block"
	"shale/internal/blockmap"
)

// memory keeps nodes, and counts how often it is asked for one.
type memory struct {
	mu    sync.Mutex // a walk reads ahead
	nodes map[block.ID][]byte
	reads int
}

func newMemory() *memory { return &memory{nodes: make(map[block.ID][]byte)} }

func (m *memory) ReadNode(_ context.Context, id block.ID) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	b, ok := m.nodes[id]
	if !ok {
		return nil, fmt.Errorf("no node %v", id)
	}
	return b, nil
}

func (m *memory) WriteNode(_ context.Context, id block.ID, encoded []byte) error {
	m.nodes[id] = slices.Clone(encoded)
	return nil
}

// blockID is a made-up block id.
func blockID(n uint64) block.ID {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
}

type model map[block.Index]block.ID

func (m model) entries() iter.Seq2[blockmap.Entry, error] {
	return func(yield func(blockmap.Entry, error) bool) {
		for _, i := range slices.Sorted(maps.Keys(m)) {
			if !yield(blockmap.Entry{Index: i, ID: m[i]}, nil) {
				return
			}
		}
	}
}

func fold(t interface {
	Helper()
	Fatalf(string, ...any)
}, m *memory, root block.ID, writes model,
) blockmap.Folded {
	t.Helper()
	f, err := blockmap.Fold(context.Background(), m, m, root, writes.entries())
	if err != nil {
		t.Fatalf("Fold: %v", err)
	}
	return f
}

// diff is the naive one.
func diff(a, b model, from block.Index) []blockmap.Change {
	var changes []blockmap.Change
	for i := range maps.All(a) {
		if i >= from && a[i] != b[i] {
			changes = append(changes, blockmap.Change{Index: i, First: a[i], Second: b[i]})
		}
	}
	for i := range maps.All(b) {
		if _, both := a[i]; i >= from && !both {
			changes = append(changes, blockmap.Change{Index: i, Second: b[i]})
		}
	}
	slices.SortFunc(changes, func(x, y blockmap.Change) int { return cmp.Compare(x.Index, y.Index) })
	return changes
}

func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// indexes draws from few regions, so that trees share nodes and leaves fill.
func indexes(t *rapid.T) block.Index {
	region := rapid.SampledFrom([]block.Index{0, 63, 64, 1 << 13, 1 << 20, 77 << 20, block.MaxIndex - 70}).Draw(t, "region")
	return region + block.Index(rapid.IntRange(0, 70).Draw(t, "offset"))
}

func writes(t *rapid.T) model {
	m := make(model)
	for range rapid.IntRange(0, 40).Draw(t, "writes") {
		m[indexes(t)] = blockID(uint64(rapid.IntRange(1, 5).Draw(t, "content")))
	}
	return m
}

// Whatever is written in whatever steps, the tree is the map that was written,
// equal maps have equal roots, and differences are those of the maps.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := newMemory()
		roots, models := []block.ID{{}}, []model{{}}
		for range rapid.IntRange(1, 6).Draw(t, "snapshots") {
			parent := rapid.IntRange(0, len(roots)-1).Draw(t, "parent")
			w := writes(t)
			child := maps.Clone(models[parent])
			maps.Copy(child, w)
			f := fold(t, mem, roots[parent], w)
			if want := int64(len(child) - len(models[parent])); f.Added != want {
				t.Fatalf("Fold added %d, want %d", f.Added, want)
			}
			roots, models = append(roots, f.Root), append(models, child)
		}
		for i, m := range models {
			if once := fold(t, newMemory(), block.ID{}, m); once.Root != roots[i] {
				t.Fatalf("map %d folded in steps has root %v, at once %v", i, roots[i], once.Root)
			}
			from := indexes(t)
			for j, other := range models {
				got, err := collect(blockmap.Diff(context.Background(), mem, roots[i], roots[j], from))
				if err != nil {
					t.Fatal(err)
				}
				if d := gocmp.Diff(diff(m, other, from), got); d != "" {
					t.Fatalf("Diff(%d, %d, from %d) (-want +got):\n%s", i, j, from, d)
				}
			}
			got, err := collect(blockmap.Walk(context.Background(), mem, roots[i], 0))
			if err != nil {
				t.Fatal(err)
			}
			walked := make(model)
			for _, e := range got {
				walked[e.Index] = e.ID
			}
			if d := gocmp.Diff(m, walked); d != "" || len(got) != len(m) {
				t.Fatalf("Walk (-want +got):\n%s", d)
			}
		}
	})
}

// Ten changes cost the same whatever lies around them.
func TestCostIsOfTheChanges(t *testing.T) {
	changes := make(model)
	for i := range block.Index(10) {
		changes[i*1000] = blockID(1)
	}
	var reads, nodes []int64
	for _, size := range []block.Index{10_000, 300_000} {
		mem, base := newMemory(), make(model)
		for i := range size {
			base[i] = blockID(2 + uint64(i%7))
		}
		root := fold(t, mem, block.ID{}, base).Root
		f := fold(t, mem, root, changes)
		mem.reads = 0
		if got, err := collect(blockmap.Diff(t.Context(), mem, root, f.Root, 0)); err != nil || len(got) != len(changes) {
			t.Fatalf("Diff: %d changes, %v", len(got), err)
		}
		reads, nodes = append(reads, int64(mem.reads)), append(nodes, f.Nodes)
	}
	if reads[1] > reads[0]+4 || nodes[1] > nodes[0]+4 {
		t.Errorf("nodes read by Diff and made by Fold: %v and %v, want about the same for both sizes", reads, nodes)
	}
}

// Any one flipped bit of a node must be noticed, and blamed on that node.
func TestFlippedBits(t *testing.T) {
	mem := newMemory()
	w := model{0: blockID(1), 5: blockID(2), 1 << 20: blockID(3)}
	root := fold(t, mem, block.ID{}, w).Root
	for id, good := range maps.Clone(mem.nodes) {
		for bit := range len(good) * 8 {
			bad := slices.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			mem.nodes[id] = bad
			_, err := collect(blockmap.Walk(t.Context(), mem, root, 0))
			var corrupt *blockmap.CorruptError
			if !errors.As(err, &corrupt) || corrupt.ID != id {
				t.Fatalf("node %v, bit %d flipped: got %v, want a *CorruptError for it", id, bit, err)
			}
		}
		mem.nodes[id] = good
	}
}

func TestFoldRefuses(t *testing.T) {
	for name, list := range map[string][]blockmap.Entry{
		"descending":       {{Index: 5, ID: blockID(1)}, {Index: 4, ID: blockID(1)}},
		"twice":            {{Index: 5, ID: blockID(1)}, {Index: 5, ID: blockID(1)}},
		"beyond the space": {{Index: block.MaxIndex + 1, ID: blockID(1)}},
		"no id":            {{Index: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			mem := newMemory()
			_, err := blockmap.Fold(t.Context(), mem, mem, block.ID{}, func(yield func(blockmap.Entry, error) bool) {
				for _, e := range list {
					if !yield(e, nil) {
						return
					}
				}
			})
			if err == nil {
				t.Error("Fold accepted it")
			}
		})
	}
}

func TestErrorsEndFoldAndWalk(t *testing.T) {
	broken := errors.New("broken")
	mem := newMemory()
	_, err := blockmap.Fold(t.Context(), mem, mem, block.ID{}, func(yield func(blockmap.Entry, error) bool) {
		_ = yield(blockmap.Entry{Index: 1, ID: blockID(1)}, nil) && yield(blockmap.Entry{}, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("Fold: got %v, want the error of its input", err)
	}
	root := fold(t, mem, block.ID{}, model{1: blockID(1)}).Root
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := collect(blockmap.Walk(ctx, mem, root, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Walk after cancel: got %v", err)
	}
	if _, err := collect(blockmap.Walk(t.Context(), mem, blockID(9), 0)); err == nil {
		t.Error("Walk of a root that does not exist succeeded")
	}
}

// FuzzNode feeds the decoder bytes whose hash is right, as one who can write
// to the store could make them: it must refuse or give a map, and never panic.
func FuzzNode(f *testing.F) {
	mem := newMemory()
	fold(f, mem, block.ID{}, model{0: blockID(1), 64: blockID(2), block.MaxIndex: blockID(3)})
	for _, b := range mem.nodes {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := newMemory()
		id := block.ID(sha256.Sum256(b))
		mem.nodes[id] = b
		n := 0
		for range blockmap.Walk(t.Context(), mem, id, 0) {
			n++
		}
		if n == 0 {
			t.Error("Walk gave neither a block nor an error")
		}
	})
}

// Whatever slots of a node two maps differ in, whether their nodes have the same
// slots or not, these are found and no other.
func TestDiffOfEverySlot(t *testing.T) {
	for name, shift := range map[string]uint{"leaf": 0, "inner node": 6, "root": 20} {
		for _, step := range []int{1, 3} {
			slots := 128
			if shift == 0 {
				slots = 64
			}
			mem, base := newMemory(), make(model)
			for s := 0; s < slots; s += step {
				base[block.Index(s)<<shift] = blockID(uint64(s))
			}
			root := fold(t, mem, block.ID{}, base).Root
			for s := range slots {
				// One slot changes, and another far from it, and these are new where there
				// was none.
				writes := model{block.Index(s) << shift: blockID(1000)}
				writes[block.Index((s*7+slots/2)%slots)<<shift] = blockID(2000)
				child := fold(t, mem, root, writes).Root
				got := make(model)
				for c, err := range blockmap.Diff(t.Context(), mem, root, child, 0) {
					if err != nil || c.First != base[c.Index] {
						t.Fatalf("%s, slot %d: %+v, %v", name, s, c, err)
					}
					got[c.Index] = c.Second
				}
				if !maps.Equal(got, writes) {
					t.Errorf("%s, every slot of %d, slot %d: got %d changes, want %d", name, step, s, len(got), len(writes))
				}
			}
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	mem, base := newMemory(), make(model)
	for i := range block.Index(100_000) {
		base[i] = blockID(uint64(i))
	}
	root := fold(b, mem, block.ID{}, base).Root
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range blockmap.Walk(b.Context(), mem, root, 0) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(len(base))*float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
}

// What the map's own work is on ten changes, all nodes in memory, in maps of ten
// thousand and of ten million blocks.
func BenchmarkDiff(b *testing.B) {
	for _, blocks := range []int{10_000, 10_000_000} {
		b.Run(fmt.Sprint(blocks), func(b *testing.B) {
			mem := &verified{memory: newMemory()}
			base := func(yield func(blockmap.Entry, error) bool) {
				for i := range blocks {
					if !yield(blockmap.Entry{Index: block.Index(i), ID: block.ID{1, byte(i), byte(i >> 8), byte(i >> 16)}}, nil) {
						return
					}
				}
			}
			folded, err := blockmap.Fold(b.Context(), mem, mem, block.ID{}, base)
			if err != nil {
				b.Fatal(err)
			}
			changed := make(model)
			for i := range 10 {
				changed[block.Index(blocks/10*i)] = blockID(uint64(i))
			}
			child := fold(b, mem.memory, folded.Root, changed).Root
			for b.Loop() {
				n := 0
				for _, err := range blockmap.Diff(b.Context(), mem, folded.Root, child, 0) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != len(changed) {
					b.Fatalf("%d changes", n)
				}
			}
		})
	}
}
