package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shale/internal/vfs"

	"shale/internal/datadir"
)

// A folder goes with one catalog, here or elsewhere.
func TestTie(t *testing.T) {
	folder := func(t *testing.T, files map[string]string) *datadir.Dir {
		t.Helper()
		path := t.TempDir()
		d, err := datadir.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	refused := func(t *testing.T, err error, why string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v, want an error with %q", err, why)
		}
	}
	id := datadir.Tie{1, 2, 3}

	fresh := folder(t, nil)
	if err := errors.Join(fresh.CheckElsewhere(), fresh.CheckCatalog(func(path string) vfs.FS { return vfs.Dir(path) })); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
	refused(t, fresh.Tie(id, true), "another folder")
	for range 2 {
		if err := fresh.Tie(id, false); err != nil {
			t.Error(err)
		}
	}
	if err := fresh.Tie(id, true); err != nil {
		t.Errorf("with segments recorded since: %v", err)
	}
	refused(t, fresh.Tie(datadir.Tie{4}, false), "is not that of")
	if err := fresh.CheckElsewhere(); err != nil {
		t.Error(err)
	}
	if err := fresh.CheckCatalog(func(path string) vfs.FS { return vfs.Dir(path) }); !errors.Is(err, datadir.ErrElsewhere) {
		t.Errorf("without its catalog: got %v, want ErrElsewhere", err)
	}
	if err := datadir.CheckHere(fresh.Path()); !errors.Is(err, datadir.ErrNotHere) {
		t.Errorf("for what needs its catalog here: got %v, want ErrNotHere", err)
	}
	if got, found, err := datadir.TieOf(fresh.Path()); err != nil || !found || got != id {
		t.Errorf("got %v, %v, %v", got, found, err)
	}

	for name, text := range map[string]string{"catalog.db": "x", "catalog.db-wal": "x"} {
		refused(t, folder(t, map[string]string{name: text}).CheckElsewhere(), "without --catalog")
	}
	refused(t, folder(t, map[string]string{"segments/0000000000000001.seg": "x"}).CheckElsewhere(), "has segments")
	for _, text := range []string{"", "0102", strings.Repeat("x", 32), "01020300000000000000000000000000ff"} {
		d := folder(t, map[string]string{"catalog.id": text})
		refused(t, d.CheckElsewhere(), "damaged")
		refused(t, d.CheckCatalog(func(path string) vfs.FS { return vfs.Dir(path) }), "damaged")
		refused(t, d.Tie(id, false), "damaged")
	}
}
