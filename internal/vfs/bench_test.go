package vfs_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"shale/internal/block"
	"shale/internal/buffer"
	"shale/internal/vfs"
)

// memories are the two kinds that a block can lie in.
func memories() map[string][]byte {
	return map[string][]byte{
		"huge":     buffer.Get().Block(),
		"ordinary": at(rand.NewChaCha8([32]byte{4}), 0, block.Size),
	}
}

// BenchmarkDirectWrite appends blocks past the page cache and syncs each.
func BenchmarkDirectWrite(b *testing.B) {
	for name, p := range memories() {
		b.Run(name, func(b *testing.B) {
			f, err := vfs.DirectDir(b.TempDir()).Create("f")
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.SetBytes(block.Size)
			off := int64(0)
			for b.Loop() {
				if err := f.WriteAt([][]byte{p}, off); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				off += block.Size
			}
		})
	}
}

// BenchmarkDirectRead reads blocks at random from the disk, past the page cache
// and, as pread does, through it.
func BenchmarkDirectRead(b *testing.B) {
	const blocks = 1024
	dir := b.TempDir()
	w, err := vfs.DirectDir(dir).Create("f")
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	content := at(rand.NewChaCha8([32]byte{5}), 0, block.Size)
	for i := range int64(blocks) {
		if err := w.WriteAt([][]byte{content}, i*block.Size); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Sync(); err != nil {
		b.Fatal(err)
	}
	for name, p := range memories() {
		for way, flag := range map[string]int{"past": unix.O_DIRECT, "through": 0} {
			b.Run(way+"/"+name, func(b *testing.B) {
				fd, err := unix.Open(filepath.Join(dir, "f"), unix.O_RDONLY|flag, 0)
				if err != nil {
					b.Fatal(err)
				}
				defer unix.Close(fd)
				rng := rand.New(rand.NewPCG(6, 0))
				b.SetBytes(block.Size)
				var order []int
				for b.Loop() {
					if len(order) == 0 { // all are read once before the cache is dropped
						b.StopTimer()
						if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
							b.Fatal(err)
						}
						order = rng.Perm(blocks)
						b.StartTimer()
					}
					if n, err := unix.Pread(fd, p, int64(order[0])*block.Size); n != len(p) || err != nil {
						b.Fatal(n, err)
					}
					order = order[1:]
				}
			})
		}
	}
}
