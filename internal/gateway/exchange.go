package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"shale/internal/audit"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// requestIDHeader is where a request's id is found, by clients and by doors.
const requestIDHeader = "X-Amzn-Requestid"

// An exchange is one request on its way to its answer, and what is to be told
// of it in the end. One goroutine owns it.
type exchange struct {
	*Gateway
	w     *response
	r     *http.Request
	body  *body
	long  *longBody // the same for what is read into memory whole
	start time.Time
	id    string
	// inMemory is the body of a signed request that is no block.
	inMemory []byte

	door     refuser // tells a failure in the request's dialect
	op       string  // one of few: it labels metrics
	snapshot string  // as it stands in the path, cut to a sane length
	caller   string  // an ARN, or the account's number for its root user
	asked    asked
	record   *audit.Record // nil if none is kept
	quiet    bool          // a probe: nothing that an operator needs to see
	err      error         // why it was refused
	cut      bool          // in the middle of the answer, or before it
	rule     int           // of /_test/behaviour, which struck it; 0 for none
	stack    []byte        // of a panic
}

// A refuser is the half of a Door that tells failures.
type refuser interface {
	Refuse(w http.ResponseWriter, r *http.Request, err error)
}

// newExchange wraps w and r. The copy of r matters: net/http looks at the body
// of its own, to know what is left of it on the connection.
func (g *Gateway) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	all := &struct { // what lives as long is allocated together
		exchange
		request  http.Request
		body     body
		long     longBody
		response response
	}{request: *r}
	x := &all.exchange
	x.Gateway, x.start, x.id, x.door, x.op = g, time.Now(), newRequestID(), g.o.Plain, opUnknown
	w.Header().Set(requestIDHeader, x.id)
	rc := http.NewResponseController(w)
	x.r, x.body, x.long, x.w = &all.request, &all.body, &all.long, &all.response
	x.beginAudit()
	wire, _ := r.Context().Value(connKey{}).(*conn)
	*x.body = body{inner: r.Body, conn: rc, wire: wire, stall: g.o.Stall, pause: g.o.Stall}
	*x.long = longBody{body: x.body, ctx: r.Context(), room: g.longBodies}
	if r.Body == nil || r.Body == http.NoBody {
		x.body.inner, x.body.err = http.NoBody, errNoBody
	} else {
		x.r.Body = x.long
	}
	x.body.awaited = expectsContinue(r)
	*x.w = response{ResponseWriter: w, conn: rc, wire: wire, body: x.body, extended: x.start}
	g.metrics.inFlight.Inc()
	return x
}

// newRequestID returns a random UUID.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// fail tells the client err, in the shape of its dialect. In the middle of an
// answer all that can be told is that it does not end there.
func (x *exchange) fail(err error) {
	x.err = err
	if x.w.status != 0 || errors.Is(err, errHangUp) {
		x.cut = true
		return
	}
	x.door.Refuse(x.w, x.r, err)
}

// finish is deferred: it turns a panic into an answer, and leaves the log line
// and the counts.
func (x *exchange) finish() {
	p := recover()
	x.long.leave()
	if p != nil && p != any(http.ErrAbortHandler) { // the very value, by net/http's contract
		x.stack = debug.Stack()
		p = x.recovered(p)
	}
	if p == nil && x.w.status == 0 && !x.cut {
		x.w.WriteHeader(http.StatusOK)
	}
	took := time.Since(x.start)
	if x.err == nil { // or anybody could be known, by what is thrown away
		x.w.wire.passed(x.body.n+x.w.n, took)
	}
	x.metrics.observe(x, took)
	x.log(took)
	x.audit()
	if p != nil || x.cut {
		panic(http.ErrAbortHandler) // cuts the connection, and says no more
	}
	x.linger()
}

