package blockmap

import (
	"bytes"
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
// O(changes), whatever the size of the maps. A Verified is asked for many leaves
// at a time, of which up to maxAhead pairs are then in memory beside the path.
// The first error ends it.
func Diff(ctx context.Context, r Reader, first, second block.ID, from block.Index) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if first == second {
			return
		}
		d := differ{ctx: ctx, r: r, from: from, yield: yield, ahead: 1}
		d.walk(pair{first: first, second: second}, rootLevel)
	}
}

type differ struct {
	ctx   context.Context //nolint:containedctx // lives for one call of Diff
	r     Reader
	from  block.Index
	yield func(Change, error) bool
	// ahead is how many pairs of leaves are read at a time, next.
	ahead int
}

// maxAhead bounds the pairs of leaves that are read at a time, at 4 KiB each. It
// begins with one pair and doubles: a short page reads no more than it needs.
const maxAhead = 64

// A pair is two nodes of one place, of which base is the first index below them.
type pair struct {
	base          block.Index
	first, second block.ID
}

// walk compares two nodes. It reports whether to go on.
func (d *differ) walk(p pair, level int) bool {
	a, err := load(d.ctx, d.r, p.first, level)
	if err != nil {
		return d.fail(err)
	}
	b, err := load(d.ctx, d.r, p.second, level)
	if err != nil {
		return d.fail(err)
	}
	if level == 0 {
		return d.leaf(p.base, &a, &b)
	}
	var leaves []pair
	for s := a.next(&b, 0); s < maxFanout; s = a.next(&b, s+1) {
		first, second := a.id(s), b.id(s)
		below := pair{base: p.base + block.Index(s)<<shift(level)}
		if bytes.Equal(first, second) || below.base+1<<shift(level)-1 < d.from {
			continue
		}
		copy(below.first[:], first)
		copy(below.second[:], second)
		if level > 1 {
			if !d.walk(below, level-1) {
				return false
			}
			continue
		}
		if leaves = append(leaves, below); len(leaves) >= d.ahead {
			if !d.leaves(leaves) {
				return false
			}
			leaves = leaves[:0]
		}
	}
	return d.leaves(leaves)
}

func (d *differ) fail(err error) bool {
	d.yield(Change{}, err)
	return false
}

// leaves compares pairs of leaves. If the reader gives many nodes at a time and
// all of these can be read they are; else one after the other, so that what can
// be read is told before the error is.
func (d *differ) leaves(pairs []pair) bool {
	d.ahead = min(2*d.ahead, maxAhead)
	r, ok := d.r.(Verified)
	if !ok || len(pairs) < 2 {
		return d.singly(pairs)
	}
	if err := d.ctx.Err(); err != nil {
		return d.fail(err)
	}
	ids := make([]block.ID, 0, 2*len(pairs))
	for i := range pairs {
		for _, id := range []*block.ID{&pairs[i].first, &pairs[i].second} {
			if !id.IsZero() {
				ids = append(ids, *id)
			}
		}
	}
	nodes, err := r.ReadVerified(d.ctx, ids)
	if err != nil {
		return d.singly(pairs)
	}
	take := func(id *block.ID) (view, error) {
		if id.IsZero() {
			return view{}, nil
		}
		node := nodes[0]
		nodes = nodes[1:]
		return decode(*id, 0, node)
	}
	for i := range pairs {
		a, err := take(&pairs[i].first)
		if err != nil {
			return d.fail(err)
		}
		b, err := take(&pairs[i].second)
		if err != nil {
			return d.fail(err)
		}
		if !d.leaf(pairs[i].base, &a, &b) {
			return false
		}
	}
	return true
}

func (d *differ) singly(pairs []pair) bool {
	for i := range pairs {
		if !d.walk(pairs[i], 0) {
			return false
		}
	}
	return true
}

// leaf gives what differs between two leaves.
func (d *differ) leaf(base block.Index, a, b *view) bool {
	for s := a.next(b, 0); s < maxFanout; s = a.next(b, s+1) {
		first, second := a.id(s), b.id(s)
		c := Change{Index: base + block.Index(s)}
		if c.Index < d.from || bytes.Equal(first, second) {
			continue
		}
		copy(c.First[:], first)
		copy(c.Second[:], second)
		if !d.yield(c, nil) {
			return false
		}
	}
	return true
}
