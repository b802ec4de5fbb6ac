// Package seat bounds how many bodies are in memory at once, and keeps slow
// senders from having all the places: when hardly one is left, a body that does
// not move, or too slowly, loses its own.
package seat

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// slow is the rate, in bytes a second, below which a body has to make room
	// for others: a block would take eight seconds.
	slow = 64 << 10
	// grace is how long a body may pause, or be as slow as it likes: long enough
	// for a round trip and a lost packet.
	grace = 500 * time.Millisecond
	// look is how often somebody who waits looks for a slow body.
	look = 100 * time.Millisecond
)

// ErrFull says that no seat became free in time.
var ErrFull = errors.New("no room for another body")

// An Interrupter is a body whose Read, in progress or to come, can be made to
// fail by another goroutine.
type Interrupter interface{ Interrupt() }

// A Room has a fixed number of seats. It is safe for concurrent use.
type Room struct {
	seats    chan struct{}
	few      int // when so many are taken, slow bodies make room
	patience time.Duration

	mu      sync.Mutex
	reading map[*Seat]struct{}
}

// NewRoom returns a room of n seats, in which one is waited for until patience
// is over.
func NewRoom(n int, patience time.Duration) *Room {
	return &Room{seats: make(chan struct{}, n), few: n - n/8, patience: patience, reading: make(map[*Seat]struct{})}
}

// A Seat is a place in a room and the body that is read there. One goroutine
// owns it.
type Seat struct {
	room  *Room
	body  io.Reader
	since time.Time

	// What follows is guarded by the room's mu.
	n     int64
	last  time.Time // when something came
	moved bool      // it had to make room
}

// Take takes a seat for body. If body is an Interrupter, it may later have to
// make room. The error is ErrFull, or ctx's.
func (r *Room) Take(ctx context.Context, body io.Reader) (*Seat, error) {
	select {
	case r.seats <- struct{}{}:
	default:
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
	}
	if len(r.seats) >= r.few {
		r.moveSlowest()
	}
	now := time.Now()
	s := &Seat{room: r, body: body, since: now, last: now}
	r.mu.Lock()
	r.reading[s] = struct{}{}
	r.mu.Unlock()
	return s, nil
}

// wait waits for a seat, and has one slow body make room, as soon as there is
// one: those that wait get as many seats as they are.
func (r *Room) wait(ctx context.Context) error {
	patience := time.NewTimer(r.patience)
	defer patience.Stop()
	again := time.NewTicker(look)
	defer again.Stop()
	for moved := r.moveSlowest(); ; {
		select {
		case r.seats <- struct{}{}:
			return nil
		case <-again.C:
			moved = moved || r.moveSlowest()
		case <-patience.C:
			return ErrFull
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// moveSlowest interrupts the slowest of the bodies that pause or are slow.
func (r *Room) moveSlowest() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var slowest *Seat
	var least float64
	for s := range r.reading {
		held := now.Sub(s.since)
		rate := float64(s.n) / held.Seconds()
		if s.moved || held < grace || rate >= slow && now.Sub(s.last) < grace {
			continue
		}
		if _, ok := s.body.(Interrupter); ok && (slowest == nil || rate < least) {
			slowest, least = s, rate
		}
	}
	if slowest == nil {
		return false
	}
	slowest.moved = true
	slowest.body.(Interrupter).Interrupt()
	return true
}

// Read reads from the body.
func (s *Seat) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.room.mu.Lock()
	s.n += int64(n)
	s.last = time.Now()
	s.room.mu.Unlock()
	return n, err
}

// Settle says that the body has been read. It reports whether that was in time:
// false if the body had to make room. Afterwards it need not.
func (s *Seat) Settle() bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	delete(s.room.reading, s)
	return !s.moved
}

// Leave gives the seat back.
func (s *Seat) Leave() {
	s.Settle()
	<-s.room.seats
}
