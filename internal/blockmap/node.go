// Package blockmap keeps, for each snapshot, the map from block index to block
// id: a copy-on-write tree whose nodes are named by the SHA-256 of their
// bytes. Equal trees have equal roots, so a child begins at its parent's root
// at no cost, and two trees are compared by skipping what they share.
//
// The tree has four levels over the 27 bits of a block index: 7+7+7 bits of
// inner nodes with up to 128 children, then 6 bits of a leaf with up to 64
// blocks (32 MiB of volume). One changed block rewrites one path, at most
// 14 KiB.
//
// The package holds no state and no locks: its functions may run concurrently.
// Where nodes are kept is the caller's business.
package blockmap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"shale/internal/block"
)

const (
	leafBits  = 6
	innerBits = 7
	rootLevel = 3

	nodeVersion = 1
	headerSize  = 24
	maxFanout   = 1 << innerBits

	// MaxNodeSize is the length of the largest encoded node, in bytes.
	MaxNodeSize = headerSize + maxFanout*len(block.ID{})
)

// A Reader gives the encoded bytes of a node. The bytes stay the reader's;
// they are not kept. The caller of this package need not have verified them.
type Reader interface {
	ReadNode(ctx context.Context, id block.ID) ([]byte, error)
}

// A Verified is a Reader that has itself checked that the bytes of a node have
// its hash, which is then not computed once more; and that gives many nodes for
// little more than one.
type Verified interface {
	Reader
	// ReadVerified gives the nodes with the ids, none of which is zero, in their
	// order. If one of them cannot be read, all fail.
	ReadVerified(ctx context.Context, ids []block.ID) ([][]byte, error)
}

// A Writer takes the encoded bytes of a new node, of which it keeps a copy if
// it needs one. Nodes arrive children first. Nothing has to be durable when
// WriteNode returns; the caller of Fold sees to that before it uses the root.
type Writer interface {
	WriteNode(ctx context.Context, id block.ID, encoded []byte) error
}

// A CorruptError reports a node whose bytes are not those that were written.
type CorruptError struct {
	ID  block.ID
	Why string
}

func (e *CorruptError) Error() string { return fmt.Sprintf("map node %v: corrupt: %s", e.ID, e.Why) }

// A node is one decoded node. Slots that are not set hold the zero ID.
//
// Format (docs/formats.md, Block map). Integers are little-endian.
//
//	offset  size  field
//	     0     1  version, 1
//	     1     1  level: 0 for a leaf, 3 for the root
//	     2     2  number n of entries, 1 to 128 (leaf: 1 to 64)
//	     4     4  reserved, zero
//	     8    16  bitmap: bit s%8 of byte s/8 is set if slot s has an entry
//	    24  32*n  ids by ascending slot
//
// There is one encoding for each content, so that equal maps have equal roots.
type node struct {
	level int
	slots [maxFanout]block.ID
}

// fanout is the number of slots of a node of the level.
func fanout(level int) int {
	if level == 0 {
		return 1 << leafBits
	}
	return maxFanout
}

// shift is the number of index bits below the slot number at the level.
func shift(level int) uint {
	if level == 0 {
		return 0
	}
	return leafBits + uint(level-1)*innerBits
}

// slotOf is the slot of index i in its node of the level.
func slotOf(i block.Index, level int) int {
	return int(i>>shift(level)) & (fanout(level) - 1)
}

// encode appends the node to buf and returns it with the node's id.
func (n *node) encode(buf []byte) ([]byte, block.ID) {
	start := len(buf)
	buf = append(buf, make([]byte, headerSize)...)
	head := buf[start:]
	head[0] = nodeVersion
	head[1] = byte(n.level)
	count := 0
	for s := range fanout(n.level) {
		if !n.slots[s].IsZero() {
			head[8+s/8] |= 1 << (s % 8)
			buf = append(buf, n.slots[s][:]...)
			count++
		}
	}
	binary.LittleEndian.PutUint16(buf[start+2:], uint16(count))
	copy(buf[start+8:], head[8:headerSize])
	return buf, sha256.Sum256(buf[start:])
}

// A view is a node as it is encoded, which nothing is copied from. The zero view
// is a node without entries.
type view struct {
	low, high uint64 // the bitmap
	ids       []byte
}

// id gives the id in a slot, nil if it is not set.
func (v *view) id(s int) []byte {
	word := v.low
	if s >= 64 {
		word = v.high
	}
	if word>>(s%64)&1 == 0 {
		return nil
	}
	return v.ids[v.before(s)*len(block.ID{}):][:len(block.ID{})]
}

