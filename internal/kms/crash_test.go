package kms_test

import (
	"testing"

	"shale/internal/kms"
	"shale/internal/vfs/crashfs"
)

// A root key whose maker was killed before its name was durable is found by the
// next start, which wraps keys by it. From then on the power may go.
func TestFoundRootIsDurable(t *testing.T) {
	disk := crashfs.New()
	var killed *crashfs.Disk
	disk.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.SyncDir {
			killed = disk.Kill()
		}
		return nil
	})
	made, err := kms.LoadRoot(disk.Folder("keys"), true)
	if err != nil || killed == nil {
		t.Fatalf("LoadRoot: %v", err)
	}
	if _, err := kms.LoadRoot(killed.Folder("keys"), true); err != nil {
		t.Fatal(err)
	}
	found, err := kms.LoadRoot(killed.Crash(crashfs.Survivors{Mode: crashfs.Nothing}).Folder("keys"), false)
	if err != nil || found.ID != made.ID {
		t.Errorf("found the root key %v, want %v; %v", found.ID, made.ID, err)
	}
}
