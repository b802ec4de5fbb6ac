package catalog_test

import (
	"testing"
	"time"

	"shale/internal/catalog"
)

func TestStatsOfAnEmptyStore(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, err := catalog.Open(t.Context(), place, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Stats(t.Context())
		if err != nil || len(s.Snapshots)+len(s.Records) > 0 || s.Bytes != 0 || !s.Reclaim.Began.IsZero() {
			t.Errorf("got %+v, %v, want nothing", s, err)
		}
		if err := c.Sizes(t.Context(), func(catalog.Size) error { return nil }); err != nil {
			t.Error(err)
		}
		if roots, err := c.Held(t.Context(), func(int64) {}); err != nil || len(roots) > 0 {
			t.Errorf("Held: got %v, %v, want nothing", roots, err)
		}
	})
}
