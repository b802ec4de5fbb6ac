package gateway_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/ebs"
	"shale/internal/ec2"
	"shale/internal/gateway"
	"shale/internal/iam"
	"shale/internal/plain"
	"shale/internal/snapshot"
	"shale/internal/trent"
)

// newMisbehaving returns a gateway with test controls whose doors record what
// they are asked, and tell errors as the real ones do.
func newMisbehaving(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, func(o *gateway.Options) {
		o.TestControls, o.Anonymous = &clock{}, testAccount
		o.EBS = teller{o.EBS.(*door), ebs.New(nil)}
		o.EC2 = teller{o.EC2.(*door), ec2.New(nil, nil)}
		o.Plain = teller{o.Plain.(*door), plain.New(nil)}
		o.KMS = teller{&door{name: "kms"}, trent.New(nil)}
		o.IAM = teller{&door{name: "iam"}, iam.New(nil)}
		o.STS = teller{&door{name: "sts"}, iam.NewSTS(nil)}
	})
}

// A teller serves as a recording door does, and tells errors as a real one.
type teller struct {
	*door
	real interface {
		Named(name, snapshot string) error
		Refuse(w http.ResponseWriter, r *http.Request, err error)
	}
}

func (d teller) Named(name, id string) error { return d.real.Named(name, id) }

func (d teller) Refuse(w http.ResponseWriter, r *http.Request, err error) { d.real.Refuse(w, r, err) }

func (f *fixture) rules(t *testing.T, rules string) {
	t.Helper()
	if w := f.do(request("PUT", "/_test/behaviour", `{"rules": [`+rules+`]}`)); w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", rules, w.Code, w.Body)
	}
}

// struck tells how often each rule has struck.
func (f *fixture) struck(t *testing.T) string {
	t.Helper()
	var answer struct {
		Data struct{ Rules []struct{ Struck int } }
	}
	if err := json.Unmarshal(f.do(request("GET", "/_test/behaviour", "")).Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	var counts []int
	for _, r := range answer.Data.Rules {
		counts = append(counts, r.Struck)
	}
	return fmt.Sprint(counts)
}

func TestBehaviourControls(t *testing.T) {
	f := newMisbehaving(t)
	check := func(method, body, want string) {
		t.Helper()
		if got := f.do(request(method, "/_test/behaviour", body)).Body.String(); got != want {
			t.Errorf("%s %s: got %s, want %s", method, body, got, want)
		}
	}
	const none = `{"success":true,"data":{"rules":[]}}`
	const one = `{"success":true,"data":{"rules":[{"operation":"*","when":{"first":3},"effect":{"delay_ms":1},"struck":0}]}}`
	check("GET", "", none)
	check("PUT", `{"rules":[{"operation":"*","when":{"first":3},"effect":{"delay_ms":1}}]}`, one)
	check("GET", "", one)
	for _, bad := range []string{
		``, `{}`, `nonsense`, `{"preset":"nice"}`, `{"rules":[{"operation":"Put","effect":{"delay_ms":1}}]}`,
		`{"rules":[{"operation":"ec2:DescribeVolumes","effect":{"delay_ms":1}}]}`,
		`{"rules":[{"operation":"kms:Sign","effect":{"delay_ms":1}}]}`,
		`{"rules":[{"operation":"*","effect":{"error":"Nope"}}]}`,
		`{"rules":[{"operation":"PutSnapshotBlock","effect":{"error":"RequestLimitExceeded"}}]}`,
		`{"rules":[{"operation":"ec2:DescribeSnapshots","effect":{"error":"RequestThrottledException"}}]}`,
		`{"rules":[{"operation":"ec2:CopySnapshot","effect":{"error":"THROTTLED"}}]}`,
		`{"rules":[{"operation":"kms:Decrypt","effect":{"error":"ResourceNotFoundException"}}]}`,
		`{"rules":[{"operation":"iam:CreateUser","effect":{"error":"UnauthorizedOperation"}}]}`,
		`{"rules":[{"operation":"sts:CreateUser","effect":{"delay_ms":1}}]}`,
	} {
		w := f.do(request("PUT", "/_test/behaviour", bad))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"code":"VALIDATION_ERROR"`) {
			t.Errorf("%s: got %d %s", bad, w.Code, w.Body)
		}
	}
	check("GET", "", one) // what was refused has changed nothing
	for _, preset := range []string{"aws-like", "hostile"} {
		if w := f.do(request("PUT", "/_test/behaviour", `{"preset":"`+preset+`"}`)); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"preset":"`+preset+`"`) {
			t.Errorf("%s: got %d %s", preset, w.Code, w.Body)
		}
	}
	check("DELETE", "", none)
	check("GET", "", none)
	if w := f.do(request("POST", "/_test/behaviour", "{}")); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d %s", w.Code, w.Body)
	}
	w := f.do(request("PUT", "/_test/behaviour", `{"preset":"hostile"}`, "Origin: https://elsewhere.example"))
	if w.Code != http.StatusForbidden {
		t.Errorf("a foreign origin: got %d %s", w.Code, w.Body)
	}
	check("GET", "", none)
}

