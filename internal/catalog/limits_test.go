package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/catalog"
	"shale/internal/snapshot"
)

// A limited makes snapshots within limits.
type limited struct {
	t       *testing.T
	catalog *catalog.Catalog
	clock   *atomic.Int64 // milliseconds since 1970
	made    atomic.Int64
}

func newLimited(t *testing.T, place string) *limited {
	t.Helper()
	l := &limited{t: t, clock: new(atomic.Int64)}
	l.clock.Store(1_790_000_000_000)
	var err error
	if l.catalog, err = catalog.Open(t.Context(), place, l.now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.catalog.Close() })
	for i, a := range []string{account, "444455556666"} {
		key := catalog.AccessKey{ID: "AKIA" + strconv.Itoa(i), Account: a, Secret: "secret"}
		if err := l.catalog.CreateAccount(t.Context(), "account"+strconv.Itoa(i), key); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *limited) now() time.Time { return time.UnixMilli(l.clock.Load()) }

func (l *limited) next(account, region string) snapshot.Snapshot {
	return snapshot.Snapshot{
		ID: fmt.Sprintf("snap-0%016x", l.made.Add(1)), Account: account, Region: region, VolumeSize: 1,
		StartTime: l.now(), Timeout: time.Hour, Deadline: l.now().Add(time.Hour),
	}
}

// start is StartSnapshot.
func (l *limited) start(limits snapshot.Limits) (snapshot.Snapshot, error) {
	return l.catalog.Create(l.t.Context(), snapshot.NewSnapshot{Snapshot: l.next(account, "us-east-1"), Limits: limits})
}

// copy is CopySnapshot.
func (l *limited) copy(limits snapshot.Limits) error {
	_, err := l.catalog.CreateCopy(l.t.Context(), snapshot.Copy{Snapshot: l.next(account, "us-east-1"), SourceRegion: "us-east-1", SourceID: "snap-1"}, limits)
	return err
}

// want checks that an error is a refusal at a limit, or nil for code 0.
func (l *limited) want(what string, err error, code snapshot.Code, limit string) {
	l.t.Helper()
	var e *snapshot.Error
	switch {
	case code == 0 && err != nil:
		l.t.Errorf("%s: %v", what, err)
	case code != 0 && (!errors.As(err, &e) || e.Code != code || e.Value != limit):
		l.t.Errorf("%s: got %v, want %v", what, err, &snapshot.Error{Code: code, Value: limit})
	}
}

// Pending are the snapshots that StartSnapshot made and that have not come to
// their end, whether that has been recorded or not.
func TestPendingLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		l := newLimited(t, place)
		limits := snapshot.Limits{Pending: 2}
		first, err := l.start(limits)
		l.want("the first", err, 0, "")
		_, err = l.start(limits)
		l.want("the second", err, 0, "")
		_, err = l.start(limits)
		l.want("the third", err, snapshot.TooManyPending, "2")
		l.want("a copy", l.copy(limits), 0, "")
		for _, other := range []snapshot.Snapshot{l.next("444455556666", "us-east-1"), l.next(account, "eu-west-1")} {
			_, err := l.catalog.Create(t.Context(), snapshot.NewSnapshot{Snapshot: other, Limits: limits})
			l.want("of "+other.Account+" in "+other.Region, err, 0, "")
		}
		if done, err := l.catalog.Seal(t.Context(), first.Key, snapshot.Claim{}); err != nil || !done {
			t.Fatal(done, err)
		}
		_, err = l.start(limits)
		l.want("with one that is being completed", err, snapshot.TooManyPending, "2")
		if done, err := l.catalog.Finish(t.Context(), first.Key, snapshot.Map{}); err != nil || !done {
			t.Fatal(done, err)
		}
		third, err := l.start(limits)
		l.want("with one that is completed", err, 0, "")
		if done, err := l.catalog.Delete(t.Context(), account, "us-east-1", third.ID, 0); err != nil || !done {
			t.Fatal(done, err)
		}
		_, err = l.start(limits)
		l.want("with one that is deleted", err, 0, "")
		_, err = l.start(limits)
		l.want("with two again", err, snapshot.TooManyPending, "2")
		l.clock.Add(time.Hour.Milliseconds())
		_, err = l.start(limits)
		l.want("once the others have timed out", err, 0, "")
	})
}

