package blockmap

import (
	"context"
	"fmt"
	"iter"

	"shale/internal/block"
)

// A Folded is what Fold made.
type Folded struct {
	Root  block.ID
	Added int64 // indexes that had no block before
	Nodes int64 // new nodes given to the writer
}

// Fold puts the writes, which must come by strictly ascending index, into the
// map with the root and gives the new nodes to w. It costs O(changed leaves),
// and memory O(depth), however many writes there are. A write of the block
// that is there already changes nothing.
func Fold(ctx context.Context, r Reader, w Writer, root block.ID, writes iter.Seq2[Entry, error]) (Folded, error) {
	next, stop := iter.Pull2(writes)
	defer stop()
	f := folder{r: r, w: w, next: next}
	if err := f.advance(); err != nil {
		return Folded{}, err
	}
	root, err := f.fold(ctx, root, rootLevel, 0)
	if err != nil {
		return Folded{}, err
	}
	return Folded{Root: root, Added: f.added, Nodes: f.nodes}, nil
}

type folder struct {
	r    Reader
	w    Writer
	next func() (Entry, error, bool)

	entry Entry // the next write, if more
	more  bool
	any   bool // a write has been taken

	path         [rootLevel + 1]node // the nodes being folded, by level
	buf          []byte
	added, nodes int64
}

// advance takes the next write.
func (f *folder) advance() error {
	last := f.entry.Index
	entry, err, more := f.next()
	if err != nil {
		return err
	}
	if more && (entry.Index > block.MaxIndex || entry.ID.IsZero() || f.any && entry.Index <= last) {
		return fmt.Errorf("fold block %d (id %v) after block %d: not an ascending list of blocks", entry.Index, entry.ID, last)
	}
	f.entry, f.more, f.any = entry, more, true
	return nil
}

// fold puts all writes below one node of the level, whose first index is base,
// into it, and returns the node's new id.
func (f *folder) fold(ctx context.Context, id block.ID, level int, base block.Index) (block.ID, error) {
	end := base + 1<<shift(level)*block.Index(fanout(level))
	if !f.more || f.entry.Index >= end {
		return id, nil
	}
	old, err := load(ctx, f.r, id, level)
	if err != nil {
		return block.ID{}, err
	}
	n := &f.path[level]
	*n = node{level: level}
	for s := old.next(&view{}, 0); s < maxFanout; s = old.next(&view{}, s+1) {
		n.slots[s] = block.ID(old.id(s))
	}
	for f.more && f.entry.Index < end {
		s := slotOf(f.entry.Index, level)
		if level > 0 {
			child := base + block.Index(s)<<shift(level)
			if n.slots[s], err = f.fold(ctx, n.slots[s], level-1, child); err != nil {
				return block.ID{}, err
			}
			continue
		}
		if n.slots[s].IsZero() {
			f.added++
		}
		n.slots[s] = f.entry.ID
		if err := f.advance(); err != nil {
			return block.ID{}, err
		}
	}
	var folded block.ID
	f.buf, folded = n.encode(f.buf[:0])
	if folded == id {
		return id, nil
	}
	f.nodes++
	if err := f.w.WriteNode(ctx, folded, f.buf); err != nil {
		return block.ID{}, fmt.Errorf("write map node %v: %w", folded, err)
	}
	return folded, nil
}
