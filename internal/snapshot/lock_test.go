package snapshot_test

import (
	"sync"
	"testing"
	"time"

	"shale/internal/snapshot"
)

func (f *fixture) lock(id string, compliance bool, days, coolOff int64) (snapshot.Lock, error) {
	r := snapshot.LockRequest{SnapshotID: id, Compliance: compliance, Days: &days}
	if coolOff > 0 {
		r.CoolOffHours = &coolOff
	}
	return f.Service.Lock(f.Context(), caller, r)
}

func (f *fixture) mustLock(id string, compliance bool, days, coolOff int64) {
	f.Helper()
	if _, err := f.lock(id, compliance, days, coolOff); err != nil {
		f.Fatalf("Lock(%s): %v", id, err)
	}
}

func (f *fixture) unlock(id string) error {
	return f.Service.Unlock(f.Context(), caller, snapshot.UnlockRequest{SnapshotID: id})
}

// lockState is the state that is told, 0 without a lock.
func (f *fixture) lockState(id string) snapshot.LockState {
	f.Helper()
	page, err := f.Service.Locks(f.Context(), caller, snapshot.LocksRequest{IDs: []string{id}})
	if err != nil {
		f.Fatal(err)
	}
	if len(page.Snapshots) == 0 {
		return 0
	}
	return page.Snapshots[0].Lock.State
}

// Turning the clock back, with or without a restart, gives back no cooling-off
// period that has ended, and no part of one that has passed.
func TestClockTurnedBack(t *testing.T) {
	for name, restart := range map[string]bool{"running": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			back := func(d time.Duration) {
				f.Clock.Advance(-d)
				if restart {
					f.Restart(t)
				}
			}
			id := f.made(nil)
			f.mustLock(id, true, 3, 2)
			// An hour passes; the clock goes back before the lock was made.
			f.Clock.Advance(time.Hour)
			f.settle()
			back(100 * time.Hour)
			if got := f.lockState(id); got != snapshot.CoolingOff {
				t.Fatalf("before the end: got %v", got)
			}
			// With the hour that was recorded, the second one is the last.
			f.Clock.Advance(101 * time.Hour)
			if got := f.lockState(id); got != snapshot.Compliance {
				t.Fatalf("after the end: got %v", got)
			}
			back(90 * time.Minute)
			if got := f.lockState(id); got != snapshot.Compliance {
				t.Errorf("back in the cooling-off period: got %v, want compliance", got)
			}
			if err := f.unlock(id); code(err) != snapshot.LockForbidden {
				t.Errorf("Unlock: got %v, want LockForbidden", err)
			}
			if _, err := f.lock(id, false, 1, 0); code(err) != snapshot.LockForbidden {
				t.Errorf("Lock in governance mode: got %v, want LockForbidden", err)
			}
			if err := f.Service.Delete(t.Context(), caller, id); code(err) != snapshot.Locked {
				t.Errorf("Delete: got %v, want Locked", err)
			}
			// Days do not count from a time that has passed before.
			before := time.Date(2026, 9, 25, 14, 0, 0, 0, time.UTC)
			if l, err := f.lock(id, true, 3, 0); err != nil || l.StartedAt.Before(before) {
				t.Errorf("a longer lock: got %+v, %v, want one that counts from %v on", l, err, before)
			}
			// A lock that has expired stays so.
			f.Clock.Advance(100 * time.Hour)
			f.settle()
			back(99 * time.Hour)
			if got := f.lockState(id); got != snapshot.LockExpired {
				t.Errorf("back before the end of the lock: got %v, want expired", got)
			}
		})
	}
}

// While locks are in force their time is recorded every minute, so that a crash
// and a clock that is turned back cost no more than that.
func TestLockTimeIsKept(t *testing.T) {
	f := newFixture(t)
	id := f.made(nil)
	f.mustLock(id, false, 1, 0)
	begin := f.Clock.Now()
	for range 30 {
		f.Clock.Advance(time.Minute)
		f.settle()
	}
	f.Clock.Advance(-24 * time.Hour)
	f.Restart(t)
	if _, _, now, err := f.Catalog.Lock(t.Context(), f.describe(id).Key); err != nil || now.Before(begin.Add(29*time.Minute)) {
		t.Errorf("the time of locks is %v, %v, want half an hour after %v", now, err, begin)
	}
}

// A lock that is in force keeps its snapshot from every way of getting rid of
// it, whatever there is behind it.
func TestLockedStays(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	id := f.made(map[int64][]byte{0: data(1)})
	f.mustLock(id, true, 1, 0)
	for _, keep := range []time.Duration{0, time.Hour} {
		if done, err := f.Catalog.Delete(t.Context(), caller.Account, caller.Region, id, keep); err != nil || done {
			t.Errorf("the catalog's Delete: got %v, %v", done, err)
		}
	}
	if err := f.Service.Delete(t.Context(), caller, id); code(err) != snapshot.Locked {
		t.Errorf("Delete: got %v, want Locked", err)
	}
	if _, err := f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: id}); code(err) != snapshot.NotFound {
		t.Errorf("Restore: got %v, want NotFound", err)
	}
	f.Clock.Advance(23 * time.Hour)
	f.settle()
	if got := f.blocks(id); len(got) != 1 {
		t.Errorf("%d blocks, want 1", len(got))
	}
	f.Clock.Advance(time.Hour)
	if err := f.Service.Delete(t.Context(), caller, id); err != nil {
		t.Errorf("Delete after the end: %v", err)
	}
}

