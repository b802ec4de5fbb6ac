package gateway

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
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
)

// errNoBody marks a body that was at its end from the start.
var errNoBody = errors.New("no body")

// A body is a request's body. Each read of it must bring something within
// stall, and all together must come at minRate, or it fails; a failure is
// final. It also knows what is left of it, for whoever answers.
type body struct {
	inner io.ReadCloser
	conn  *http.ResponseController
	stall time.Duration

	n       int64
	began   time.Time // of the first read
	err     error     // what ended it, io.EOF or a failure; nil while more may come
	awaited bool      // the client holds it back until it gets a 100 Continue
	started bool      // a read was tried; if awaited, the 100 Continue went out
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}

// Read reads from the connection. At the end it lifts the deadline, so that
// net/http can go on watching the connection for as long as the answer takes.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	now := time.Now()
	if !b.started {
		b.started, b.began = true, now
	}
	latest := b.began.Add(b.stall + time.Duration(b.n)*time.Second/minRate)
	if next := now.Add(b.stall); next.Before(latest) {
		latest = next
	}
	b.deadline(latest)
	n, err := b.inner.Read(p)
	b.n += int64(n)
	if err != nil {
		b.err = err
		b.deadline(time.Time{})
	}
	return n, err
}

// Close does nothing: net/http closes the body that it made.
func (b *body) Close() error { return nil }

// ended reports whether the next request on the connection would be the next
// thing to read from it.
func (b *body) ended() bool { return errors.Is(b.err, io.EOF) || errors.Is(b.err, errNoBody) }

// drain throws away what a client is still sending, up to maxDrain bytes and
// for up to stall, so that it comes to read its answer, and reports whether the
// connection can be used for another request. A client that still waits for
// its 100 Continue has sent nothing, and is not asked to.
// Spec: ebs-direct §4.
func (b *body) drain() bool {
	if b.err != nil || b.awaited && !b.started {
		return b.ended()
	}
	b.deadline(time.Now().Add(b.stall))
	n, err := io.CopyN(io.Discard, b.inner, maxDrain)
	b.n += n
	if err != nil {
		b.err = err
	}
	b.deadline(time.Time{})
	return b.ended()
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
