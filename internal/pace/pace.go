// Package pace holds work in the background back, so that it leaves the machine
// to requests.
package pace

import (
	"context"
	"time"
)

// slice is for how long a Share works at a time: short enough for no request to
// wait for longer because of it.
const slice = 10 * time.Millisecond

// A Share makes long work take but a share of one processor, or of the disk, if
// it asks for a step again and again, every few milliseconds at least. All the
// time between two steps counts as work, so each work needs a Share of its own.
// It is for one goroutine. A nil one holds nothing back.
type Share struct {
	rest  int       // how many times as long as it worked it rests
	began time.Time // to work; zero before the first step
}

// NewShare returns a Share of one part in so many.
func NewShare(parts int) *Share { return &Share{rest: parts - 1} }

// Step rests if there has been enough work since it rested last. The error is
// ctx's.
func (s *Share) Step(ctx context.Context) error {
	if s == nil {
		return ctx.Err()
	}
	now := time.Now()
	if s.began.IsZero() {
		s.began = now
	}
	worked := now.Sub(s.began)
	if worked < slice {
		return ctx.Err()
	}
	err := wait(ctx, time.Duration(s.rest)*worked)
	s.began = time.Now()
	return err
}

// A Rate lets bytes through. It is for one goroutine.
type Rate struct {
	rate int64     // bytes a second
	next time.Time // when the next bytes may pass
}

// NewRate returns a Rate of so many bytes a second, one at least.
func NewRate(bytes int64) *Rate { return &Rate{rate: max(bytes, 1)} }

// Wait waits until n bytes more may pass. The error is ctx's.
func (r *Rate) Wait(ctx context.Context, n int64) error {
	now := time.Now()
	if r.next.Before(now) {
		r.next = now
	}
	r.next = r.next.Add(time.Duration(float64(n) / float64(r.rate) * float64(time.Second)))
	return wait(ctx, r.next.Sub(now))
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
