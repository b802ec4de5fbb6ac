package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A LockState says what a lock on a snapshot forbids. Spec: ec2-snapshots §8.
type LockState int

// The states of a lock. All but LockExpired keep the snapshot from being
// deleted. The catalog stores these numbers.
const (
	// Governance: the lock can be changed and removed.
	Governance LockState = iota + 1
	// CoolingOff: a compliance lock that can still be changed and removed.
	CoolingOff
	// Compliance: the lock can be made longer, by nobody anything else.
	Compliance
	// LockExpired: its time is over.
	LockExpired
)

// String returns the state as the wire spells it.
func (s LockState) String() string {
	switch s {
	case Governance:
		return "governance"
	case CoolingOff:
		return "compliance-cooloff"
	case Compliance:
		return "compliance"
	case LockExpired:
		return "expired"
	}
	return "unknown"
}

// A Lock keeps a snapshot from being deleted. Its times are of the clock of
// locks, which never goes back: see LockCatalog.
type Lock struct {
	State     LockState
	CreatedAt time.Time // of the first lock since the snapshot was not locked
	Days      int64
	// StartedAt is when the days began to count, and ExpiresAt when they are
	// over. They are zero while the snapshot is pending, but for an ExpiresAt
	// that was asked for as a date.
	StartedAt, ExpiresAt time.Time
	CoolOffHours         int64     // 0 without a cooling-off period
	CoolOffEnds          time.Time // zero without
}

// A LockedSnapshot is a snapshot and its lock.
type LockedSnapshot struct {
	ID        string
	Account   string // the owner
	StartTime time.Time
	Lock      Lock
}

// A LockCatalog keeps locks. Their clock is the catalog's own, or the latest
// time that a transaction on locks has recorded, whichever is later: a lock
// that has come nearer to its end does not get further away again because
// somebody turned the clock back. KeepLockTime records it.
type LockCatalog interface {
	// KeepLockTime records what the clock of locks has brought about:
	// cooling-off periods and locks that have ended, and, at least once a
	// minute while there are locks in force, the time itself.
	KeepLockTime(ctx context.Context) error
	// Lock finds the lock of a snapshot, as it is recorded, and gives the time
	// of the clock of locks.
	Lock(ctx context.Context, key int64) (l Lock, found bool, now time.Time, err error)
	// SetLock locks a snapshot in the state, pending or completed, that is
	// given, if its lock is still the old one; nil stands for none.
	SetLock(ctx context.Context, key int64, state State, old *Lock, l Lock) (done bool, err error)
	// Unlock removes a lock of the governance mode, or one that is cooling off.
	Unlock(ctx context.Context, key int64) (done bool, err error)
	// Locked gives the locked snapshots of an account in a region, with locks
	// that have expired, by start time and then ID, from after the cursor on.
	Locked(ctx context.Context, account, region string, after Cursor, limit int) ([]LockedSnapshot, error)
}

// Bounds of a lock. Spec: ec2-snapshots §8.1.
const (
	maxLockDays     = 36500
	maxCoolOffHours = 72
	day             = 24 * time.Hour
)

// LockRequest asks for a lock. One of Days and Until is given.
// Spec: ec2-snapshots §8.1.
type LockRequest struct {
	SnapshotID   string
	Compliance   bool
	Days         *int64
	Until        *time.Time
	CoolOffHours *int64 // with Compliance only
	DryRun       bool   // everything is checked, nothing changed
}

// Lock locks a snapshot of the caller's own, or changes its lock as far as its
// state allows. The lock is durable on return.
func (s *Service) Lock(ctx context.Context, c Caller, r LockRequest) (Lock, error) {
	var v violations
	v.number("lockDuration", r.Days, 1, maxLockDays)
	v.number("coolOffPeriod", r.CoolOffHours, 1, maxCoolOffHours)
	if err := v.err(); err != nil {
		return Lock{}, err
	}
	for range maxAttempts {
		l, err := s.lock(ctx, c, &r)
		if !errors.Is(err, ErrRaced) {
			return l, s.storeError(err)
		}
	}
	return Lock{}, &Error{Code: Internal, Err: fmt.Errorf("lock snapshot: raced %d times", maxAttempts)}
}

