package snapshot_test

import (
	"slices"
	"testing"
	"time"

	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// whim is the caller with one.
func whim(w snapshot.Whim) snapshot.Caller {
	c := caller
	c.Whim = &w
	return c
}

// listed walks through the list of the caller's snapshots, a few at a time.
func (f *fixture) listed() (ids []string) {
	f.Helper()
	r := snapshot.DescribeRequest{MaxResults: ptr(int64(5))}
	for {
		page, err := f.Service.Describe(f.Context(), caller, r)
		if err != nil {
			f.Fatal(err)
		}
		for _, s := range page.Snapshots {
			ids = append(ids, s.ID)
		}
		if page.NextToken == "" {
			return ids
		}
		r.NextToken = &page.NextToken
	}
}

// What is hidden, and what was deleted and is still seen, does not disturb a
// walk through pages.
func TestLagsInLists(t *testing.T) {
	f := newFixture(t)
	var all, seen []string
	for i := range 24 {
		c := caller
		if i%3 == 0 {
			c = whim(snapshot.Whim{Lag: time.Hour})
		}
		snap, err := f.Service.Start(t.Context(), c, snapshot.StartRequest{VolumeSize: ptr(int64(1)), Tags: []snapshot.Tag{{Key: "n"}}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, snap.ID)
		if i%3 != 0 {
			seen = append(seen, snap.ID)
		}
		f.Clock.Advance(time.Second)
	}
	for i, id := range seen {
		if i%4 != 0 {
			continue
		}
		if err := f.Service.Delete(t.Context(), whim(snapshot.Whim{Lag: time.Hour}), id); err != nil {
			t.Fatal(err)
		}
		if err := f.Service.Delete(t.Context(), caller, id); code(err) != snapshot.NotFound {
			t.Errorf("deleted again: %v", err)
		}
	}
	if got := f.listed(); !slices.Equal(got, seen) {
		t.Errorf("seen are %v, want %v", got, seen)
	}
	page, err := f.Service.Describe(t.Context(), snapshottest.Other, snapshot.DescribeRequest{})
	if err != nil || len(page.Snapshots) > 0 {
		t.Errorf("others see %v, %v", page.Snapshots, err)
	}
	f.Clock.Advance(2 * time.Hour)
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(slices.Clone(all), func(id string) bool {
		i := slices.Index(seen, id)
		return i >= 0 && i%4 == 0
	})
	if got := f.listed(); !slices.Equal(got, left) {
		t.Errorf("in the end %v are there, want %v", got, left)
	}
}

// A snapshot that is not seen yet cannot be deleted, and EndLags shows all.
func TestLagOfStart(t *testing.T) {
	f := newFixture(t)
	snap, err := f.Service.Start(t.Context(), whim(snapshot.Whim{Lag: time.Hour}), snapshot.StartRequest{VolumeSize: ptr(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.put(snap.ID, 0, data(1)); code(err) != snapshot.NotFound {
		t.Errorf("PutBlock: %v", err)
	}
	if err := f.Service.Delete(t.Context(), caller, snap.ID); code(err) != snapshot.NotFound {
		t.Errorf("Delete: %v", err)
	}
	f.Service.EndLags()
	f.mustPut(snap.ID, 0, data(1))
}

// Of a snapshot that was deleted and is still seen the blocks are kept, and no
// longer.
func TestLagOfDeletePins(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.mustPut(id, 0, data(1))
	f.complete(id, 1, nil)
	want := f.blocks(id)
	if err := f.Service.Delete(t.Context(), whim(snapshot.Whim{Lag: time.Hour}), id); err != nil {
		t.Fatal(err)
	}
	if got := f.blocks(id); len(got) != 1 || got[0] != want[0] || len(f.Store.Pinned()) != 1 {
		t.Errorf("got %v, %d maps are pinned", got, len(f.Store.Pinned()))
	}
	f.Clock.Advance(time.Hour)
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.Store.Pinned()); n != 0 {
		t.Errorf("%d maps are still pinned", n)
	}
}

// A failure is seen as late as a success is, and has been one all the while.
func TestLagOfFailure(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.mustPut(id, 0, data(1))
	r := snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(2))}
	if _, err := f.Service.Complete(t.Context(), whim(snapshot.Whim{Lag: time.Hour}), r); err != nil {
		t.Fatal(err)
	}
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.describe(id); got.State.String() != "pending" || got.Message != "" {
		t.Errorf("got %v %q", got.State, got.Message)
	}
	f.Clock.Advance(time.Hour)
	if got := f.describe(id); got.State != snapshot.Failed || got.Message == "" {
		t.Errorf("got %v %q", got.State, got.Message)
	}
}

// What changes a snapshot goes by what it is, whatever is seen of it: it can be
// locked, and has no blocks of a pending one any more.
func TestLagOfCompleteIsOnlySeen(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.mustPut(id, 3, data(1))
	r := snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(1))}
	if _, err := f.Service.Complete(t.Context(), whim(snapshot.Whim{Lag: time.Hour}), r); err != nil {
		t.Fatal(err)
	}
	f.settle()
	if got := f.describe(id); got.State != snapshot.Completing {
		t.Fatalf("got %v, want that it is still seen as pending", got.State)
	}
	_, err := f.Service.ListPending(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id})
	wantCodes(t, "the blocks of a pending one", err, snapshot.NotPending)
	if l, err := f.lock(id, false, 1, 0); err != nil || l.ExpiresAt.IsZero() {
		t.Errorf("Lock: got %+v, %v", l, err)
	}
}
