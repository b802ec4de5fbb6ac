package vfs_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"shale/internal/vfs"
)

// at gives n random bytes that begin so many bytes behind a page's start.
func at(rng *rand.ChaCha8, shift, n int) []byte {
	b := make([]byte, n+2*vfs.PageSize)
	from := (vfs.PageSize-int(uintptr(unsafe.Pointer(&b[0]))%vfs.PageSize))%vfs.PageSize + shift
	p := b[from : from+n : from+n]
	_, _ = rng.Read(p)
	return p
}

// Whatever the pieces' lengths and places in memory, the file gets their bytes,
// also over others that were there and are in the page cache.
func TestDirectWrites(t *testing.T) {
	const page = vfs.PageSize
	rng := rand.NewChaCha8([32]byte{1})
	cases := map[string][][]byte{
		"aligned":            {at(rng, 0, page), at(rng, 0, 3*page)},
		"sealed":             {at(rng, 0, 128*page+16), at(rng, 8, page-16), at(rng, 0, 128*page+16), at(rng, 8, page-16)},
		"not aligned":        {at(rng, 1, 3*page)},
		"small":              {at(rng, 0, 1), at(rng, 5, page-1)},
		"more than a chunk":  {at(rng, 1, 200*page), at(rng, 0, page)},
		"aligned in memory":  {at(rng, 0, page-512), at(rng, 0, page), at(rng, 0, 512)},
		"not whole pages":    {at(rng, 0, page/2)},
		"aligned in between": {at(rng, 3, 70*page+5), at(rng, 0, page-5), at(rng, 0, 2*page)},
	}
	var many [][]byte // more than one pwritev takes
	for range 1500 {
		many = append(many, at(rng, 8, 512))
	}
	cases["many"] = append(many, at(rng, 0, 512*4))
	for name, pieces := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder := vfs.DirectDir(dir)
			f, err := folder.Create("f")
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(pieces...)
			for _, off := range []int64{0, 2 * page, 2 * page} {
				if err := f.WriteAt(pieces, off); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("at %d other bytes than were written: %v", off, err)
				}
				pieces[0][0]++
				want[0]++
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Size() != int64(2*page+len(want)) {
				t.Errorf("file: %v, %v", info, err)
			}
		})
	}
}
