package catalog

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	sqlitevfs "github.com/ncruces/go-sqlite3/vfs"

	"shale/internal/vfs"
)

// A Disk is what a database is kept on.
type Disk interface {
	// Folder is the folder of the path.
	Folder(path string) vfs.FS
	// SQLite is SQLite's way to the same files.
	SQLite() (sqlitevfs.VFSFilename, error)
}

// A LocalDisk is this machine's file systems.
type LocalDisk struct{}

// Folder implements Disk.
func (LocalDisk) Folder(path string) vfs.FS { return vfs.DirectDir(path) }

// SQLite implements Disk.
func (LocalDisk) SQLite() (sqlitevfs.VFSFilename, error) {
	return sqlitevfs.Find("").(sqlitevfs.VFSFilename), nil
}

// registered counts the file systems that SQLite has been told of.
var registered atomic.Int64

// register tells SQLite of a disk. failed is called with each error of a write,
// a sync or a change of a length, but that there is no room. forget undoes it.
func register(d Disk, failed func(error)) (name string, forget func(), err error) {
	files, err := d.SQLite()
	if err != nil {
		return "", nil, err
	}
	name = fmt.Sprintf("shale-%d", registered.Add(1))
	sqlitevfs.Register(name, unmappedFiles{files, failed})
	return name, func() { sqlitevfs.Unregister(name) }, nil
}

// unmappedFiles is SQLite's own file system without memory-mapped files, which
// pages with checksums never use. The driver offers them all the same and
// panics when it is asked to let go of one, as it is at each checkpoint that
// finds that another process has written.
type unmappedFiles struct {
	sqlitevfs.VFSFilename
	failed func(error)
}

// OpenFilename implements sqlitevfs.VFSFilename.
func (s unmappedFiles) OpenFilename(name *sqlitevfs.Filename, flags sqlitevfs.OpenFlag) (sqlitevfs.File, sqlitevfs.OpenFlag, error) {
	f, flags, err := s.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return nil, flags, err
	}
	return unmappedFile{f.(mappedFile), s.failed}, flags, nil
}

// A mappedFile is a file of the driver's, as far as it is used here.
type mappedFile interface {
	sqlitevfs.FileSharedMemory
	sqlitevfs.FileLockState
	sqlitevfs.FileHasMoved
	sqlitevfs.FileSizeHint
	sqlitevfs.FilePersistWAL
	sqlitevfs.FilePowersafeOverwrite
}

// An unmappedFile hides that the file could be mapped, and hides no error:
// SQLite passes over those of a checkpoint, which it tries again later, and a
// sync must not be tried again.
type unmappedFile struct {
	mappedFile
	failed func(error)
}

// DeviceCharacteristics implements sqlitevfs.File. Atomic batches are hidden too:
// they are methods of files on one file system only.
func (f unmappedFile) DeviceCharacteristics() sqlitevfs.DeviceCharacteristic {
	return f.mappedFile.DeviceCharacteristics() &^ sqlitevfs.IOCAP_BATCH_ATOMIC
}

// WriteAt implements sqlitevfs.File. It tells SQLite of a full disk, and so what
// calls the catalog: the driver takes it for any error.
func (f unmappedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.mappedFile.WriteAt(p, off)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return n, sqlitevfs.SystemError(err, sqlite3.FULL)
	}
	return n, f.report(err)
}

// Truncate implements sqlitevfs.File.
func (f unmappedFile) Truncate(size int64) error { return f.report(f.mappedFile.Truncate(size)) }

// Sync implements sqlitevfs.File.
func (f unmappedFile) Sync(flags sqlitevfs.SyncFlag) error { return f.report(f.mappedFile.Sync(flags)) }

func (f unmappedFile) report(err error) error {
	if err != nil {
		f.failed(err)
	}
	return err
}
