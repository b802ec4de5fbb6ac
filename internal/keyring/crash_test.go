package keyring_test

import (
	"testing"

	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/kms/kmstest"
	"shale/internal/vfs/crashfs"
)

// A domain whose maker was killed before its name was durable is found by the
// next start and used. From then on the power may go.
func TestFoundDomainIsDurable(t *testing.T) {
	provider, disk := kmstest.New(), crashfs.New()
	c := kms.Caller{Account: "111122223333", Region: "us-east-1"}
	arn := provider.Create(c.Account, c.Region)
	ring, err := keyring.Open(disk.Folder("keys"), provider, nil)
	if err != nil {
		t.Fatal(err)
	}
	var killed *crashfs.Disk
	disk.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.SyncDir {
			killed = disk.Kill()
		}
		return nil
	})
	_, key, err := ring.Domain(t.Context(), c, arn)
	if err != nil || killed == nil {
		t.Fatalf("Domain: %v", err)
	}
	if _, err := keyring.Open(killed.Folder("keys"), provider, nil); err != nil {
		t.Fatal(err)
	}
	found := killed.Crash(crashfs.Survivors{Mode: crashfs.Nothing})
	if ring, err = keyring.Open(found.Folder("keys"), provider, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Key(t.Context(), c, key.Number()); err != nil {
		t.Errorf("Key: %v", err)
	}
}
