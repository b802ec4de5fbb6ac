package reclaim

import (
	"hash/maphash"
	"math/bits"

	"shale/internal/block"
)

// passed are the map nodes that the marking has been through with all that is
// below them, so that it need not go there again. They are kept by their whole
// ids: what the marks take for one another would here be a map that is not
// marked. What there is no room for is forgotten, and gone through once more.
// Inner nodes have a room of their own, as there are up to 128 leaves below each
// of the lowest.
type passed struct {
	seed          maphash.Seed
	inner, leaves []nodeSet
}

// A nodeSet are the nodes whose hashes are alike, the last one met first.
type nodeSet [4]block.ID

const (
	maxInner  = 4 << 20 // bytes
	maxLeaves = 12 << 20
	setBytes  = len(nodeSet{}) * len(block.ID{})
)

// newPassed makes room for the nodes among so many records.
func newPassed(records int64) *passed {
	sets := func(most int64) []nodeSet { return make([]nodeSet, min(records, most/int64(setBytes))+1) }
	return &passed{maphash.MakeSeed(), sets(maxInner), sets(maxLeaves)}
}

// has reports whether a node is known to have been passed.
func (p *passed) has(node block.ID, leaf bool) bool {
	set := p.set(node, leaf)
	for i := range set {
		if set[i] == node {
			copy(set[1:], set[:i])
			set[0] = node
			return true
		}
	}
	return false
}

func (p *passed) add(node block.ID, leaf bool) {
	set := p.set(node, leaf)
	copy(set[1:], set[:])
	set[0] = node
}

func (p *passed) set(node block.ID, leaf bool) *nodeSet {
	list := p.inner
	if leaf {
		list = p.leaves
	}
	n, _ := bits.Mul64(maphash.Bytes(p.seed, node[:]), uint64(len(list)))
	return &list[n]
}
