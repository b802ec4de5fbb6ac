package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"shale/internal/buffer"
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

// diskReads is how many bytes this process has had read from disks.
func diskReads(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\nread_bytes: ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What is in the page cache is read there.
func TestDirectReadsOfWhatIsCached(t *testing.T) {
	const page = vfs.PageSize
	dir, content, _, _ := written(t)
	f, err := vfs.DirectDir(dir).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := diskReads(t)
	got := at(rand.NewChaCha8([32]byte{3}), 0, 128*page)
	if _, err := f.ReadAt(got, page); err != nil || !bytes.Equal(got, content[page:][:len(got)]) {
		t.Fatalf("wrong bytes, or %v", err)
	}
	if n := diskReads(t) - before; n >= len(got) {
		t.Errorf("%d bytes came from the disk", n)
	}
}

// What is not in the page cache is read past it once, wherever it ends, and
// through it when it is read again.
func TestDirectReads(t *testing.T) {
	const page = vfs.PageSize
	dir, content, w, _ := written(t)
	f, err := vfs.DirectDir(dir).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	drop := func() {
		if err := unix.Fadvise(int(w.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
	}
	wasCached := cached(t, w) > 0
	drop()
	telling := wasCached && cached(t, w) == 0 // not on a file system of memory only, or with a cache of its own
	rng := rand.NewChaCha8([32]byte{2})
	for _, r := range []struct {
		name   string
		shift  int // in memory
		off, n int
		past   bool
	}{
		{"whole pages", 0, 0, 128 * page, true},
		{"a part of a page more", 0, page, 128*page + 16, true},
		{"to the end of the file", 0, 100 * page, 200*page + 100, true},
		{"not at a page", 0, 2*page + 1, 128 * page, false},
		{"not at a page in memory", 1, 3 * page, 128 * page, false},
		{"little", 0, 4 * page, page, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			for time, past := range []bool{r.past, false, false} {
				if time < 2 {
					drop()
				}
				got := at(rng, r.shift, r.n)
				if n, err := f.ReadAt(got, int64(r.off)); n != r.n || err != nil || !bytes.Equal(got, content[r.off:][:r.n]) {
					t.Fatalf("time %d: got %d bytes, %v", time, n, err)
				}
				if pages := cached(t, w); telling && (pages == 0) != (past && buffer.Huge()) {
					t.Errorf("time %d: %d pages have come into memory", time, pages)
				}
			}
		})
	}
	for _, r := range []struct{ off, n, want int }{
		{100 * page, 200*page + 101, 200*page + 100},
		{290 * page, 100 * page, 10*page + 100},
		{301 * page, 100 * page, 0},
	} {
		drop()
		got := at(rng, 0, r.n)
		if n, err := f.ReadAt(got, int64(r.off)); n != r.want || !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], content[min(r.off, len(content)):][:n]) {
			t.Errorf("%d bytes from %d: got %d, %v, want %d, io.EOF", r.n, r.off, n, err, r.want)
		}
	}
	drop()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(at(rng, 0, 100*page), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, os.ErrClosed)
	}
}
