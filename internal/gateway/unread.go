package gateway

import (
	"bytes"
	"container/list"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/seat"
	"shale/internal/sigv4"
)

// What net/http cannot read as a request never reaches a handler: it writes a
// few words of plain text and closes the connection. A conn stands between the
// two and puts in the place of those words an answer as a door would give it,
// with an id and a line in the log.
//
// It has to tell net/http's own answers from a handler's. The marks are two: a
// handler says that it has the request, and the connection's next state that it
// is done with it. What is written in between passes untouched.

// A listener accepts connections for g.
type listener struct {
	net.Listener
	g      *Gateway
	crowd  *crowd
	lounge *lounge
}

// Accept waits for a connection for which there is room.
func (l listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		inner = newSocket(inner)
		c := &conn{Conn: inner, socket: inner, g: l.g, crowd: l.crowd, lounge: l.lounge, header: headerCount{room: l.g.longHeaders}}
		if from, ok := inner.RemoteAddr().(*net.TCPAddr); ok {
			c.address = from.AddrPort().Addr().Unmap()
		}
		if l.g.o.TLS != nil {
			c.tls = tls.Server(inner, l.g.o.TLS)
			c.Conn = c.tls
		}
		if l.crowd.enter(c) {
			return c, nil
		}
		_ = inner.Close()
	}
}

// A conn answers for net/http where no handler does. Like any net.Conn it is
// safe for concurrent use.
type conn struct {
	net.Conn
	socket net.Conn // the same as Conn, or what is below TLS
	g      *Gateway
	crowd  *crowd
	lounge *lounge
	// handled is set while what is written comes from a handler: from its
	// beginning until net/http waits for the next request.
	handled atomic.Bool

	tls    *tls.Conn                           // the same as Conn; nil without TLS
	secure atomic.Pointer[tls.ConnectionState] // once the handshake is done
	header headerCount
	phase  atomic.Int32 // of net/http, see lounge.go
	taken  atomic.Bool  // away from net/http, whose Close is still to come
	abrupt atomic.Bool  // it is to end without TLS's words of farewell

	address netip.Addr  // of the client
	known   atomic.Bool // a body has passed on it in good time

	// What the last signed request was signed with, for the one after it: one
	// handler at a time has it.
	signedIn  scope
	signedFor *sigv4.SigningKey

	// What follows belongs to the crowd.
	inside bool
	place  *list.Element // among those that rest
}

// begin says that a handler has the request.
func (c *conn) begin() {
	c.handled.Store(true)
	c.crowd.works(c)
}

// end says that the answer went out, and that the next request may come.
func (c *conn) end() {
	c.header.reset()
	c.handled.Store(false)
	c.phase.Store(phaseAnswered)
	c.crowd.rests(c)
}

// proof is how many bytes have to pass, in good time, for a connection to be known:
// most of a block.
const proof = block.Size / 2

// passed says that a request and its answer went by, with n bytes of bodies.
func (c *conn) passed(n int64, took time.Duration) {
	if c != nil && n >= proof && float64(n) >= took.Seconds()*seat.Slow {
		c.known.Store(true)
	}
}

// isKnown reports whether bodies pass here in good time. Without a connection
// nobody can be slow.
func (c *conn) isKnown() bool { return c == nil || c.known.Load() }

// from is where the client is, if it is known.
func (c *conn) from() netip.Addr {
	if c == nil {
		return netip.Addr{}
	}
	return c.address
}

// Read reads what the client sends. Of a header no more than usual is read
// unless there is room for it.
func (c *conn) Read(p []byte) (int, error) {
	if c.tls != nil && c.secure.Load() == nil {
		if err := c.handshake(); err != nil {
			return 0, err
		}
	}
	read := c.Conn.Read
	if c.nothingInHand(p) {
		read = c.readIdle
	}
	n, err := read(p)
	if !c.handled.Load() && !c.header.add(p[:n]) {
		c.refuse(c.Conn, http.StatusBadRequest, &rest.Error{Kind: rest.Busy}) //nolint:errcheck // it is closed in any case
		return 0, io.EOF
	}
	return n, err
}

// Close closes the connection, unless it goes to the lounge.
func (c *conn) Close() error {
	if c.taken.CompareAndSwap(true, false) {
		go c.wait()
		return nil
	}
	return c.shut()
}

// shut closes the connection.
func (c *conn) shut() error {
	c.crowd.leave(c)
	last := c.Conn
	if c.abrupt.Load() {
		last = c.socket
	}
	err := last.Close()
	c.header.reset()
	return err
}

