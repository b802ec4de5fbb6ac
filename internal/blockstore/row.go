package blockstore

import (
	"context"
	"crypto/sha256"
	"slices"

	"shale/internal/block"
)

const (
	// firstPart is what is read of a row at first, longer than any node, and
	// maxPart what is read of it at a time after more and more of it was asked
	// for, in bytes.
	firstPart = 8 << 10
	maxPart   = 32 << 10
	// maxPast is how many bytes of nodes that are not asked for yet are looked at
	// for one that lies behind them: a node with few entries in each of its 128
	// leaves is found.
	maxPast = 16 << 10
)

// A row is map nodes that lie one behind the other, as those of a map do that
// were written together: the leaves below a node, and then that node. Only the
// place of the first is looked up; that each is the one that it is taken for says
// its hash, wherever its bytes were found. What cannot be read in this way is
// left to others, who say why.
type row struct {
	store *Store
	// ahead are nodes that were passed and not asked for yet, from the first on
	// that is not taken.
	ahead []passedNode
	taken int
	rest  []byte // what has been read behind them
	// container and offset are where it goes on behind the rest; 0 if it does not.
	container ContainerID
	offset    int64
	size      int // of what is read next, bytes
	// whole says that the nodes that were last asked for together were all in it.
	whole bool
}

// A passedNode is a node by its hash.
type passedNode struct {
	id   block.ID
	node []byte
}

// begin begins the row anew with the node, if that is to be found.
func (r *row) begin(ctx context.Context, id block.ID) error {
	r.end()
	if r.store.nodeLength == nil {
		return nil
	}
	loc, found, err := r.store.index.Locate(ctx, id)
	if err == nil && found {
		r.container, r.offset, r.size = loc.Container, loc.Offset, firstPart
	}
	return err
}

func (r *row) end() {
	r.ahead, r.taken = r.ahead[:0], 0
	r.rest, r.container = nil, 0
}

// next takes the node, if it is the next, or the one behind that: between the
// leaves below two nodes lies the first of these. If it is neither the row ends.
func (r *row) next(ctx context.Context, id block.ID) []byte {
	for range 2 {
		if r.taken == len(r.ahead) {
			r.ahead, r.taken = r.ahead[:0], 0
			if !r.pass(ctx) {
				return nil
			}
		}
		n := r.ahead[r.taken]
		if r.taken++; n.id == id {
			return n.node
		}
	}
	r.end()
	return nil
}

// find takes the node out of those that come, if it lies behind a few leaves: it
// is the one above them, which is asked for before they are.
func (r *row) find(ctx context.Context, id block.ID) []byte {
	if !r.whole {
		return nil
	}
	for i, past := r.taken, 0; past < maxPast; i++ {
		if i == len(r.ahead) && !r.pass(ctx) {
			break
		}
		n := r.ahead[i]
		if n.id == id {
			r.ahead = slices.Delete(r.ahead, i, i+1)
			return n.node
		}
		past += len(n.node)
	}
	return nil
}

// pass puts one more node ahead, and reports whether there was one.
func (r *row) pass(ctx context.Context) bool {
	n := r.length()
	if n == 0 && r.read(ctx) {
		n = r.length()
	}
	if n == 0 {
		r.container = 0
		return false
	}
	node := r.rest[:n:n]
	r.rest = r.rest[n:]
	r.ahead = append(r.ahead, passedNode{sha256.Sum256(node), node})
	return true
}

// length is that of the node that the rest begins with, 0 if it does not hold one.
func (r *row) length() int {
	if len(r.rest) == 0 {
		return 0
	}
	if n := r.store.nodeLength(r.rest); n <= len(r.rest) {
		return n
	}
	return 0
}

// read reads on, from the beginning of the rest.
func (r *row) read(ctx context.Context) bool {
	if r.container == 0 {
		return false
	}
	from := r.offset - int64(len(r.rest))
	part := make([]byte, r.size)
	err := r.store.medium.ReadAt(ctx, r.container, part, from)
	if err != nil && r.size > firstPart { // the end of the container may be near
		part = part[:firstPart]
		err = r.store.medium.ReadAt(ctx, r.container, part, from)
	}
	if err != nil {
		r.container = 0
		return false
	}
	r.rest, r.offset = part, from+int64(len(part))
	r.size = min(2*r.size, maxPart)
	return true
}