// Of a lock and a deletion at once one wins, and the other is told.
func TestLockAgainstDeletion(t *testing.T) {
	for name, keep := range map[string]time.Duration{"for good": 0, "into the bin": time.Hour} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.BinTime = keep
			f.Restart(t)
			locked := 0
			for i := range 40 {
				id := f.made(nil)
				var wg sync.WaitGroup
				var lockErr, deleteErr error
				lock := func() { _, lockErr = f.lock(id, true, 1, 0) }
				remove := func() { deleteErr = f.Service.Delete(t.Context(), caller, id) }
				if i%2 == 0 {
					lock, remove = remove, lock
				}
				wg.Go(lock)
				wg.Go(remove)
				wg.Wait()
				switch {
				case lockErr == nil && code(deleteErr) == snapshot.Locked:
					locked++
					f.describe(id)
				case deleteErr == nil && code(lockErr) == snapshot.NotFound:
				default:
					t.Fatalf("Lock: %v; Delete: %v", lockErr, deleteErr)
				}
			}
			t.Logf("%d of 40 were locked", locked)
		})
	}
}

// Of locks and an unlocking at once, the last to be told that it was done is
// right.
func TestLockAgainstUnlock(t *testing.T) {
	f := newFixture(t)
	id := f.made(nil)
	for range 20 {
		f.mustLock(id, false, 1, 0)
		var wg sync.WaitGroup
		var errs [4]error
		for i := range errs {
			wg.Go(func() {
				if i%2 == 0 {
					errs[i] = f.unlock(id)
				} else {
					_, errs[i] = f.lock(id, true, int64(i), 1)
				}
			})
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil && (i%2 == 1 || code(err) != snapshot.NotLocked) {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		if f.lockState(id) != 0 {
			if err := f.unlock(id); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The catalog locks what it was asked to lock: a snapshot in the state, and
// with the lock, that was seen.
func TestSetLockPreconditions(t *testing.T) {
	f := newFixture(t)
	pending, done, gone := f.describe(f.start("")), f.describe(f.made(nil)), f.describe(f.made(nil))
	if err := f.Service.Delete(t.Context(), caller, gone.ID); err != nil {
		t.Fatal(err)
	}
	now := f.Clock.Now()
	l := snapshot.Lock{State: snapshot.Governance, CreatedAt: now, StartedAt: now, Days: 1, ExpiresAt: now.Add(24 * time.Hour)}
	longer := l
	longer.Days, longer.ExpiresAt = 2, now.Add(48*time.Hour)
	for _, tt := range []struct {
		name  string
		snap  snapshot.Snapshot
		state snapshot.State
		old   *snapshot.Lock
		want  bool
	}{
		{"completed meanwhile", done, snapshot.Open, nil, false},
		{"not completed yet", pending, snapshot.Completed, nil, false},
		{"deleted", gone, snapshot.Completed, nil, false},
		{"unlocked meanwhile", done, snapshot.Completed, &l, false},
		{"as it was seen", done, snapshot.Completed, nil, true},
		{"locked meanwhile", done, snapshot.Completed, nil, false},
		{"changed meanwhile", done, snapshot.Completed, &longer, false},
		{"a lock as it was seen", done, snapshot.Completed, &l, true},
		{"pending", pending, snapshot.Open, nil, true},
	} {
		if got, err := f.Catalog.SetLock(t.Context(), tt.snap.Key, tt.state, tt.old, l); err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

// A snapshot that is completed while it is being locked has a lock whose days
// count.
func TestLockAgainstCompletion(t *testing.T) {
	f := newFixture(t)
	for range 20 {
		id := f.start("")
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := f.lock(id, true, 1, 0); err != nil {
				t.Errorf("Lock: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := f.Service.Complete(t.Context(), caller, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(0))}); err != nil {
				t.Errorf("Complete: %v", err)
			}
		})
		wg.Wait()
		f.settle()
		page, err := f.Service.Locks(t.Context(), caller, snapshot.LocksRequest{IDs: []string{id}})
		if err != nil || len(page.Snapshots) != 1 {
			t.Fatalf("got %+v, %v", page.Snapshots, err)
		}
		if l := page.Snapshots[0].Lock; l.StartedAt.IsZero() || !l.ExpiresAt.Equal(l.StartedAt.Add(24*time.Hour)) {
			t.Errorf("got %+v, want one that began and ends a day later", l)
		}
	}
}

// Of a restoration and the end of the time in the bin one wins; of two
// restorations one.
func TestRestoreAgainstPurge(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	restored := 0
	for round := range 30 {
		id := f.made(map[int64][]byte{0: data(1)})
		if err := f.Service.Delete(t.Context(), caller, id); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var errs [2]error
		for i := range errs {
			wg.Go(func() { _, errs[i] = f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: id}) })
		}
		wg.Go(func() {
			time.Sleep(time.Duration(round) * 50 * time.Microsecond) // anywhere in the restoring
			f.Clock.Advance(time.Hour)
			if err := f.Service.Settle(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		f.settle()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else if code(err) != snapshot.NotFound {
				t.Fatalf("Restore: %v", err)
			}
		}
		_, err := f.Service.Describe(t.Context(), caller, snapshot.DescribeRequest{IDs: []string{id}})
		if done > 1 || (done == 1) != (err == nil) {
			t.Fatalf("restored %d times; then Describe: %v", done, err)
		}
		if restored += done; done == 1 {
			f.blocks(id)
		} else if _, err := f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: id}); code(err) != snapshot.NotFound {
			t.Fatalf("Restore once it is purged: got %v, want NotFound", err)
		}
	}
	t.Logf("%d of 30 were restored", restored)
}
