package catalog

import (
	"sync"

	"github.com/ncruces/go-sqlite3/vfs"
)

// system is the name under which SQLite knows the file system of catalogs.
const system = "shale"

// register makes system known, once.
var register = sync.OnceFunc(func() { vfs.Register(system, unmappedFiles{vfs.Find("")}) })

// unmappedFiles is SQLite's own file system without memory-mapped files, which
// pages with checksums never use. The driver offers them all the same and
// panics when it is asked to let go of one, as it is at each checkpoint that
// finds that another process has written.
type unmappedFiles struct{ vfs.VFS }

// OpenFilename implements vfs.VFSFilename.
func (s unmappedFiles) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := s.VFS.(vfs.VFSFilename).OpenFilename(name, flags)
	if err != nil {
		return nil, flags, err
	}
	return unmappedFile{f.(mappedFile)}, flags, nil
}

// A mappedFile is a file of the driver's, as far as it is used here.
type mappedFile interface {
	vfs.FileSharedMemory
	vfs.FileLockState
	vfs.FileHasMoved
	vfs.FileSizeHint
	vfs.FilePersistWAL
	vfs.FilePowersafeOverwrite
}

// An unmappedFile hides that the file could be mapped.
type unmappedFile struct{ mappedFile }

// DeviceCharacteristics implements vfs.File. Atomic batches are hidden too:
// they are methods of files on one file system only.
func (f unmappedFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.mappedFile.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}
