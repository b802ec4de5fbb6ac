package blockstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
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
	for name, r := range map[string]interface {
		ReadVerified(ctx context.Context, ids []block.ID) ([][]byte, error)
	}{"scan": f.Store.Scan(), "store": f.Store} {
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
