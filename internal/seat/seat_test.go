package seat_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"shale/internal/seat"
)

// A body gives n bytes every so often, until it is interrupted.
type body struct {
	n        int
	every    time.Duration
	stopped  chan struct{}
	stranger bool
	address  netip.Addr
}

var errStopped = errors.New("stopped")

func newBody(n int, every time.Duration) *body {
	return &body{n: n, every: every, stopped: make(chan struct{})}
}

func (b *body) Interrupt()          { close(b.stopped) }
func (b *body) Known() bool         { return !b.stranger }
func (b *body) Address() netip.Addr { return b.address }

// strange is b as that of a client that is not known, at the last of four
// addresses.
func (b *body) strange(last byte) *body {
	b.stranger, b.address = true, netip.AddrFrom4([4]byte{192, 0, 2, last})
	return b
}

func (b *body) Read(p []byte) (int, error) {
	select {
	case <-b.stopped:
		return 0, errStopped
	case <-time.After(b.every):
		return min(b.n, len(p)), nil
	}
}

// occupy takes a seat and reads in it for as long as it is left in peace. It
// reports whether that was until the end.
func occupy(t *testing.T, r *seat.Room, b io.Reader, until <-chan struct{}) <-chan bool {
	t.Helper()
	client, _ := b.(seat.Client)
	s, err := r.Take(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	b = s.Receive(b)
	ended := make(chan bool, 1)
	go func() {
		defer s.Leave()
		p := make([]byte, 64<<10)
		for {
			select {
			case <-until:
				ended <- s.Settle()
				return
			default:
			}
			if _, err := b.Read(p); err != nil {
				ended <- s.Settle()
				return
			}
		}
	}()
	return ended
}

// While there is room, a body may be as slow as it likes. When there is none, the
// slowest makes room, at once.
func TestSlowestMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := seat.NewRoom(4, 5*time.Second)
		done := make(chan struct{})
		fast := occupy(t, r, newBody(64<<10, 100*time.Millisecond), done)
		steady := occupy(t, r, newBody(64<<10, 400*time.Millisecond), done)
		slow := occupy(t, r, newBody(1<<10, 100*time.Millisecond), done)
		time.Sleep(time.Minute)
		select {
		case <-slow:
			t.Fatal("it had to make room that nobody needed")
		default:
		}
		burst := newBody(60<<20, time.Hour) // pauses after what came at first
		pausing := occupy(t, r, io.MultiReader(burst), done)
		_ = pausing // no Client, and so left alone
		began := time.Now()
		s, err := r.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("the seat took %v", took)
		}
		if <-slow {
			t.Error("the slow body was read to its end")
		}
		s.Leave()
		close(done)
		if !<-fast || !<-steady {
			t.Error("a body that moved had to make room")
		}
		burst.Interrupt()
		<-pausing
	})
}

// A body that sent much and then pauses is one that does not move.
func TestPauseMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := seat.NewRoom(1, 5*time.Second)
		b := newBody(0, time.Hour)
		s, err := r.Take(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		paused := s.Receive(&started{n: 10 << 20, rest: b})
		ended := make(chan bool, 1)
		go func() {
			io.Copy(io.Discard, paused)
			ended <- s.Settle()
			s.Leave()
		}()
		time.Sleep(time.Second)
		next, err := r.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		next.Leave()
		if <-ended {
			t.Error("the body that pauses was read to its end")
		}
	})
}

// started gives n bytes at once and then what rest gives.
type started struct {
	n    int
	rest io.Reader
}

func (s *started) Read(p []byte) (int, error) {
	if s.n > 0 {
		n := min(s.n, len(p))
		s.n -= n
		return n, nil
	}
	return s.rest.Read(p)
}

// Where all bodies move, one that comes waits, and no longer than it has to.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := seat.NewRoom(1, 5*time.Second)
		done := make(chan struct{})
		fast := occupy(t, r, newBody(64<<10, 100*time.Millisecond), done)
		began := time.Now()
		if _, err := r.Take(t.Context(), nil); !errors.Is(err, seat.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it waited for %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Take(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		close(done)
		if !<-fast {
			t.Error("a body that moved had to make room")
		}
	})
}

// A body that is not taken makes room once its time is over, the one that has
// waited for the longest first; one that nobody waits behind may take as long as
// it likes.
func TestSendMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := seat.NewRoom(2, 5*time.Second)
		first, second := newBody(0, 0), newBody(0, 0)
		sendTo := func(b *body) *seat.Seat {
			s, err := r.Take(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			s.Send(4 * time.Second)
			return s
		}
		a := sendTo(first)
		time.Sleep(time.Second)
		b := sendTo(second)
		defer b.Leave()
		go func() {
			<-first.stopped
			if a.Settle() {
				t.Error("the client that was interrupted was in time")
			}
			a.Leave()
		}()
		began := time.Now()
		c, err := r.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Leave()
		if took := time.Since(began); took < 2900*time.Millisecond || took > 3200*time.Millisecond {
			t.Errorf("the seat took %v, want 3 seconds", took)
		}
		if !b.Settle() {
			t.Error("the later one had to make room, too")
		}
		select {
		case <-second.stopped:
			t.Error("the later one was interrupted")
		default:
		}
	})
}

// However many strangers come, a client that is known finds a seat at once; and
// strangers find those that are theirs, whoever else waits.
func TestStrangersLeaveSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := seat.NewRoom(4, 5*time.Second)
		done := make(chan struct{})
		slow := []<-chan bool{
			occupy(t, r, newBody(1, 100*time.Millisecond).strange(1), done),
			occupy(t, r, newBody(1, 100*time.Millisecond).strange(1), done),
		}
		late := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			s, err := r.Take(t.Context(), newBody(0, 0).strange(1))
			if err != nil {
				t.Error(err)
				return
			}
			late <- time.Since(began)
			s.Leave()
		}()
		synctest.Wait()
		if r.TryTake(newBody(0, 0).strange(2)) != nil {
			t.Error("a third stranger has a seat")
		}
		for range 2 {
			s, err := r.Take(t.Context(), newBody(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Leave()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a known client waited for %v", took)
		}
		if took := <-late; took < 500*time.Millisecond || took > 800*time.Millisecond {
			t.Errorf("a stranger waited for %v, want the slow one's half a second", took)
		}
		close(done)
		if <-slow[0] && <-slow[1] {
			t.Error("neither of the two slow strangers made room")
		}
	})
}

// Of strangers that wait, one whose address has fewer seats is first, though it came
// last; one that has given up gets none.
func TestAddressesShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := seat.NewRoom(4, time.Hour)
		take := func(from byte) *seat.Seat {
			s, err := r.Take(t.Context(), newBody(0, 0).strange(from))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		first, second := take(1), take(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Take(ctx, newBody(0, 0).strange(3)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		order := make(chan byte, 3)
		for _, from := range []byte{1, 1, 2} {
			go func() {
				s := take(from)
				order <- from
				time.Sleep(time.Second)
				s.Leave()
			}()
			synctest.Wait()
		}
		first.Leave()
		time.Sleep(10 * time.Second)
		if got := [3]byte{<-order, <-order, <-order}; got != [3]byte{2, 1, 1} {
			t.Errorf("they had seats in the order %v", got)
		}
		second.Leave()
		if n := r.Taken(); n != 0 {
			t.Errorf("%d seats are still taken", n)
		}
	})
}
