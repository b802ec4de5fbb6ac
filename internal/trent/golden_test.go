package trent_test

import (
	"bytes"
	"testing"

	"shale/internal/kms"
	"shale/internal/rest/resttest"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/trent"
	"shale/internal/vfs"
)

func TestGolden(t *testing.T) {
	resttest.RunEnv(t, func(t *testing.T, e *snapshottest.Env) resttest.Door {
		return trent.New(openKMS(t, e.Clock))
	})
}

func openKMS(t testing.TB, clock *snapshottest.Clock) *kms.Local {
	t.Helper()
	root, err := kms.NewRoot(bytes.Repeat([]byte{7}, kms.RootSize))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kms.OpenLocal(kms.LocalOptions{FS: vfs.Dir(t.TempDir()), Root: root, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
