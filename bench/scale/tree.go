package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"
	"maps"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
)

// mix is a bijection that leaves no pattern (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// blockID is the id of the n-th block: as random as that of a real one.
func blockID(n uint64) block.ID {
	var id block.ID
	for i := range uint64(4) {
		binary.BigEndian.PutUint64(id[8*i:], mix(4*n+i))
	}
	return id
}

// A volume is which blocks a snapshot has: count of them, at every step-th
// index, with the ids of blocks 0 to distinct-1.
type volume struct {
	Name     string
	GiB      int64
	Count    int64
	Step     int64
	Distinct int64
}

// entries gives the blocks. As long as there are enough distinct ones each is
// another; then they repeat without a pattern, so that no two leaves are equal.
func (v volume) entries(ctx context.Context) iter.Seq2[blockmap.Entry, error] {
	return func(yield func(blockmap.Entry, error) bool) {
		for i := range v.Count {
			n := uint64(i)
			if v.Count > v.Distinct {
				n = mix(n) % uint64(v.Distinct)
			}
			if !yield(blockmap.Entry{Index: block.Index(i * v.Step), ID: blockID(n)}, ctx.Err()) {
				return
			}
		}
	}
}

// A nodeStore takes the nodes of a fold and puts them into the segments. kept
// holds those that it has to give back, if there is a map for them.
type nodeStore struct {
	blockstore.NodeWriter
	kept map[block.ID][]byte
}

// ReadNode implements blockmap.Reader.
func (s *nodeStore) ReadNode(_ context.Context, id block.ID) ([]byte, error) {
	node, found := s.kept[id]
	if !found {
		return nil, blockstore.ErrNotFound
	}
	return node, nil
}

// WriteNode implements blockmap.Writer.
func (s *nodeStore) WriteNode(ctx context.Context, id block.ID, encoded []byte) error {
	if s.kept != nil {
		s.kept[id] = bytes.Clone(encoded)
	}
	return s.NodeWriter.WriteNode(ctx, id, encoded)
}

// A gathering is the index of a store that is loaded: it keeps the locations
// until they are entered all at once, and the lengths of the containers.
type gathering struct {
	blockstore.Index
	rows    []blockstore.Stored
	lengths map[blockstore.ContainerID]int64
}

// Locate implements blockstore.Index: everything is new.
func (g *gathering) Locate(context.Context, block.ID) (blockstore.Location, bool, error) {
	return blockstore.Location{}, false, nil
}

// Commit implements blockstore.Index.
func (g *gathering) Commit(_ context.Context, c *blockstore.Commit) ([]error, error) {
	g.lengths[c.Container] = c.Committed
	g.rows = append(g.rows, c.Stored...)
	return nil, nil
}

// take gives the rows gathered so far, and forgets them.
func (g *gathering) take() []blockstore.Stored {
	rows := g.rows
	g.rows = nil
	return rows
}

// prune keeps of the nodes those of the map with the root.
func (s *nodeStore) prune(ctx context.Context, root block.ID) error {
	live := make(map[block.ID][]byte)
	r := &tracing{s, live}
	for _, err := range blockmap.Walk(ctx, r, root, 0) {
		if err != nil {
			return err
		}
	}
	s.kept = maps.Clone(live)
	return nil
}

// tracing notes which nodes are read.
type tracing struct {
	*nodeStore
	seen map[block.ID][]byte
}

// ReadNode implements blockmap.Reader.
func (t *tracing) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	node, err := t.nodeStore.ReadNode(ctx, id)
	t.seen[id] = node
	return node, err
}