// All snapshots count, in whatever state, until they are gone for good.
func TestSnapshotLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		l := newLimited(t, place)
		limits := snapshot.Limits{Snapshots: 3}
		one, err := l.start(limits)
		l.want("the first", err, 0, "")
		two, err := l.start(limits)
		l.want("the second", err, 0, "")
		l.want("a copy", l.copy(limits), 0, "")
		l.want("another copy", l.copy(limits), snapshot.TooManySnapshots, "3")
		_, err = l.start(limits)
		l.want("the fourth", err, snapshot.TooManySnapshots, "3")
		_, err = l.catalog.Create(t.Context(), snapshot.NewSnapshot{Snapshot: l.next(account, "eu-west-1"), Limits: limits})
		l.want("in another region", err, 0, "")

		if done, err := l.catalog.Delete(t.Context(), account, "us-east-1", one.ID, 0); err != nil || !done {
			t.Fatal(done, err)
		}
		_, err = l.start(limits)
		l.want("with one deleted", err, 0, "")
		_, err = l.start(limits)
		l.want("with three again", err, snapshot.TooManySnapshots, "3")

		if done, err := l.catalog.Seal(t.Context(), two.Key, snapshot.Claim{}); err != nil || !done {
			t.Fatal(done, err)
		}
		if done, err := l.catalog.Finish(t.Context(), two.Key, snapshot.Map{}); err != nil || !done {
			t.Fatal(done, err)
		}
		if done, err := l.catalog.Delete(t.Context(), account, "us-east-1", two.ID, time.Hour); err != nil || !done {
			t.Fatal(done, err)
		}
		_, err = l.start(limits)
		l.want("with one in the recycle bin", err, snapshot.TooManySnapshots, "3")
		l.clock.Add(time.Hour.Milliseconds())
		_, err = l.start(limits)
		l.want("with one whose time in the bin is over", err, 0, "")
	})
}

// Of many that race for the last place one has it, and the others change
// nothing.
func TestLimitsRace(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		l := newLimited(t, place)
		for _, x := range []struct {
			what   string
			code   snapshot.Code
			limits snapshot.Limits
			create func(snapshot.Limits) error
		}{
			{"pending", snapshot.TooManyPending, snapshot.Limits{Pending: 3}, func(s snapshot.Limits) error { _, err := l.start(s); return err }},
			{"copies", snapshot.TooManyCopies, snapshot.Limits{Copies: 3}, l.copy},
			{"snapshots", snapshot.TooManySnapshots, snapshot.Limits{Snapshots: 9}, func(s snapshot.Limits) error { _, err := l.start(s); return err }},
			{"copies among snapshots", snapshot.TooManySnapshots, snapshot.Limits{Snapshots: 12}, l.copy},
		} {
			var made, refused atomic.Int64
			var all sync.WaitGroup
			for range 12 {
				all.Go(func() {
					err := x.create(x.limits)
					var e *snapshot.Error
					switch {
					case err == nil:
						made.Add(1)
					case errors.As(err, &e) && e.Code == x.code:
						refused.Add(1)
					default:
						t.Errorf("%s: %v", x.what, err)
					}
				})
			}
			all.Wait()
			if made.Load() != 3 || refused.Load() != 9 {
				t.Errorf("%s: %d were made and %d refused, want 3 and 9", x.what, made.Load(), refused.Load())
			}
		}
		regions, err := l.catalog.RegionsBut(t.Context(), nil)
		if err != nil || len(regions) != 1 || regions[0] != (catalog.Region{Name: "us-east-1", Snapshots: 12}) {
			t.Errorf("in the end there are %v, %v", regions, err)
		}
	})
}

// The regions are those of all accounts, each once, unless all that was in one
// is deleted.
func TestRegionsBut(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		l := newLimited(t, place)
		var last snapshot.Snapshot
		for _, of := range []struct{ account, region string }{
			{account, "us-east-1"},
			{account, "eu-west-1"},
			{account, "eu-west-1"},
			{"444455556666", "eu-west-1"},
			{"444455556666", "ap-south-1"},
			{account, "sa-east-1"},
		} {
			var err error
			if last, err = l.catalog.Create(t.Context(), snapshot.NewSnapshot{Snapshot: l.next(of.account, of.region)}); err != nil {
				t.Fatal(err)
			}
		}
		if done, err := l.catalog.Delete(t.Context(), account, "sa-east-1", last.ID, 0); err != nil || !done {
			t.Fatal(done, err)
		}
		got, err := l.catalog.RegionsBut(t.Context(), []string{"us-east-1"})
		if want := []catalog.Region{{"ap-south-1", 1}, {"eu-west-1", 3}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("but for us-east-1 there are %v, %v, want %v", got, err, want)
		}
	})
}
