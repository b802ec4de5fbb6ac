package pace_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"shale/internal/pace"
)

// Work takes its share of the time, however long its pieces are.
func TestShare(t *testing.T) {
	for _, piece := range []time.Duration{time.Millisecond, 7 * time.Millisecond, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			share := pace.NewShare(4)
			began, worked := time.Now(), time.Duration(0)
			for worked < 10*time.Second {
				time.Sleep(piece)
				worked += piece
				if err := share.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took < 39*time.Second || took > 40*time.Second {
				t.Errorf("10 s of work in pieces of %v took %v, want 40 s", piece, took)
			}
		})
	}
}

// What is called off does not rest to the end.
func TestShareEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		share := pace.NewShare(10)
		if err := share.Step(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		began := time.Now()
		if err := share.Step(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it rested for %v, want 1s", took)
		}
	})
}

// A nil Share holds nothing back, and ends with its context.
func TestNoShare(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var share *pace.Share
	if err := share.Step(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	if err := share.Step(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// Bytes pass at the rate, and what was not used is not saved up.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := pace.NewRate(1 << 20)
		pass := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			for range 10 {
				if err := rate.Wait(t.Context(), 1<<20); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took != want {
				t.Errorf("10 MiB at a MiB a second took %v, want %v", took, want)
			}
		}
		pass(10 * time.Second)
		time.Sleep(time.Minute)
		pass(10 * time.Second)
	})
}
