package snapshot

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// workInterval is how often the background work looks around by itself;
	// requests wake it at once.
	workInterval = time.Second
	// maxFolds bounds the snapshots completed at a time, maxRewriting the copies
	// whose blocks are being written, and maxTaking those that take over a map.
	maxFolds     = 4
	maxRewriting = 2
	maxTaking    = 2
	// sweepRows bounds one transaction of the sweep, so that writes get in
	// between.
	sweepRows = 2000
	// deletedLife is how long what a client token is bound to outlives its
	// deleted snapshot. Spec: ebs-direct §3, Idempotency.
	deletedLife = 24 * time.Hour
	// maxBackoff is the longest wait before a fold that failed is repeated.
	maxBackoff = time.Minute
)

// folds is what is known about the snapshots being completed, copies among
// them.
type folds struct {
	wake chan struct{} // holds one value when there may be work

	mu      sync.Mutex
	running map[int64]int     // by snapshot key: the round in which it began
	failed  map[int64]backoff // by snapshot key
	round   int               // grows when all is to be tried again
	changed chan struct{}     // closed and replaced when a fold has ended
}

type backoff struct {
	wait    time.Duration
	until   time.Time // by the real clock
	keyless bool      // its key could not be used in this round
}

func (f *folds) init() {
	f.wake = make(chan struct{}, 1)
	f.running = make(map[int64]int)
	f.failed = make(map[int64]backoff)
	f.changed = make(chan struct{})
}

// kick wakes the background work.
func (f *folds) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// calm takes kick back.
func (f *folds) calm() {
	select {
	case <-f.wake:
	default:
	}
}

// begin reports whether the snapshot's fold is to be started now.
func (f *folds) begin(key int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, running := f.running[key]; running || time.Now().Before(f.failed[key].until) {
		return false
	}
	f.running[key] = f.round
	return true
}

// giveBack takes back begin: there was no room to start it.
func (f *folds) giveBack(key int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, key)
}

// again lets all that has failed be tried again at once, and forgets which keys
// could not be used.
func (f *folds) again() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.round++
	for key, b := range f.failed {
		f.failed[key] = backoff{wait: b.wait}
	}
}

// keyless reports whether the snapshot's key could not be used in this round.
func (f *folds) keyless(key int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed[key].keyless
}

// failures gives the snapshots that have failed lately, and how often: by the
// time that they wait.
func (f *folds) failures() map[int64]time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	waits := make(map[int64]time.Duration, len(f.failed))
	for key, b := range f.failed {
		waits[key] = b.wait
	}
	return waits
}

func (f *folds) end(key int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	round := f.running[key]
	delete(f.running, key)
	if err == nil {
		delete(f.failed, key)
	} else {
		wait := min(max(2*f.failed[key].wait, workInterval), maxBackoff)
		f.failed[key] = backoff{wait: wait}
		if round == f.round {
			f.failed[key] = backoff{wait, time.Now().Add(wait), waitsForKey(err)}
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// waitsForKey reports whether an error is about a snapshot's key, which others
// have to make usable again.
func waitsForKey(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Code == KeyRefused || e.Code == KeyNotFound || e.Code == DomainLost)
}

// Run does the background work until ctx ends: it completes sealed snapshots
// and copies, lets those fail whose time is over, ends locks, purges the recycle
// bin, and removes rows that nothing needs. All of it goes on after a restart where it was. It returns once nothing of it
// runs any more.
func (s *Service) Run(ctx context.Context) {
	var g, rewriting, taking errgroup.Group
	g.SetLimit(maxFolds)
	rewriting.SetLimit(maxRewriting)
	taking.SetLimit(maxTaking)
	tick := time.NewTicker(workInterval)
	defer tick.Stop()
	sweeping := make(chan struct{}, 1) // holds a value while a sweep runs
	var sweeps sync.WaitGroup
	for {
		if err := s.Ready(); err != nil {
			_ = s.storeError(err) // says so, once
		} else {
			s.startWork(ctx, &g, &rewriting, &taking)
			select {
			case sweeping <- struct{}{}:
				sweeps.Go(func() {
					defer func() { <-sweeping }()
					s.sweep(ctx)
				})
			default:
			}
		}
		select {
		case <-ctx.Done():
			_ = g.Wait() // folds and copies report their own errors
			_ = rewriting.Wait()
			_ = taking.Wait()
			sweeps.Wait()
			return
		case <-tick.C:
			s.folds.calm() // one look is for both
		case <-s.folds.wake:
			tick.Reset(workInterval)
		}
	}
}

// startWork starts what can be started of all that is due.
func (s *Service) startWork(ctx context.Context, g, rewriting, taking *errgroup.Group) {
	if err := s.keepTime(ctx); err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "what has come to its end could not be recorded", "err", err)
	}
	s.startFolds(ctx, g)
	s.startCopies(ctx, rewriting, taking)
}

// keepTime records what has come to its end: uploads, the time of locks, and
// that in the recycle bin.
func (s *Service) keepTime(ctx context.Context) error {
	s.lags.endDue(s.now())
	_, expired := s.catalog.Expire(ctx, timedOut)
	_, purged := s.catalog.Purge(ctx)
	return errors.Join(expired, s.catalog.KeepLockTime(ctx), purged)
}

