package blockstore_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// frames gives the ids in the frames of the only segment, and the offsets of
// what is no sound frame.
func (f *fixture) frames(m blockstore.Medium) (ids []block.ID, corrupt []int64) {
	f.Helper()
	first, err := m.First(f.Context(), 1)
	if err != nil {
		f.Fatal(err)
	}
	for frame, err := range blockstore.Frames(f.Context(), m, first, f.stored()) {
		var c *blockstore.CorruptError
		if errors.As(err, &c) {
			corrupt = append(corrupt, c.Offset)
			continue
		}
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range frame.Entries {
			ids = append(ids, e.ID)
		}
	}
	return ids, corrupt
}

// A frame that is damaged hides its own batch and none behind it.
func TestFrames(t *testing.T) {
	f := newFixture(t)
	var want []block.ID
	for i := range block.Index(3) {
		f.mustWrite(i, data(uint64(i)))
		want = append(want, block.ID(sha256.Sum256(data(uint64(i)))))
	}
	m := f.Medium
	if ids, corrupt := f.frames(m); !slices.Equal(ids, want) || corrupt != nil {
		t.Fatalf("frames have %v, and are corrupt at %v; want %v", ids, corrupt, want)
	}
	file, err := os.OpenFile(f.segments()[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	second := int64(4096 + 4096 + block.Size)
	if _, err := file.WriteAt([]byte{1}, second+100); err != nil {
		t.Fatal(err)
	}
	if ids, corrupt := f.frames(m); !slices.Equal(ids, []block.ID{want[0], want[2]}) || !slices.Equal(corrupt, []int64{second}) {
		t.Fatalf("with the second damaged frames have %v, and are corrupt at %v", ids, corrupt)
	}
}
