package crashfs

import (
	"errors"
	"io/fs"
	"path"

	"shale/internal/vfs"
)

// Folder is a folder of the disk; "" is its root. All folders exist, durably.
func (d *Disk) Folder(name string) vfs.FS { return folder{d, clean(name)} }

type folder struct {
	disk *Disk
	name string
}

var _ vfs.FS = folder{}

func (f folder) path(name string) string { return path.Join(f.name, name) }

// dir is the name that path.Dir gives to what is in the folder.
func (f folder) dir() string { return path.Dir(path.Join(f.name, "x")) }

// Create implements vfs.FS.
func (f folder) Create(name string) (vfs.File, error) {
	return handle(f.disk.create(f.path(name), true))
}

// Open implements vfs.FS.
func (f folder) Open(name string) (vfs.File, error) { return handle(f.disk.open(f.path(name))) }

// OpenWrite implements vfs.FS.
func (f folder) OpenWrite(name string) (vfs.File, error) { return handle(f.disk.open(f.path(name))) }

// Remove implements vfs.FS.
func (f folder) Remove(name string) error { return f.disk.remove(f.path(name)) }

// Rename implements vfs.FS.
func (f folder) Rename(from, to string) error { return f.disk.rename(f.path(from), f.path(to)) }

// Size implements vfs.FS.
func (f folder) Size(name string) (int64, error) { return f.disk.stat(f.path(name)) }

// Sizes implements vfs.FS.
func (f folder) Sizes(names []string) ([]int64, error) {
	sizes := make([]int64, len(names))
	for i, name := range names {
		size, err := f.Size(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			size = -1
		case err != nil:
			return nil, err
		}
		sizes[i] = size
	}
	return sizes, nil
}

// List implements vfs.FS.
func (f folder) List() ([]string, error) { return f.disk.list(f.dir()), nil }

// SyncDir implements vfs.FS.
func (f folder) SyncDir() error { return f.disk.syncDir(f.dir()) }

// Free implements vfs.FS.
func (f folder) Free() (uint64, error) { return f.disk.freeBytes(), nil }

func handle(n *inode, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return file{n}, nil
}

type file struct{ n *inode }

// ReadAt implements vfs.File.
func (f file) ReadAt(p []byte, off int64) (int, error) { return f.n.readAt(p, off) }

// WriteAt implements vfs.File: the pieces are one write.
func (f file) WriteAt(pieces [][]byte, off int64) error {
	var b []byte
	for _, p := range pieces {
		b = append(b, p...)
	}
	return f.n.writeAt(b, off)
}

// Sync implements vfs.File.
func (f file) Sync() error { return f.n.sync() }

// Truncate implements vfs.File.
func (f file) Truncate(size int64) error { return f.n.truncate(size) }

// Size implements vfs.File.
func (f file) Size() (int64, error) { return f.n.size(), nil }

// ReadSource implements vfs.File.
func (f file) ReadSource(p []byte, off int64) (int, error) {
	f.n.forget(off, int64(len(p)))
	return f.n.readAt(p, off)
}

// Close implements vfs.File.
func (f file) Close() error { return nil }
