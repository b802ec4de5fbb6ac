package gateway

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// writeStall is how long a client may take for one write of an answer, a whole
// block at most, before it is given up.
const writeStall = 2 * time.Minute

// cutPart is how much of an answer that is a stream is looked at to be cut.
const cutPart = 64 << 10

// A response notes what was answered, and sees to the rest of the request's
// body before the answer begins.
type response struct {
	http.ResponseWriter
	conn *http.ResponseController
	wire *conn // below it; nil in tests without one
	body *body

	status int // 0 until the header was written
	n      int64

	extended    time.Time   // when the deadline of writes was last moved
	interrupted atomic.Bool // see Interrupt

	// cut ends the connection in the middle of the answer, corrupt flips a bit of
	// its body. Spec: test-controls, Behaviour.
	cut, corrupt bool
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader drains the request's body first: afterwards net/http would look
// at what is left of it, wait for it without a deadline, and close the
// connection where a block is still to come.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status >= 200 {
		w.status = status
		if !w.drain() {
			w.Header().Set("Connection", "close")
		}
		if w.cut && w.Header().Get("Content-Length") == "0" {
			panic(http.ErrAbortHandler) // there is nothing that could be cut but this
		}
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// drain drains the request's body, see there. A client that is still sending does
// not wait for its answer, and one that is refused needs no place for it: else
// whoever has no credentials could hold one, by a body that comes slowly.
func (w *response) drain() (ended bool) {
	refused := w.status >= http.StatusBadRequest
	if c := w.wire; c != nil && (refused || w.body.err == nil) {
		c.crowd.rests(c)
		if !refused {
			defer c.crowd.works(c)
		}
	}
	return w.body.drain()
}

// Write writes a part of the answer.
func (w *response) Write(p []byte) (int, error) {
	w.begin()
	switch {
	case w.cut:
		w.hangUp(p)
	case w.corrupt && w.status == http.StatusOK && len(p) > 0:
		p = slices.Clone(p) // it is others', too
		p[len(p)/2] ^= 1
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// hangUp sends half of the first part of an answer, and ends the connection.
func (w *response) hangUp(p []byte) {
	n, err := w.ResponseWriter.Write(p[:len(p)/2])
	w.n += int64(n)
	if err == nil {
		_ = w.conn.Flush() // or it is cut a little earlier
	}
	panic(http.ErrAbortHandler)
}

// ReadFrom leaves copying to net/http, which may not have to copy at all.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	w.begin()
	if w.cut {
		p, err := io.ReadAll(io.LimitReader(src, cutPart))
		if err != nil {
			return 0, err
		}
		w.hangUp(p)
	}
	n, err := io.Copy(w.ResponseWriter, src)
	w.n += n
	return n, err
}

// FlushError sends what was written so far.
func (w *response) FlushError() error {
	w.begin()
	return w.conn.Flush()
}

func (w *response) begin() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.extend()
}

// extend lets the client have writeStall for what is written next, give or take
// a second: to move a deadline is not for free. net/http has set one for the
// request, of the same length.
func (w *response) extend() {
	now := time.Now()
	if now.Sub(w.extended) < time.Second {
		return
	}
	w.extended = now
	w.conn.SetWriteDeadline(now.Add(writeStall))
	if w.interrupted.Load() { // its deadline may just have been moved
		w.Interrupt()
	}
}

// Interrupt makes the write in progress, and any other, fail: others wait for the
// memory that holds what the client does not take. It may be called from another
// goroutine.
func (w *response) Interrupt() {
	w.interrupted.Store(true)
	w.conn.SetWriteDeadline(time.Unix(1, 0))
}

// Known implements seat.Client.
func (w *response) Known() bool { return w.wire.isKnown() }

// Address implements seat.Client.
func (w *response) Address() netip.Addr { return w.wire.from() }