// linger sends what was answered to a client that paused in the middle of its
// body, and then throws away what it still sends, for as long as the body might
// have taken: a connection that is closed with bytes unread is reset, and the
// answer lost with it.
func (x *exchange) linger() {
	until, ok := x.body.lingers()
	if !ok || x.w.conn.Flush() != nil {
		return
	}
	if c := x.w.wire; c != nil {
		c.crowd.rests(c)
		drain(c.Conn, until)
	}
}

// recovered answers a request whose handler panicked. It returns nil if the
// client got a whole answer.
func (x *exchange) recovered(p any) (again any) {
	x.err = fmt.Errorf("panic: %v", p)
	if x.w.status != 0 {
		return p
	}
	defer func() {
		if again = recover(); again != nil {
			x.err = fmt.Errorf("%w; and then, while telling so: %v", x.err, again)
		}
	}()
	x.door.Refuse(x.w, x.r, x.err)
	return nil
}

// errMadeRoom is for the log.
var errMadeRoom = errors.New("the client did not take its answer, while others waited for the memory that held it")

// perBlock are the operations that come by the thousand; those that succeed
// are not worth a line to an operator.
var perBlock = map[string]bool{"PutSnapshotBlock": true, "GetSnapshotBlock": true}

// theirs reports whether a request was refused and nothing of ours failed, even
// where HTTP has a status above 500 for that.
func theirs(err error) bool {
	if _, ok := errors.AsType[*rest.Error](err); ok {
		return true
	}
	e, ok := errors.AsType[*snapshot.Error](err)
	return ok && e.Code == snapshot.Throttled
}

// log writes the request's one line. It never holds keys, signatures, tokens,
// query strings or bytes of blocks.
func (x *exchange) log(took time.Duration) {
	level, err := slog.LevelInfo, x.err
	if err == nil && x.w.interrupted.Load() {
		err = errMadeRoom
	}
	switch {
	case errors.Is(x.err, context.Canceled): // the client has left
	case x.rule > 0 && x.stack == nil: // it was to be so
	case x.w.status >= http.StatusInternalServerError && !x.quiet && !theirs(x.err), x.stack != nil, x.cut:
		level = slog.LevelError
	case x.quiet, err == nil && perBlock[x.op]:
		level = slog.LevelDebug
	}
	if !x.o.Logger.Enabled(x.r.Context(), level) {
		return
	}
	ctx := context.WithoutCancel(x.r.Context())
	attrs := make([]slog.Attr, 0, 11)
	attrs = append(attrs, slog.String("op", x.op))
	if x.snapshot != "" {
		attrs = append(attrs, slog.String("snapshot", x.snapshot))
	}
	if x.caller != "" {
		attrs = append(attrs, slog.String("caller", x.caller))
	}
	attrs = append(attrs,
		slog.Int("status", x.w.status),
		slog.Int64("bytes_in", x.body.n),
		slog.Int64("bytes_out", x.w.n),
		slog.Duration("took", took),
		slog.String("request_id", x.id))
	if x.rule > 0 {
		attrs = append(attrs, slog.Int("rule", x.rule))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", explain(err)))
	}
	if x.stack != nil {
		attrs = append(attrs, slog.String("stack", string(x.stack)))
	}
	x.o.Logger.LogAttrs(ctx, level, "request", attrs...)
}

// explain is err's text for the log. Of values outside the model's constraints
// only the members are named: what stands in them may be a token, a key ARN, or
// whatever else a client put into the wrong place. Checksums of blocks are not
// named either: the blocks may belong to an encrypted snapshot, and who guesses
// one could see that it is there.
func explain(err error) string {
	e, ok := errors.AsType[*snapshot.Error](err)
	if ok && e.Code == snapshot.ChecksumMismatch {
		return "the data's checksum is not the one that was announced"
	}
	if !ok || e.Code != snapshot.InvalidRequest {
		return err.Error()
	}
	fields := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		fields[i] = v.Field
	}
	return "invalid " + strings.Join(fields, ", ")
}