// next is the first slot from s on that is set in the view or in another,
// maxFanout if there is none.
func (v *view) next(other *view, s int) int {
	if s < 64 {
		if rest := (v.low | other.low) >> s; rest != 0 {
			return s + bits.TrailingZeros64(rest)
		}
		s = 64
	}
	if s < maxFanout {
		if rest := (v.high | other.high) >> (s - 64); rest != 0 {
			return s + bits.TrailingZeros64(rest)
		}
	}
	return maxFanout
}

// differs is the first slot from s on in which the view and another are not the
// same, maxFanout if there is none. Of two maps of which one was made from the
// other most nodes have the same slots, and most of what is in them is the same:
// that is compared many entries at a time.
func (v *view) differs(other *view, s int) int {
	if v.low != other.low || v.high != other.high {
		for s = v.next(other, s); s < maxFanout && bytes.Equal(v.id(s), other.id(s)); {
			s = v.next(other, s+1)
		}
		return s
	}
	const size, atOnce = len(block.ID{}), 8 * len(block.ID{})
	k, end := v.before(s)*size, len(v.ids)
	for k+atOnce <= end && bytes.Equal(v.ids[k:k+atOnce], other.ids[k:k+atOnce]) {
		k += atOnce
	}
	for k < end && bytes.Equal(v.ids[k:k+size], other.ids[k:k+size]) {
		k += size
	}
	if k == end {
		return maxFanout
	}
	return v.slot(k / size)
}

// before is how many slots below s are set.
func (v *view) before(s int) int {
	if s < 64 {
		return bits.OnesCount64(v.low & (1<<s - 1))
	}
	return bits.OnesCount64(v.low) + bits.OnesCount64(v.high&(1<<(s-64)-1))
}

// slot is the one that is set with so many set below it.
func (v *view) slot(before int) int {
	word, base := v.low, 0
	if n := bits.OnesCount64(v.low); before >= n {
		word, base, before = v.high, 64, before-n
	}
	for range before {
		word &= word - 1
	}
	return base + bits.TrailingZeros64(word)
}

// decode gives the node with the id, which must be of the level, from its bytes,
// which have its hash. It checks everything else that encode guarantees, so that
// damage never passes for a map.
func decode(id block.ID, level int, b []byte) (view, error) {
	corrupt := func(format string, args ...any) (view, error) {
		return view{}, &CorruptError{id, fmt.Sprintf(format, args...)}
	}
	if len(b) < headerSize {
		return corrupt("%d bytes are too few", len(b))
	}
	if b[0] != nodeVersion {
		return corrupt("unknown version %d", b[0])
	}
	if int(b[1]) != level {
		return corrupt("level %d where %d belongs", b[1], level)
	}
	if binary.LittleEndian.Uint32(b[4:]) != 0 {
		return corrupt("reserved bytes are set")
	}
	low, high := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if level == 0 && high != 0 {
		return corrupt("a leaf with more than 64 slots")
	}
	count := bits.OnesCount64(low) + bits.OnesCount64(high)
	if count == 0 || count != int(binary.LittleEndian.Uint16(b[2:])) || len(b) != headerSize+count*len(block.ID{}) {
		return corrupt("entry count, bitmap and length disagree")
	}
	v := view{low, high, b[headerSize:]}
	for k := 0; k < len(v.ids); k += len(block.ID{}) {
		if binary.LittleEndian.Uint64(v.ids[k:]) == 0 && block.ID(v.ids[k:]).IsZero() {
			return corrupt("entry %d holds no id", k/len(block.ID{}))
		}
	}
	return v, nil
}

// Length gives the length in bytes of the encoded node that b begins with, as
// far as its head tells: 0 if b begins with none.
func Length(b []byte) int {
	if len(b) < headerSize || b[0] != nodeVersion {
		return 0
	}
	count := int(binary.LittleEndian.Uint16(b[2:]))
	if count == 0 || count > maxFanout {
		return 0
	}
	return headerSize + count*len(block.ID{})
}

// load reads the node with the id, or gives one without entries for the zero ID.
func load(ctx context.Context, r Reader, id block.ID, level int) (view, error) {
	if id.IsZero() {
		return view{}, nil
	}
	b, err := read(ctx, r, id)
	if err != nil {
		return view{}, err
	}
	return decode(id, level, b)
}

// read reads the bytes of the node with the id, which have its hash.
func read(ctx context.Context, r Reader, id block.ID) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := r.ReadNode(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read map node %v: %w", id, err)
	}
	if _, verified := r.(Verified); !verified && sha256.Sum256(b) != id {
		return nil, &CorruptError{id, "its bytes do not have its hash"}
	}
	return b, nil
}
