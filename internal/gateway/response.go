package gateway

import (
	"io"
	"net/http"
	"time"
)

// writeStall is how long a client may take for one write of an answer, a whole
// block at most, before it is given up.
const writeStall = 2 * time.Minute

// A response notes what was answered, and sees to the rest of the request's
// body before the answer begins.
type response struct {
	http.ResponseWriter
	conn *http.ResponseController
	body *body

	status int // 0 until the header was written
	n      int64
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
		if !w.body.drain() {
			w.Header().Set("Connection", "close")
		}
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// Write writes a part of the answer.
func (w *response) Write(p []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// ReadFrom leaves copying to net/http, which may not have to copy at all.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	w.begin()
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

// extend lets the client have writeStall for what is written next.
func (w *response) extend() { w.conn.SetWriteDeadline(time.Now().Add(writeStall)) }
