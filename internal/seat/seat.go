// Package seat bounds how many bodies are in memory at once, and keeps slow
// clients from having all the places: when hardly one is left, a body that does
// not move, or too slowly, loses its own. That holds for those that come in, of
// which each part is counted, and for those that go out, which have a time in
// which to be taken.
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
	// grace is how long a body that comes in may pause, or be as slow as it
	// likes: long enough for a round trip and a lost packet.
	grace = 500 * time.Millisecond
	// look is how often somebody who waits looks for a slow body.
	look = 100 * time.Millisecond
)

// ErrFull says that no seat became free in time.
var ErrFull = errors.New("no room for another body")

// An Interrupter is one end of a connection: its Read or its Write, in progress
// or to come, can be made to fail by another goroutine.
type Interrupter interface{ Interrupt() }

// A Room has a fixed number of seats. It is safe for concurrent use.
type Room struct {
	seats    chan struct{}
	few      int // when so many are taken, slow bodies make room
	patience time.Duration

	mu     sync.Mutex
	moving map[*Seat]struct{} // those whose body is on its way
}

// NewRoom returns a room of n seats, in which one is waited for until patience
// is over.
func NewRoom(n int, patience time.Duration) *Room {
	return &Room{seats: make(chan struct{}, n), few: n - n/8, patience: patience, moving: make(map[*Seat]struct{})}
}

// Taken is how many seats are taken.
func (r *Room) Taken() int { return len(r.seats) }

// A Seat is a place in a room and what is there. One goroutine owns it.
type Seat struct {
	room *Room

	// What follows is guarded by the room's mu.
	client Interrupter // may have to make room, once its time is over
	since  time.Time
	grace  time.Duration
	n      int64
	last   time.Time // when something came
	moved  bool      // it had to make room
}

// Take takes a seat, which its owner gives back by Leave. The error is ErrFull,
// or ctx's.
func (r *Room) Take(ctx context.Context) (*Seat, error) {
	if s := r.TryTake(); s != nil {
		return s, nil
	}
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	return r.taken(), nil
}

// TryTake takes a seat if one is free, else it returns nil.
func (r *Room) TryTake() *Seat {
	select {
	case r.seats <- struct{}{}:
		return r.taken()
	default:
		return nil
	}
}

func (r *Room) taken() *Seat {
	if len(r.seats) >= r.few {
		r.moveSlowest()
	}
	return &Seat{room: r}
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

// moveSlowest interrupts the slowest of the bodies that pause or are slow, and of
// equal ones that which has been on its way for the longest.
func (r *Room) moveSlowest() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var slowest *Seat
	var least float64
	for s := range r.moving {
		held := now.Sub(s.since)
		rate := float64(s.n) / held.Seconds()
		if s.moved || held < s.grace || rate >= slow && now.Sub(s.last) < s.grace {
			continue
		}
		if slowest == nil || rate < least || rate == least && s.since.Before(slowest.since) {
			slowest, least = s, rate
		}
	}
	if slowest == nil {
		return false
	}
	slowest.moved = true
	slowest.client.Interrupt()
	return true
}

// begin says that a body is on its way, to or from the client.
func (s *Seat) begin(client Interrupter, grace time.Duration) {
	now := time.Now()
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.client, s.since, s.last, s.grace = client, now, now, grace
	s.room.moving[s] = struct{}{}
}

// Receive returns a reader of body, which is on its way until Settle. If it is an
// Interrupter, it may have to make room.
func (s *Seat) Receive(body io.Reader) io.Reader {
	client, ok := body.(Interrupter)
	if !ok {
		return body
	}
	s.begin(client, grace)
	return receiver{s, body}
}

// A receiver counts what comes in.
type receiver struct {
	*Seat

	body io.Reader
}

func (r receiver) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.room.mu.Lock()
	r.n += int64(n)
	r.last = time.Now()
	r.room.mu.Unlock()
	return n, err
}

// Send says that what is in the seat goes out to the client from now on, until
// Settle. If it takes longer than grace, it may have to make room. A nil client is
// left alone.
func (s *Seat) Send(client Interrupter, grace time.Duration) {
	if client != nil {
		s.begin(client, grace)
	}
}

// Settle says that the body has passed. It reports whether that was in time:
// false if the body had to make room. Afterwards it need not.
func (s *Seat) Settle() bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	delete(s.room.moving, s)
	return !s.moved
}

// Leave gives the seat back.
func (s *Seat) Leave() {
	s.Settle()
	<-s.room.seats
}
