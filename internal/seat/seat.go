// Package seat bounds how many bodies are in memory at once, and keeps slow
// clients from having all the places: when hardly one is left, a body that does
// not move, or too slowly, loses its own. That holds for those that come in, of
// which each part is counted, and for those that go out, which have a time in
// which to be taken.
//
// That alone would have everybody wait behind as many slow bodies as an attacker
// cares to begin. So half of the places are for connections on which a body has
// passed in good time before, and of the others that wait those are first whose
// address has the fewest places.
package seat

import (
	"container/list"
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"
)

const (
	// Slow is the rate, in bytes a second, below which a body has to make room
	// for others: a block would take eight seconds.
	Slow = 64 << 10
	// grace is how long a body that comes in may pause, or be as slow as it
	// likes: long enough for a round trip and a lost packet.
	grace = 500 * time.Millisecond
	// look is how often somebody who waits looks for a slow body.
	look = 100 * time.Millisecond
)

// ErrFull says that no seat became free in time.
var ErrFull = errors.New("no room for another body")

// A Client is one end of a connection. Other goroutines than its own may call all
// of it.
type Client interface {
	// Interrupt makes its Read or its Write, in progress or to come, fail.
	Interrupt()
	// Known reports whether a body has passed on the connection in good time.
	Known() bool
	// Address is where the client is.
	Address() netip.Addr
}

// A Room has a fixed number of seats. It is safe for concurrent use.
type Room struct {
	size     int
	patience time.Duration
	// forStrangers is how many of the seats strangers may have, who are clients
	// that are not known.
	forStrangers int

	mu               sync.Mutex
	taken            int
	strangers        int                // of those
	held             map[netip.Addr]int // seats that strangers have, by address
	moving           map[*Seat]struct{} // those whose body is on its way
	waiting          list.List          // of *Seat: the first has waited for the longest
	waitingStrangers list.List          // the same of strangers
}

// NewRoom returns a room of n seats, in which one is waited for until patience
// is over. Strangers may have half of them.
func NewRoom(n int, patience time.Duration) *Room {
	return &Room{
		size: n, patience: patience, forStrangers: (n + 1) / 2,
		held: make(map[netip.Addr]int), moving: make(map[*Seat]struct{}),
	}
}

// Taken is how many seats are taken.
func (r *Room) Taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// A Seat is a place in a room and what is there. One goroutine owns it.
type Seat struct {
	room     *Room
	client   Client // may have to make room, once its time is over; nil if not
	stranger bool
	ready    chan struct{} // closed when one that waits has its seat

	// What follows is guarded by the room's mu.
	since time.Time
	grace time.Duration
	n     int64
	last  time.Time // when something came
	moved bool      // it had to make room
}

// Take takes a seat for client, which its owner gives back by Leave. The error is
// ErrFull, or ctx's. A nil client never has to make room and is no stranger.
func (r *Room) Take(ctx context.Context, client Client) (*Seat, error) {
	s := r.newSeat(client)
	r.mu.Lock()
	if r.free(s) {
		r.sit(s)
		r.mu.Unlock()
		return s, nil
	}
	s.ready = make(chan struct{})
	queue := &r.waiting
	if s.stranger {
		queue = &r.waitingStrangers
	}
	place := queue.PushBack(s)
	moved := r.makeRoom(s)
	r.mu.Unlock()
	err := r.wait(ctx, s, moved)
	if err == nil {
		return s, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-s.ready: // at the last moment
		return s, nil
	default:
		queue.Remove(place)
		return nil, err
	}
}

// TryTake takes a seat if one is free, else it returns nil.
func (r *Room) TryTake(client Client) *Seat {
	s := r.newSeat(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.free(s) {
		return nil
	}
	r.sit(s)
	return s
}

func (r *Room) newSeat(client Client) *Seat {
	return &Seat{room: r, client: client, stranger: client != nil && !client.Known()}
}

// What follows, up to wait, is for who holds mu.

// free reports whether there is a seat for s. Then nobody waits who might have it.
func (r *Room) free(s *Seat) bool {
	return r.taken < r.size && (!s.stranger || r.strangers < r.forStrangers)
}

// sit gives s its seat. Where hardly one is left after that, a slow body makes
// room for the next.
func (r *Room) sit(s *Seat) {
	r.taken++
	if s.stranger {
		r.strangers++
		r.held[s.client.Address()]++
	}
	switch {
	case r.taken >= few(r.size):
		r.moveSlowest(false)
	case s.stranger && r.strangers >= few(r.forStrangers):
		r.moveSlowest(true)
	}
}

// few is how many of n seats are taken when hardly one is left.
func few(n int) int { return n - n/8 }

// makeRoom has one slow body make room for s.
func (r *Room) makeRoom(s *Seat) bool {
	return r.moveSlowest(s.stranger && r.taken < r.size)
}

// next gives the one among those that wait who is to have the next seat, if
// there is one for it.
func (r *Room) next() *Seat {
	if r.taken == r.size {
		return nil
	}
	if e := r.waiting.Front(); e != nil {
		return r.waiting.Remove(e).(*Seat)
	}
	if r.strangers == r.forStrangers {
		return nil
	}
	var first *list.Element
	fewest := 0
	for e := r.waitingStrangers.Front(); e != nil; e = e.Next() {
		n := r.held[e.Value.(*Seat).client.Address()]
		if first == nil || n < fewest {
			first, fewest = e, n
		}
		if n == 0 {
			break
		}
	}
	if first == nil {
		return nil
	}
	return r.waitingStrangers.Remove(first).(*Seat)
}

// moveSlowest interrupts the slowest of the bodies, or of those of strangers,
// that pause or are slow, and of equal ones that which has been on its way for the
// longest.
func (r *Room) moveSlowest(strangers bool) bool {
	now := time.Now()
	var slowest *Seat
	var least float64
	for s := range r.moving {
		held := now.Sub(s.since)
		rate := float64(s.n) / held.Seconds()
		if strangers && !s.stranger || s.moved || held < s.grace || rate >= Slow && now.Sub(s.last) < s.grace {
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

// wait waits for the seat of s, and has one slow body make room, unless one has,
// as soon as there is one: those that wait get as many seats as they are.
func (r *Room) wait(ctx context.Context, s *Seat, moved bool) error {
	patience := time.NewTimer(r.patience)
	defer patience.Stop()
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		select {
		case <-s.ready:
			return nil
		case <-again.C:
			if !moved {
				r.mu.Lock()
				moved = r.makeRoom(s)
				r.mu.Unlock()
			}
		case <-patience.C:
			return ErrFull
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin says that a body is on its way, to or from the client.
func (s *Seat) begin(grace time.Duration) {
	now := time.Now()
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.since, s.last, s.grace = now, now, grace
	s.room.moving[s] = struct{}{}
}

// Receive returns a reader of body, which comes from the client and is on its way
// until Settle. It may have to make room.
func (s *Seat) Receive(body io.Reader) io.Reader {
	if s.client == nil {
		return body
	}
	s.begin(grace)
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
// Settle. If it takes longer than grace, it may have to make room.
func (s *Seat) Send(grace time.Duration) {
	if s.client != nil {
		s.begin(grace)
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

// Leave gives the seat back, to whoever is the next to have it.
func (s *Seat) Leave() {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.moving, s)
	r.taken--
	if s.stranger {
		r.strangers--
		from := s.client.Address()
		if r.held[from]--; r.held[from] == 0 {
			delete(r.held, from)
		}
	}
	for next := r.next(); next != nil; next = r.next() {
		r.sit(next)
		close(next.ready)
	}
}
