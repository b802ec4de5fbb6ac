package blockstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"shale/internal/block"
)

// A keptNode is a map node in memory, with its checksum: that of its hash, which
// costs ten times as much, is computed once.
type keptNode struct {
	data []byte
	crc  uint64
}

// keepNode keeps a node that has been verified.
func (s *Store) keepNode(id block.ID, node []byte) {
	s.nodes.Set(id, keptNode{node, checksum(id, node)})
}

// keptNode gives a node that is in memory, unless its bytes have changed there.
func (s *Store) keptNode(id block.ID) (node []byte, found bool) {
	kept, found := s.nodes.GetIfPresent(id)
	if found && checksum(id, kept.data) != kept.crc {
		s.nodes.Invalidate(id)
		return nil, false
	}
	return kept.data, found
}

// ReadNode reads a map node, whose bytes have the hash that the id is. They are
// shared and must not be changed. Errors as for Read.
func (s *Store) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	if node, found := s.keptNode(id); found {
		return node, nil
	}
	return s.findNode(ctx, id)
}

// findNode is ReadNode of a node that is not in memory.
func (s *Store) findNode(ctx context.Context, id block.ID) (node []byte, err error) {
	err = s.at(ctx, id, func(loc Location) (err error) {
		node, err = s.readNode(ctx, id, loc)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.keepNode(id, node)
	return node, nil
}

// nodeAt is readNode of a node that may be moved meanwhile.
func (s *Store) nodeAt(ctx context.Context, id block.ID, loc Location) ([]byte, error) {
	for {
		node, err := s.readNode(ctx, id, loc)
		if !errors.Is(err, errMoved) {
			return node, err
		}
		var found bool
		switch loc, found, err = s.index.Locate(ctx, id); {
		case err != nil:
			return nil, err
		case !found:
			return nil, ErrNotFound
		}
	}
}

// readNode reads a map node from the location.
func (s *Store) readNode(ctx context.Context, id block.ID, loc Location) ([]byte, error) {
	if loc.Length > block.Size {
		return nil, s.damaged(ctx, id, loc, "stored length is beyond any record's", nil)
	}
	node := make([]byte, loc.Length)
	if err := s.read(ctx, id, loc, node); err != nil {
		return nil, err
	}
	if sha256.Sum256(node) != id {
		// Its checksum is right: so it was written, or was made to fit.
		return nil, s.damaged(ctx, id, loc, "map node: its bytes do not have its hash", nil)
	}
	return node, s.sound(ctx, id, loc)
}

// A NodeReader reads the map nodes of one walk, most of which are asked for in
// the order in which they were written. It is for one goroutine at a time.
type NodeReader struct {
	store *Store
	// keep says that nodes and their locations are kept in memory.
	keep bool
	row  row
}

// NodeReader gives a NodeReader of the store.
func (s *Store) NodeReader() *NodeReader {
	return &NodeReader{store: s, keep: true, row: row{store: s}}
}

// Scan gives a NodeReader for somebody who goes through all nodes once: it keeps
// neither them nor their locations in memory, where they would take the place of
// what is needed again.
func (s *Store) Scan() *NodeReader { return &NodeReader{store: s, row: row{store: s}} }

const (
	// minKept is the length in bytes from which on a node of many is worth being
	// kept: to keep a leaf with a few entries takes longer than to read and hash it
	// together with its neighbours.
	minKept = 512
	// minRow is how many nodes have to be found in a row for another one to be
	// looked for, and minLeft how many have to be left: a few that are asked for
	// together take less than as many that are not.
	minRow  = 4
	minLeft = 16
)

// ReadNode is Store.ReadNode.
func (r *NodeReader) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	if node, found := r.store.keptNode(id); found {
		return node, nil
	}
	if node := r.row.find(ctx, id); node != nil {
		if r.keep {
			r.store.keepNode(id, bytes.Clone(node)) // which lies among others
		}
		return node, nil
	}
	if r.keep {
		return r.store.findNode(ctx, id)
	}
	loc, found, err := r.store.index.Locate(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, ErrNotFound
	}
	return r.store.nodeAt(ctx, id, loc)
}

// ReadVerified reads map nodes as ReadNode does, all of them or none.
func (r *NodeReader) ReadVerified(ctx context.Context, ids []block.ID) ([][]byte, error) {
	nodes := make([][]byte, len(ids))
	var missing []block.ID
	found, seek := 0, true // how many in this row; whether to look for another
	for i, id := range ids {
		if found > 0 {
			if nodes[i] = r.row.next(ctx, id); nodes[i] == nil {
				seek, found = found >= minRow, 0
			}
		}
		if nodes[i] == nil {
			if node, kept := r.store.keptNode(id); kept {
				nodes[i] = node
				continue
			}
			nodes[i] = r.row.next(ctx, id)
		}
		if nodes[i] == nil && seek && len(ids)-i >= minLeft {
			if err := r.row.begin(ctx, id); err != nil {
				return nil, err
			}
			nodes[i] = r.row.next(ctx, id)
			seek = nodes[i] != nil
		}
		if nodes[i] == nil {
			missing = append(missing, id)
			continue
		}
		found++
		r.keepOf(len(ids), id, nodes[i])
	}
	r.row.whole = found == len(ids)
	return nodes, r.readMissing(ctx, ids, nodes, missing)
}

// readMissing reads those of the nodes that are not there yet. Where they are is
// asked for all of them at once.
func (r *NodeReader) readMissing(ctx context.Context, ids []block.ID, nodes [][]byte, missing []block.ID) error {
	if len(missing) == 0 {
		return nil
	}
	locations, err := r.store.index.LocateNodes(ctx, missing)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if nodes[i] != nil {
			continue
		}
		loc, found := locations[id]
		if !found {
			return ErrNotFound
		}
		if nodes[i], err = r.store.nodeAt(ctx, id, loc); err != nil {
			return err
		}
		r.keepOf(len(ids), id, nodes[i])
	}
	return nil
}

// keepOf keeps a node of so many that were asked for, if that is worth it.
func (r *NodeReader) keepOf(many int, id block.ID, node []byte) {
	if r.keep && (len(node) >= minKept || many < minLeft) {
		r.store.keepNode(id, bytes.Clone(node)) // which may lie among others
	}
}

// A NodeWriter gathers new map nodes into batches for a Store. It is for one
// goroutine; what it has taken is durable after Flush.
type NodeWriter struct {
	Store *Store
	nodes []Node
	size  int
}

// WriteNode takes a copy of a node.
func (w *NodeWriter) WriteNode(ctx context.Context, id block.ID, encoded []byte) error {
	n := Node{ID: id, Data: bytes.Clone(encoded)}
	w.nodes = append(w.nodes, n)
	if w.size += n.Size(); w.size < MaxNodes {
		return nil
	}
	return w.Flush(ctx)
}

// Flush makes the gathered nodes durable.
func (w *NodeWriter) Flush(ctx context.Context) error {
	if len(w.nodes) == 0 {
		return nil
	}
	if err := w.Store.WriteNodes(ctx, w.nodes); err != nil {
		return fmt.Errorf("store map nodes: %w", err)
	}
	w.nodes, w.size = w.nodes[:0], 0
	return nil
}
