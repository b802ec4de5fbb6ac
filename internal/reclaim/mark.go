package reclaim

import (
	"context"
	"fmt"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
)

// Mark marks every record that can be reached. One map that cannot be read
// ends the cycle: what is below the damage would be taken for garbage.
func (y *cycle) Mark(ctx context.Context) error {
	records, err := y.catalog.Records(ctx)
	if err != nil {
		return err
	}
	y.marks = newMarks(records)
	roots, err := y.catalog.Held(ctx, y.marks.set)
	if err != nil {
		return err
	}
	m := marker{y.marks, newPassed(records)}
	nodes := resting{y.store.Scan(), y.rest}
	var last block.ID // the root before, below which all is marked
	// In this order: what is not held any more was pinned before, if at all.
	for _, root := range append(roots, y.store.Pinned()...) {
		if err := blockmap.Reach(ctx, nodes, last, root, m); err != nil {
			return fmt.Errorf("mark what is in use: %w; nothing is reclaimed until it can be read", err)
		}
		last = root
	}
	return nil
}

// A resting reads nodes, and rests in between.
type resting struct {
	scan *blockstore.NodeReader
	rest func(context.Context) error
}

// ReadNode implements blockmap.Reader.
func (r resting) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	if err := r.rest(ctx); err != nil {
		return nil, err
	}
	return r.scan.ReadNode(ctx, id)
}

// ReadVerified implements blockmap.Verified.
func (r resting) ReadVerified(ctx context.Context, ids []block.ID) ([][]byte, error) {
	if err := r.rest(ctx); err != nil {
		return nil, err
	}
	return r.scan.ReadVerified(ctx, ids)
}

// A marker is a blockmap.Marker.
type marker struct {
	marks  *marks
	passed *passed
}

// Known implements blockmap.Marker.
func (m marker) Known(node block.ID, leaf bool) bool { return m.passed.has(node, leaf) }

// Reached implements blockmap.Marker.
func (m marker) Reached(node block.ID, blocks []block.ID) {
	for _, id := range blocks {
		m.marks.set(id)
	}
	m.marks.set(node)
	m.passed.add(node, len(blocks) > 0)
}