// lock is one attempt of Lock. It fails with ErrRaced if what it saw did not
// hold until the end.
func (s *Service) lock(ctx context.Context, c Caller, r *LockRequest) (Lock, error) {
	snap, err := s.ownStored(ctx, c, r.SnapshotID, s.catalog.Snapshot) // its state is SetLock's to compare
	if err != nil {
		return Lock{}, err
	}
	if err := s.admit(ctx, c, &snap, need{action: LockSnapshot, about: r.condition(s.now())}); err != nil {
		return Lock{}, err
	}
	if snap.State == Failed {
		return Lock{}, &Error{Code: NotLockable, Snapshot: snap.ID}
	}
	old, now, err := s.lockOf(ctx, snap.Key)
	if err != nil {
		return Lock{}, err
	}
	next, err := r.apply(&snap, old, now)
	if err != nil || r.DryRun {
		return next, err
	}
	done, err := s.catalog.SetLock(ctx, snap.Key, snap.State, old, next)
	if err == nil && !done {
		err = ErrRaced
	}
	if err == nil {
		err = s.describe(ctx, snap.ID)
	}
	return next, err
}

// condition gives the values of the condition keys about a lock. The days until
// a date are rounded up. Spec: ec2-snapshots §8.3.
func (r *LockRequest) condition(now time.Time) func(key string) []string {
	return func(key string) []string {
		switch {
		case key == "ec2:snapshotlockduration" && r.Days != nil:
			return []string{strconv.FormatInt(*r.Days, 10)}
		case key == "ec2:snapshotlockduration" && r.Until != nil:
			return []string{strconv.FormatInt(daysUntil(*r.Until, now), 10)}
		// The User Guide has the one name, the Service Authorization Reference the
		// other.
		case (key == "ec2:cooloffperiod" || key == "ec2:snapshotcooloffperiod") && r.CoolOffHours != nil:
			return []string{strconv.FormatInt(*r.CoolOffHours, 10)}
		}
		return nil
	}
}

// daysUntil counts the days from now to the time, rounded up.
func daysUntil(t, now time.Time) int64 { return int64((t.Sub(now) + day - 1) / day) }

// lockOf gives a snapshot's lock, nil without one, and the time of locks. What
// has come to its end by then has been recorded.
func (s *Service) lockOf(ctx context.Context, key int64) (*Lock, time.Time, error) {
	if err := s.catalog.KeepLockTime(ctx); err != nil {
		return nil, time.Time{}, err
	}
	l, found, now, err := s.catalog.Lock(ctx, key)
	if err != nil || !found {
		return nil, now, err
	}
	return &l, now, nil
}

// apply gives the lock that the request makes of the old one, nil for none.
func (r *LockRequest) apply(snap *Snapshot, old *Lock, now time.Time) (Lock, error) {
	l := Lock{State: Governance, CreatedAt: now}
	if old != nil && old.State != LockExpired {
		l.CreatedAt = old.CreatedAt
	}
	if snap.State == Completed {
		l.StartedAt = now
	}
	switch {
	case r.Until != nil:
		l.ExpiresAt = r.Until.UTC().Truncate(time.Millisecond)
		if !l.ExpiresAt.After(now) || l.ExpiresAt.After(now.Add(maxLockDays*day)) {
			var v violations
			v.add("expirationDate", l.ExpiresAt.Format(TimeFormat), fmt.Sprintf("Member must be in the future, by at most %d days", maxLockDays))
			return Lock{}, v.err()
		}
		l.Days = daysUntil(l.ExpiresAt, now)
	default:
		l.Days = *r.Days
		if !l.StartedAt.IsZero() {
			l.ExpiresAt = l.StartedAt.Add(time.Duration(l.Days) * day)
		}
	}
	if r.Compliance {
		l.State = Compliance
		if r.CoolOffHours != nil {
			l.State, l.CoolOffHours = CoolingOff, *r.CoolOffHours
			l.CoolOffEnds = now.Add(time.Duration(l.CoolOffHours) * time.Hour)
		}
	}
	if old != nil && old.State == Compliance {
		return r.lengthen(snap, old, l, now)
	}
	return l, nil
}

// lengthen gives the lock that replaces one in compliance mode, which nothing
// but a longer one may.
func (r *LockRequest) lengthen(snap *Snapshot, old *Lock, l Lock, now time.Time) (Lock, error) {
	forbid := func(why string) (Lock, error) {
		return Lock{}, &Error{Code: LockForbidden, Snapshot: snap.ID, Err: errors.New(why)}
	}
	switch {
	case !r.Compliance:
		return forbid("its mode cannot be changed")
	case r.CoolOffHours != nil:
		return forbid("it has no cooling-off period any more")
	case !l.endsAfter(old, now):
		return forbid("it can only be made longer")
	}
	l.CoolOffHours, l.CoolOffEnds = old.CoolOffHours, old.CoolOffEnds
	return l, nil
}

