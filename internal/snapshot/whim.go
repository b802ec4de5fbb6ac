package snapshot

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shale/internal/block"
)

// A Whim is how one request is to be answered otherwise than it ought to be,
// for people who test their clients. What is stored is never affected by one.
// Spec: test-controls, Behaviour.
type Whim struct {
	// Lag is how much later than done it is seen that a snapshot was started,
	// completed or deleted.
	Lag time.Duration
	// Fails lets a snapshot that is completed end as one that was not uploaded
	// whole.
	Fails bool
	// Page is what pages of blocks have less of; they can be walked all the
	// same.
	Page PageWhim
	// TokenLife is how long the tokens of a page can be used; 0 for as long as
	// they ought to.
	TokenLife time.Duration
}

// A PageWhim is what is wrong with a page.
type PageWhim int

// The ways in which a page is not full.
const (
	FullPage  PageWhim = iota
	ShortPage          // half of it, if that is something
	EmptyPage          // nothing, but a token; never twice in one place
)

// whim gives the caller's, if it has one.
func (c Caller) whim() Whim {
	if c.Whim == nil {
		return Whim{}
	}
	return *c.Whim
}

// life is how long a token lives that ought to for ordinary. Expiries are whole
// seconds: a life that was shortened to a few is not shortened further.
func (w Whim) life(ordinary time.Duration) time.Duration {
	if w.TokenLife == 0 {
		return ordinary
	}
	return min(w.TokenLife+time.Second-1, ordinary)
}

// afterEmpty marks the cursor of a page token after a page that was empty on a
// whim. No index has this bit.
const afterEmpty = 1 << 32

// cut gives how many of a page's n entries are to be answered, and the cursor of
// the page after them if these are fewer. at is the index of an entry.
func (w Whim) cut(p pageStart, n int, at func(int) block.Index) (keep int, cursor uint64, fewer bool) {
	switch {
	case w.Page == ShortPage && n > 1:
		keep = (n + 1) / 2
		return keep, uint64(at(keep)), true
	case w.Page == EmptyPage && !p.afterEmpty && p.from <= block.MaxIndex:
		return 0, uint64(p.from) | afterEmpty, true
	}
	return n, 0, false
}

// unkeepable is a number of blocks that can be claimed and never be written: it
// is beyond the largest volume.
const unkeepable = math.MaxInt32

// settleTime is the most of a lag for which EC2, too, does not see that a
// snapshot is completed. Spec: ebs-direct §5.1.
const settleTime = 1500 * time.Millisecond

// maxLags bounds the snapshots of which something is seen later. What is past
// it is seen at once.
const maxLags = 100_000

// lags are what was done and is not seen yet. They are forgotten on restart.
type lags struct {
	some atomic.Bool // whether there are any, for all requests that have no use for them

	mu   sync.Mutex
	byID map[string]lag
}

// A lag is one snapshot of which something is seen later. At the zero time
// there is nothing to be seen later.
type lag struct {
	hidden   time.Time // until then it is not there
	pending  time.Time // until then it is not known to have been completed
	unread   time.Time // until then its blocks cannot be read, nor can it have failed
	deleted  time.Time // until then it is there, though it was deleted
	snapshot Snapshot  // as it was before that
	unpin    func()    // of its blocks, then; may be nil
}

// note changes what is seen later of a snapshot.
func (l *lags) note(id string, change func(*lag)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = make(map[string]lag)
	}
	was, known := l.byID[id]
	if !known && len(l.byID) >= maxLags {
		return
	}
	change(&was)
	l.byID[id] = was
	l.some.Store(true)
}

