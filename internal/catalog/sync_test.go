package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/identity"
	"shale/internal/vfs/crashfs"
)

// onDisk opens a catalog on the disk, until the test ends.
func onDisk(t *testing.T, d *crashfs.Disk) *catalog.Catalog {
	t.Helper()
	c, err := catalog.OpenOn(t.Context(), d, "/catalog.db", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = d.Close()
	})
	return c
}

// A failed sync of the catalog is final, though later ones would succeed; so is
// a failed write, for nobody knows what it was for.
func TestFailedSyncIsFinal(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Sync, crashfs.Write} {
		disk := crashfs.New()
		c := onDisk(t, disk)
		add := func(id string) error {
			return c.CreateAccount(t.Context(), id, catalog.AccessKey{ID: id, Account: id})
		}
		if err := add("1"); err != nil {
			t.Fatal(err)
		}
		disk.Before(func(op crashfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		var stopped *blockstore.StoppedError
		if err := add("2"); !errors.As(err, &stopped) || !errors.Is(err, syscall.EIO) {
			t.Errorf("with a disk that fails to %s: got %v, want a *StoppedError for it", kind, err)
		}
		disk.Before(nil)
		if err := add("3"); !errors.As(err, &stopped) {
			t.Errorf("after it: got %v, want a *StoppedError", err)
		}
		if err := c.Err(); !errors.As(err, &stopped) {
			t.Errorf("Err: got %v, want a *StoppedError", err)
		}
		if _, err := c.Key(t.Context(), "1"); err != nil {
			t.Errorf("reading goes on: %v", err)
		}
	}
}

// A full disk is no failed write, however much space seems to be left: nothing
// has changed, and with room again work goes on.
func TestFullDiskIsNotFinal(t *testing.T) {
	disk := crashfs.New()
	c := onDisk(t, disk)
	disk.Before(func(op crashfs.Op) error {
		if op.Grows {
			return syscall.ENOSPC
		}
		return nil
	})
	add := func(i int) error {
		id := fmt.Sprint(i)
		return c.CreateAccount(t.Context(), id, catalog.AccessKey{ID: id, Account: id, Secret: strings.Repeat("s", 4096)})
	}
	last := 0
	var err error
	for err == nil && last < 1000 { // there is space to be used again at first
		last++
		err = add(last)
	}
	if !errors.Is(err, blockstore.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if err := c.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
	disk.Before(nil)
	if _, err := c.Key(t.Context(), fmt.Sprint(last)); !errors.Is(err, identity.ErrNone) {
		t.Errorf("what was refused: got %v, want ErrNone", err)
	}
	if err := add(last); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
