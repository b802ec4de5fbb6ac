package catalog_test

import (
	"sync"
	"testing"
	"time"

	"shale/internal/bearer"
	"shale/internal/catalog"
)

func openBeside(t *testing.T, path string, now func() time.Time) *catalog.Catalog {
	t.Helper()
	c, err := catalog.OpenBeside(t.Context(), path, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What one process does with tokens the other sees at once, while both write.
func TestBearerBeside(t *testing.T) { onBoth(t, testBearerBeside) }

func testBearerBeside(t *testing.T, place string) {
	server, snap := createAt(t, place)
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	beside := openBeside(t, place, clock)
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range 100 {
			for _, err := range commit(t, server, snap, i, 1) {
				if err != nil {
					t.Error(err)
				}
			}
			if _, err := server.SetTags(t.Context(), snap.Key, account, nil); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		_, id, sum := bearer.New()
		made, found, err := beside.CreateBearer(t.Context(), catalog.BearerToken{ID: id, AccountName: "default", Name: "n", Sum: sum}, time.Hour)
		if err != nil || !found || made.Account != account {
			t.Fatalf("got %v, %v, %v", made, found, err)
		}
		got, found, err := server.Bearer(t.Context(), id)
		if err != nil || !found || got != made {
			t.Fatalf("got %v, %v, %v; want %v", got, found, err, made)
		}
		if done, err := beside.RevokeBearer(t.Context(), id); err != nil || !done {
			t.Fatal(done, err)
		}
		if _, found, err := server.Bearer(t.Context(), id); err != nil || found {
			t.Fatalf("revoked: found %v, %v", found, err)
		}
	}
	writing.Wait()

	_, id, sum := bearer.New()
	if _, _, err := beside.CreateBearer(t.Context(), catalog.BearerToken{ID: id, AccountName: "default", Sum: sum}, time.Hour); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	if _, found, err := beside.Bearer(t.Context(), id); err != nil || found {
		t.Errorf("expired: found %v, %v", found, err)
	}
	if list, err := beside.Bearers(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	if _, found, err := beside.CreateBearer(t.Context(), catalog.BearerToken{ID: "x", AccountName: "nobody", Sum: sum}, 0); err != nil || found {
		t.Errorf("an account that there is not: %v, %v", found, err)
	}
}
