package blockmap

import (
	"context"
	"iter"
	"slices"

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
// at a time, of which up to maxAhead pairs, and as many again that are being read
// meanwhile, are then in memory beside the path. The first error ends it.
func Diff(ctx context.Context, r Reader, first, second block.ID, from block.Index) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if first == second {
			return
		}
		d := differ{ctx: ctx, r: r, from: from, yield: yield, ahead: 1}
		defer d.drop()
		if d.walk(pair{first: first, second: second}, rootLevel) {
			d.flush()
		}
	}
}

type differ struct {
	ctx   context.Context //nolint:containedctx // lives for one call of Diff
	r     Reader
	from  block.Index
	yield func(Change, error) bool
	// ahead is how many pairs of leaves are read at a time, next.
	ahead int
	// reading are the pairs that come next, nil for none.
	reading *batch
}

const (
	// maxAhead bounds the pairs of leaves that are read at a time, at 4 KiB each. It
	// begins with one pair and doubles: a short page reads no more than it needs.
	maxAhead = 64
	// minBeside is for how many pairs those before them are compared meanwhile.
	minBeside = 16
)

// A batch is pairs of leaves that are read at once.
type batch struct {
	pairs []pair
	// first and second are the nodes of the ids that are not zero, in order: of one
	// map and then of the other, as each may lie in a row.
	first, second [][]byte
	err           error         // why they could not be read, all of them
	read          chan struct{} // closed once they are set
}

// A pair is two nodes of one place, of which base is the first index below them.
type pair struct {
	base          block.Index
	first, second block.ID
}

// walk compares two inner nodes. It reports whether to go on.
func (d *differ) walk(p pair, level int) bool {
	a, b, err := d.load(p, level)
	if err != nil {
		return d.flush() && d.fail(err)
	}
	var leaves []pair
	for s := a.differs(&b, 0); s < maxFanout; s = a.differs(&b, s+1) {
		below := pair{base: p.base + block.Index(s)<<shift(level)}
		if below.base+1<<shift(level)-1 < d.from {
			continue
		}
		copy(below.first[:], a.id(s))
		copy(below.second[:], b.id(s))
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

func (d *differ) load(p pair, level int) (a, b view, err error) {
	if a, err = load(d.ctx, d.r, p.first, level); err == nil {
		b, err = load(d.ctx, d.r, p.second, level)
	}
	return a, b, err
}

func (d *differ) fail(err error) bool {
	d.yield(Change{}, err)
	return false
}

// leaves compares pairs of leaves, or begins to read them and compares those
// before them.
func (d *differ) leaves(pairs []pair) bool {
	d.ahead = min(2*d.ahead, maxAhead)
	r, ok := d.r.(Verified)
	if !ok || len(pairs) < 2 {
		return d.flush() && d.singly(pairs)
	}
	if err := d.ctx.Err(); err != nil {
		return d.fail(err)
	}
	b := &batch{pairs: slices.Clone(pairs), read: make(chan struct{})}
	if len(pairs) < minBeside {
		b.fill(d.ctx, r)
		return d.flush() && d.compare(b)
	}
	before := d.reading
	d.reading = b
	go func() {
		// The second begins where the first ends, most often.
		if before != nil {
			<-before.read
		}
		b.fill(d.ctx, r)
	}()
	return before == nil || d.compare(before)
}

// flush compares what is being read.
func (d *differ) flush() bool {
	b := d.reading
	d.reading = nil
	return b == nil || d.compare(b)
}

// drop waits until nothing is being read any more.
func (d *differ) drop() {
	if d.reading != nil {
		<-d.reading.read
	}
}

func (b *batch) fill(ctx context.Context, r Verified) {
	defer close(b.read)
	ids := make([]block.ID, 0, 2*len(b.pairs))
	for i := range b.pairs {
		if id := b.pairs[i].first; !id.IsZero() {
			ids = append(ids, id)
		}
	}
	firsts := len(ids)
	for i := range b.pairs {
		if id := b.pairs[i].second; !id.IsZero() {
			ids = append(ids, id)
		}
	}
	var nodes [][]byte
	if nodes, b.err = r.ReadVerified(ctx, ids); b.err == nil {
		b.first, b.second = nodes[:firsts], nodes[firsts:]
	}
}

// compare compares the pairs of a batch: those that could not all be read one
// after the other, so that what can be read is told before the error is.
func (d *differ) compare(b *batch) bool {
	<-b.read
	if b.err != nil {
		return d.singly(b.pairs)
	}
	take := func(id *block.ID, nodes *[][]byte) (view, error) {
		if id.IsZero() {
			return view{}, nil
		}
		node := (*nodes)[0]
		*nodes = (*nodes)[1:]
		return decode(*id, 0, node)
	}
	for i := range b.pairs {
		first, err := take(&b.pairs[i].first, &b.first)
		if err != nil {
			return d.fail(err)
		}
		second, err := take(&b.pairs[i].second, &b.second)
		if err != nil {
			return d.fail(err)
		}
		if !d.leaf(b.pairs[i].base, &first, &second) {
			return false
		}
	}
	return true
}

func (d *differ) singly(pairs []pair) bool {
	for i := range pairs {
		a, b, err := d.load(pairs[i], 0)
		if err != nil {
			return d.fail(err)
		}
		if !d.leaf(pairs[i].base, &a, &b) {
			return false
		}
	}
	return true
}

// leaf gives what differs between two leaves.
func (d *differ) leaf(base block.Index, a, b *view) bool {
	for s := a.differs(b, 0); s < maxFanout; s = a.differs(b, s+1) {
		c := Change{Index: base + block.Index(s)}
		if c.Index < d.from {
			continue
		}
		copy(c.First[:], a.id(s))
		copy(c.Second[:], b.id(s))
		if !d.yield(c, nil) {
			return false
		}
	}
	return true
}
