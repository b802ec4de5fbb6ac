package catalog_test

import (
	"slices"
	"testing"
	"time"

	"shale/internal/catalog"
)

// Each database can be asked for all invariants, and finds none broken in a new
// catalog but for what a server's first start puts into it.
func TestInvariantsOfBoth(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, err := catalog.Open(t.Context(), place, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		found, err := c.Integrity(t.Context())
		if err != nil || len(found) > 0 {
			t.Errorf("integrity: got %v, %v", found, err)
		}
		broken, err := c.Violations(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range broken {
			if !slices.Contains([]string{
				"the setting store_id is not 16 bytes long, or not there",
				"the setting token_key is not 32 bytes long, or not there",
			}, f.Why) {
				t.Errorf("got %v", f)
			}
		}
	})
}
