package segment_test

import (
	"os"
	"path/filepath"
	"testing"

	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
)

// What a start pays for each segment there is.
func BenchmarkOpen(b *testing.B) {
	f := newFolder(b)
	const segments, length = 5000, segment.HeaderSize + 4096
	for c := range blockstore.ContainerID(segments) {
		content := append(segment.NewHeader(c+1, [16]byte{}, f.id).Encode(), page(1)...)
		if err := os.WriteFile(filepath.Join(f.dir, segment.FileName(c+1)), content, 0o600); err != nil {
			b.Fatal(err)
		}
		f.committed[c+1] = length
	}
	for b.Loop() {
		s, err := f.open()
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
