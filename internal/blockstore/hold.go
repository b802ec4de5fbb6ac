package blockstore

import (
	"context"
	"sync"
)

// held counts who has stored, or found, records that nothing in the index
// names yet, so that a collector waits for them.
type held struct {
	mu      sync.Mutex
	epoch   uint64
	count   map[uint64]int // by the epoch in which they were taken
	changed chan struct{}  // closed and replaced when one is given back
}

func (h *held) init() {
	h.count = make(map[uint64]int)
	h.changed = make(chan struct{})
}

// A Hold is taken by who calls WriteNodes or WriteManifests, before that, and
// given back once the index names what was written, or never will.
type Hold struct {
	holds *held
	epoch uint64
}

// Hold takes a Hold.
func (s *Store) Hold() *Hold {
	h := &Hold{holds: &s.held}
	h.take()
	return h
}

func (h *Hold) take() {
	h.holds.mu.Lock()
	defer h.holds.mu.Unlock()
	h.epoch = h.holds.epoch
	h.holds.count[h.epoch]++
}

// Release gives it back.
func (h *Hold) Release() {
	o := h.holds
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[h.epoch]--; o.count[h.epoch] == 0 {
		delete(o.count, h.epoch)
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// Renew gives it back and takes it anew: nothing that was stored or found
// before needs it any more.
func (h *Hold) Renew() {
	h.Release()
	h.take()
}

// Barrier returns once every Hold that was taken before the call has been given
// back, or with the error of ctx.
func (s *Store) Barrier(ctx context.Context) error {
	h := &s.held
	h.mu.Lock()
	last := h.epoch
	h.epoch++
	for {
		waiting := false
		for epoch := range h.count {
			waiting = waiting || epoch <= last
		}
		changed := h.changed
		h.mu.Unlock()
		if !waiting {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		h.mu.Lock()
	}
}
