// Package errorfs is a disk that fails on demand, for tests: an FS around an
// FS whose operations a test can make fail.
package errorfs

import (
	"sync"
	"syscall"

	"shale/internal/vfs"
)

// An Op names an operation that can be made to fail.
type Op string

// The operations.
const (
	Create  Op = "create"
	Read    Op = "read"
	Write   Op = "write"
	Sync    Op = "sync"
	SyncDir Op = "syncdir"
	Rename  Op = "rename"
	Remove  Op = "remove"
)

// An FS passes everything on to the FS under it, except what Fail says.
type FS struct {
	vfs.FS
	mu   sync.Mutex
	fail func(op Op, name string) error
	free *uint64
	bad  map[sector]bool
}

// A sector is the page of a file from a multiple of vfs.PageSize on.
type sector struct {
	name string
	off  int64
}

// Wrap returns an FS over fs that does not fail yet.
func Wrap(fs vfs.FS) *FS { return &FS{FS: fs} }

// Fail sets what is asked before each operation: an error is what the
// operation then returns, without having been done. Nil ends all failing.
func (f *FS) Fail(fail func(op Op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// BadSector makes the page of a file, which begins at off, unreadable: EIO.
func (f *FS) BadSector(name string, off int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bad == nil {
		f.bad = make(map[sector]bool)
	}
	f.bad[sector{name, off}] = true
}

// checkRead is check for a read of n bytes from off.
func (f *FS) checkRead(name string, off int64, n int) error {
	f.mu.Lock()
	bad := f.bad
	f.mu.Unlock()
	for at := off &^ (vfs.PageSize - 1); len(bad) > 0 && at < off+int64(n); at += vfs.PageSize {
		if bad[sector{name, at}] {
			return syscall.EIO
		}
	}
	return f.check(Read, name)
}

// SetFree makes Free report the number of bytes.
func (f *FS) SetFree(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = &n
}

// Free implements vfs.FS.
func (f *FS) Free() (uint64, error) {
	f.mu.Lock()
	free := f.free
	f.mu.Unlock()
	if free != nil {
		return *free, nil
	}
	return f.FS.Free()
}

func (f *FS) check(op Op, name string) error {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(op, name)
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	if err := f.check(Create, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.FS.Create(name))
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.wrap(name)(f.FS.Open(name)) }

// OpenWrite implements vfs.FS.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.wrap(name)(f.FS.OpenWrite(name)) }

// Rename implements vfs.FS. Its name is that of the file to be replaced.
func (f *FS) Rename(from, to string) error {
	if err := f.check(Rename, to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	if err := f.check(Remove, name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir() error {
	if err := f.check(SyncDir, ""); err != nil {
		return err
	}
	return f.FS.SyncDir()
}

func (f *FS) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(file vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &errorFile{File: file, fs: f, name: name}, nil
	}
}

type errorFile struct {
	vfs.File
	fs   *FS
	name string
}

func (e *errorFile) ReadAt(p []byte, off int64) (int, error) {
	if err := e.fs.checkRead(e.name, off, len(p)); err != nil {
		return 0, err
	}
	return e.File.ReadAt(p, off)
}

func (e *errorFile) ReadSource(p []byte, off int64) (int, error) {
	if err := e.fs.checkRead(e.name, off, len(p)); err != nil {
		return 0, err
	}
	return e.File.ReadSource(p, off)
}

func (e *errorFile) WriteAt(pieces [][]byte, off int64) error {
	if err := e.fs.check(Write, e.name); err != nil {
		return err
	}
	return e.File.WriteAt(pieces, off)
}

func (e *errorFile) Sync() error {
	if err := e.fs.check(Sync, e.name); err != nil {
		return err
	}
	return e.File.Sync()
}
