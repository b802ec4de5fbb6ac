package simulation_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
)

// A scheduler decides what happens next. Everything that takes part stops at
// points, which are the calls of the catalog and of the medium and the steps of
// the clients; between two points it runs freely. The scheduler waits until all
// have stopped, or wait for one that has, and lets one go on, by the seed. So
// one seed is one history.
//
// No point is inside a lock: one that waits for a lock does not count as
// stopped, and the history would stand still.
type scheduler struct {
	rng *rand.Rand

	mu     sync.Mutex
	parked []*parked
	free   bool // nobody stops any more: the machine is being switched off
	rank   map[string]int
	shift  int // how many steps until another rank is drawn

	steps   int
	history hash.Hash
	tail    []string  // the last steps, for whoever reads a failure
	log     io.Writer // nil unless all of them are wanted
}

// A parked is one that has stopped at a point.
type parked struct {
	actor, what string
	proceed     chan struct{}
}

// tailLength is how many of the last steps are kept.
const tailLength = 60

func newScheduler(rng *rand.Rand) *scheduler {
	s := &scheduler{rng: rng, history: sha256.New()}
	if rng.IntN(2) == 0 {
		// Half of the seeds go by rank, which is changed now and then: one that
		// is held back for long meets histories that an even choice hardly ever
		// finds.
		s.rank = make(map[string]int)
	}
	return s
}

type actorKey struct{}

// as names who acts with the context.
func as(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actorOf(ctx context.Context) string {
	if name, ok := ctx.Value(actorKey{}).(string); ok {
		return name
	}
	return "store"
}

// point stops until the scheduler lets it go on.
func (s *scheduler) point(ctx context.Context, format string, args ...any) {
	p := &parked{actor: actorOf(ctx), what: fmt.Sprintf(format, args...), proceed: make(chan struct{})}
	if p.actor == background {
		p.what += inside()
	}
	s.mu.Lock()
	if s.free {
		s.mu.Unlock()
		return
	}
	s.parked = append(s.parked, p)
	s.mu.Unlock()
	<-p.proceed
}

// background is all that the server does by itself, in many goroutines that have
// one context. What they want tells them apart, and in which function.
const background = "background"

// inside names the function of the server that came to a point.
func inside() string {
	var pcs [12]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		name, ours := strings.CutPrefix(frame.Function, "shale/internal/")
		if ours && !strings.HasPrefix(name, "simulation") {
			return ", in " + name
		}
		if !more {
			return ""
		}
	}
}

// note puts something into the history.
func (s *scheduler) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.Write(append([]byte(line), '\n'))
	if s.log != nil {
		fmt.Fprintln(s.log, line)
	}
	if s.tail = append(s.tail, line); len(s.tail) > 2*tailLength {
		s.tail = slices.Clone(s.tail[tailLength:])
	}
}

// step lets one of those that have stopped go on, and reports whether there was
// one.
func (s *scheduler) step() bool {
	synctest.Wait()
	s.mu.Lock()
	if len(s.parked) == 0 {
		s.mu.Unlock()
		return false
	}
	slices.SortStableFunc(s.parked, func(a, b *parked) int {
		if c := strings.Compare(a.actor, b.actor); c != 0 {
			return c
		}
		return strings.Compare(a.what, b.what)
	})
	i := s.choose()
	p := s.parked[i]
	s.parked = slices.Delete(s.parked, i, i+1)
	s.steps++
	s.mu.Unlock()
	s.note("%s: %s", p.actor, p.what)
	close(p.proceed)
	return true
}

// choose picks one of those that have stopped.
func (s *scheduler) choose() int {
	if s.rank == nil {
		return s.rng.IntN(len(s.parked))
	}
	if s.shift--; s.shift < 0 {
		clear(s.rank)
		s.shift = s.rng.IntN(200)
	}
	best := 0
	for i, p := range s.parked {
		if _, ranked := s.rank[p.actor]; !ranked {
			s.rank[p.actor] = s.rng.IntN(1 << 20)
		}
		if s.rank[p.actor] > s.rank[s.parked[best].actor] {
			best = i
		}
	}
	if s.rng.IntN(20) == 0 { // or the highest alone would ever go on
		return s.rng.IntN(len(s.parked))
	}
	return best
}

// release lets all go on, and nobody stops any more, until hold.
func (s *scheduler) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = true
	for _, p := range s.parked {
		close(p.proceed)
	}
	s.parked = nil
}

// hold takes release back.
func (s *scheduler) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = false
}

// sum is the history so far.
func (s *scheduler) sum() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%x", s.history.Sum(nil)[:8])
}
