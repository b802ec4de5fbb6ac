package gateway

import (
	"container/list"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultMaxConnections is enough for ten thousand clients that keep their
// connections, and a fraction of the memory that they would have to share.
const DefaultMaxConnections = 12_000

// A crowd is the open connections, of which there is a greatest number. When one
// more comes, the one that has rested for the longest has to go. It is safe for
// concurrent use.
type crowd struct {
	most int

	mu   sync.Mutex
	open int
	// resting are the connections whose client has nothing to wait for: it
	// has not sent a whole header, is refused, or has its answer. The longest
	// are first.
	resting list.List // of *conn

	made *prometheus.CounterVec // what became of new connections, by outcome
}

// Outcomes of a new connection that found no room.
const (
	outcomeReplaced = "replaced"
	outcomeRefused  = "refused"
)

func newCrowd(most int, reg prometheus.Registerer) *crowd {
	c := &crowd{most: most, made: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "shale_connections_crowded_total",
		Help: "Connections that came when there were as many as there may be, by outcome: replaced one that rested, or refused.",
	}, []string{"outcome"})}
	for _, outcome := range []string{outcomeReplaced, outcomeRefused} {
		c.made.WithLabelValues(outcome)
	}
	reg.MustRegister(c.made, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shale_connections_open",
		Help: "Connections that are open.",
	}, func() float64 { return float64(c.count()) }))
	return c
}

func (w *crowd) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// enter lets c in, if need be in the place of one that rests. It reports false
// if there are as many as there may be and all of them are busy.
func (w *crowd) enter(c *conn) bool {
	w.mu.Lock()
	var longest *conn
	if w.open >= w.most {
		e := w.resting.Front()
		if e == nil {
			w.mu.Unlock()
			w.made.WithLabelValues(outcomeRefused).Inc()
			return false
		}
		longest = e.Value.(*conn)
		w.remove(longest)
		w.made.WithLabelValues(outcomeReplaced).Inc()
	}
	w.open++
	c.inside, c.place = true, w.resting.PushBack(c)
	w.mu.Unlock()
	if longest != nil {
		longest.socket.Close() // without TLS's farewell, which its client might not take
	}
	return true
}

// works says that c's client waits for an answer.
func (w *crowd) works(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.place != nil {
		w.resting.Remove(c.place)
		c.place = nil
	}
}

// rests says that c's client has its answer, or one that is not worth its place.
func (w *crowd) rests(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.inside && c.place == nil {
		c.place = w.resting.PushBack(c)
	}
}

// leave says that c is closed.
func (w *crowd) leave(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(c)
}

// remove is for who holds mu.
func (w *crowd) remove(c *conn) {
	if !c.inside {
		return
	}
	c.inside = false
	w.open--
	if c.place != nil {
		w.resting.Remove(c.place)
		c.place = nil
	}
}
