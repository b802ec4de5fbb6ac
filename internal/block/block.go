// Package block holds the words that every other package shares: the size of
// a block, its place in a volume and its identity. It imports nothing of
// shale, so that the block map and the block store need not know each other.
package block

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

const (
	// Size is the length of every block in bytes (512 KiB).
	// Spec: ebs-direct §1.
	Size = 512 << 10
	// PerGiB is the number of blocks in one GiB of volume.
	PerGiB = 1 << 30 / Size
	// MaxVolumeGiB is the largest volume, 64 TiB.
	MaxVolumeGiB = 64 << 10
	// IndexBits is the width of the block index space: a volume of
	// MaxVolumeGiB has exactly 1<<IndexBits blocks.
	IndexBits = 27
	// MaxIndex is the index of the last block of the largest volume.
	MaxIndex Index = 1<<IndexBits - 1
)

// An Index is the number of a block in its volume, counted from 0.
type Index uint32

// A Digest is the SHA-256 of a block's Size plain bytes: what the wire calls
// the block's checksum.
type Digest [sha256.Size]byte

// Base64 returns the wire form of d: standard alphabet, padded, 44 characters.
func (d Digest) Base64() string {
	var text [44]byte // base64.StdEncoding.EncodedLen(len(d))
	base64.StdEncoding.Encode(text[:], d[:])
	return string(text[:])
}

// ZeroDigest is the digest of a block of zeros.
var ZeroDigest = Digest(sha256.Sum256(make([]byte, Size)))

// An ID is the identity under which the store keeps a block or a map node: in
// the unencrypted domain the SHA-256 of its plain bytes. The zero ID names
// nothing; as the root of a block map it is the map without blocks.
type ID [sha256.Size]byte

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String returns id in hex, for logs and messages.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID is the inverse of String.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("block id %q: want %d hex digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("block id %q: %w", s, err)
	}
	return id, nil
}