// of gives what is seen later of a snapshot.
func (l *lags) of(id string) lag {
	if !l.some.Load() {
		return lag{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

// endDue ends those of which everything can be seen at the time.
func (l *lags) endDue(now time.Time) {
	l.end(func(lag *lag) bool {
		return !now.Before(lag.hidden) && !now.Before(lag.unread) && !now.Before(lag.deleted)
	})
}

func (l *lags) end(over func(*lag) bool) {
	if !l.some.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, lag := range l.byID {
		if !over(&lag) {
			continue
		}
		if lag.unpin != nil {
			lag.unpin()
		}
		delete(l.byID, id)
	}
	l.some.Store(len(l.byID) > 0)
}

// EndLags lets everything be seen at once that was done.
func (s *Service) EndLags() { s.lags.end(func(*lag) bool { return true }) }

// veil shows a snapshot as it is seen at the moment, and reports whether it is.
func (s *Service) veil(snap *Snapshot) (seen bool) {
	if !s.lags.some.Load() {
		return true
	}
	now, l := s.now(), s.lags.of(snap.ID)
	if now.Before(l.pending) && snap.State == Completed || now.Before(l.unread) && snap.State == Failed {
		snap.State, snap.Message, snap.CompletedAt = Completing, "", time.Time{}
	}
	return !now.Before(l.hidden)
}

// unreadable reports whether it is not seen yet that there are blocks to read.
func (s *Service) unreadable(id string) bool {
	return s.lags.some.Load() && s.now().Before(s.lags.of(id).unread)
}

// lagStart lets a snapshot be there only later.
func (s *Service) lagStart(w Whim, id string) {
	if w.Lag > 0 {
		s.lags.note(id, func(l *lag) { l.hidden = s.now().Add(w.Lag) })
	}
}

// lagComplete lets it be seen later that a snapshot has been completed.
func (s *Service) lagComplete(w Whim, id string) {
	if w.Lag > 0 {
		now := s.now()
		s.lags.note(id, func(l *lag) { l.pending, l.unread = now.Add(min(w.Lag/2, settleTime)), now.Add(w.Lag) })
	}
}

// beforeDelete gives what is to be told whether a snapshot has been deleted: if
// so, it is seen for the caller's lag.
func (s *Service) beforeDelete(ctx context.Context, c Caller, id string) (func(deleted bool), error) {
	w := c.whim()
	if w.Lag == 0 && !s.lags.some.Load() {
		return func(bool) {}, nil
	}
	snap, err := s.own(ctx, c, id) // which may not be seen yet
	if err != nil || w.Lag == 0 {
		return func(bool) {}, err
	}
	list := []Snapshot{snap}
	if err := s.catalog.Tags(ctx, c.Account, list); err != nil {
		return nil, err
	}
	unpin := s.store.Pin(snap.Root)
	return func(deleted bool) {
		noted := false
		if deleted {
			s.lags.note(id, func(l *lag) {
				if l.unpin != nil { // it was restored from the bin, and deleted again
					l.unpin()
				}
				l.deleted, l.snapshot, l.unpin, noted = s.now().Add(w.Lag), list[0], unpin, true
			})
		}
		if !noted {
			unpin()
		}
	}, nil
}

// ghost finds a snapshot of the caller's own that was deleted and is still seen.
func (s *Service) ghost(c Caller, id string) (Snapshot, bool) {
	l := s.lags.of(id)
	return l.snapshot, s.now().Before(l.deleted) && l.snapshot.Account == c.Account && l.snapshot.Region == c.Region
}

// seen is visible, and finds what was deleted and is still seen, too.
func (s *Service) seen(ctx context.Context, c Caller, id string) (Snapshot, Access, error) {
	snap, access, err := s.visible(ctx, c, id)
	if e, ok := errors.AsType[*Error](err); ok && e.Code == NotFound {
		if ghost, found := s.ghost(c, id); found {
			return ghost, Access{}, nil
		}
	}
	return snap, access, err
}

// ghosts adds to a list of snapshots those of the caller's own that were deleted
// and are still seen, from after the cursor on.
func (s *Service) ghosts(c Caller, after Cursor, list []Snapshot) []Snapshot {
	if !s.lags.some.Load() {
		return list
	}
	s.lags.mu.Lock()
	defer s.lags.mu.Unlock()
	for id, l := range s.lags.byID {
		if !s.now().Before(l.deleted) || l.snapshot.Account != c.Account || l.snapshot.Region != c.Region ||
			place(&l.snapshot).compare(after) <= 0 ||
			slices.ContainsFunc(list, func(other Snapshot) bool { return other.ID == id }) { // it was restored
			continue
		}
		list = append(list, l.snapshot)
	}
	slices.SortFunc(list, func(a, b Snapshot) int { return place(&a).compare(place(&b)) })
	return list
}
