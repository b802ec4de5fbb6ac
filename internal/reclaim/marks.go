package reclaim

import (
	"hash/maphash"
	"math/bits"

	"shale/internal/block"
)

// marks are the records that are in use: a Bloom filter of their ids. Whatever
// was set it has. It also has some that were not, and others in each cycle, as
// its hashes are drawn anew: that garbage stays until the next one. So few of
// them, of a small store, that nobody meets one; one in two hundred of a larger;
// more than that if there are more records than its memory is for.
//
// An id's bits are in one line of 512, which the processor fetches at once.
type marks struct {
	line, bit maphash.Seed
	lines     []markLine
	each      int // bits that an id sets
}

type markLine [lineBits / 64]uint64

const (
	lineBits = 512
	// bitsEach is how many bits there are for each record, unless that is less
	// than minMarks bytes in all, or more than maxMarks.
	bitsEach = 12
	minMarks = 1 << 20
	maxMarks = 256 << 20
	// maxEach is how many positions in a line one hash gives.
	maxEach = 64 / 9
)

// newMarks makes marks for about so many records; any number can be set.
func newMarks(records int64) *marks {
	lines := min(max(records*bitsEach, minMarks*8), maxMarks*8) / lineBits
	// Of each bit in the filter half a chance to be set is best.
	each := float64(lines*lineBits) / float64(max(records, 1)) * 0.69
	return &marks{
		line: maphash.MakeSeed(), bit: maphash.MakeSeed(),
		lines: make([]markLine, lines), each: int(min(max(each, 1), maxEach)),
	}
}

func (m *marks) set(id block.ID) {
	line, hash := m.place(id)
	for range m.each {
		line[hash%lineBits/64] |= 1 << (hash % 64)
		hash /= lineBits
	}
}

func (m *marks) has(id block.ID) bool {
	line, hash := m.place(id)
	for range m.each {
		if line[hash%lineBits/64]&(1<<(hash%64)) == 0 {
			return false
		}
		hash /= lineBits
	}
	return true
}

// place gives an id's line, and the hash that its positions there are made of.
func (m *marks) place(id block.ID) (*markLine, uint64) {
	n, _ := bits.Mul64(maphash.Bytes(m.line, id[:]), uint64(len(m.lines)))
	return &m.lines[n], maphash.Bytes(m.bit, id[:])
}
