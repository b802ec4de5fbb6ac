package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// A clock is a TestControls.
type clock struct {
	offset  time.Duration
	pending int64
	err     error
}

func (c *clock) Clock() (time.Time, time.Duration) { return testTime.Add(c.offset), c.offset }

func (c *clock) EndLags() {}

func (c *clock) Pending(context.Context, string, string) (int64, error) { return c.pending, c.err }

func (c *clock) Advance(_ context.Context, d time.Duration) error {
	if c.err == nil {
		c.offset += d
	}
	return c.err
}

func TestClock(t *testing.T) {
	c := &clock{}
	f := newFixture(t, func(o *gateway.Options) { o.TestControls = c })
	const start = `{"success":true,"data":{"now":"2026-09-25T12:00:00.000Z","offset_seconds":0}}`
	if got := f.do(request("GET", "/_test/clock", "")).Body.String(); got != start {
		t.Errorf("got %s", got)
	}
	const later = `{"success":true,"data":{"now":"2026-09-25T12:15:00.000Z","offset_seconds":900}}`
	if got := f.do(request("POST", "/_test/clock", `{"advance_seconds": 900}`)).Body.String(); got != later {
		t.Errorf("got %s", got)
	}
	if got := f.do(request("GET", "/_test/clock", "")).Body.String(); got != later {
		t.Errorf("got %s", got)
	}
	f.do(request("POST", "/_test/clock", `{"advance_seconds": 3700000000}`))
	if want := 3_700_000_900 * time.Second; c.offset != want {
		t.Errorf("offset %v, want %v", c.offset, want)
	}
}

// Anything but one whole number within bounds moves nothing.
func TestClockInvalid(t *testing.T) {
	c := &clock{}
	f := newFixture(t, func(o *gateway.Options) { o.TestControls = c })
	for _, body := range []string{
		"", "null", "[]", "900", `"900"`, "{", "{}", `{"advance_seconds"}`, `{"advance_seconds":null}`,
		`{"advance_seconds":0}`, `{"advance_seconds":-1}`, `{"advance_seconds":3700000001}`,
		`{"advance_seconds":1.5}`, `{"advance_seconds":1.0}`, `{"advance_seconds":1e3}`, `{"advance_seconds":"900"}`,
		`{"advance_seconds":true}`, `{"advance_seconds":99999999999999999999}`, `{"advance_seconds":[900]}`,
		`{"Advance_Seconds":900}`, `{"advanceSeconds":900}`, `{"advance_seconds":900,"more":1}`,
		`{"advance_seconds":900,"advance_seconds":900}`, `{"advance_seconds":900}{}`, `{"advance_seconds":900} x`,
		"{\"advance_seconds\":900,\"\xff\":1}",
	} {
		if w := f.do(request("POST", "/_test/clock", body)); w.Code != http.StatusBadRequest {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
		}
	}
	if c.offset != 0 {
		t.Errorf("the clock moved by %v", c.offset)
	}
	// A third leap of this size would be past what a time.Duration holds.
	for i, want := range []int{200, 200, 400} {
		if w := f.do(request("POST", "/_test/clock", `{"advance_seconds":3700000000}`)); w.Code != want {
			t.Errorf("leap %d: got %d, want %d", i, w.Code, want)
		}
	}
}

func TestTestPaths(t *testing.T) {
	refusal := func(k rest.Kind) string { return fmt.Sprintf("plain refused: rest.Kind %d", k) }
	for _, tt := range []struct {
		controls     bool
		method, path string
		want         string
	}{
		{false, "GET", "/_test/clock", refusal(rest.UnknownPath)},
		{false, "POST", "/_test/clock", refusal(rest.UnknownPath)},
		{false, "PUT", "/_test/behaviour", refusal(rest.UnknownPath)},
		{true, "DELETE", "/_test/clock", refusal(rest.UnknownMethod)},
		{true, "POST", "/_test/behaviour", refusal(rest.UnknownMethod)},
		{true, "GET", "/_test/", refusal(rest.NotServed)},
	} {
		f := newFixture(t, func(o *gateway.Options) {
			if tt.controls {
				o.TestControls = &clock{}
			}
		})
		if got := f.do(request(tt.method, tt.path, "")).Body.String(); got != tt.want {
			t.Errorf("controls=%v %s %s: got %q, want %q", tt.controls, tt.method, tt.path, got, tt.want)
		}
	}
	f := newFixture(t, func(o *gateway.Options) { o.TestControls = &clock{err: errors.New("disk")} })
	if got := f.do(request("POST", "/_test/clock", `{"advance_seconds":1}`)).Body.String(); got != "plain refused: internal" {
		t.Errorf("a clock that fails: got %q", got)
	}
}

