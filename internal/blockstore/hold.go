package blockstore

import (
	"context"
	"maps"
	"slices"
	"sync"

	"shale/internal/block"
)

// held counts who has stored, or found, records that nothing in the index
// names yet, so that a collector waits for them, and who reads a map that may
// lose its name meanwhile, so that it leaves that alone.
type held struct {
	mu      sync.Mutex
	epoch   uint64
	count   map[uint64]int // by the epoch in which they were taken
	changed chan struct{}  // closed and replaced when one is given back
	pinned  map[block.ID]int
}

func (h *held) init() {
	h.count = make(map[uint64]int)
	h.pinned = make(map[block.ID]int)
	h.changed = make(chan struct{})
}

// A Hold is taken by who calls WriteNodes or WriteManifests, before that, and
// given back once the index names what was written, or never will.
type Hold struct {
	holds *held
	epoch uint64
	taken bool
}

// Hold takes a Hold.
func (s *Store) Hold() *Hold {
	h := &Hold{holds: &s.held}
	h.Take()
	return h
}

// Take takes it anew, after Release.
func (h *Hold) Take() {
	h.holds.mu.Lock()
	defer h.holds.mu.Unlock()
	h.epoch = h.holds.epoch
	h.holds.count[h.epoch]++
	h.taken = true
}

// Release gives it back, if that has not been done.
func (h *Hold) Release() {
	if !h.taken {
		return
	}
	h.taken = false
	o := h.holds
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[h.epoch]--; o.count[h.epoch] == 0 {
		delete(o.count, h.epoch)
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// Pin keeps all that can be reached from the root of a map, though the index
// may not name it any more, until unpin is called. What is not named already
// when it is pinned may be gone.
func (s *Store) Pin(root block.ID) (unpin func()) {
	h := &s.held
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pinned[root]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.pinned[root]--; h.pinned[root] == 0 {
			delete(h.pinned, root)
		}
	}
}

// Pinned gives the roots that are pinned.
func (s *Store) Pinned() []block.ID {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	return slices.Collect(maps.Keys(s.held.pinned))
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
