package datadir_test

import (
	"os"
	"strings"
	"testing"

	"shale/internal/datadir"
)

// A catalog that was rebuilt takes no place without its log, which is left where
// closing it could not bring it in.
func TestAdoptCatalogWithLog(t *testing.T) {
	d, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	for _, end := range []string{"", "-wal"} {
		if err := os.WriteFile(d.NewCatalog()+end, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.AdoptCatalog(); err == nil || !strings.Contains(err.Error(), "log") {
		t.Errorf("got %v, want a refusal", err)
	}
	if had, err := d.HasCatalog(); err != nil || had {
		t.Errorf("there is a catalog: %v, %v", had, err)
	}
	if err := os.Remove(d.NewCatalog() + "-wal"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AdoptCatalog(); err != nil {
		t.Error(err)
	}
}
