package transfer

import "sync/atomic"

// The phases of a transfer, as a Meter reports them.
const (
	PhaseParent   = "reading parent"
	PhaseUpload   = "uploading"
	PhaseComplete = "completing"
	PhaseDownload = "downloading"
	PhaseSync     = "syncing"
)

// A Meter tells how far a transfer is, while it runs, to whoever draws it. The
// zero value is ready; a nil Meter counts nothing. Safe for concurrent use.
type Meter struct {
	phase atomic.Pointer[phase]
}

// A phase holds its own counts, so that a reader never sees the name of one
// phase with the counts of another.
type phase struct {
	name        string
	total, done atomic.Int64
}

// A Reading is the state of a Meter at one moment.
type Reading struct {
	// Phase is one of the Phase constants; empty before the first.
	Phase string
	// Done of Total bytes of this phase have been dealt with, whether they
	// had to travel or not. Total is 0 where it cannot be known.
	Done, Total int64
}

// Read returns the present state.
func (m *Meter) Read() Reading {
	p := m.current()
	if p == nil {
		return Reading{}
	}
	return Reading{Phase: p.name, Done: p.done.Load(), Total: p.total.Load()}
}

func (m *Meter) begin(name string, total int64) {
	if m == nil {
		return
	}
	p := &phase{name: name}
	p.total.Store(total)
	m.phase.Store(p)
}

func (m *Meter) advance(n int64) {
	if p := m.current(); p != nil {
		p.done.Add(n)
	}
}

func (m *Meter) current() *phase {
	if m == nil {
		return nil
	}
	return m.phase.Load()
}
