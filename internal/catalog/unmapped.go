package catalog

import (
	"sync"

	"github.com/ncruces/go-sqlite3/vfs"
)

// unmapped is SQLite's own file system without memory-mapped databases, which
// nothing here asks for. With it, a checkpoint that finds that another process
// has written to a database with checksums would panic: it closes the mapping,
// and the driver has none for such a database (go-sqlite3 v0.37.0, vfsUnfetch).
const unmapped = "shale-unmapped"

var registerUnmapped = sync.OnceFunc(func() { vfs.Register(unmapped, unmappedSystem{vfs.Find("").(vfs.VFSFilename)}) })

type unmappedSystem struct{ vfs.VFSFilename }

func (s unmappedSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, opened, err := s.VFSFilename.OpenFilename(name, flags)
	if whole, ok := file.(databaseFile); ok && err == nil && flags&vfs.OPEN_MAIN_DB != 0 {
		return unmappedFile{whole}, opened, nil
	}
	return file, opened, err
}

// A databaseFile is what the system's database files can do, of what SQLite
// asks for in the ways that they are used here.
type databaseFile interface {
	vfs.FileSharedMemory
	HasMoved() (bool, error)
	SizeHint(size int64) error
}

type unmappedFile struct{ databaseFile }

// DeviceCharacteristics leaves out the one that would need more of the file.
func (f unmappedFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.databaseFile.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}
