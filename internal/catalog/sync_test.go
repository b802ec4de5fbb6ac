package catalog_test

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"shale/internal/blockstore"
	"shale/internal/catalog"
)

// failing is SQLite's file system whose syncs fail on demand.
type failing struct {
	vfs.VFS
	fail atomic.Bool
}

func (f *failing) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := f.VFS.(vfs.VFSFilename).OpenFilename(name, flags)
	if err != nil {
		return nil, flags, err
	}
	return &failingFile{file, f}, flags, nil
}

type failingFile struct {
	vfs.File
	fs *failing
}

func (f *failingFile) Sync(flags vfs.SyncFlag) error {
	if f.fs.fail.Load() {
		return sqlite3.IOERR_FSYNC
	}
	return f.File.Sync(flags)
}

func (f *failingFile) SharedMemory() vfs.SharedMemory {
	return f.File.(vfs.FileSharedMemory).SharedMemory()
}

// A failed sync of the catalog is final, though later ones would succeed.
func TestFailedSyncIsFinal(t *testing.T) {
	disk := &failing{VFS: vfs.Find("")}
	vfs.Register("failing", disk)
	t.Cleanup(func() { vfs.Unregister("failing") })
	c, err := catalog.OpenOn(t.Context(), "failing", filepath.Join(t.TempDir(), "catalog.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	add := func(id string) error {
		return c.CreateAccount(t.Context(), id, catalog.AccessKey{ID: id, Account: id})
	}
	if err := add("1"); err != nil {
		t.Fatal(err)
	}
	disk.fail.Store(true)
	var stopped *blockstore.StoppedError
	if err := add("2"); !errors.As(err, &stopped) || !errors.Is(err, sqlite3.IOERR_FSYNC) {
		t.Errorf("with a failing disk: got %v, want a *StoppedError for the sync", err)
	}
	disk.fail.Store(false)
	if err := add("3"); !errors.As(err, &stopped) {
		t.Errorf("after it: got %v, want a *StoppedError", err)
	}
	if err := c.Err(); !errors.As(err, &stopped) {
		t.Errorf("Err: got %v, want a *StoppedError", err)
	}
	if _, found, err := c.AccessKey(t.Context(), "1"); err != nil || !found {
		t.Errorf("reading goes on: found %v, %v", found, err)
	}
}
