package main

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"math/rand/v2"

	"shale/internal/block"
)

// tailLen is the part of a block that differs from every other block.
const tailLen = sha256.BlockSize

// blockSource makes any number of blocks that can be neither compressed nor
// deduplicated, each named by a number, at next to no cost: a block is one of
// a pool of random prefixes and a short tail that holds its number. The
// prefixes are hashed once, so a block's SHA-256 costs one round over its tail.
type blockSource struct {
	prefixes [][]byte
	states   [][]byte // of SHA-256 after the prefix of the same number
}

// poolSize keeps the pool larger than the caches of a processor core, so that
// a client reads its blocks from memory, as it would read real ones.
const poolSize = 64

func newBlockSource() *blockSource {
	rng := rand.NewChaCha8([32]byte{1})
	s := &blockSource{}
	for range poolSize {
		p := make([]byte, block.Size-tailLen)
		rng.Read(p) //nolint:errcheck // never fails
		h := sha256.New()
		h.Write(p)
		state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			panic(err) // SHA-256 always has a state
		}
		s.prefixes = append(s.prefixes, p)
		s.states = append(s.states, state)
	}
	return s
}

// A testBlock is the two parts of a block and its digest.
type testBlock struct {
	prefix []byte // shared, not to be changed
	tail   [tailLen]byte
	digest block.Digest
}

// zeros names the block of zeros; every other number names a random one.
const zeros = ^uint64(0)

var zeroPrefix = make([]byte, block.Size-tailLen)

// block makes the block of the given number.
func (s *blockSource) block(number uint64) testBlock {
	if number == zeros {
		return testBlock{prefix: zeroPrefix, digest: block.ZeroDigest}
	}
	k := number % poolSize
	b := testBlock{prefix: s.prefixes[k]}
	copy(b.tail[:], s.prefixes[k])
	binary.LittleEndian.PutUint64(b.tail[:], number)
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.states[k]); err != nil {
		panic(err) // the state is SHA-256's own
	}
	h.Write(b.tail[:])
	sum(h, &b.digest)
	return b
}

// equals reports whether got holds the bytes of b.
func (b *testBlock) equals(got []byte) bool {
	return len(got) == block.Size &&
		bytes.Equal(got[:len(b.prefix)], b.prefix) && bytes.Equal(got[len(b.prefix):], b.tail[:])
}

func sum(h hash.Hash, d *block.Digest) { h.Sum(d[:0]) }
