package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"shale/internal/rest"
)

// handshakeTime bounds a TLS handshake. The time counts for the header that
// follows, too.
const handshakeTime = headerTime

// handshake makes the connection a secure one. It is part of the first read, so
// that it holds up nobody but its own client. What it returns on failure ends the
// connection without another word: whatever could be said has been.
func (c *conn) handshake() error {
	// Reads have net/http's deadline already.
	if err := c.tls.SetWriteDeadline(time.Now().Add(handshakeTime)); err != nil {
		return io.EOF
	}
	if err := c.tls.HandshakeContext(context.Background()); err != nil {
		c.refuseHandshake(err)
		return io.EOF
	}
	if err := c.tls.SetWriteDeadline(time.Time{}); err != nil {
		return io.EOF
	}
	state := c.tls.ConnectionState()
	c.secure.Store(&state)
	return nil
}

// refuseHandshake tells a client that speaks plain HTTP what is spoken here, and
// the log about any other that was there at all.
func (c *conn) refuseHandshake(err error) {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil && looksLikeHTTP(e.RecordHeader) {
		c.refuse(c.socket, http.StatusBadRequest, &rest.Error{ //nolint:errcheck // it is closed in any case
			Kind: rest.Malformed, Value: "this address is served with TLS: use https:// in place of http://",
		})
		return
	}
	var gone *net.OpError
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &gone) && gone.Op == "read" {
		c.g.o.Logger.Debug("no TLS handshake", "client", c.RemoteAddr().String(), "err", err.Error())
		return
	}
	c.g.o.Logger.Info("the TLS handshake failed", "client", c.RemoteAddr().String(), "err", err.Error())
}

// looksLikeHTTP reports whether the first five bytes from a client begin a
// request of HTTP.
func looksLikeHTTP(b [5]byte) bool {
	for i, c := range b {
		if c == ' ' && i >= 3 {
			return true // GET, PUT, POST, HEAD
		}
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}
