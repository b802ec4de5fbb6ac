package catalog_test

import (
	"os"
	"path/filepath"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog/postgrestest"
)

// benchBoth runs a benchmark on each database. PostgreSQL's files are on a disk
// then, as SQLite's are.
func benchBoth(b *testing.B, bench func(b *testing.B, place string)) {
	b.Run("SQLite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "catalog.db")) })
	b.Run("PostgreSQL", func(b *testing.B) { bench(b, postgrestest.Schema(b, postgrestest.StartIn(b, os.TempDir()).URL())) })
}

// The look-ups that each block read needs. They run beside each other; the
// bound is SQLite's own statement, a few microseconds, or PostgreSQL's round
// trip.
func BenchmarkLookUp(b *testing.B) {
	benchBoth(b, func(b *testing.B, place string) {
		c, snap := createAt(b, place)
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
	})
}

// One batch of sixteen blocks; the bound is one sync of the write-ahead log.
func BenchmarkCommit(b *testing.B) {
	benchBoth(b, func(b *testing.B, place string) {
		c, snap := createAt(b, place)
		b.Run("new", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				commit(b, c, snap, i*16%(1<<20), 16)
			}
		})
		b.Run("hits", func(b *testing.B) {
			commit(b, c, snap, 0, 1024)
			for i := 0; b.Loop(); i++ {
				var hits blockstore.Commit
				for k := i * 16 % 1024; len(hits.Refs) < 16; k++ {
					id := block.ID{byte(k), byte(k >> 8), 1}
					hits.Refs = append(hits.Refs, blockstore.Ref{Snapshot: snap.Key, Index: block.Index(k), ID: id, Hit: true})
				}
				verdicts, err := c.Commit(b.Context(), &hits)
				for _, v := range verdicts {
					if err == nil {
						err = v
					}
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
