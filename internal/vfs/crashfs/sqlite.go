package crashfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// SQLite is SQLite's way to the disk, until Close. The index of a write-ahead
// log, which is not on any disk, is a real file in a temporary folder.
func (d *Disk) SQLite() (vfs.VFSFilename, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shm != "" {
		return system{d}, nil
	}
	temp := "/dev/shm"
	if _, err := os.Stat(temp); err != nil {
		temp = ""
	}
	var err error
	d.shm, err = os.MkdirTemp(temp, "crashfs-")
	return system{d}, err
}

// system is SQLite's file system on a disk.
type system struct{ d *Disk }

// FullPathname implements vfs.VFS.
func (system) FullPathname(name string) (string, error) { return path.Join("/", name), nil }

// Open implements vfs.VFS. SQLite asks OpenFilename.
func (s system) Open(string, vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	return nil, 0, sqlite3.CANTOPEN
}

// OpenFilename implements vfs.VFSFilename.
func (s system) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if name == nil || flags&vfs.OPEN_DELETEONCLOSE != 0 {
		return nil, flags, sqlite3.CANTOPEN // what is temporary is kept in memory
	}
	at := clean(name.String())
	var n *inode
	var err error
	if flags&vfs.OPEN_CREATE != 0 {
		n, err = s.d.create(at, flags&vfs.OPEN_EXCLUSIVE != 0)
	} else {
		n, err = s.d.open(at)
	}
	if err != nil {
		return nil, flags, vfs.SystemError(err, sqlite3.CANTOPEN)
	}
	const journals = vfs.OPEN_MAIN_JOURNAL | vfs.OPEN_SUPER_JOURNAL | vfs.OPEN_WAL
	f := &sqliteFile{n: n, powersafe: true, syncDir: flags&vfs.OPEN_CREATE != 0 && flags&journals != 0}
	f.shm = vfs.NewSharedMemory(filepath.Join(s.d.shm, filepath.Base(at)+"-shm"), flags)
	return f, flags, nil
}

// Delete implements vfs.VFS.
func (s system) Delete(name string, syncDir bool) error {
	at := clean(name)
	err := s.d.remove(at)
	if errors.Is(err, fs.ErrNotExist) {
		return vfs.SystemError(err, sqlite3.IOERR_DELETE_NOENT)
	}
	if err != nil {
		return vfs.SystemError(err, sqlite3.IOERR_DELETE)
	}
	if syncDir {
		if err := s.d.syncDir(path.Dir(at)); err != nil {
			return vfs.SystemError(err, sqlite3.IOERR_DIR_FSYNC)
		}
	}
	return nil
}

// Access implements vfs.VFS.
func (s system) Access(name string, _ vfs.AccessFlag) (bool, error) {
	return s.d.exists(clean(name)), nil
}

// A sqliteFile is a file as one connection has it open. It does what the
// driver's own files do.
type sqliteFile struct {
	n          *inode
	shm        vfs.SharedMemory
	lock       vfs.LockLevel
	reserved   bool // by this connection
	powersafe  bool
	persistWAL bool
	syncDir    bool // the first sync is also one of the folder
}

var (
	_ vfs.FileSharedMemory       = (*sqliteFile)(nil)
	_ vfs.FileLockState          = (*sqliteFile)(nil)
	_ vfs.FileHasMoved           = (*sqliteFile)(nil)
	_ vfs.FileSizeHint           = (*sqliteFile)(nil)
	_ vfs.FilePersistWAL         = (*sqliteFile)(nil)
	_ vfs.FilePowersafeOverwrite = (*sqliteFile)(nil)
)

// Close implements vfs.File.
func (f *sqliteFile) Close() error {
	err := f.Unlock(vfs.LOCK_NONE)
	if f.shm != nil {
		err = errors.Join(err, f.shm.Close())
	}
	return err
}

// ReadAt implements vfs.File.
func (f *sqliteFile) ReadAt(p []byte, off int64) (int, error) { return f.n.readAt(p, off) }

// WriteAt implements vfs.File.
func (f *sqliteFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.n.writeAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Truncate implements vfs.File.
func (f *sqliteFile) Truncate(size int64) error { return f.n.truncate(size) }

// Sync implements vfs.File.
func (f *sqliteFile) Sync(vfs.SyncFlag) error {
	if err := f.n.sync(); err != nil {
		return err
	}
	if f.syncDir {
		f.syncDir = false
		if err := f.n.disk.syncDir(path.Dir(f.n.path())); err != nil {
			return vfs.SystemError(err, sqlite3.IOERR_DIR_FSYNC)
		}
	}
	return nil
}

// Size implements vfs.File.
func (f *sqliteFile) Size() (int64, error) { return f.n.size(), nil }

// SizeHint implements vfs.FileSizeHint.
func (f *sqliteFile) SizeHint(size int64) error {
	if size <= f.n.size() {
		return nil
	}
	return f.n.truncate(size)
}

// Lock implements vfs.File.
func (f *sqliteFile) Lock(lock vfs.LockLevel) error {
	if f.lock >= lock {
		return nil
	}
	f.n.disk.mu.Lock()
	defer f.n.disk.mu.Unlock()
	held, ok := f.n.locks.lock(f.lock, lock)
	f.lock = held
	if !ok {
		return sqlite3.BUSY
	}
	f.reserved = f.reserved || lock == vfs.LOCK_RESERVED
	return nil
}

// Unlock implements vfs.File.
func (f *sqliteFile) Unlock(lock vfs.LockLevel) error {
	if f.lock <= lock {
		return nil
	}
	f.n.disk.mu.Lock()
	defer f.n.disk.mu.Unlock()
	f.n.locks.unlock(f.lock, lock, f.reserved)
	f.lock, f.reserved = lock, false
	return nil
}

// CheckReservedLock implements vfs.File.
func (f *sqliteFile) CheckReservedLock() (bool, error) {
	f.n.disk.mu.Lock()
	defer f.n.disk.mu.Unlock()
	return f.n.locks.reserved || f.n.locks.pending, nil
}

// SectorSize implements vfs.File.
func (f *sqliteFile) SectorSize() int { return pageSize }

// DeviceCharacteristics implements vfs.File.
func (f *sqliteFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	c := vfs.IOCAP_SUBPAGE_READ
	if f.powersafe {
		c |= vfs.IOCAP_POWERSAFE_OVERWRITE
	}
	return c
}

// HasMoved implements vfs.FileHasMoved.
func (f *sqliteFile) HasMoved() (bool, error) {
	f.n.disk.mu.Lock()
	defer f.n.disk.mu.Unlock()
	return f.n.disk.files[f.n.name] != f.n, nil
}

// SharedMemory implements vfs.FileSharedMemory.
func (f *sqliteFile) SharedMemory() vfs.SharedMemory { return f.shm }

// LockState implements vfs.FileLockState.
func (f *sqliteFile) LockState() vfs.LockLevel { return f.lock }

// PersistWAL implements vfs.FilePersistWAL.
func (f *sqliteFile) PersistWAL() bool { return f.persistWAL }

// SetPersistWAL implements vfs.FilePersistWAL.
func (f *sqliteFile) SetPersistWAL(keep bool) { f.persistWAL = keep }

// PowersafeOverwrite implements vfs.FilePowersafeOverwrite.
func (f *sqliteFile) PowersafeOverwrite() bool { return f.powersafe }

// SetPowersafeOverwrite implements vfs.FilePowersafeOverwrite.
func (f *sqliteFile) SetPowersafeOverwrite(powersafe bool) { f.powersafe = powersafe }