// startFolds starts what can be started of the folds that are due.
func (s *Service) startFolds(ctx context.Context, g *errgroup.Group) {
	due, err := s.catalog.Completing(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.ErrorContext(ctx, "snapshots to complete could not be listed", "err", err)
		}
		return
	}
	inTurn(&s.folds, due, func(snap *Snapshot) int64 { return snap.Key })
	for i := range due {
		snap := &due[i]
		if !s.startJob(ctx, g, snap, func() error { return s.fold(ctx, snap) }) {
			return
		}
	}
}

// startCopies starts what can be started of the copies that are due. Those that
// take over a map are done in a moment, and do not wait behind those whose
// blocks are written anew.
func (s *Service) startCopies(ctx context.Context, rewriting, taking *errgroup.Group) {
	due, err := s.catalog.Copies(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.ErrorContext(ctx, "snapshots to copy could not be listed", "err", err)
		}
		return
	}
	inTurn(&s.folds, due, func(c *Copy) int64 { return c.Snapshot.Key })
	room := map[*errgroup.Group]bool{rewriting: true, taking: true}
	for i := range due {
		c := &due[i]
		g := taking
		if s.rewrites(ctx, c) {
			g = rewriting
		}
		room[g] = room[g] && s.startJob(ctx, g, &c.Snapshot, func() error { return s.runCopy(ctx, c) })
	}
}

// rewrites guesses whether the blocks of a copy have to be written anew: its
// source is there and of another domain.
func (s *Service) rewrites(ctx context.Context, c *Copy) bool {
	source, found, err := s.catalog.Snapshot(ctx, c.SourceID)
	return err != nil || found && c.Refused == "" && source.Domain != c.Snapshot.Domain
}

// inTurn puts what has failed behind what has not, and the more often the later:
// snapshots whose keys nobody can ask for, which may take long to find out, do
// not hold up all others.
func inTurn[T any](f *folds, due []T, key func(*T) int64) {
	waits := f.failures()
	slices.SortStableFunc(due, func(a, b T) int { return cmp.Compare(waits[key(&a)], waits[key(&b)]) })
}

// startJob lets one snapshot be completed by the work, unless that is going on,
// or has failed a moment ago. more is false if no more can be started now.
func (s *Service) startJob(ctx context.Context, g *errgroup.Group, snap *Snapshot, work func() error) (more bool) {
	if !s.folds.begin(snap.Key) {
		return true
	}
	if !g.TryGo(func() error {
		_ = s.runJob(ctx, snap, work) // it has been said, and is tried again
		return nil
	}) {
		s.folds.giveBack(snap.Key) // the end of another job comes back to it
		return false
	}
	return true
}

// runJob does the work on one snapshot, which folds.begin has given out.
func (s *Service) runJob(ctx context.Context, snap *Snapshot, work func() error) error {
	err := work()
	if err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "snapshot could not be completed yet, will be tried again", "snapshot", snap.ID, "err", err)
	}
	s.folds.end(snap.Key, err)
	s.folds.kick()
	s.usageChanged()
	return err
}

// sweep removes rows that nothing needs, a little at a time, and writes the
// manifests that are due.
func (s *Service) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := s.catalog.Sweep(ctx, s.now().Add(-deletedLife), sweepRows)
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "sweep failed", "err", err)
		}
		if err != nil || !more {
			break
		}
	}
	if err := s.describeDue(ctx); err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "manifests could not be written", "err", err)
	}
}

// Settle returns when all that is due has been done: snapshots whose time is
// over have failed, locks have ended, the recycle bin is purged, sealed
// snapshots and copies are completed or have failed, and rows that nothing needs
// are gone. It does so itself, one thing after another, but for what Run is at.
// What waits for a key that cannot be used has been tried once more, and is
// waited for no longer; any other error ends it.
func (s *Service) Settle(ctx context.Context) error {
	if err := s.keepTime(ctx); err != nil {
		return err
	}
	s.folds.again()
	for {
		s.folds.mu.Lock()
		changed := s.folds.changed
		s.folds.mu.Unlock()
		due, err := s.catalog.Completing(ctx)
		if err != nil {
			return err
		}
		copies, err := s.catalog.Copies(ctx)
		if err != nil {
			return err
		}
		due = slices.DeleteFunc(due, func(snap Snapshot) bool { return s.folds.keyless(snap.Key) })
		copies = slices.DeleteFunc(copies, func(c Copy) bool { return s.folds.keyless(c.Snapshot.Key) })
		if len(due)+len(copies) == 0 {
			s.sweep(ctx)
			return nil
		}
		did := false
		do := func(snap *Snapshot, work func() error) error {
			if !s.folds.begin(snap.Key) {
				return nil
			}
			did = true
			if err := s.runJob(ctx, snap, work); err != nil && !waitsForKey(err) {
				return err
			}
			return nil
		}
		for i := range due {
			if err := do(&due[i], func() error { return s.fold(ctx, &due[i]) }); err != nil {
				return err
			}
		}
		for i := range copies {
			if err := do(&copies[i].Snapshot, func() error { return s.runCopy(ctx, &copies[i]) }); err != nil {
				return err
			}
		}
		if did {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
