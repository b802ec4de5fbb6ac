package catalog_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// Records are counted some at a time, each of them once.
func TestCountRecords(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, _ := createAt(t, place)
		want := map[blockstore.ContainerID]int64{}
		for container := range blockstore.ContainerID(3) {
			b := blockstore.Commit{Container: container + 1, Committed: 1 << 20}
			for n := range byte(6 - container) {
				b.Stored = append(b.Stored, blockstore.Stored{
					Kind: blockstore.KindBlock, ID: block.ID{n << 5, byte(container)}, Location: blockstore.Location{Container: container + 1},
				})
			}
			b.Stored = append(b.Stored, blockstore.Stored{
				Kind: blockstore.KindBlock, ID: block.ID{255, 255, byte(container)}, Location: blockstore.Location{Container: container + 1},
			})
			if _, err := c.Commit(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			want[b.Container] = int64(len(b.Stored))
		}
		for _, atOnce := range []int{1, 2, 5, 17, 18, 19, 1000} {
			c.SetCounted(atOnce)
			pauses, all := 0, int64(0)
			got, err := c.CountRecords(t.Context(), func(_ context.Context, n int64) error {
				if n > int64(atOnce) {
					t.Errorf("%d at once, not %d", n, atOnce)
				}
				pauses, all = pauses+1, all+n
				return nil
			})
			if err != nil || !maps.Equal(got, want) || all != 18 || pauses != 18/atOnce+1 {
				t.Errorf("%d at once: got %v, %v, %d in %d pauses, want %v", atOnce, got, err, all, pauses, want)
			}
		}
		stop := errors.New("stop")
		if _, err := c.CountRecords(t.Context(), func(context.Context, int64) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("got %v, want the pause's error", err)
		}
	})
}