// Each dialect tells an error in its own shape: what has a name with AWS, the
// plain one in its own words.
func TestBehaviourErrors(t *testing.T) {
	f := newMisbehaving(t)
	const list = "/snapshots/snap-0a/blocks"
	signed := func() *http.Request { return sign(t, request("GET", list, ""), signing{}) }
	queryOf := func(service, action string) *http.Request {
		return sign(t, request("POST", "/", "Version=1&Action="+action), signing{service: service})
	}
	query := func(action string) *http.Request { return queryOf("ec2", action) }
	for i, tt := range []struct {
		rule    string
		request *http.Request
		status  int
		body    string // a part of it
	}{
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "RequestThrottledException"}`, signed(), 400, `"Reason":"RESOURCE_LEVEL_THROTTLE"`},
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "RequestThrottledException"}`, request("GET", list, ""), 429, `"code":"THROTTLED"`},
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "ResourceNotFoundException"}`, signed(), 404, `'snap-0a' does not exist`},
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "THROTTLED"}`, request("GET", list, ""), 429, `"code":"THROTTLED"`},
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "THROTTLED"}`, signed(), 200, `ebs served`},
		{`"operation": "*", "effect": {"error": "RequestLimitExceeded"}`, query("DescribeSnapshots"), 503, `<Code>RequestLimitExceeded</Code>`},
		{`"operation": "*", "effect": {"error": "RequestLimitExceeded"}`, signed(), 200, `ebs served`},
		{`"operation": "ec2:DescribeSnapshots", "effect": {"error": "InvalidSnapshot.NotFound"}`, request("GET", "/snapshots/snap-0a", ""), 404, `"code":"NOT_FOUND"`},
		{`"operation": "DeleteSnapshot", "effect": {"error": "Unavailable"}`, query("DeleteSnapshot"), 503, `<Code>Unavailable</Code>`},
		{`"operation": "kms:Decrypt", "effect": {"error": "ThrottlingException"}`, sign(t, request("POST", "/", "{}", "X-Amz-Target: TrentService.Decrypt"), signing{service: "kms"}), 400, `"__type":"ThrottlingException"`},
		{`"operation": "iam:CreateUser", "effect": {"error": "EntityAlreadyExists"}`, queryOf("iam", "CreateUser"), 409, `<Code>EntityAlreadyExists</Code>`},
		{`"operation": "iam:CreateUser", "effect": {"error": "EntityAlreadyExists"}`, queryOf("iam", "CreateRole"), 200, `iam served`},
		{`"operation": "sts:AssumeRole", "effect": {"error": "AccessDenied"}`, queryOf("sts", "AssumeRole"), 403, `<Message>User: arn:aws:iam::`},
		{`"operation": "*", "effect": {"error": "Throttling"}`, queryOf("sts", "GetCallerIdentity"), 400, `<Code>Throttling</Code>`},
		{`"operation": "*", "effect": {"error": "Throttling"}`, signed(), 200, `ebs served`},
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "AccessDeniedException"}`, signed(), 403, `"Message":"User: arn:aws:iam::`},
		{`"operation": "ListSnapshotBlocks", "effect": {"error": "AccessDeniedException"}`, request("GET", list, ""), 403, `"code":"ACCESS_DENIED"`},
		{`"operation": "*", "account": "444455556666", "effect": {"error": "ThrottlingException"}`, signed(), 200, `ebs served`},
		{`"operation": "*", "account": "` + testAccount + `", "effect": {"error": "ThrottlingException"}`, signed(), 400, `Rate exceeded`},
	} {
		f.rules(t, "{"+tt.rule+"}")
		if w := f.do(tt.request); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%d: %s: got %d %s, want %d %s", i, tt.rule, w.Code, w.Body, tt.status, tt.body)
		}
	}
	if log := f.log.String(); !strings.Contains(log, "rule=1") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log does not say that it was a rule:\n%s", log)
	}
}

// Nobody is let in, or told more, by a rule: who asks is known first.
func TestBehaviourAfterAuthentication(t *testing.T) {
	f := newMisbehaving(t)
	f.rules(t, `{"operation": "*", "effect": {"error": "ThrottlingException"}}`)
	w := f.do(sign(t, request("GET", "/snapshots/snap-0a/blocks", ""), signing{secret: "wrong"}))
	if w.Code != http.StatusForbidden || f.struck(t) != "[0]" {
		t.Errorf("got %d %s, struck %s", w.Code, w.Body, f.struck(t))
	}
}

