package snapshot

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// workInterval is how often the background work looks around by itself;
	// requests wake it at once.
	workInterval = time.Second
	// maxFolds bounds the snapshots completed at a time.
	maxFolds = 4
	// sweepRows bounds one transaction of the sweep, so that writes get in
	// between.
	sweepRows = 2000
	// deletedLife is how long what a client token is bound to outlives its
	// deleted snapshot. Spec: ebs-direct §3, Idempotency.
	deletedLife = 24 * time.Hour
	// maxBackoff is the longest wait before a fold that failed is repeated.
	maxBackoff = time.Minute
)

// folds is what is known about the snapshots being completed.
type folds struct {
	wake chan struct{} // holds one value when there may be work

	mu      sync.Mutex
	running map[int64]bool    // by snapshot key
	failed  map[int64]backoff // by snapshot key
	changed chan struct{}     // closed and replaced when a fold has ended
}

type backoff struct {
	wait  time.Duration
	until time.Time // by the real clock
}

func (f *folds) init() {
	f.wake = make(chan struct{}, 1)
	f.running = make(map[int64]bool)
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

// begin reports whether the snapshot's fold is to be started now.
func (f *folds) begin(key int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[key] || time.Now().Before(f.failed[key].until) {
		return false
	}
	f.running[key] = true
	return true
}

func (f *folds) end(key int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, key)
	if err == nil {
		delete(f.failed, key)
	} else {
		wait := min(max(2*f.failed[key].wait, workInterval), maxBackoff)
		f.failed[key] = backoff{wait, time.Now().Add(wait)}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// Run does the background work until ctx ends: it completes sealed snapshots,
// lets those fail whose time is over, and removes rows that nothing needs. All
// of it goes on after a restart where it was. It returns once nothing of it
// runs any more.
func (s *Service) Run(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(maxFolds)
	tick := time.NewTicker(workInterval)
	defer tick.Stop()
	sweeping := make(chan struct{}, 1) // holds a value while a sweep runs
	var sweeps sync.WaitGroup
	for {
		if _, err := s.catalog.Expire(ctx, timedOut); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "timeouts could not be recorded", "err", err)
		}
		s.startFolds(ctx, &g)
		select {
		case sweeping <- struct{}{}:
			sweeps.Go(func() {
				defer func() { <-sweeping }()
				s.sweep(ctx)
			})
		default:
		}
		select {
		case <-ctx.Done():
			_ = g.Wait() // folds report their own errors
			sweeps.Wait()
			return
		case <-tick.C:
		case <-s.folds.wake:
		}
	}
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
	for i := range due {
		snap := &due[i]
		if !s.folds.begin(snap.Key) {
			continue
		}
		if !g.TryGo(func() error {
			err := s.fold(ctx, snap)
			if err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "snapshot could not be completed yet, will be tried again", "snapshot", snap.ID, "err", err)
			}
			s.folds.end(snap.Key, err)
			s.folds.kick()
			s.usageChanged()
			return nil
		}) {
			s.folds.end(snap.Key, nil) // the end of another fold comes back to it
			return
		}
	}
}

// sweep removes rows that nothing needs, a little at a time.
func (s *Service) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := s.catalog.Sweep(ctx, s.now().Add(-deletedLife), sweepRows)
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "sweep failed", "err", err)
		}
		if err != nil || !more {
			return
		}
	}
}

// Settle returns when all that is due has been done: snapshots whose time is
// over have failed, sealed ones are completed or have failed. Run must be
// running.
func (s *Service) Settle(ctx context.Context) error {
	if _, err := s.catalog.Expire(ctx, timedOut); err != nil {
		return err
	}
	for {
		s.folds.mu.Lock()
		changed := s.folds.changed
		s.folds.mu.Unlock()
		due, err := s.catalog.Completing(ctx)
		if err != nil || len(due) == 0 {
			return err
		}
		s.folds.kick()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
