// Package vfs is the block store's only way to the disk: one interface over
// one folder, so that tests can put a disk that fails under it.
package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// An FS is one folder of files. Its methods may be called concurrently.
type FS interface {
	// Create makes a new file for reading and writing; an existing one is an
	// error. Neither the file nor its name is durable before File.Sync and
	// SyncDir.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenWrite opens a file for reading and writing.
	OpenWrite(name string) (File, error)
	// Remove removes a file's name, durably after SyncDir.
	Remove(name string) error
	// Rename gives the file called from the name to, in place of a file that had
	// it, durably after SyncDir.
	Rename(from, to string) error
	// Size is the length in bytes of a file, which need not be open.
	Size(name string) (int64, error)
	// Sizes is Size of many files, in less time than one after another; -1 for a
	// name that there is no file with.
	Sizes(names []string) ([]int64, error)
	// List gives the names of all files, in lexical order.
	List() ([]string, error)
	// SyncDir makes creations and removals durable.
	SyncDir() error
	// Free is the number of bytes that may still be written.
	Free() (uint64, error)
}

// A File is an open file. Reads may run concurrently with each other and with
// one writer; WriteAt, Sync and Truncate are for one caller at a time.
type File interface {
	// ReadAt fills p from offset off, or fails.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes the pieces one after another from offset off.
	WriteAt(pieces [][]byte, off int64) error
	// Sync makes all that was written durable, with the length needed to read
	// it back (fdatasync). After an error nothing is known about any byte
	// written since the last success, and a later success proves nothing.
	Sync() error
	// Truncate sets the length, durably after Sync.
	Truncate(size int64) error
	// Size is the length in bytes.
	Size() (int64, error)
	// ReadSource is ReadAt past the page cache: what it gives comes from the disk
	// itself, as far as the file system can do that, and stays nowhere.
	ReadSource(p []byte, off int64) (int, error)
	Close() error
}

// Dir is the FS of a real folder. Files are made with mode 0600.
type Dir string

var _ FS = Dir("")

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Create implements FS.
func (d Dir) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (d Dir) Open(name string) (File, error) { return d.open(name, os.O_RDONLY) }

// OpenWrite implements FS.
func (d Dir) OpenWrite(name string) (File, error) { return d.open(name, os.O_RDWR) }

func (d Dir) open(name string, flag int) (File, error) {
	f, err := os.OpenFile(d.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return newFile(f)
}

// Remove implements FS.
func (d Dir) Remove(name string) error { return os.Remove(d.path(name)) }

// Rename implements FS.
func (d Dir) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

// Size implements FS.
func (d Dir) Size(name string) (int64, error) {
	info, err := os.Stat(d.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Sizes implements FS. The folder's path is resolved once, and each processor
// asks for a part of the files.
func (d Dir) Sizes(names []string) ([]int64, error) {
	folder, err := os.Open(string(d))
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	fd := int(folder.Fd())
	sizes := make([]int64, len(names))
	var parts errgroup.Group
	part := len(names)/runtime.GOMAXPROCS(0) + 1
	for first := 0; first < len(names); first += part {
		parts.Go(func() error {
			for i := first; i < min(first+part, len(names)); i++ {
				size, err := sizeAt(fd, names[i])
				if err != nil {
					return &fs.PathError{Op: "stat", Path: d.path(names[i]), Err: err}
				}
				sizes[i] = size
			}
			return nil
		})
	}
	return sizes, parts.Wait()
}

// sizeAt gives the size of a file in the open folder, -1 if there is none.
func sizeAt(folder int, name string) (int64, error) {
	for {
		var st unix.Stat_t
		switch err := unix.Fstatat(folder, name, &st, 0); err {
		case nil:
			return st.Size, nil
		case unix.EINTR:
		case unix.ENOENT:
			return -1, nil
		default:
			return 0, err
		}
	}
}

// List implements FS.
func (d Dir) List() ([]string, error) {
	folder, err := os.Open(string(d))
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// SyncDir implements FS.
func (d Dir) SyncDir() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Free implements FS.
func (d Dir) Free() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: string(d), Err: err}
	}
	return st.Bavail * uint64(st.Bsize), nil
}

type file struct {
	*os.File
	raw syscall.RawConn
}

func newFile(f *os.File) (*file, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f, raw}, nil
}

// ReadAt implements File. What is in the page cache is copied without telling
// Go's scheduler, which else takes a long copy for a wait: it hands the
// processor to another thread meanwhile, and the goroutine goes on far from its
// cache.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n := f.readCached(p, off)
	if n == len(p) {
		return n, nil
	}
	rest, err := f.File.ReadAt(p[n:], off+int64(n))
	return n + rest, err
}

// readCached fills the beginning of p with what can be had without waiting.
// Where there is an error, also that of a file system that cannot do this, or an
// end, that is nothing: ReadAt finds it out once more.
func (f *file) readCached(p []byte, off int64) (n int) {
	if len(p) == 0 || off < 0 {
		return 0
	}
	_ = f.raw.Control(func(fd uintptr) { n = preadCached(fd, p, off) }) // it fails once the file is closed
	return n
}

// maxPieces is the kernel's limit for one pwritev (IOV_MAX).
const maxPieces = 1024

func (f *file) WriteAt(pieces [][]byte, off int64) error {
	fd := int(f.Fd())
	pieces = append([][]byte(nil), pieces...) // shortened below as they are written
	for len(pieces) > 0 {
		n, err := unix.Pwritev(fd, pieces[:min(len(pieces), maxPieces)], off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		off += int64(n)
		for len(pieces) > 0 && n >= len(pieces[0]) {
			n -= len(pieces[0])
			pieces = pieces[1:]
		}
		if n > 0 {
			pieces[0] = pieces[0][n:]
		}
	}
	return nil
}

func (f *file) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}

func (f *file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