// A rule for a snapshot strikes what names it: in the path, as the first of two,
// or in a form.
func TestBehaviourSnapshot(t *testing.T) {
	for i, tt := range []struct {
		request *http.Request
		struck  bool
	}{
		{request("GET", "/snapshots/snap-0a/blocks", ""), true},
		{request("GET", "/snapshots/snap-0b/blocks", ""), false},
		{request("GET", "/snapshots/snap-0b/changedblocks?firstSnapshotId=snap-0a", ""), true},
		{request("DELETE", "/snapshots/snap-0a", ""), true},
		{sign(t, request("POST", "/", "Action=DescribeSnapshots&SnapshotId.1=snap-0b&SnapshotId.2=snap-0a"), signing{service: "ec2"}), true},
		{sign(t, request("POST", "/", "Action=DescribeSnapshots&SnapshotId.1=snap%2D0b"), signing{service: "ec2"}), false},
		{sign(t, request("POST", "/", "Action=DescribeSnapshots&SnapshotId.1=snap-0aa"), signing{service: "ec2"}), false},
	} {
		f := newMisbehaving(t)
		f.rules(t, `{"operation": "*", "snapshot": "snap-0a", "effect": {"error": "INTERNAL_ERROR"}}, {"operation": "*", "snapshot": "snap-0a", "effect": {"error": "InternalError"}}`)
		f.do(tt.request)
		if got := f.struck(t) != "[0 0]"; got != tt.struck {
			t.Errorf("request %d: struck %v, want %v", i, got, tt.struck)
		}
	}
}

// A cut answer ends with a reset of the connection, with TLS as without: SDKs take
// it for a failure of the network, which is what it plays.
func TestBehaviourResets(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	for name, config := range map[string]*tls.Config{"TCP": nil, "TLS": certified.TLS} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(o *gateway.Options) { o.TestControls, o.Anonymous, o.TLS = &clock{}, testAccount, config })
			f.rules(t, `{"operation": "*", "effect": {"cut": "response"}}`)
			f.plain.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
				w.Header().Set("Content-Length", "1000")
				_, err := w.Write(make([]byte, 1000))
				return err
			}
			address := f.listen(t)
			raw, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := raw
			if config != nil {
				c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			}
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "GET /snapshots HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if !errors.Is(err, syscall.ECONNRESET) || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) || len(got) > 1000 {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

// A silence that has begun ends when it is due, though the request is not whole
// yet: whoever has seen that the rule struck may move the clock, or take the rule
// back.
func TestBehaviourSilenceEnds(t *testing.T) {
	for name, end := range map[string]*http.Request{
		"clock": request("POST", "/_test/clock", `{"advance_seconds": 600}`),
		"rules": request("DELETE", "/_test/behaviour", ""),
	} {
		t.Run(name, func(t *testing.T) {
			f := newMisbehaving(t)
			f.rules(t, `{"operation": "*", "effect": {"silent_ms": 600000}}`)
			c, err := net.Dial("tcp", f.listen(t))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "PUT /snapshots/snap-0/blocks/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 524288\r\n\r\nbegun"); err != nil {
				t.Fatal(err)
			}
			for f.struck(t) == "[0]" {
				time.Sleep(time.Millisecond)
			}
			if w := f.do(end); w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if _, err := c.Write(make([]byte, 524288-len("begun"))); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v, want a closed connection", got, err)
			}
		})
	}
}

// What the service has to bring about reaches it with the caller.
func TestBehaviourWhims(t *testing.T) {
	f := newMisbehaving(t)
	for effect, want := range map[string]snapshot.Whim{
		`"ListSnapshotBlocks", "effect": {"page": "short"}`:      {Page: snapshot.ShortPage},
		`"ListSnapshotBlocks", "effect": {"page": "empty"}`:      {Page: snapshot.EmptyPage},
		`"ListSnapshotBlocks", "effect": {"token_life_s": 3}`:    {TokenLife: 3 * time.Second},
		`"CompleteSnapshot", "effect": {"lag_ms": 1500}`:         {Lag: 1500 * time.Millisecond},
		`"CompleteSnapshot", "effect": {"complete_as": "error"}`: {Fails: true},
	} {
		f.rules(t, `{"operation": `+effect+`}`)
		r := request("GET", "/snapshots/snap-0a/blocks", "")
		if strings.Contains(effect, "Complete") {
			r = request("POST", "/snapshots/completion/snap-0a", "")
		}
		f.do(r)
		if got := f.plain.caller.Whim; got == nil || *got != want {
			t.Errorf("%s: got %+v, want %+v", effect, got, want)
		}
	}
	f.do(request("DELETE", "/_test/behaviour", ""))
	f.do(request("GET", "/snapshots/snap-0a/blocks", ""))
	if got := f.plain.caller.Whim; got != nil {
		t.Errorf("without rules: %+v", got)
	}
}
