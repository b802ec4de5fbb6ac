package vfs

import (
	"errors"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DirectDir is a Dir whose files are written past the page cache, where their
// file system can do that: a byte that is written once and read next year needs
// no page, and finding a fresh one costs more than writing it. Reads go through
// the cache. A write is direct if it begins and ends at a multiple of PageSize;
// it takes pieces from memory as they are as far as they lie at such multiples
// in the file and in memory, and copies the rest.
type DirectDir string

var _ FS = DirectDir("")

// PageSize is the alignment of direct writes, in bytes: that of the strictest
// disks.
const PageSize = 4096

// Create implements FS.
func (d DirectDir) Create(name string) (File, error) { return withDirect(Dir(d).Create(name)) }

// Open implements FS.
func (d DirectDir) Open(name string) (File, error) { return Dir(d).Open(name) }

// OpenWrite implements FS.
func (d DirectDir) OpenWrite(name string) (File, error) { return withDirect(Dir(d).OpenWrite(name)) }

// Remove implements FS.
func (d DirectDir) Remove(name string) error { return Dir(d).Remove(name) }

// Rename implements FS.
func (d DirectDir) Rename(from, to string) error { return Dir(d).Rename(from, to) }

// Size implements FS.
func (d DirectDir) Size(name string) (int64, error) { return Dir(d).Size(name) }

// Sizes implements FS.
func (d DirectDir) Sizes(names []string) ([]int64, error) { return Dir(d).Sizes(names) }

// List implements FS.
func (d DirectDir) List() ([]string, error) { return Dir(d).List() }

// SyncDir implements FS.
func (d DirectDir) SyncDir() error { return Dir(d).SyncDir() }

// Free implements FS.
func (d DirectDir) Free() (uint64, error) { return Dir(d).Free() }

// directFile writes through a second descriptor of the file.
type directFile struct {
	File
	direct *file // nil once the file system has refused
}

// withDirect takes what Create or OpenWrite gave.
func withDirect(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	d, err := os.OpenFile(f.(*file).Name(), os.O_WRONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return f, nil // tmpfs before Linux 6.6, and some in user space
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	direct, err := newFile(d)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &directFile{f, direct}, nil
}

// WriteAt implements File.
func (f *directFile) WriteAt(pieces [][]byte, off int64) error {
	size := int64(0)
	for _, p := range pieces {
		size += int64(len(p))
	}
	if f.direct == nil || off%PageSize != 0 || size%PageSize != 0 {
		return f.File.WriteAt(pieces, off)
	}
	aligned, done := align(pieces)
	defer done()
	err := f.direct.WriteAt(aligned, off)
	if errors.Is(err, unix.EINVAL) {
		// The alignment is not enough here. Whatever was written of it is
		// written over.
		_ = f.direct.Close()
		f.direct = nil
		return f.File.WriteAt(pieces, off)
	}
	return err
}

// Close implements File.
func (f *directFile) Close() error {
	if f.direct == nil {
		return f.File.Close()
	}
	return errors.Join(f.direct.Close(), f.File.Close())
}

// chunkSize is what copied bytes are gathered in. Go puts memory of that size
// at a multiple of its own pages, of 8 KiB.
const chunkSize = 256 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// align gives the same bytes in pieces that begin in memory, and have lengths,
// at multiples of PageSize, as the sum of lengths must be. They are valid until
// done is called.
func align(pieces [][]byte) (aligned [][]byte, done func()) {
	var used []*[chunkSize]byte
	var chunk []byte // of the last one, what has not been given out
	filled := 0      // of chunk
	give := func() {
		if filled > 0 {
			aligned, chunk, filled = append(aligned, chunk[:filled]), chunk[filled:], 0
		}
	}
	for _, p := range pieces {
		for len(p) > 0 {
			if filled%PageSize == 0 && len(p) >= PageSize && uintptr(unsafe.Pointer(&p[0]))%PageSize == 0 {
				give()
				n := len(p) &^ (PageSize - 1)
				aligned, p = append(aligned, p[:n]), p[n:]
				continue
			}
			if filled == len(chunk) {
				give()
				c := chunks.Get().(*[chunkSize]byte)
				used, chunk = append(used, c), c[:]
			}
			// To the end of a page only, for there p may be aligned.
			n := copy(chunk[filled:filled/PageSize*PageSize+PageSize], p)
			filled += n
			p = p[n:]
		}
	}
	give()
	return aligned, func() {
		for _, c := range used {
			chunks.Put(c)
		}
	}
}

// ReadSource implements File.
func (f *file) ReadSource(p []byte, off int64) (int, error) {
	direct, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil { // its name is gone, or the file system cannot do it
		return f.readForgotten(p, off)
	}
	defer direct.Close()
	c := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(c)
	for done := 0; done < len(p); {
		skip := (off + int64(done)) % PageSize
		want := min(chunkSize, (skip+int64(len(p)-done)+PageSize-1)/PageSize*PageSize)
		n, err := unix.Pread(int(direct.Fd()), c[:want], off+int64(done)-skip)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EINVAL: // other disks may be stricter
			return f.readForgotten(p, off)
		case err != nil:
			return done, &os.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		done += copy(p[done:], c[min(skip, int64(n)):n])
		if int64(n) < want && done < len(p) {
			return done, io.EOF
		}
	}
	return len(p), nil
}

// readForgotten reads after it has asked the kernel to drop what it has in
// memory, which it does with whole folios only, of up to 2 MiB.
func (f *file) readForgotten(p []byte, off int64) (int, error) {
	const folio = 2 << 20
	from, to := off/folio*folio, (off+int64(len(p))+folio-1)/folio*folio
	_ = unix.Fadvise(int(f.Fd()), from, to-from, unix.FADV_DONTNEED) // advice only
	return f.ReadAt(p, off)
}
