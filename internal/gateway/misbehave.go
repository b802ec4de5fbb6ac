package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shale/internal/behaviour"
	"shale/internal/block"
	"shale/internal/policy"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// misbehaviour is how the server behaves otherwise than it ought to.
type misbehaviour struct {
	rules atomic.Pointer[behaviour.Rules] // nil for none

	mu      sync.Mutex
	moved   chan struct{} // closed and replaced when the clock was moved
	stopped chan struct{} // closed when nobody is to wait any more; replaced by calm
}

// errHangUp ends a connection without a word.
var errHangUp = errors.New("the connection was closed by a rule of /_test/behaviour")

// serve has the door answer, or misbehaves as the first rule wants that matches
// the request. Who sent it is known by then, so a rule never lets anybody in.
// Spec: test-controls, Behaviour.
func (x *exchange) serve(d Door, c snapshot.Caller, signed *block.Digest) error {
	if x.misbehaviour.rules.Load() == nil {
		return d.Serve(x.w, x.r, c, signed)
	}
	// Once it is seen that a rule has struck, what ends its wait does so, however
	// far the exchange has come.
	stopped := x.misbehaviour.signals().stopped
	rules := x.misbehaviour.rules.Load()
	if rules == nil {
		return d.Serve(x.w, x.r, c, signed)
	}
	now, _ := x.o.TestControls.Clock()
	var failed error
	strike, struck := rules.Strike(&behaviour.Request{
		Operation: x.operation(), Account: c.Account, Snapshot: x.snapshot, Now: now, Names: x.names,
		Tells: func(name string) bool { return x.named(d, name) != nil },
		Pending: func() (n int64) {
			n, failed = x.o.TestControls.Pending(x.r.Context(), c.Account, c.Region)
			return n
		},
	})
	if failed != nil {
		return failed
	}
	if !struck {
		return d.Serve(x.w, x.r, c, signed)
	}
	x.rule = strike.Number
	return x.misbehave(d, c, signed, &strike.Effect, func(ms int64) { x.wait(now.Add(milliseconds(ms)), stopped) })
}

func (x *exchange) misbehave(d Door, c snapshot.Caller, signed *block.Digest, e *behaviour.Effect, wait func(ms int64)) error {
	switch {
	case e.Error != "":
		return x.named(d, e.Error)
	case e.SilentMS > 0:
		io.CopyN(io.Discard, x.r.Body, maxDrain) //nolint:errcheck // whatever comes, there is no answer
		wait(e.SilentMS)
		return errHangUp
	case e.Cut == behaviour.CutRequest:
		// What comes in one packet with its header cannot be cut visibly.
		io.CopyN(io.Discard, x.r.Body, max(x.r.ContentLength, 0)/2) //nolint:errcheck // as above
		return errHangUp
	case e.DelayMS > 0:
		wait(e.DelayMS)
	case e.Cut == behaviour.CutResponse:
		x.resetAtEnd()
		x.w.cut = true
	case e.Corrupt:
		x.w.corrupt = true
	default:
		c.Whim = whim(e)
	}
	return d.Serve(x.w, x.r, c, signed)
}

// resetAtEnd lets the connection end with a reset, which is what SDKs take for
// the failure of a connection: some take an early end for a broken answer, and
// do not try again.
func (x *exchange) resetAtEnd() {
	if c := x.w.wire; c != nil {
		if tcp, ok := c.socket.(interface{ SetLinger(int) error }); ok {
			tcp.SetLinger(0) //nolint:errcheck // then it ends early, which is a cut, too
		}
		c.abrupt.Store(true)
	}
}

