package vfs

import (
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"shale/internal/buffer"
)

// DirectDir is a Dir whose files are written past the page cache, where their
// file system can do that: a byte that is written once and read next year needs
// no page, and finding a fresh one costs more than writing it. A write is direct
// if it begins and ends at a multiple of PageSize; it takes pieces from memory as
// they are as far as they lie at such multiples in the file and in memory, and
// copies the rest.
//
// Reads of a file that was opened for reading are direct, too, for the same
// reason: those of minDirect bytes or more, to memory and from an offset at
// multiples of PageSize, where there are huge pages for them, without which they
// can take longer than through the cache. But what is in the page cache is read
// there, and what is read again before long comes into it.
type DirectDir string

var _ FS = DirectDir("")

// PageSize is the alignment of direct reads and writes, in bytes: that of the
// strictest disks.
const PageSize = buffer.PageSize

// minDirect is far more than the nodes of a block map that are read at a time,
// which are read again and again.
const minDirect = 64 << 10

// Create implements FS.
func (d DirectDir) Create(name string) (File, error) { return withDirect(Dir(d).Create(name)) }

// Open implements FS.
func (d DirectDir) Open(name string) (File, error) {
	opened, err := Dir(d).Open(name)
	if err != nil || !buffer.Huge() {
		return opened, err
	}
	f := opened.(*file)
	direct, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return f, nil // it cannot be done here; or the file is gone by now
	}
	return &directReader{f, direct, maphash.String(seed, f.Name())}, nil
}

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

// align gives the same bytes in pieces that begin in memory, and have lengths,
// at multiples of PageSize, as the sum of lengths must be. They are valid until
// done is called.
func align(pieces [][]byte) (aligned [][]byte, done func()) {
	var used []*buffer.Buffer
	var chunk []byte // of the last one, what has not been given out
	filled := 0      // of chunk
	give := func() {
		if filled > 0 {
			aligned, chunk, filled = append(aligned, chunk[:filled]), chunk[filled:], 0
		}
	}
	for _, p := range pieces {
		for len(p) > 0 {
			if filled%PageSize == 0 && len(p) >= PageSize && isAligned(p) {
				give()
				n := len(p) &^ (PageSize - 1)
				aligned, p = append(aligned, p[:n]), p[n:]
				continue
			}
			if filled == len(chunk) {
				give()
				c := buffer.Get()
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
			buffer.Put(c)
		}
	}
}

// isAligned reports whether p, which is not empty, begins at a page.
func isAligned(p []byte) bool { return uintptr(unsafe.Pointer(&p[0]))%PageSize == 0 }

// directReader is a file that is open for reading, with a second descriptor.
type directReader struct {
	*file
	direct *os.File
	hash   uint64 // of the file's name
}

// ReadAt implements File.
func (f *directReader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) >= minDirect && isAligned(p) && off%PageSize == 0 && f.uncached(off) && !recent.again(f.hash, off) {
		n, err := readDirect(f.direct, p, off)
		if !errors.Is(err, unix.EINVAL) { // other disks may be stricter
			return n, err
		}
	}
	return f.file.ReadAt(p, off)
}

// ReadSource implements File.
func (f *directReader) ReadSource(p []byte, off int64) (int, error) {
	return f.readSource(f.direct, p, off)
}

// Close implements File.
func (f *directReader) Close() error { return errors.Join(f.direct.Close(), f.file.Close()) }

// uncached reports whether the page at off is known not to be in the page cache.
// What is read at a time is in it as a whole, or not at all, but for the border of
// what was read otherwise. It takes 0.4 µs, where asking about a block takes 6;
// a read that is not to wait (RWF_NOWAIT) would begin to bring the block in.
func (f *directReader) uncached(off int64) bool {
	var stat unix.Cachestat_t
	err := unix.Cachestat(uint(f.direct.Fd()), &unix.CachestatRange{Off: uint64(off), Len: PageSize}, &stat, 0)
	return err == nil && stat.Cache == 0 // before Linux 6.5 nothing is known
}

// recent knows what was read past the page cache lately, in all files.
var recent reads

// reads remembers the last reads, by their hashes: each is forgotten once another
// takes its place. There are as many places as there are blocks in 8 GiB: what is
// read again after more than that would often have left the page cache, too.
type reads [16 << 10]atomic.Uint64

var seed = maphash.MakeSeed()

// again reports whether such a read is remembered, and remembers it.
func (r *reads) again(file uint64, off int64) bool {
	hash := maphash.Comparable(seed, [2]uint64{file, uint64(off)})
	return r[hash%uint64(len(r))].Swap(hash) == hash
}

// readDirect fills p from off of a file that is open with O_DIRECT. To memory at
// the same place in a page it reads as it is, or else by way of a buffer. Errors:
// io.EOF where the file ends; one that is EINVAL if the file cannot be read in
// this way.
func readDirect(f *os.File, p []byte, off int64) (int, error) {
	b := buffer.Get()
	defer buffer.Put(b)
	for done := 0; done < len(p); {
		at := off + int64(done)
		skip := int(at % PageSize)
		rest := p[done:]
		var n int
		var err error
		if whole := len(rest) &^ (PageSize - 1); skip == 0 && whole > 0 && isAligned(rest) {
			n, err = preadv(f, [][]byte{rest[:whole], b[:pad(len(rest)-whole)]}, at)
			if n > whole {
				n = whole + copy(rest[whole:], b[:n-whole])
			}
		} else {
			n, err = preadv(f, [][]byte{b[:min(len(b), pad(skip+len(rest)))]}, at-int64(skip))
			n = copy(rest, b[min(skip, n):n])
		}
		switch {
		case err != nil:
			return done, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
		case n == 0:
			return done, io.EOF
		}
		done += n
	}
	return len(p), nil
}

// pad gives the next multiple of PageSize.
func pad(n int) int { return (n + PageSize - 1) &^ (PageSize - 1) }

func preadv(f *os.File, pieces [][]byte, off int64) (int, error) {
	for {
		n, err := unix.Preadv(int(f.Fd()), pieces, off)
		if err != unix.EINTR {
			return max(n, 0), err
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
	return f.readSource(direct, p, off)
}

// readSource is ReadSource by way of a descriptor with O_DIRECT.
func (f *file) readSource(direct *os.File, p []byte, off int64) (int, error) {
	n, err := readDirect(direct, p, off)
	if errors.Is(err, unix.EINVAL) { // other disks may be stricter
		return f.readForgotten(p, off)
	}
	return n, err
}

// readForgotten reads after it has asked the kernel to drop what it has in
// memory, which it does with whole folios only, of up to 2 MiB.
func (f *file) readForgotten(p []byte, off int64) (int, error) {
	const folio = 2 << 20
	from, to := off/folio*folio, (off+int64(len(p))+folio-1)/folio*folio
	_ = unix.Fadvise(int(f.Fd()), from, to-from, unix.FADV_DONTNEED) // advice only
	return f.ReadAt(p, off)
}