// endsAfter reports whether l surely ends later than the lock it is to replace.
// Of days that are to count from the completion on nobody knows yet when they
// begin: not before now.
func (l *Lock) endsAfter(old *Lock, now time.Time) bool {
	switch {
	case !old.ExpiresAt.IsZero() && !l.ExpiresAt.IsZero():
		return l.ExpiresAt.After(old.ExpiresAt)
	case !old.ExpiresAt.IsZero():
		return now.Add(time.Duration(l.Days) * day).After(old.ExpiresAt)
	case l.ExpiresAt.IsZero():
		return l.Days > old.Days
	}
	return false // a date for days that have not begun
}

// UnlockRequest asks for a lock to be removed. Spec: ec2-snapshots §8.2.
type UnlockRequest struct {
	SnapshotID string
	DryRun     bool // everything is checked, nothing changed
}

// Unlock removes the lock of a snapshot of the caller's own, unless it is in
// compliance mode.
func (s *Service) Unlock(ctx context.Context, c Caller, r UnlockRequest) error {
	for range maxAttempts {
		snap, err := s.own(ctx, c, r.SnapshotID)
		if err != nil {
			return s.storeError(err)
		}
		if err := s.admit(ctx, c, &snap, need{action: UnlockSnapshot}); err != nil {
			return err
		}
		l, _, err := s.lockOf(ctx, snap.Key)
		switch {
		case err != nil:
			return s.storeError(err)
		case l == nil || l.State == LockExpired:
			return &Error{Code: NotLocked, Snapshot: snap.ID}
		case l.State == Compliance:
			return &Error{Code: LockForbidden, Snapshot: snap.ID, Err: errors.New("it cannot be unlocked")}
		case r.DryRun:
			return nil
		}
		done, err := s.catalog.Unlock(ctx, snap.Key)
		if done && err == nil {
			err = s.describe(ctx, snap.ID)
		}
		if done || err != nil {
			return s.storeError(err)
		}
	}
	return &Error{Code: Internal, Err: fmt.Errorf("unlock snapshot: raced %d times", maxAttempts)}
}

// LocksRequest selects locked snapshots of the caller's own.
// Spec: ec2-snapshots §8.3.
type LocksRequest struct {
	IDs        []string // an ID without a lock is not in the answer
	Filters    []Filter // there is lock-state
	MaxResults *int64   // nil for all in one page
	NextToken  *string
}

// A LockPage is one page of locked snapshots, by start time and then ID.
type LockPage struct {
	Snapshots []LockedSnapshot
	NextToken string // empty on the last page
}

// Locks lists locked snapshots, with locks that have expired. An ID that is
// not one of the caller's own snapshots fails the whole call. The states that
// it tells are recorded before.
func (s *Service) Locks(ctx context.Context, c Caller, r LocksRequest) (LockPage, error) {
	for _, f := range r.Filters {
		if f.Name != "lock-state" {
			return LockPage{}, &Error{Code: InvalidFilter, Field: f.Name, Err: errors.New("there is no filter of this name; there is lock-state")}
		}
	}
	filters, err := matchers(r.Filters)
	if err != nil {
		return LockPage{}, err
	}
	if err := s.admit(ctx, c, nil, need{action: DescribeLockedSnapshots}); err != nil {
		return LockPage{}, err
	}
	wanted := make(map[string]bool, len(r.IDs))
	for _, id := range r.IDs {
		if _, err := s.own(ctx, c, id); err != nil {
			return LockPage{}, s.storeError(err)
		}
		wanted[id] = true
	}
	after, err := s.openList(r.NextToken)
	if err != nil {
		return LockPage{}, err
	}
	if err := s.catalog.KeepLockTime(ctx); err != nil {
		return LockPage{}, s.storeError(err)
	}
	at := func(l *LockedSnapshot) Cursor { return Cursor{l.StartTime, l.ID} }
	list, next, err := selectPage(after, r.MaxResults, at, func(after Cursor) ([]LockedSnapshot, error) {
		return s.catalog.Locked(ctx, c.Account, c.Region, after, describePage)
	}, func(l *LockedSnapshot) bool {
		return (len(wanted) == 0 || wanted[l.ID]) && l.matches(filters)
	})
	if err != nil {
		return LockPage{}, s.storeError(err)
	}
	return LockPage{list, s.nextList(next)}, nil
}

// matches reports whether one value of each filter matches the lock's state.
func (l *LockedSnapshot) matches(filters []matcher) bool {
	return !slices.ContainsFunc(filters, func(m matcher) bool { return !m.value(l.Lock.State.String()) })
}
