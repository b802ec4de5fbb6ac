package seat_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"shale/internal/seat"
)

// A body gives n bytes every so often, until it is interrupted.
type body struct {
	n       int
	every   time.Duration
	stopped chan struct{}
}

var errStopped = errors.New("stopped")

func newBody(n int, every time.Duration) *body {
	return &body{n: n, every: every, stopped: make(chan struct{})}
}

func (b *body) Interrupt() { close(b.stopped) }

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
	s, err := r.Take(t.Context())
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
		_ = pausing // no Interrupter, and so left alone
		began := time.Now()
		s, err := r.Take(t.Context())
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
		s, err := r.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		paused := s.Receive(&started{Interrupter: b, n: 10 << 20, rest: b})
		ended := make(chan bool, 1)
		go func() {
			io.Copy(io.Discard, paused)
			ended <- s.Settle()
			s.Leave()
		}()
		time.Sleep(time.Second)
		next, err := r.Take(t.Context())
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
	seat.Interrupter
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
		if _, err := r.Take(t.Context()); !errors.Is(err, seat.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it waited for %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Take(ctx); !errors.Is(err, context.DeadlineExceeded) {
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
			s, err := r.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Send(b, 4*time.Second)
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
		c, err := r.Take(t.Context())
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
