package main

import (
	"crypto/sha256"
	"slices"
	"testing"

	"shale/internal/block"
)

func TestBlocksAreDistinctAndTheirDigestsRight(t *testing.T) {
	s := newBlockSource()
	seen := make(map[block.Digest]bool)
	for _, number := range []uint64{0, 1, poolSize, poolSize + 1, 1 << 40, zeros} {
		b := s.block(number)
		whole := slices.Concat(b.prefix, b.tail[:])
		if !b.equals(whole) {
			t.Errorf("block %d is not equal to its own bytes", number)
		}
		if got := block.Digest(sha256.Sum256(whole)); got != b.digest {
			t.Errorf("block %d: digest %s, its bytes hash to %s", number, b.digest.Base64(), got.Base64())
		}
		if seen[b.digest] {
			t.Errorf("block %d has the digest of another", number)
		}
		seen[b.digest] = true
	}
}
