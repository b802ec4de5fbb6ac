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
// O(changes), whatever the size of the maps. A Verified is asked for many leaves
// at a time, and from some on beside the comparison of those before, of which
// (maxWaiting+2)*maxAhead pairs are then in memory beside the path at most. It is
// asked by one goroutine at a time, and by none after the end. The first error
// ends it.
func Diff(ctx context.Context, r Reader, first, second block.ID, from block.Index) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if first == second {
			return
		}
		root := pair{first: first, second: second}
		c := comparison{from: from, yield: yield}
		d := differ{ctx: ctx, r: r, from: from, ahead: 1, beside: never, take: c.batch}
		if _, ok := r.(Verified); ok {
			d.beside = minBeside
		}
		if d.walk(root, rootLevel) || !d.long {
			return
		}
		batches, stop := make(chan batch, maxWaiting), make(chan struct{})
		d.beside, d.take = never, func(b batch) bool {
			select {
			case batches <- b:
				return true
			case <-stop:
				return false
			}
		}
		defer func() {
			close(stop)
			for range batches { // until it has ended
			}
		}()
		go func() {
			defer close(batches)
			d.walk(root, rootLevel)
		}()
		for b := range batches {
			if !c.batch(b) {
				return
			}
		}
	}
}

const (
	// maxAhead bounds the pairs of leaves that are read at a time, at 4 KiB each. It
	// begins with one pair and doubles: a short page reads no more than it needs.
	maxAhead = 64
	// minBeside is how many pairs are read at a time when reading goes on beside
	// the comparison.
	minBeside = 16
	never     = maxAhead + 1
	// maxWaiting is how many batches wait for the comparison: with few of them one
	// goroutine has to wake the other for each.
	maxWaiting = 4
)

// A pair is two nodes of one place, of which base is the first index below them.
type pair struct {
	base          block.Index
	first, second block.ID
}

// A batch is pairs of leaves that were read.
type batch struct {
	pairs []pair
	// first and second are the nodes of the ids that are not zero, in order: of one
	// map and then of the other, as each may lie in a row.
	first, second [][]byte
	err           error // why the walk ends behind them
}

// A differ walks two maps and reads their leaves.
type differ struct {
	ctx  context.Context //nolint:containedctx // lives for one call of Diff
	r    Reader
	from block.Index
	// ahead is how many pairs of leaves are read at a time, next.
	ahead int
	// beside is from how many on the walk ends and is long: it is to be taken up
	// again, from where it is, by another goroutine.
	beside int
	long   bool
	// spare is where pairs are gathered until the walk is long: nobody has them
	// any more once take has returned.
	spare []pair
	// take is given what was read, and reports whether to go on.
	take func(batch) bool
}

// walk compares two inner nodes. It reports whether to go on.
func (d *differ) walk(p pair, level int) bool {
	a, b, err := d.load(p, level)
	if err != nil {
		return d.fail(err)
	}
	leaves := d.room()
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
			leaves = d.room()
		}
	}
	return d.leaves(leaves)
}

// room gives where pairs are gathered.
func (d *differ) room() []pair {
	if d.long {
		return make([]pair, 0, d.ahead)
	}
	return d.spare[:0]
}

func (d *differ) load(p pair, level int) (a, b view, err error) {
	if a, err = load(d.ctx, d.r, p.first, level); err == nil {
		b, err = load(d.ctx, d.r, p.second, level)
	}
	return a, b, err
}

func (d *differ) fail(err error) bool {
	d.take(batch{err: err})
	return false
}

// leaves reads pairs of leaves: those that cannot all be read one after the
// other, so that what can be read is told before the error is.
func (d *differ) leaves(pairs []pair) bool {
	if len(pairs) == 0 {
		return true
	}
	if len(pairs) >= d.beside {
		d.from, d.long = max(d.from, pairs[0].base), true
		return false
	}
	d.spare = pairs
	d.ahead = min(2*d.ahead, maxAhead)
	if err := d.ctx.Err(); err != nil {
		return d.fail(err)
	}
	r, ok := d.r.(Verified)
	if ok && len(pairs) > 1 {
		if b, err := readBatch(d.ctx, r, pairs); err == nil {
			return d.take(b)
		}
	}
	for i := range pairs {
		b, err := d.readPair(pairs[i : i+1])
		if err != nil {
			return d.fail(err)
		}
		if !d.take(b) {
			return false
		}
	}
	return true
}

func readBatch(ctx context.Context, r Verified, pairs []pair) (batch, error) {
	ids := make([]block.ID, 0, 2*len(pairs))
	for i := range pairs {
		if id := pairs[i].first; !id.IsZero() {
			ids = append(ids, id)
		}
	}
	firsts := len(ids)
	for i := range pairs {
		if id := pairs[i].second; !id.IsZero() {
			ids = append(ids, id)
		}
	}
	nodes, err := r.ReadVerified(ctx, ids)
	if err != nil {
		return batch{}, err
	}
	return batch{pairs: pairs, first: nodes[:firsts], second: nodes[firsts:]}, nil
}

// readPair is readBatch of one pair.
func (d *differ) readPair(p []pair) (b batch, err error) {
	b.pairs = p
	if id := p[0].first; !id.IsZero() {
		b.first = make([][]byte, 1)
		if b.first[0], err = read(d.ctx, d.r, id); err != nil {
			return batch{}, err
		}
	}
	if id := p[0].second; !id.IsZero() {
		b.second = make([][]byte, 1)
		if b.second[0], err = read(d.ctx, d.r, id); err != nil {
			return batch{}, err
		}
	}
	return b, nil
}

// A comparison compares leaves and tells what differs.
type comparison struct {
	from  block.Index
	yield func(Change, error) bool
}

// batch compares the pairs of a batch. It reports whether to go on.
func (c *comparison) batch(b batch) bool {
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
			return c.fail(err)
		}
		second, err := take(&b.pairs[i].second, &b.second)
		if err != nil {
			return c.fail(err)
		}
		if !c.leaf(b.pairs[i].base, &first, &second) {
			return false
		}
	}
	return b.err == nil || c.fail(b.err)
}

func (c *comparison) fail(err error) bool {
	c.yield(Change{}, err)
	return false
}

// leaf gives what differs between two leaves.
func (c *comparison) leaf(base block.Index, a, b *view) bool {
	for s := a.differs(b, 0); s < maxFanout; s = a.differs(b, s+1) {
		change := Change{Index: base + block.Index(s)}
		if change.Index < c.from {
			continue
		}
		copy(change.First[:], a.id(s))
		copy(change.Second[:], b.id(s))
		if !c.yield(change, nil) {
			return false
		}
	}
	return true
}
