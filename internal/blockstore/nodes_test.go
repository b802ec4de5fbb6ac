package blockstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
)

// Many map nodes, more than one query finds, come in the order asked for,
// whether they are in memory or not, and none if one is missing.
func TestManyNodesAtATime(t *testing.T) {
	f := newFixture(t)
	var nodes []blockstore.Node
	var ids []block.ID
	for i := range 150 {
		data := bytes.Repeat([]byte{byte(i)}, 56)
		n := blockstore.Node{ID: sha256.Sum256(data), Data: data}
		nodes, ids = append(nodes, n), append(ids, n.ID)
	}
	if err := f.Store.WriteNodes(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	if _, err := f.Store.ReadNode(t.Context(), ids[7]); err != nil { // now that one is in memory
		t.Fatal(err)
	}
	for name, r := range map[string]*blockstore.NodeReader{"scan": f.Store.Scan(), "reader": f.Store.NodeReader()} {
		got, err := r.ReadVerified(t.Context(), ids)
		if err != nil || len(got) != len(nodes) {
			t.Fatalf("%s: %d nodes, %v", name, len(got), err)
		}
		for i := range nodes {
			if !bytes.Equal(got[i], nodes[i].Data) {
				t.Errorf("%s: node %d is another", name, i)
			}
		}
		if _, err := r.ReadVerified(t.Context(), append(ids[:3:3], block.ID{1})); !errors.Is(err, blockstore.ErrNotFound) {
			t.Errorf("%s: with one that is not there: got %v, want ErrNotFound", name, err)
		}
	}
}

// asked is the real index, and counts how often it is asked for nodes.
type asked struct {
	blockstore.Index
	one, many atomic.Int32
}

func (x *asked) Locate(ctx context.Context, id block.ID) (blockstore.Location, bool, error) {
	x.one.Add(1)
	return x.Index.Locate(ctx, id)
}

func (x *asked) LocateNodes(ctx context.Context, ids []block.ID) (map[block.ID]blockstore.Location, error) {
	x.many.Add(1)
	return x.Index.LocateNodes(ctx, ids)
}

// leaf is an encoded leaf with so many entries.
func leaf(seed uint64, entries int) blockstore.Node {
	b := data(seed)[:24+32*entries]
	clear(b[:24])
	b[0], b[2] = 1, byte(entries)
	return blockstore.Node{ID: sha256.Sum256(b), Data: b}
}

// Nodes that were written together are found with the first of them, whatever
// lengths they have; and what lies where one is expected is taken for it by its
// hash alone.
func TestRunOfNodes(t *testing.T) {
	f := newFixture(t)
	const length = 64
	var nodes []blockstore.Node
	var ids []block.ID
	for i := range 3 * length {
		n := leaf(uint64(i), 1+i*7%64)
		nodes, ids = append(nodes, n), append(ids, n.ID)
	}
	if err := f.Store.WriteNodes(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	var index *asked
	read := func(ids []block.ID) ([][]byte, error) {
		t.Helper()
		m, err := segment.OpenReadOnly(f.FS, [16]byte{})
		if err != nil {
			t.Fatal(err)
		}
		index = &asked{Index: f.Catalog}
		return f.over(t, m, index).Store.NodeReader().ReadVerified(t.Context(), ids)
	}
	for _, c := range []struct {
		name      string
		ids       []block.ID
		one, many int32
	}{
		{"a run", ids[:length], 1, 0},
		{"two runs", slices.Concat(ids[40:60], ids[:20]), 2, 0},
		{"a run and single ones", slices.Concat(ids[:20], []block.ID{ids[50], ids[40], ids[30]}), 1, 1},
		{"no run", slices.Concat(ids[15:18], ids[12:15], ids[9:12], ids[6:9], ids[3:6], ids[:3]), 1, 1},
		{"few", ids[:15], 0, 1},
		{"those at the end of the segment", ids[2*length:], -1, -1},
	} {
		got, err := read(c.ids)
		if err != nil || len(got) != len(c.ids) {
			t.Fatalf("%s: %d nodes, %v", c.name, len(got), err)
		}
		for i, id := range c.ids {
			if sha256.Sum256(got[i]) != id {
				t.Errorf("%s: node %d is another", c.name, i)
			}
		}
		if c.one >= 0 && (index.one.Load() != c.one || index.many.Load() != c.many) {
			t.Errorf("%s: one was looked up %d times, many %d times; want %d and %d", c.name, index.one.Load(), index.many.Load(), c.one, c.many)
		}
	}
	if _, err := read(append(ids[:9:9], block.ID{1})); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("with one that is not there: got %v, want ErrNotFound", err)
	}

	file, err := os.OpenFile(f.segments()[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for k, id := range ids[:length] {
		// In the head, where its length is, and anywhere.
		loc := f.locate(id)
		at := loc.Offset + []int64{0, 2, int64(k) * 31 % int64(loc.Length)}[k%3]
		flip := func() {
			b := make([]byte, 1)
			_, err := file.ReadAt(b, at)
			b[0] ^= 1 << (k % 8)
			if _, werr := file.WriteAt(b, at); errors.Join(err, werr) != nil {
				t.Fatal(err, werr)
			}
		}
		flip()
		var damaged *blockstore.DamagedError
		if _, err := read(ids[:length]); !errors.As(err, &damaged) || damaged.ID != id {
			t.Errorf("a bit of node %d flipped: got %v, want a *DamagedError of it", k, err)
		}
		flip()
	}
	if _, err := read(ids); err != nil {
		t.Errorf("in the end: %v", err)
	}
}

// Where one run ends the next is looked for, and behind the node above those
// that were read, before anybody is asked for its place.
func TestRunBehindRun(t *testing.T) {
	f := newFixture(t)
	const length = 64
	var nodes []blockstore.Node
	var runs [][]block.ID
	for run, between := range []int{0, 1, 0, 2, 0, 0} { // others before it; the last two are not read
		for i := range between {
			nodes = append(nodes, leaf(uint64(1000+10*run+i), 64))
		}
		var ids []block.ID
		for i := range length {
			n := leaf(uint64(100*run+i), 1+i*7%64)
			nodes, ids = append(nodes, n), append(ids, n.ID)
		}
		runs = append(runs, ids)
	}
	if err := f.Store.WriteNodes(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	m, err := segment.OpenReadOnly(f.FS, [16]byte{})
	if err != nil {
		t.Fatal(err)
	}
	index := &asked{Index: f.Catalog}
	scan := f.over(t, m, index).Store.Scan()
	for _, c := range []struct {
		name string
		run  int
		all  int32 // look-ups by then
	}{
		{"the first", 0, 1},
		{"one behind another node", 1, 1},
		{"one right behind it", 2, 1},
		{"one further on", 3, 2},
		{"one before it", 1, 3},
		{"the next again", 2, 3},
	} {
		got, err := scan.ReadVerified(t.Context(), runs[c.run])
		if err != nil || len(got) != length {
			t.Fatalf("%s: %d nodes, %v", c.name, len(got), err)
		}
		for i, id := range runs[c.run] {
			if sha256.Sum256(got[i]) != id {
				t.Errorf("%s: node %d is another", c.name, i)
			}
		}
		if index.one.Load() != c.all || index.many.Load() != 0 {
			t.Errorf("%s: one was looked up %d times by now, many %d times; want %d and 0", c.name, index.one.Load(), index.many.Load(), c.all)
		}
	}
}

// Behind leaves that were read in a row a node is found that lies behind its own
// leaves, and then these are, without anybody being asked for their places; and
// neither is taken for what it is if it is damaged.
func TestNodeBehindItsLeaves(t *testing.T) {
	f := newFixture(t)
	var all []blockstore.Node
	var above []block.ID
	var below [][]block.ID
	for group, entries := range []int{1, 1, 2, 40} {
		var ids []block.ID
		for i := range 128 {
			n := leaf(uint64(1000*group+i), entries)
			all, ids = append(all, n), append(ids, n.ID)
		}
		n := leaf(uint64(1000*group+999), 64)
		all, above, below = append(all, n), append(above, n.ID), append(below, ids)
	}
	if err := f.Store.WriteNodes(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	var index *asked
	fresh := func() *blockstore.Store {
		m, err := segment.OpenReadOnly(f.FS, [16]byte{})
		if err != nil {
			t.Fatal(err)
		}
		index = &asked{Index: f.Catalog}
		return f.over(t, m, index).Store
	}
	walk := func(r *blockstore.NodeReader, told func(group int)) error {
		for group := range above {
			nodes := make([][]byte, 1)
			var err error
			if nodes[0], err = r.ReadNode(t.Context(), above[group]); err != nil {
				return err
			}
			for half := range slices.Chunk(below[group], 64) {
				more, err := r.ReadVerified(t.Context(), half)
				if err != nil {
					return err
				}
				nodes = append(nodes, more...)
			}
			for i, id := range append([]block.ID{above[group]}, below[group]...) {
				if sha256.Sum256(nodes[i]) != id {
					t.Errorf("group %d: node %d is another", group, i)
				}
			}
			told(group)
		}
		return nil
	}
	for name, r := range map[string]func(*blockstore.Store) *blockstore.NodeReader{
		"scan": (*blockstore.Store).Scan, "reader": (*blockstore.Store).NodeReader,
	} {
		reader := r(fresh())
		// The first node and its first leaf are looked up, and the last one, which
		// lies too far behind.
		want := []int32{2, 2, 2, 3}
		if err := walk(reader, func(group int) {
			if one, many := index.one.Load(), index.many.Load(); one != want[group] || many != 0 {
				t.Errorf("%s: group %d: one was looked up %d times by now, many %d times; want %d and 0", name, group, one, many, want[group])
			}
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	file, err := os.OpenFile(f.segments()[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for k, id := range []block.ID{above[1], below[1][0], below[1][70], above[2], below[2][127], above[3], below[3][1]} {
		loc := f.locate(id)
		at := loc.Offset + []int64{2, int64(loc.Length) - 1}[k%2]
		flip := func() {
			b := make([]byte, 1)
			_, err := file.ReadAt(b, at)
			b[0] ^= 4
			if _, werr := file.WriteAt(b, at); errors.Join(err, werr) != nil {
				t.Fatal(err, werr)
			}
		}
		flip()
		var damaged *blockstore.DamagedError
		if err := walk(fresh().NodeReader(), func(int) {}); !errors.As(err, &damaged) || damaged.ID != id {
			t.Errorf("node %d damaged: got %v, want a *DamagedError of it", k, err)
		}
		flip()
	}
}

// A node whose bytes do not have its hash is damaged, though its checksum is
// right.
func TestNodeOfAnotherHash(t *testing.T) {
	f := newFixture(t)
	forged := blockstore.Node{ID: block.ID{9}, Data: []byte("not what has this hash")}
	if err := f.Store.WriteNodes(t.Context(), []blockstore.Node{forged}); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	var damaged *blockstore.DamagedError
	if _, err := f.Store.ReadNode(t.Context(), forged.ID); !errors.As(err, &damaged) {
		t.Errorf("ReadNode: got %v, want a *DamagedError", err)
	}
	if _, err := f.Store.Scan().ReadVerified(t.Context(), []block.ID{forged.ID}); !errors.As(err, &damaged) {
		t.Errorf("ReadVerified: got %v, want a *DamagedError", err)
	}
}

// However small the nodes are, those in memory take no more than they may.
func TestSmallNodesInMemory(t *testing.T) {
	f := newFixture(t)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range uint64(200_000) {
		id := block.ID{}
		binary.BigEndian.PutUint64(id[:], i)
		f.Store.KeepNode(id, make([]byte, 100))
	}
	if grown := heap() - before; grown > blockstore.NodeMemory*5/4 {
		t.Errorf("they take %d KiB, more than %d", grown>>10, blockstore.NodeMemory>>10)
	}
}
