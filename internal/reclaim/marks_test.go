package reclaim

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"shale/internal/block"
)

func id(n uint64) block.ID { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)) }

// Whatever was set is there, in marks that were made for many fewer as well.
func TestMarksForgetNothing(t *testing.T) {
	for _, records := range []int64{0, 100_000, 10_000_000} {
		m := newMarks(records)
		const count = 200_000
		for n := range uint64(count) {
			m.set(id(n))
		}
		for n := range uint64(count) {
			if !m.has(id(n)) {
				t.Fatalf("made for %d: record %d is not marked", records, n)
			}
		}
	}
}

// Of a small store nothing is taken for marked that is not; of a larger one
// little is; and of one that has far more than was counted not all is.
func TestMarksTakeLittleForMarked(t *testing.T) {
	for _, c := range []struct {
		records, set int64
		most         float64 // share
	}{
		{0, 0, 0},
		{1000, 1000, 0},
		{50_000, 50_000, 1e-5},
		{1_000_000, 1_000_000, 0.01},
		{0, 4_000_000, 0.95}, // six times as many as they were made for
	} {
		m := newMarks(c.records)
		for n := range uint64(c.set) {
			m.set(id(n))
		}
		const asked = 100_000
		taken := 0
		for n := range uint64(asked) {
			if m.has(id(1<<40 + n)) {
				taken++
			}
		}
		if share := float64(taken) / asked; share > c.most {
			t.Errorf("%d marked: %v of what is not is taken for marked, want at most %v", c.set, share, c.most)
		} else {
			t.Logf("%d marked: %v", c.set, share)
		}
	}
}
