package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"shale/internal/vfs"
)

// cached is how many pages of the file the page cache has.
func cached(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var stat unix.Cachestat_t
	err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("Linux before 6.5 does not tell what is in memory")
	}
	if err != nil {
		t.Fatal(err)
	}
	return stat.Cache
}

// written makes a file that is on the disk: its folder, what is in it, the file as
// the system has it, and as this package opens it.
func written(t *testing.T) (dir string, content []byte, w *os.File, f vfs.File) {
	t.Helper()
	dir = t.TempDir()
	content = make([]byte, 300*vfs.PageSize+100)
	for i := range content {
		content[i] = byte(i * 31 >> 5)
	}
	w, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	f, err = vfs.Dir(dir).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return dir, content, w, f
}

// What is read from the disk itself is what was written, wherever it begins and
// ends, and comes neither from memory nor into it.
func TestReadSource(t *testing.T) {
	dir, content, w, f := written(t)
	if err := unix.Fadvise(int(w.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	dropped := cached(t, w) == 0 // not on a file system that has nothing but memory
	const page = vfs.PageSize
	for _, r := range [][2]int{{0, page}, {0, len(content)}, {1, 1}, {page - 1, 2}, {page + 3, 128*page + 16}, {300 * page, 100}, {64 * page, 64 * page}, {5, 0}} {
		got := make([]byte, r[1])
		if n, err := f.ReadSource(got, int64(r[0])); n != r[1] || err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
			t.Errorf("%d bytes from %d: got %d, %v", r[1], r[0], n, err)
		}
	}
	for _, r := range [][2]int{{300 * page, 101}, {301 * page, 1}, {0, len(content) + 1}} {
		if _, err := f.ReadSource(make([]byte, r[1]), int64(r[0])); !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes from %d: got %v, want io.EOF", r[1], r[0], err)
		}
	}
	if n := cached(t, w); dropped && n != 0 {
		t.Errorf("%d pages have come into memory", n)
	}
	// Without its name it is read through the cache, which is asked to let go.
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2*page)
	if n, err := f.ReadSource(got, page); n != len(got) || err != nil || !bytes.Equal(got, content[page:3*page]) {
		t.Errorf("of a removed file: got %d bytes, %v", n, err)
	}
}

// What is read is what was written, however much of it is in memory, and an end
// or a closed file is an error as it is of *os.File.
func TestReadAt(t *testing.T) {
	_, content, w, f := written(t)
	const page = vfs.PageSize
	forget := func(from, pages int) {
		if err := unix.Fadvise(int(w.Fd()), int64(from), int64(pages*page), unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []struct {
		name string
		set  func()
	}{
		{"all in memory", func() {}},
		{"nothing in memory", func() { forget(0, 301) }},
		{"the middle not in memory", func() { forget(100*page, 64) }},
		{"only the middle in memory", func() { forget(0, 100); forget(164*page, 137) }},
	} {
		for _, r := range [][2]int{{0, len(content)}, {0, page}, {1, 1}, {page + 3, 128*page + 16}, {300 * page, 100}, {5, 0}} {
			if _, err := f.ReadAt(make([]byte, len(content)), 0); err != nil {
				t.Fatal(err)
			}
			state.set()
			got := make([]byte, r[1])
			if n, err := f.ReadAt(got, int64(r[0])); n != r[1] || err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
				t.Errorf("%s, %d bytes from %d: got %d, %v", state.name, r[1], r[0], n, err)
			}
		}
		for _, r := range [][2]int{{300 * page, 101}, {301 * page, 1}, {0, len(content) + 1}} {
			state.set()
			if n, err := f.ReadAt(make([]byte, r[1]), int64(r[0])); !errors.Is(err, io.EOF) || n != max(len(content)-r[0], 0) {
				t.Errorf("%s, %d bytes from %d: got %d, %v, want io.EOF", state.name, r[1], r[0], n, err)
			}
		}
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a byte before the first was read")
	}
	f.Close()
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("of a closed file: got %v, want os.ErrClosed", err)
	}
}