// Write passes p on, unless it is a refusal of net/http's own: then the client
// gets the gateway's. net/http writes each of its refusals with one call.
func (c *conn) Write(p []byte) (int, error) {
	if c.handled.Load() {
		return c.Conn.Write(p)
	}
	status, why, ok := ownRefusal(p)
	if !ok {
		return c.Conn.Write(p)
	}
	if err := c.refuse(c.Conn, status, unreadable(status, why)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// refuse answers what is no request, over the connection or what is below its
// TLS, and waits until the client has seen it.
func (c *conn) refuse(over net.Conn, status int, why *rest.Error) error {
	if err := over.SetWriteDeadline(time.Now().Add(lingering)); err != nil {
		return err
	}
	if _, err := over.Write(c.g.refuseUnread(status, why)); err != nil {
		return err
	}
	if closeWrite(over) == nil {
		drain(over, time.Now().Add(lingering))
	}
	return nil
}

// ReadFrom keeps the ways around copying that the connection has.
func (c *conn) ReadFrom(src io.Reader) (int64, error) { return io.Copy(c.Conn, src) }

// CloseWrite tells the client that no more will come. net/http does so before
// it closes a connection on which the client may still be sending.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// lingering is how long a client has for what it still sends after a refusal
// of what could not be read.
const lingering = 5 * time.Second

// drain throws away what the client still sends, up to maxDrain bytes, so that
// it comes to read its answer: a connection closed with bytes unread is reset,
// and the answer lost with it. The deadline stays, for there is nothing more to
// read before the connection is closed.
func drain(c net.Conn, until time.Time) {
	if c.SetReadDeadline(until) == nil {
		io.CopyN(io.Discard, c, maxDrain) //nolint:errcheck // whatever ends it, the connection is closed next
	}
}

// ownRefusal reports whether p is the beginning of an HTTP answer that refuses
// something. why is what net/http says beyond the status, if it does.
func ownRefusal(p []byte) (status int, why string, ok bool) {
	line, _, found := bytes.Cut(p, []byte("\r\n"))
	proto, rest, spaced := bytes.Cut(line, []byte(" "))
	if !found || !spaced || !bytes.HasPrefix(proto, []byte("HTTP/1.")) || len(rest) < 3 {
		return 0, "", false
	}
	status, err := strconv.Atoi(string(rest[:3]))
	if err != nil || status < http.StatusBadRequest {
		return 0, "", false
	}
	_, text, _ := bytes.Cut(rest, []byte(": "))
	return status, string(text), true
}

// unreadable says what was wrong with a request that net/http refused, and what
// would be right, as far as net/http lets it be known. Nothing of the request is
// in it.
func unreadable(status int, why string) *rest.Error {
	text := "the request cannot be read as HTTP/1.1: look at the request line and its percent-escapes, " +
		"at the lines of the header, and that Host and Content-Length are each given once and correctly"
	switch {
	case status == http.StatusRequestHeaderFieldsTooLarge:
		return headerTooLong()
	case status == http.StatusExpectationFailed:
		text = "the value of the header Expect is not known: 100-continue is, and the header may be left out"
	case status == http.StatusNotImplemented:
		text = "the value of the header Transfer-Encoding is not known: send chunked, or a Content-Length instead"
	case status == http.StatusHTTPVersionNotSupported:
		text = "the version of HTTP is not known: send HTTP/1.1"
	case why == "missing required Host header":
		text = "the header Host is missing: HTTP/1.1 requires it"
	case why == "malformed Host header":
		text = "the value of the header Host is malformed: send the server's name or address, and its port"
	case why == "invalid header name":
		text = "the name of a header has a space in it or before the colon: leave it out"
	}
	return &rest.Error{Kind: rest.Malformed, Value: text}
}

// refuseUnread returns the whole answer to a request that could not be read,
// and leaves its line in the log and its counts. What dialect the client speaks
// nobody knows; the answer has the shape of the EBS direct APIs, net/http's
// status, and the end of the connection. Spec: ebs-direct §9.4.
func (g *Gateway) refuseUnread(status int, err *rest.Error) []byte {
	a := &answer{header: make(http.Header)}
	x := &exchange{
		Gateway: g, start: time.Now(), id: newRequestID(), op: opUnknown, err: err,
		r: new(http.Request), w: &response{status: status}, body: new(body),
	}
	g.metrics.inFlight.Inc()
	a.header.Set(requestIDHeader, x.id)
	g.o.EBS.Refuse(a, x.r, err)
	a.header.Set("Connection", "close")
	a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	a.header.Set("Date", x.start.UTC().Format(http.TimeFormat))
	x.w.n = int64(a.body.Len())
	took := time.Since(x.start)
	g.metrics.observe(x, took)
	x.log(took)

	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	a.header.Write(&b) //nolint:errcheck // into memory
	b.WriteString("\r\n")
	b.Write(a.body.Bytes())
	return b.Bytes()
}

// An answer is a ResponseWriter that keeps what a door says. The status is not
// the door's to choose.
type answer struct {
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(int)             {}
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

const (
	// maxHeader is the longest header that is served, in bytes.
	maxHeader = 64 << 10
	// maxHeaderRead is the longest that is read, in bytes. A header between the
	// two is refused in its own dialect, on a connection that stays usable.
	maxHeaderRead = 256 << 10
)

func headerTooLong() *rest.Error {
	return &rest.Error{Kind: rest.HeaderTooLong, Value: strconv.Itoa(maxHeader)}
}

// checkHeader refuses a request whose header is longer than maxHeader: an error
// is a *rest.Error of kind HeaderTooLong. White space between a name and its
// value counts as one byte.
func checkHeader(r *http.Request) error {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	if n > maxHeader {
		return headerTooLong()
	}
	return nil
}
