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
func (s *Store) ReadNode(ctx context.Context, id block.ID) (node []byte, err error) {
	if node, found := s.keptNode(id); found {
		return node, nil
	}
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

// minKept is the length in bytes from which on a node of many is worth being
// kept: to keep a leaf with a few entries takes longer than to read and hash it
// together with its neighbours.
const minKept = 512

// ReadVerified reads map nodes as ReadNode does, all of them or none.
func (s *Store) ReadVerified(ctx context.Context, ids []block.ID) ([][]byte, error) {
	return s.readNodes(ctx, ids, func(id block.ID, node []byte) {
		if len(node) >= minKept || len(ids) < minLeft {
			s.keepNode(id, bytes.Clone(node)) // which lies among others
		}
	})
}

// readNodes reads map nodes and calls read with each that was not in memory.
func (s *Store) readNodes(ctx context.Context, ids []block.ID, read func(block.ID, []byte)) ([][]byte, error) {
	nodes := make([][]byte, len(ids))
	var missing []block.ID
	for i, id := range ids {
		if node, found := s.keptNode(id); found {
			nodes[i] = node
		} else {
			missing = append(missing, id)
		}
	}
	found, err := s.readMissing(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		if nodes[i] == nil {
			nodes[i], found = found[0], found[1:]
			read(id, nodes[i])
		}
	}
	return nodes, nil
}

// minRun is how many nodes have to lie behind each other for the place of the
// next to be asked for by itself, and minLeft how many have to be left: a few
// that are asked for together take less than as many that are not.
const (
	minRun  = 4
	minLeft = 16
)

// What is read of a run at first, longer than any node, and at most, in bytes.
const (
	firstPart = 8 << 10
	maxPart   = 256 << 10
)

// readMissing reads map nodes that are not in memory. Where they are is asked
// once for each run of them that lie behind each other, or once for all.
func (s *Store) readMissing(ctx context.Context, ids []block.ID) ([][]byte, error) {
	nodes := make([][]byte, 0, len(ids))
	for s.nodeLength != nil && len(ids)-len(nodes) >= minLeft {
		run, err := s.readRun(ctx, ids[len(nodes):])
		if err != nil {
			return nil, err
		}
		if nodes = append(nodes, run...); len(run) < minRun {
			break
		}
	}
	if len(nodes) == len(ids) {
		return nodes, nil
	}
	locations, err := s.index.LocateNodes(ctx, ids[len(nodes):])
	if err != nil {
		return nil, err
	}
	for _, id := range ids[len(nodes):] {
		loc, found := locations[id]
		if !found {
			return nil, ErrNotFound
		}
		node, err := s.nodeAt(ctx, id, loc)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// A nodePlace is where a node may be.
type nodePlace struct {
	container ContainerID
	offset    int64
}

// readRun reads the first of the nodes and those next that lie right behind it,
// as the leaves of a map do that were written together: then only the place of
// the first is looked up, and not even that if it is the end of the run before.
// That each is the one that it is taken for says its hash, wherever its bytes
// were found. What cannot be read in this way is left to others, who say why.
func (s *Store) readRun(ctx context.Context, ids []block.ID) (nodes [][]byte, err error) {
	if end := s.runEnd.Load(); end != nil {
		if nodes = s.readRow(ctx, *end, ids); len(nodes) > 0 {
			return nodes, ctx.Err()
		}
	}
	loc, found, err := s.index.Locate(ctx, ids[0])
	if err != nil || !found {
		return nil, err
	}
	return s.readRow(ctx, nodePlace{loc.Container, loc.Offset}, ids), ctx.Err()
}

// readRow reads those of the nodes, from the first on, that lie one behind the
// other at the place, or behind one other node there: that above the run before,
// which is written after it.
func (s *Store) readRow(ctx context.Context, at nodePlace, ids []block.ID) (nodes [][]byte) {
	// As long as they are found twice as much is read the next time.
	for size := firstPart; len(nodes) < len(ids); size = min(2*size, maxPart) {
		part := make([]byte, size)
		if s.medium.ReadAt(ctx, at.container, part, at.offset) != nil {
			break
		}
		before, skipped := len(nodes), 0
		nodes = s.appendNodes(nodes, part, ids)
		if len(nodes) == 0 {
			if skipped = s.nodeLength(part); skipped == 0 || skipped > len(part) {
				break
			}
			nodes = s.appendNodes(nodes, part[skipped:], ids)
		}
		if len(nodes) == before {
			break
		}
		at.offset += int64(skipped)
		for _, node := range nodes[before:] {
			at.offset += int64(len(node))
		}
	}
	if len(nodes) > 0 {
		s.runEnd.Store(&at)
	}
	return nodes
}

// appendNodes appends those of the nodes, from the first on that nodes does not
// have yet, that b begins with one behind the other.
func (s *Store) appendNodes(nodes [][]byte, b []byte, ids []block.ID) [][]byte {
	for _, id := range ids[len(nodes):] {
		n := s.nodeLength(b)
		if n > len(b) || sha256.Sum256(b[:n]) != id {
			break
		}
		nodes, b = append(nodes, b[:n:n]), b[n:]
	}
	return nodes
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

// A Scan reads map nodes for somebody who goes through all of them once.
// Neither they nor their locations are kept in memory, where they would take
// the place of what is needed again.
type Scan struct{ store *Store }

// Scan gives a Scan of the store.
func (s *Store) Scan() Scan { return Scan{s} }

// ReadNode is Store.ReadNode.
func (r Scan) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	s := r.store
	if node, found := s.keptNode(id); found {
		return node, nil
	}
	loc, found, err := s.index.Locate(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, ErrNotFound
	}
	return s.nodeAt(ctx, id, loc)
}

// ReadVerified is Store.ReadVerified.
func (r Scan) ReadVerified(ctx context.Context, ids []block.ID) ([][]byte, error) {
	return r.store.readNodes(ctx, ids, func(block.ID, []byte) {})
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
