package blockmap

import (
	"context"

	"shale/internal/block"
)

// A Marker is told by Reach what it reaches.
type Marker interface {
	// Known reports whether a node was told by Reached before, so that it is left
	// out with all that is below it. It may have forgotten that, and must not take
	// one node for another.
	Known(node block.ID, leaf bool) bool
	// Reached tells of a node, after all that is below it, and of the blocks of a
	// leaf.
	Reached(node block.ID, blocks []block.ID)
}

// Reach goes to all that the map with the root refers to, but for the subtrees
// that another map has in the same place, which was reached as a whole before.
// Beside one path it holds up to maxAhead leaves in memory. It ends with the first error,
// that of a node that cannot be read among them.
func Reach(ctx context.Context, r Reader, other, root block.ID, m Marker) error {
	return (&reach{r: r, m: m}).walk(ctx, other, root, rootLevel)
}

type reach struct {
	r      Reader
	m      Marker
	blocks []block.ID // of the leaf at hand
}

// walk reaches the node with the id and all that is below it.
func (t *reach) walk(ctx context.Context, other, id block.ID, level int) error {
	if id.IsZero() || id == other || t.m.Known(id, level == 0) {
		return nil
	}
	n, err := load(ctx, t.r, id, level)
	if err != nil {
		return err
	}
	if level == 0 {
		t.leaf(id, &n)
		return nil
	}
	o, err := load(ctx, t.r, other, level)
	if err != nil {
		o = view{} // then nothing of this one is left out for it
	}
	var leaves []block.ID
	for s := n.next(&view{}, 0); s < maxFanout; s = n.next(&view{}, s+1) {
		child, there := block.ID(n.id(s)), block.ID{}
		if id := o.id(s); id != nil {
			there = block.ID(id)
		}
		if level > 1 {
			if err := t.walk(ctx, there, child, level-1); err != nil {
				return err
			}
			continue
		}
		if child == there || t.m.Known(child, true) {
			continue
		}
		if leaves = append(leaves, child); len(leaves) == maxAhead {
			if err := t.leaves(ctx, leaves); err != nil {
				return err
			}
			leaves = leaves[:0]
		}
	}
	if err := t.leaves(ctx, leaves); err != nil {
		return err
	}
	t.m.Reached(id, nil)
	return nil
}

// leaves reaches leaves, together if the reader gives many nodes at a time.
func (t *reach) leaves(ctx context.Context, ids []block.ID) error {
	r, ok := t.r.(Verified)
	if ok && len(ids) > 1 {
		nodes, err := r.ReadVerified(ctx, ids)
		if err == nil {
			return t.decoded(ids, nodes)
		}
	}
	for _, id := range ids { // which says of which one the error is
		if err := t.walk(ctx, block.ID{}, id, 0); err != nil {
			return err
		}
	}
	return nil
}

// decoded reaches leaves that were read.
func (t *reach) decoded(ids []block.ID, nodes [][]byte) error {
	for i, id := range ids {
		n, err := decode(id, 0, nodes[i])
		if err != nil {
			return err
		}
		t.leaf(id, &n)
	}
	return nil
}

func (t *reach) leaf(id block.ID, n *view) {
	t.blocks = t.blocks[:0]
	for b := n.ids; len(b) > 0; b = b[len(block.ID{}):] {
		t.blocks = append(t.blocks, block.ID(b))
	}
	t.m.Reached(id, t.blocks)
}
