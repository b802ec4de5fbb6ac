// Package gateway is the one listener's handler: it finds out which dialect a
// request speaks and who sent it, and only then asks a door to answer. It gives
// every request its id, reads bodies under a deadline, and leaves one log line
// and its counts behind. It knows nothing of what the operations mean.
//
// The way of a request is dispatch (route.go), authenticate or identify
// (auth.go, anonymous.go), the door, and finish (exchange.go).
//
// Spec: ebs-direct §1.1, §2.1; plain-json, Which dialect a request gets.
package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"shale/internal/audit"
	"shale/internal/block"
	"shale/internal/policy"
	"shale/internal/quota"
	"shale/internal/seat"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// A Door answers the requests of one dialect.
type Door interface {
	// Serve answers r on behalf of c. signed is the SHA-256 of the body that
	// the signature covers, where the body has yet to be checked against it.
	// If it returns an error and nothing has been written, that is for Refuse;
	// else the answer is not all there, and the connection is cut.
	Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error
	// Refuse writes err in the door's own shape: a *snapshot.Error, a
	// *rest.Error or a *sigv4.Error by its kind, any other as an internal one.
	Refuse(w http.ResponseWriter, r *http.Request, err error)
}

// Keys knows who may sign. It is asked once for each signed request.
type Keys interface {
	// Credential finds what a request is signed with that names the access key,
	// and has the session token if that is not empty: its secret, and who it
	// is. An error is a *sigv4.Error if there is no such credential; any other
	// means that it cannot be known now.
	Credential(ctx context.Context, key, token string) (secret string, p *policy.Principal, err error)
}

// TestControls is the clock that tests may move, and what of the server's
// misbehaviour is not the gateway's. Spec: test-controls.
type TestControls interface {
	// Clock returns the server's time and how far it is ahead of the real one.
	Clock() (now time.Time, offset time.Duration)
	// Advance moves the clock forward by d and returns when everything that
	// became due has been done.
	Advance(ctx context.Context, d time.Duration) error
	// Pending counts the account's pending snapshots in the region.
	Pending(ctx context.Context, account, region string) (int64, error)
	// EndLags lets everything be seen at once that was done.
	EndLags()
}

// Options say what a Gateway stands in front of. EBS, EC2, IAM, STS, Plain, Keys
// and Regions are required.
type Options struct {
	EBS, EC2, IAM, STS, Plain Door
	// KMS answers X-Amz-Target: TrentService; nil if no KMS is served here.
	KMS  Door
	Keys Keys
	// Tokens, if not nil, admits bearer tokens to the plain dialect.
	Tokens Tokens
	// Regions are those that are served; the first is the default one.
	Regions []string
	// Quotas are asked for each request that is not one of the six operations,
	// which the service itself counts; nil for no quotas.
	Quotas *quota.Quotas
	// Anonymous is the account of requests without credentials; empty to
	// refuse them. Listeners that others can reach are the caller's concern.
	Anonymous string
	// AllowUnsignedChecksum accepts a PutSnapshotBlock whose signature covers
	// neither its body nor its checksum, as AWS does.
	AllowUnsignedChecksum bool
	// TestControls, if not nil, is served below /_test/.
	TestControls TestControls
	// Ready says why the server cannot serve at the moment; nil means that it
	// can, and a nil function that it always can.
	Ready func() error
	// TLS is how a Server encrypts; nil for plain HTTP.
	TLS *tls.Config
	// MaxConnections bounds the connections that a Server has open; 0 for
	// DefaultMaxConnections.
	MaxConnections int
	// Now is the real clock, by which signatures are judged; nil for time.Now.
	Now func() time.Time
	// Clock is the service's clock, which policies ask; nil for Now.
	Clock func() time.Time
	// Stall is how long a client may go without sending a byte of a body, and
	// how long the rest of a refused body is waited for; 0 for 30 seconds.
	Stall time.Duration
	// Audit gets each call; nil for none.
	Audit *audit.Trail
	// Logger gets one line for each request; nil discards them.
	Logger *slog.Logger
	// Registry takes the metrics and is what /metrics shows; nil for one of
	// the gateway's own.
	Registry *prometheus.Registry
}

// A Gateway is the http.Handler. It is safe for concurrent use.
type Gateway struct {
	o       Options // immutable, defaults filled in
	metrics *metrics
	scrape  http.Handler
	// What is longer than usual has to find room here.
	longHeaders chan struct{}
	longBodies  *seat.Room
	signing     *otter.Cache[scope, *sigv4.SigningKey]

	misbehaviour misbehaviour
}

// New returns a Gateway. It starts nothing.
func New(o Options) *Gateway {
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Clock == nil {
		o.Clock = o.Now
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	return &Gateway{
		o: o, metrics: newMetrics(o.Registry), scrape: scrapeHandler(o.Registry),
		longHeaders: make(chan struct{}, maxLongHeaders), longBodies: seat.NewRoom(maxLongBodies, longWait),
		signing: otter.Must(&otter.Options[scope, *sigv4.SigningKey]{MaximumSize: maxSigningKeys}),
	}
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := g.newExchange(w, r)
	defer x.finish()
	if err := x.dispatch(); err != nil {
		x.fail(err)
	}
}
