package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

const (
	testKey     = "AKIDTEST"
	testSecret  = "test-secret-that-no-log-may-show"
	testAccount = "111122223333"
)

var testTime = time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC)

// A door records what it was asked and answers with its name: "ebs served" or
// "ebs refused: KIND".
type door struct {
	name  string
	serve func(w http.ResponseWriter, r *http.Request, signed *block.Digest) error // nil to read all and say so

	mu     sync.Mutex
	caller snapshot.Caller
	signed *block.Digest
	body   []byte
}

func (d *door) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error {
	d.mu.Lock()
	d.caller, d.signed = c, signed
	d.mu.Unlock()
	if d.serve != nil {
		return d.serve(w, r, signed)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.body = b
	d.mu.Unlock()
	fmt.Fprintf(w, "%s served", d.name)
	return nil
}

func (d *door) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	what, status := "internal", http.StatusInternalServerError
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		what, status = e.Kind.String(), http.StatusForbidden
	} else if e, ok := errors.AsType[*rest.Error](err); ok {
		what, status = fmt.Sprintf("rest.Kind %d", e.Kind), http.StatusBadRequest
	} else if e, ok := errors.AsType[*snapshot.Error](err); ok {
		what, status = fmt.Sprintf("snapshot.Code %d", e.Code), http.StatusBadRequest
		if e.Code == snapshot.Throttled { // as EC2's
			status = http.StatusServiceUnavailable
		}
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s refused: %s", d.name, what)
}

func refused(door string, k sigv4.Kind) string { return door + " refused: " + k.String() }

type keys struct{ err error }

func (k keys) Credential(_ context.Context, key, token string) (secret string, p *policy.Principal, err error) {
	switch {
	case k.err != nil:
		return "", nil, k.err
	case key == testKey && token == "":
		return testSecret, identity.Root(testAccount), nil
	case key == sessionKey && token == sessionToken:
		return testSecret, alice, nil
	case key == sessionKey && token == expiredToken:
		return "", nil, &sigv4.Error{Kind: sigv4.ExpiredToken}
	case token != "":
		return "", nil, &sigv4.Error{Kind: sigv4.UnknownToken}
	}
	return "", nil, &sigv4.Error{Kind: sigv4.UnknownKey}
}

// A session of a user.
const (
	sessionKey   = "ASIATEST"
	sessionToken = "session-token-that-no-log-may-show"
	expiredToken = "expired-token-that-no-log-may-show"
)

var alice = &policy.Principal{
	Account: testAccount, ARN: "arn:aws:iam::" + testAccount + ":user/alice", ID: "AIDAALICE", Kind: policy.User, Name: "alice",
}

// callerOf checks that the door was told of who, and forgets the rest.
func callerOf(t testing.TB, c snapshot.Caller, who *policy.Principal) {
	t.Helper()
	if c.By == nil || c.By.Principal == nil || c.By.ARN != who.ARN || c.Account != who.Account || c.Region != c.By.Region {
		t.Errorf("the caller is %+v, want %s", c, who.ARN)
	}
}

// A fixture is a gateway with recording doors.
type fixture struct {
	*gateway.Gateway
	ebs, ec2, iam, sts, plain *door
	log                       lockedBuffer
	server                    *gateway.Server // of the last listen
}

// newFixture returns a gateway whose clock stands at testTime.
func newFixture(t testing.TB, change func(*gateway.Options)) *fixture {
	t.Helper()
	f := &fixture{ebs: &door{name: "ebs"}, ec2: &door{name: "ec2"}, iam: &door{name: "iam"}, sts: &door{name: "sts"}, plain: &door{name: "plain"}}
	o := gateway.Options{
		EBS: f.ebs, EC2: f.ec2, IAM: f.iam, STS: f.sts, Plain: f.plain, Keys: keys{},
		Regions: []string{"us-east-1", "eu-west-3"},
		Now:     func() time.Time { return testTime },
		Logger:  slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	f.Gateway = gateway.New(o)
	return f
}

// do sends a request through the handler alone.
func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// listen serves f on loopback, with the production limits, and returns the
// address.
func (f *fixture) listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := gateway.NewServer(f.Gateway, nil)
	f.server = s
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// request makes one as it arrives at a handler; headers come as "Name: value".
func request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8484"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// A signing says how sign signs.
type signing struct {
	key, secret, token, service, region, hash string
	at                                        time.Time
}

// sign signs r with SigV4; what s leaves out is what is right.
func sign(t testing.TB, r *http.Request, s signing) *http.Request {
	t.Helper()
	or := func(v *string, right string) {
		if *v == "" {
			*v = right
		}
	}
	or(&s.key, testKey)
	or(&s.secret, testSecret)
	or(&s.service, "ebs")
	or(&s.region, "us-east-1")
	if s.at.IsZero() {
		s.at = testTime
	}
	if s.hash == "" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.hash = hexSum(body)
	}
	length := r.ContentLength
	r.ContentLength = 0 // or it would be signed, and is no header of this request
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret, SessionToken: s.token},
		r, s.hash, s.service, s.region, s.at)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	return r
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func base64Sum(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A lockedBuffer is written by handlers and read by tests.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