// whim is the part of an effect that the service has to bring about.
func whim(e *behaviour.Effect) *snapshot.Whim {
	w := &snapshot.Whim{
		Lag: milliseconds(e.LagMS), Fails: e.CompleteAs == behaviour.AsError,
		TokenLife: time.Duration(e.TokenLifeS) * time.Second,
	}
	switch e.Page {
	case behaviour.ShortPage:
		w.Page = snapshot.ShortPage
	case behaviour.EmptyPage:
		w.Page = snapshot.EmptyPage
	}
	return w
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// counterparts are the operations of the plain dialect that EC2 has, too: one
// rule is for both.
var counterparts = map[string]string{
	"DeleteSnapshot":   "ec2:DeleteSnapshot",
	"DescribeSnapshot": "ec2:DescribeSnapshots",
	"ListSnapshots":    "ec2:DescribeSnapshots",
	"RemoveTags":       "ec2:DeleteTags",
	"SetTags":          "ec2:CreateTags",
}

// operation is the request's, as rules call it.
func (x *exchange) operation() string {
	if name, ok := counterparts[x.op]; ok {
		return name
	}
	return x.op
}

// names reports whether the request names the snapshot, in its path, its query
// or its form.
func (x *exchange) names(id string) bool {
	if x.snapshot == id {
		return true
	}
	for _, params := range []string{x.r.URL.RawQuery, string(x.inMemory)} {
		if !strings.Contains(params, id) {
			continue
		}
		values, err := url.ParseQuery(params)
		if err != nil {
			continue // the door will refuse it
		}
		for _, list := range values {
			for _, v := range list {
				if v == id {
					return true
				}
			}
		}
	}
	return false
}

// A namer is a door that can tell an error that nothing caused.
type namer interface {
	// Named returns an error that Refuse tells by the name on the wire, about the
	// snapshot if it is about one; nil if there is none of that name.
	Named(name, snapshot string) error
}

// named gives the error of the name, for d to tell; nil if it has none. What has
// a name with AWS the plain dialect tells in its own words.
func (x *exchange) named(d Door, name string) error {
	if n, ok := d.(namer); ok {
		if err := n.Named(name, x.snapshot); err != nil {
			return err
		}
	}
	if d != x.o.Plain {
		return nil
	}
	original := x.o.EBS
	if strings.HasPrefix(x.operation(), "ec2:") {
		original = x.o.EC2
	}
	n, ok := original.(namer)
	if !ok {
		return nil
	}
	err := n.Named(name, x.snapshot)
	_, service := errors.AsType[*snapshot.Error](err)
	_, request := errors.AsType[*rest.Error](err)
	_, signature := errors.AsType[*sigv4.Error](err)
	_, denied := errors.AsType[*policy.Denied](err)
	if service || request || signature || denied {
		return err
	}
	return nil
}

// vocabulary is what rules may name here.
func (g *Gateway) vocabulary() *behaviour.Vocabulary {
	v := &behaviour.Vocabulary{Operations: map[string]string{}, HasError: g.hasError}
	for op := rest.StartSnapshot; op <= rest.GetSnapshotBlock; op++ {
		v.Operations[op.String()] = op.String()
	}
	for service, names := range queryOperations {
		for _, name := range names {
			v.Operations[service+":"+name] = service + ":" + name
		}
	}
	for _, name := range kmsOperations {
		v.Operations["kms:"+name] = "kms:" + name
	}
	v.Operations["DeleteSnapshot"] = counterparts["DeleteSnapshot"] // as the spec has it, among the lags
	return v
}

// hasError reports whether a door of the operation can tell the error.
func (g *Gateway) hasError(operation, name string) bool {
	doors := []Door{g.o.EBS, g.o.Plain}
	switch {
	case operation == "*":
		doors = []Door{g.o.EBS, g.o.EC2, g.o.IAM, g.o.KMS, g.o.Plain, g.o.STS}
	case strings.HasPrefix(operation, "kms:"):
		doors = []Door{g.o.KMS}
	case strings.HasPrefix(operation, "iam:"):
		doors = []Door{g.o.IAM}
	case strings.HasPrefix(operation, "sts:"):
		doors = []Door{g.o.STS}
	case strings.HasPrefix(operation, "ec2:"):
		doors = []Door{g.o.EC2}
		for _, theirs := range counterparts {
			if theirs == operation {
				doors = []Door{g.o.EC2, g.o.Plain}
			}
		}
	}
	for _, d := range doors {
		if n, ok := d.(namer); ok && n.Named(name, "") != nil {
			return true
		}
	}
	return false
}

// Behave sets the rules by which the server misbehaves: JSON as a PUT of
// /_test/behaviour has it. It needs Options.TestControls. An error says what is
// wrong with them, and changes nothing.
func (g *Gateway) Behave(text []byte) error {
	rules, err := behaviour.Parse(text, g.vocabulary())
	if err != nil {
		return err
	}
	g.misbehaviour.rules.Store(rules)
	return nil
}

// calm forgets the rules, and ends what they began.
func (g *Gateway) calm() {
	g.misbehaviour.rules.Store(nil)
	g.misbehaviour.stop()
	g.o.TestControls.EndLags()
}

// serveBehaviour shows and sets the rules.
func (x *exchange) serveBehaviour() error {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		text, err := readAll(x.r)
		if err != nil {
			return err
		}
		if err := x.Behave(text); err != nil {
			return invalidRules(err)
		}
	case http.MethodDelete:
		x.calm()
	default:
		return &rest.Error{
			Kind: rest.UnknownMethod, Value: x.r.Method,
			Allow: []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPut},
		}
	}
	shown := shownRules{Rules: []behaviour.Count{}}
	if rules := x.misbehaviour.rules.Load(); rules != nil {
		shown = shownRules{rules.Preset, rules.Counts()}
	}
	writeJSON(x.w, http.StatusOK, jsonType, envelope{Success: true, Data: shown})
	return nil
}

type shownRules struct {
	Preset string            `json:"preset,omitempty"`
	Rules  []behaviour.Count `json:"rules"`
}

// invalidRules tells what is wrong with rules in the words of a value that is
// outside its constraints.
func invalidRules(err error) error {
	e, ok := errors.AsType[*behaviour.Error](err)
	if !ok {
		return err
	}
	if e.Member == "" {
		return &rest.Error{Kind: rest.BadJSON, Err: err}
	}
	v := snapshot.Violation{Field: e.Member, Value: &e.Value, Constraint: "Member must " + e.Want}
	return &snapshot.Error{Code: snapshot.InvalidRequest, Violations: []snapshot.Violation{v}}
}

// wait lets the time pass by the server's clock. It ends when the client leaves,
// with the rules, or with the server.
func (x *exchange) wait(until time.Time, stopped <-chan struct{}) {
	for {
		moved := x.misbehaviour.signals().moved
		now, _ := x.o.TestControls.Clock()
		left := until.Sub(now)
		if left <= 0 {
			return
		}
		if !pause(x.r.Context(), left, moved, stopped) {
			return
		}
	}
}

// pause waits, and reports whether there may be more to wait for.
func pause(ctx context.Context, d time.Duration, moved, stopped <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-moved:
		return true
	case <-stopped:
		return false
	case <-ctx.Done():
		return false
	}
}

type signals struct{ moved, stopped <-chan struct{} }

func (m *misbehaviour) signals() signals {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved == nil {
		m.moved, m.stopped = make(chan struct{}), make(chan struct{})
	}
	return signals{m.moved, m.stopped}
}

// move wakes those that wait, for the clock was moved.
func (m *misbehaviour) move() {
	m.signals()
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.moved)
	m.moved = make(chan struct{})
}

// stop lets nobody wait any longer.
func (m *misbehaviour) stop() {
	m.signals()
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.stopped)
	m.stopped = make(chan struct{})
}
