package blockmap

import (
	"context"
	"iter"

	"shale/internal/block"
)

// An Entry is one block of a map.
type Entry struct {
	Index block.Index
	ID    block.ID
}

// Walk gives the blocks of the map with the root, from the index on, ascending.
// It reads each node on its way once and holds one path in memory. The first
// error ends it.
func Walk(ctx context.Context, r Reader, root block.ID, from block.Index) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for c, err := range Diff(ctx, r, block.ID{}, root, from) {
			if !yield(Entry{c.Index, c.Second}, err) {
				return
			}
		}
	}
}

// A Change is an index at which two maps differ. An ID is zero where its map
// has no block.
type Change struct {
	Index         block.Index
	First, Second block.ID
}

// Diff gives the indexes, from the given one on and ascending, at which the
// two maps differ. Subtrees that the maps share are skipped, so it costs
// O(changes), whatever the size of the maps. The first error ends it.
func Diff(ctx context.Context, r Reader, first, second block.ID, from block.Index) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{ctx: ctx, r: r, from: from, yield: yield}
		d.walk(first, second, rootLevel, 0)
	}
}

type differ struct {
	ctx   context.Context //nolint:containedctx // lives for one call of Diff
	r     Reader
	from  block.Index
	yield func(Change, error) bool
}

// walk compares two nodes of one level and place, of which base is the first
// index below them. It reports whether to go on.
func (d *differ) walk(first, second block.ID, level int, base block.Index) bool {
	if first == second {
		return true
	}
	a, err := load(d.ctx, d.r, first, level)
	if err != nil {
		d.yield(Change{}, err)
		return false
	}
	b, err := load(d.ctx, d.r, second, level)
	if err != nil {
		d.yield(Change{}, err)
		return false
	}
	for s := range fanout(level) {
		i := base + block.Index(s)<<shift(level)
		last := i + 1<<shift(level) - 1
		if a.slots[s] == b.slots[s] || last < d.from {
			continue
		}
		if level == 0 {
			if !d.yield(Change{i, a.slots[s], b.slots[s]}, nil) {
				return false
			}
		} else if !d.walk(a.slots[s], b.slots[s], level-1, i) {
			return false
		}
	}
	return true
}
