package audit

import (
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say where a Trail writes, and what. Out is required.
type Options struct {
	// Out takes each line with one Write, and one at a time.
	Out io.Writer
	// Data asks for calls of data, too: each block that is read or written.
	Data bool
	// Logger is told when lines are lost; nil discards that.
	Logger *slog.Logger
	// Registry takes shale_audit_failures_total; nil for none.
	Registry prometheus.Registerer
}

// A Trail writes events. It is safe for concurrent use.
//
// A line is written when its call ends, before the connection takes another
// request, and in the order in which calls end. What cannot be written is lost:
// that is counted and logged, and the call stands.
type Trail struct {
	o        Options
	failures prometheus.Counter
	turn     chan struct{} // held by who writes
	lost     atomic.Int64  // lines since the last that was written
	stalled  atomic.Bool   // somebody waited for his turn in vain
	patience time.Duration
}

// maxPatience is how long a line waits for its turn. After one that waited in
// vain no other does, until one is written.
const maxPatience = 10 * time.Second

// NewTrail returns a Trail. It starts nothing.
func NewTrail(o Options) *Trail {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Trail{
		o: o, turn: make(chan struct{}, 1), patience: maxPatience,
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shale_audit_failures_total",
			Help: "Calls whose audit line could not be written and is lost.",
		}),
	}
	if o.Registry != nil {
		o.Registry.MustRegister(t.failures)
	}
	return t
}

// NewRecord returns a record for the doors to fill.
func (t *Trail) NewRecord() *Record { return &Record{data: t.o.Data} }

// Wants reports whether c leaves a line.
func (t *Trail) Wants(c Call) bool { return !c.Data || t.o.Data }

// Write writes the line of e, which may be changed afterwards.
func (t *Trail) Write(e *Event) {
	b, err := e.encode()
	if err == nil {
		err = t.write(b)
	}
	if err == nil {
		return
	}
	t.failures.Inc()
	if t.lost.Add(1) == 1 {
		t.o.Logger.Error("the audit loses lines", "request_id", e.RequestID, "err", err)
	}
}

var errStalled = errors.New("what takes the audit's lines does not take them")

func (t *Trail) write(b []byte) error {
	if !t.wait() {
		return errStalled
	}
	defer func() { <-t.turn }()
	if _, err := t.o.Out.Write(b); err != nil {
		return err
	}
	t.stalled.Store(false)
	if n := t.lost.Swap(0); n > 0 {
		t.o.Logger.Warn("the audit is written again", "lost", n)
	}
	return nil
}

// wait waits for the turn to write, and reports whether it came.
func (t *Trail) wait() bool {
	select {
	case t.turn <- struct{}{}:
		return true
	default:
	}
	if t.stalled.Load() {
		return false
	}
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case t.turn <- struct{}{}:
		return true
	case <-timer.C:
		t.stalled.Store(true)
		return false
	}
}
