package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"shale/internal/block"
	"shale/internal/rest"
)

const (
	// maxBody is the longest body that is read into memory, in bytes: more
	// than any operation but PutSnapshotBlock, which streams, has use for.
	maxBody = 1 << 20
	// minRate is the least rate at which a body has to come, in bytes a second,
	// beyond what stall allows: a client that sends a byte now and then would
	// hold what is reserved for its block for ever.
	minRate = 16 << 10
	// maxDrain is how much of a refused body is thrown away before the
	// connection is given up, in bytes: a block and its framing.
	maxDrain = block.Size + 64<<10
	// patience is how long the rest of a refused body may pause before the
	// refusal goes out ahead of it.
	patience = time.Second
	// drainTime is how long it may take in all, before the same.
	drainTime = 5 * time.Second
)

// errNoBody marks a body that was at its end from the start.
var errNoBody = errors.New("no body")

// A body is a request's body. Each read of it must bring something within
// stall, and all together must come at minRate, or it fails; a failure is
// final. It also knows what is left of it, for whoever answers.
type body struct {
	inner io.ReadCloser
	conn  *http.ResponseController
	wire  *conn // below it; nil in tests without one
	stall time.Duration
	pause time.Duration // how long one read may take; no longer than stall
	until time.Time     // when drain gives up; zero before it

	n       int64
	began   time.Time // of the first read
	err     error     // what ended it, io.EOF or a failure; nil while more may come
	awaited bool      // the client holds it back until it gets a 100 Continue
	started bool      // a read was tried; if awaited, the 100 Continue went out

	interrupted atomic.Bool
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}

// Read reads from the connection. At the end it lifts the deadline, so that
// net/http can go on watching the connection for as long as the answer takes.
// Otherwise the deadline stays: net/http looks for the rest of a body before it
// closes a connection, and must not wait for one that does not come.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	now := time.Now()
	if !b.started {
		b.started, b.began = true, now
	}
	next := now.Add(b.pause)
	if latest := b.latest(); latest.Before(next) {
		next = latest
	}
	if !b.until.IsZero() && b.until.Before(next) {
		next = b.until
	}
	b.deadline(next)
	if b.interrupted.Load() { // the deadline that did it may just have been moved
		b.err = os.ErrDeadlineExceeded
		return 0, b.err
	}
	n, err := b.inner.Read(p)
	b.n += int64(n)
	if err != nil {
		b.err = err
		if b.ended() {
			b.deadline(time.Time{})
		}
	}
	return n, err
}

// Interrupt makes the read in progress, and any other, fail as if the client had
// paused for too long. It may be called from another goroutine.
func (b *body) Interrupt() {
	b.interrupted.Store(true)
	b.deadline(time.Unix(1, 0))
}

// Known implements seat.Client.
func (b *body) Known() bool { return b.wire.isKnown() }

// Address implements seat.Client.
func (b *body) Address() netip.Addr { return b.wire.from() }

// latest is when the next bytes have to be there, whatever the pause. There was
// a read before.
func (b *body) latest() time.Time {
	return b.began.Add(b.stall + time.Duration(b.n)*time.Second/minRate)
}

// Close does nothing: net/http closes the body that it made.
func (b *body) Close() error { return nil }

// ended reports whether the next request on the connection would be the next
// thing to read from it.
func (b *body) ended() bool { return errors.Is(b.err, io.EOF) || errors.Is(b.err, errNoBody) }

// drain throws away what a client is still sending, up to maxDrain bytes, so
// that it comes to read its answer, and reports whether the connection can be
// used for another request. A client that pauses, or takes long, is to have its
// answer first, see linger. One that still waits for its 100 Continue has sent
// nothing, and is not asked to. Spec: ebs-direct §4.
func (b *body) drain() bool {
	if b.err != nil {
		return b.ended()
	}
	b.pause, b.until = min(b.stall, patience), time.Now().Add(drainTime)
	if b.awaited && !b.started {
		b.deadline(time.Now().Add(b.pause)) // for net/http, as in Read
		return b.ended()
	}
	io.CopyN(io.Discard, b, maxDrain) //nolint:errcheck // b.err has it
	return b.ended()
}

// lingers reports whether the body failed because the client paused, and until
// when it may go on sending.
func (b *body) lingers() (until time.Time, ok bool) {
	if !errors.Is(b.err, os.ErrDeadlineExceeded) {
		return time.Time{}, false
	}
	until = b.latest()
	return until, time.Now().Before(until)
}

// deadline is for the connection's reads. Writers that have none, as in tests,
// do without.
func (b *body) deadline(t time.Time) { b.conn.SetReadDeadline(t) }

// readAll returns the whole of r's body. A body longer than maxBody is a
// *rest.Error of kind BodyTooLong, one that breaks off of kind BodyUnread.
func readAll(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, &rest.Error{Kind: rest.BodyTooLong, Value: strconv.Itoa(maxBody)}
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	return rest.ReadBody(r, maxBody)
}
