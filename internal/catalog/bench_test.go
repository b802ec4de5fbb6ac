package catalog_test

import (
	"testing"

	"shale/internal/block"
)

// The look-ups that each block read needs. They run beside each other; the
// bound is SQLite's own statement, a few microseconds.
func BenchmarkLookUp(b *testing.B) {
	c, _, snap := create(b)
	commit(b, c, snap, 0, 1000)
	b.Run("snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, found, err := c.Snapshot(b.Context(), snap.ID); err != nil || !found {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, found, err := c.Locate(b.Context(), block.ID{byte(i % 250), 0, 1}); err != nil || !found {
				b.Fatal(found, err)
			}
		}
	})
}

// One batch of sixteen blocks; the bound is one sync of the write-ahead log.
func BenchmarkCommit(b *testing.B) {
	c, _, snap := create(b)
	for i := 0; b.Loop(); i++ {
		commit(b, c, snap, i*16%(1<<20), 16)
	}
}