func TestProbes(t *testing.T) {
	var notReady error
	f := newFixture(t, func(o *gateway.Options) {
		o.Ready = func() error { return notReady }
		o.TestControls = &clock{}
	})
	check := func(path string, status int, body string) {
		t.Helper()
		if w := f.do(request("GET", path, "")); w.Code != status || w.Body.String() != body {
			t.Errorf("%s: got %d %s, want %d %s", path, w.Code, w.Body, status, body)
		}
	}
	check("/healthz", 200, `{"status":"ok"}`)
	check("/readyz", 200, `{"status":"ready","test_controls":true}`)
	notReady = errors.New("the store stopped")
	check("/healthz", 200, `{"status":"ok"}`)
	check("/readyz", 503, `{"status":"unavailable","reason":"the store stopped","test_controls":true}`)
	check("/metrics/", 403, "plain refused: the request is missing an authentication token")
	if w := f.do(request("POST", "/healthz", "")); w.Code != 400 {
		t.Errorf("POST /healthz: got %d", w.Code)
	}
}

func TestMetrics(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.Anonymous = testAccount })
	f.do(request("PUT", putTarget, "12345"))
	f.do(request("PUT", putTarget, "12345", "Authorization: Bearer x"))
	f.do(request("GET", "/a-path-that-is-no-label", ""))
	f.do(sign(t, request("POST", "/", "Version=1&Action=DescribeSnapshots"), signing{service: "ec2"}))
	f.do(sign(t, request("POST", "/", "Action=NoLabelEither"), signing{service: "ec2"}))
	got := f.do(request("GET", "/metrics", "")).Body.String()
	for _, want := range []string{
		`shale_http_requests_total{operation="PutSnapshotBlock",status="200"} 1`,
		`shale_http_requests_total{operation="PutSnapshotBlock",status="403"} 1`,
		`shale_http_requests_total{operation="unknown",status="200"} 1`,
		`shale_http_requests_total{operation="ec2:DescribeSnapshots",status="200"} 1`,
		`shale_http_requests_total{operation="ec2:unknown",status="200"} 1`,
		`shale_http_request_duration_seconds_count{operation="PutSnapshotBlock",status="200"} 1`,
		`shale_http_received_bytes_total{operation="PutSnapshotBlock"} 10`,
		`shale_http_sent_bytes_total{operation="unknown"} 12`,
		`shale_http_requests_in_flight 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(got, "label") {
		t.Error("a label comes from a client")
	}
}

// One line for each request, with nothing secret in it.
func TestLog(t *testing.T) {
	secrets := []string{testSecret, testKey, "AWS4-HMAC-SHA256", "Signature=", "TOKEN", "BLOCKBYTES", "QUERY", "DIGEST", "arn:"}
	f := newFixture(t, func(o *gateway.Options) { o.Anonymous = testAccount })
	f.ebs.serve = func(_ http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		io.Copy(io.Discard, r.Body)
		switch r.Method {
		case http.MethodPut:
			if r.ContentLength == 0 {
				return &snapshot.Error{Code: snapshot.ChecksumMismatch, Field: "checksum", Computed: "DIGEST", Expected: "DIGEST"}
			}
			return &snapshot.Error{Code: snapshot.NotFound, Snapshot: "snap-0123456789abcdef0"}
		case http.MethodGet:
			return &snapshot.Error{Code: snapshot.InvalidBlockToken, Value: "TOKEN"}
		}
		value := "arn:aws:kms"
		return &snapshot.Error{Code: snapshot.InvalidRequest, Violations: []snapshot.Violation{{Field: "kmsKeyArn", Value: &value}}}
	}
	for _, tt := range []struct {
		r    *http.Request
		sign *signing
		want []string
	}{
		{
			request("PUT", putTarget, "BLOCKBYTES", "x-amz-content-sha256: UNSIGNED-PAYLOAD"), &signing{hash: "UNSIGNED-PAYLOAD"},
			[]string{
				"level=INFO", "msg=request", "op=PutSnapshotBlock", "snapshot=snap-0123456789abcdef0", "caller=" + testAccount,
				"status=400", "bytes_in=10", "took=", "err=\"the snapshot 'snap-0123456789abcdef0' does not exist\"",
			},
		},
		{
			request("PUT", putTarget, "", "x-amz-content-sha256: UNSIGNED-PAYLOAD"), &signing{hash: "UNSIGNED-PAYLOAD"},
			[]string{"op=PutSnapshotBlock", "err=\"the data's checksum is not the one that was announced\""},
		},
		{request("GET", putTarget+"?blockToken=QUERYTOKEN", ""), &signing{}, []string{"op=GetSnapshotBlock", "the block token is invalid"}},
		{request("POST", "/snapshots", `{"KmsKeyArn":"arn:aws:kms"}`), &signing{}, []string{"op=StartSnapshot", `err="invalid kmsKeyArn"`}},
		{request("GET", putTarget, ""), &signing{secret: "x"}, []string{"status=403", "err=\"the signature does not match"}},
		{request("GET", putTarget, ""), &signing{key: "AKIDTEST2"}, []string{"status=403", "err="}},
		{request("GET", "/snapshots", "", "Authorization: Bearer TOKEN"), nil, []string{"op=ListSnapshots", "status=403", "err="}},
		{request("GET", "/snapshots/"+strings.Repeat("s", 100)+"?QUERY", ""), nil, []string{"status=200", "snapshot=" + strings.Repeat("s", 64) + " "}},
		{request("GET", "/healthz", ""), nil, []string{"level=DEBUG", "op=/healthz"}},
	} {
		if tt.sign != nil {
			sign(t, tt.r, *tt.sign)
		}
		before := len(f.log.String())
		id := f.do(tt.r).Header().Get("x-amzn-RequestId")
		line := f.log.String()[before:]
		if strings.Count(line, "\n") != 1 {
			t.Errorf("%s %s: got %q, want one line", tt.r.Method, tt.r.URL, line)
		}
		for _, want := range append(tt.want, "request_id="+id) {
			if !strings.Contains(line, want) {
				t.Errorf("%s %s: no %q in\n%s", tt.r.Method, tt.r.URL, want, line)
			}
		}
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("%s %s: %q in\n%s", tt.r.Method, tt.r.URL, secret, line)
			}
		}
	}
}

func TestPanic(t *testing.T) {
	f := anonymous(t, 0)
	f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		switch r.URL.Path {
		case "/late":
			w.WriteHeader(http.StatusOK)
			w.Write(make([]byte, 100<<10))
		case "/abort":
			panic(http.ErrAbortHandler)
		}
		panic("broken invariant")
	}
	addr := f.listen(t)
	c := dial(t, addr)
	c.send("GET /early HTTP/1.1\r\nHost: h\r\n\r\n")
	if status, body, _ := c.answer(); status != 500 || body != "plain refused: internal" {
		t.Errorf("got %d %q", status, body)
	}
	for _, path := range []string{"/late", "/abort"} {
		c := dial(t, addr)
		c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err == nil {
			t.Errorf("%s: the answer looks whole", path)
		}
	}
	log := f.log.String()
	if n := strings.Count(log, `level=ERROR msg=request`); n != 2 || !strings.Contains(log, "panic: broken invariant") || !strings.Contains(log, "own_test.go") {
		t.Errorf("%d errors logged:\n%s", n, log)
	}
	c.send("GET /early HTTP/1.1\r\nHost: h\r\n\r\n")
	if status, _, _ := c.answer(); status != 500 {
		t.Errorf("the connection did not survive: %d", status)
	}
}
