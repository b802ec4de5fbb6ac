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

// decode fills n from the bytes of the node with the id, which must be of the
// level. It checks everything that encode guarantees, the hash included, so
// that damage never passes for a map.
func (n *node) decode(id block.ID, level int, b []byte) error {
	if sha256.Sum256(b) != id {
		return &CorruptError{id, "its bytes do not have its hash"}
	}
	if len(b) < headerSize {
		return &CorruptError{id, fmt.Sprintf("%d bytes are too few", len(b))}
	}
	if b[0] != nodeVersion {
		return &CorruptError{id, fmt.Sprintf("unknown version %d", b[0])}
	}
	if int(b[1]) != level {
		return &CorruptError{id, fmt.Sprintf("level %d where %d belongs", b[1], level)}
	}
	if binary.LittleEndian.Uint32(b[4:]) != 0 {
		return &CorruptError{id, "reserved bytes are set"}
	}
	low, high := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if level == 0 && high != 0 {
		return &CorruptError{id, "a leaf with more than 64 slots"}
	}
	count := bits.OnesCount64(low) + bits.OnesCount64(high)
	if count == 0 || count != int(binary.LittleEndian.Uint16(b[2:])) || len(b) != headerSize+count*len(block.ID{}) {
		return &CorruptError{id, "entry count, bitmap and length disagree"}
	}
	*n = node{level: level}
	ids := b[headerSize:]
	for s := range fanout(level) {
		if b[8+s/8]&(1<<(s%8)) == 0 {
			continue
		}
		n.slots[s] = block.ID(ids)
		if n.slots[s].IsZero() {
			return &CorruptError{id, fmt.Sprintf("slot %d holds no id", s)}
		}
		ids = ids[len(block.ID{}):]
	}
	return nil
}

// load reads the node with the id, or gives an empty one for the zero ID.
func load(ctx context.Context, r Reader, id block.ID, level int) (*node, error) {
	n := &node{level: level}
	if id.IsZero() {
		return n, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := r.ReadNode(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read map node %v: %w", id, err)
	}
	if err := n.decode(id, level, b); err != nil {
		return nil, err
	}
	return n, nil
}
