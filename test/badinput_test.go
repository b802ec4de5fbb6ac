package test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
)

// secretText fills the blocks of these tests, so that their bytes are known
// where they must not be.
const secretText = "block bytes that no log may hold "

var secretBlock = bytes.Repeat([]byte(secretText), blockSize/len(secretText)+1)[:blockSize]

// TestBadBodies sends blocks whose body is not what it should be.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	snapshot := s.startSnapshot(t)
	const length = "Content-Length: 524288"
	bad := reply{status: 400, header: http.Header{"X-Amzn-Errortype": {"ValidationException"}}}

	for _, c := range []struct {
		name   string
		m      message
		body   [][]byte
		hangUp bool // no more will come, and the server can see it
		status int
		code   string
		reason string
		usable bool
	}{
		{
			name: "whole", m: put(snapshot, "0", secretBlock, length), body: [][]byte{secretBlock},
			status: 201, usable: true,
		},
		{
			name: "short, and says so", m: put(snapshot, "1", secretBlock, "Content-Length: 1000"), body: [][]byte{secretBlock[:1000]},
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE", usable: true,
		},
		{
			name: "empty", m: put(snapshot, "1", secretBlock, "Content-Length: 0"),
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE", usable: true,
		},
		{
			name: "no length at all", m: put(snapshot, "1", secretBlock),
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE", usable: true,
		},
		{
			name: "cut off", m: put(snapshot, "1", secretBlock, length), body: [][]byte{secretBlock[:1000]}, hangUp: true,
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE",
		},
		{
			name: "stalls", m: put(snapshot, "1", secretBlock, length), body: [][]byte{secretBlock[:300_000]},
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE",
		},
		{
			name: "never comes", m: put(snapshot, "1", secretBlock, length),
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE",
		},
		{
			name: "one byte too long", m: put(snapshot, "1", secretBlock, "Content-Length: 524289"), body: [][]byte{secretBlock, {0}},
			status: 400, code: bad.code(), reason: "INVALID_BLOCK",
		},
		{
			name: "far too long", m: put(snapshot, "1", secretBlock, "Content-Length: 1099511627776"), body: [][]byte{secretBlock, secretBlock},
			status: 400, code: bad.code(), reason: "INVALID_BLOCK",
		},
		{
			name: "chunked", m: put(snapshot, "2", secretBlock, chunked),
			body: [][]byte{chunk(secretBlock[:1]), chunk(secretBlock[1:100_000]), chunk(secretBlock[100_000:]), lastChunk}, status: 201, usable: true,
		},
		{
			name: "chunked and short", m: put(snapshot, "1", secretBlock, chunked), body: [][]byte{chunk(secretBlock[:1000]), lastChunk},
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE", usable: true,
		},
		{
			name: "chunked and long", m: put(snapshot, "1", secretBlock, chunked), body: [][]byte{chunk(secretBlock), chunk(secretBlock)},
			status: 400, code: bad.code(), reason: "INVALID_BLOCK",
		},
		{
			name: "chunks that are none", m: put(snapshot, "1", secretBlock, chunked), body: [][]byte{[]byte("zz\r\nnonsense\r\n")},
			status: 400, code: bad.code(), reason: "INVALID_PARAMETER_VALUE",
		},
		{
			name: "refused while it comes", m: put("snap-0123456789abcdef0", "1", secretBlock, length), body: [][]byte{secretBlock},
			status: 404, code: "ResourceNotFoundException", reason: "SNAPSHOT_NOT_FOUND", usable: true,
		},
		{
			name: "refused and never comes", m: put("snap-0123456789abcdef0", "1", secretBlock, length), body: [][]byte{secretBlock[:1000]},
			status: 404, code: "ResourceNotFoundException", reason: "SNAPSHOT_NOT_FOUND",
		},
		{
			name: "refused before it was asked for", m: put("snap-0123456789abcdef0", "1", secretBlock, length, "Expect: 100-continue"),
			status: 404, code: "ResourceNotFoundException", reason: "SNAPSHOT_NOT_FOUND",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := s.wire(t)
			w.send(s.head(t, c.m))
			w.send(c.body...)
			if c.hangUp {
				if err := w.conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			r := w.reply()
			if r.status != c.status || r.code() != c.code || r.reason() != c.reason {
				t.Errorf("got %v, want %d %s %s", r, c.status, c.code, c.reason)
			}
			if c.usable {
				w.usable()
			}
		})
	}

	t.Run("slow but moving", func(t *testing.T) {
		t.Parallel()
		w := s.wire(t)
		w.send(s.head(t, put(snapshot, "3", secretBlock, length)))
		for piece := range slices.Chunk(secretBlock, 64<<10) {
			time.Sleep(50 * time.Millisecond)
			w.send(piece)
		}
		if r := w.reply(); r.status != 201 {
			t.Errorf("got %v", r)
		}
		w.usable()
	})

	t.Run("asked for by 100 Continue", func(t *testing.T) {
		t.Parallel()
		w := s.wire(t)
		w.send(s.head(t, put(snapshot, "4", secretBlock, length, "Expect: 100-continue")))
		if r := w.reply(); r.status != 100 {
			t.Fatalf("got %v, want 100 Continue", r)
		}
		w.send(secretBlock)
		if r := w.reply(); r.status != 201 {
			t.Errorf("got %v", r)
		}
		w.usable()
	})

	t.Run("a client that reads nothing", func(t *testing.T) {
		t.Parallel()
		w := s.wire(t)
		for range 20 {
			w.send(s.head(t, message{method: "GET", target: "/snapshots/snap-0123456789abcdef0/blocks"}))
		}
		w.conn.Close()
	})
}

// TestNothingIsLeftBehind fails many writes in each way and then finds the
// snapshot without a block, and no connection left open.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	snapshot := s.startSnapshot(t)
	before := s.openFiles(t)
	for range 50 {
		for _, m := range []message{
			put(snapshot, "0", secretBlock, "Content-Length: 524288"),
			put(snapshot, "0", secretBlock, "Content-Length: 524289"),
			put(snapshot, "9999", secretBlock, "Content-Length: 524288"),
			put(snapshot, "0", []byte("others"), "Content-Length: 524288"),
		} {
			w := s.wire(t)
			w.send(s.head(t, m), secretBlock[:blockSize-1])
			w.conn.Close()
		}
	}
	// 200 requests failed; the database may have opened a few files more.
	for deadline := time.Now().Add(20 * time.Second); s.openFiles(t) > before+20; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, %d were before", s.openFiles(t), before)
		}
	}
	w := s.wire(t)
	target := "/snapshots/completion/" + snapshot
	for status := "pending"; status != "completed"; time.Sleep(10 * time.Millisecond) {
		w.send(s.head(t, message{
			method: "POST", target: target, header: http.Header{"X-Amz-Changedblockscount": {"0"}}, lines: []string{"Content-Length: 0"},
		}))
		var got struct{ Status string }
		if r := w.reply(); r.status != 202 || json.Unmarshal(r.body, &got) != nil || got.Status == "error" {
			t.Fatalf("CompleteSnapshot: %v", r)
		}
		status = got.Status
	}
}

// TestSlowSenders has more clients stall in the middle of a block than the
// server holds blocks in memory. Reads go on beside them; a write is done, or
// soon answered with what makes every SDK try again.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	u := uploader{s.ebs(t), s.ec2(t)}
	done, _ := u.upload(t, denseFile(t, 1), nil, "")
	snapshot := s.startSnapshot(t)
	for range 300 {
		s.wire(t).send(s.head(t, put(snapshot, "0", secretBlock, "Content-Length: 524288")), secretBlock[:1000])
	}
	time.Sleep(200 * time.Millisecond) // until the server has them
	began := time.Now()
	if err := eachBlock(t.Context(), u.ebs, done, func(int, []byte) error { return nil }); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a read took %v", took)
	}
	if err := putBlock(t.Context(), u.ebs, snapshot, 1, secretBlock); err != nil && !isCode(err, "RequestThrottledException") {
		t.Error(err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a read and a write took %v", took)
	}
}

// TestBadRequests sends requests that are wrong elsewhere than in the body. On
// every one the connection stays usable.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	snapshot := s.startSnapshot(t)
	twice := func(name, value string) message {
		m := put(snapshot, "0", secretBlock, "Content-Length: 0")
		m.header.Add(name, value)
		return m
	}
	list := "/snapshots/snap-0123456789abcdef0/blocks"
	blocks := "/snapshots/" + snapshot + "/blocks/"
	const (
		validation    = "ValidationException"
		serialization = "SerializationException"
		unknown       = "UnknownOperationException"
	)
	for _, c := range []struct {
		name   string
		m      message
		body   string
		status int
		code   string
	}{
		{"checksum twice", twice("X-Amz-Checksum", "AAAA"), "", 400, serialization},
		{"data length twice", twice("X-Amz-Data-Length", "524288"), "", 400, serialization},
		{"algorithm twice", twice("X-Amz-Checksum-Algorithm", "SHA256"), "", 400, serialization},
		{"progress no number", twice("X-Amz-Progress", "half"), "", 400, serialization},
		{"negative index", put(snapshot, "-1", secretBlock, "Content-Length: 0"), "", 400, validation},
		{"index past int32", put(snapshot, "2147483648", secretBlock, "Content-Length: 0"), "", 400, serialization},
		{"index past int64", put(snapshot, "99999999999999999999", secretBlock, "Content-Length: 0"), "", 400, serialization},
		{"index no number", put(snapshot, "seven", secretBlock, "Content-Length: 0"), "", 400, serialization},
		{"index with a fraction", put(snapshot, "1.0", secretBlock, "Content-Length: 0"), "", 400, serialization},
		{"index in hex", put(snapshot, "0x1", secretBlock, "Content-Length: 0"), "", 400, serialization},
		{"maxResults twice", message{method: "GET", target: list + "?maxResults=100&maxResults=200"}, "", 400, serialization},
		{"maxResults no number", message{method: "GET", target: list + "?maxResults=many"}, "", 400, serialization},
		{"token twice", message{method: "GET", target: blocks + "0?blockToken=a&blockToken=b"}, "", 400, serialization},

		{"no JSON", startMessage("nonsense"), "nonsense", 400, serialization},
		{"no object", startMessage("[1]"), "[1]", 400, serialization},
		{"half an object", startMessage(`{"VolumeSize":`), `{"VolumeSize":`, 400, serialization},
		{"bytes after it", startMessage(`{"VolumeSize":1}{}`), `{"VolumeSize":1}{}`, 400, serialization},
		{"member twice", startMessage(`{"VolumeSize":1,"VolumeSize":1}`), `{"VolumeSize":1,"VolumeSize":1}`, 400, serialization},
		{"unknown member twice", startMessage(`{"VolumeSize":1,"x":1,"x":1}`), `{"VolumeSize":1,"x":1,"x":1}`, 400, serialization},
		{"invalid UTF-8", startMessage("{\"VolumeSize\":1,\"Description\":\"\xff\"}"), "{\"VolumeSize\":1,\"Description\":\"\xff\"}", 400, serialization},
		{"size as text", startMessage(`{"VolumeSize":"1"}`), `{"VolumeSize":"1"}`, 400, serialization},
		{"size with a fraction", startMessage(`{"VolumeSize":1.5}`), `{"VolumeSize":1.5}`, 400, serialization},
		{"size past int64", startMessage(`{"VolumeSize":1e400}`), `{"VolumeSize":1e400}`, 400, serialization},
		{"tags as object", startMessage(`{"VolumeSize":1,"Tags":{"k":"v"}}`), `{"VolumeSize":1,"Tags":{"k":"v"}}`, 400, serialization},
		{"other case", startMessage(`{"volumesize":1}`), `{"volumesize":1}`, 400, validation},
		{"null", startMessage(`{"VolumeSize":null}`), `{"VolumeSize":null}`, 400, validation},
		{"deep", startMessage(deepJSON), deepJSON, 400, serialization},

		{"dots", message{method: "GET", target: "/snapshots/../../etc/passwd"}, "", 404, unknown},
		{"dots in the ID", message{method: "GET", target: "/snapshots/../blocks"}, "", 404, unknown},
		{"escaped dots in the ID", message{method: "GET", target: "/snapshots/%2e%2e/blocks"}, "", 404, unknown},
		{"escaped slash in the ID", message{method: "GET", target: "/snapshots/snap-0%2f..%2f/blocks"}, "", 400, validation},
		{"empty ID", message{method: "GET", target: "/snapshots//blocks"}, "", 404, unknown},
		{"slash at the end", message{method: "GET", target: list + "/"}, "", 404, unknown},
		{"long ID", message{method: "GET", target: "/snapshots/snap-" + strings.Repeat("0", 60) + "/blocks"}, "", 400, validation},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := s.wire(t)
			w.send(s.head(t, c.m), []byte(c.body))
			r := w.reply()
			if r.status != c.status || r.code() != c.code {
				t.Errorf("got %v, want %d %s", r, c.status, c.code)
			}
			if r.header.Get("X-Amzn-Requestid") == "" {
				t.Error("the answer has no request id")
			}
			w.usable()
		})
	}
}

// deepJSON is far too deep for a parser that recurses without a bound.
var deepJSON = `{"VolumeSize":1,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}"

// TestBadHTTP sends what is hardly HTTP. Where it can be read at all, the
// connection stays usable; where not, the server may close it. In any case the
// answer is an error of the request's dialect, of the EBS direct APIs if that
// is not known, the log has its one line and nothing of what was sent, and the
// next client is served. Spec: ebs-direct §2.1, §9.4; plain-json, Bodies.
func TestBadHTTP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	long := strings.Repeat("hush", 16<<10) // 64 KiB
	const (
		malformed = "MalformedHttpRequestException"
		tooLarge  = "RequestEntityTooLargeException"
		plain     = "" // an envelope, without X-Amzn-Errortype
	)
	signed := func(headers string) string {
		head := string(s.head(t, message{method: "GET", target: "/snapshots/snap-0123456789abcdef0/blocks"}))
		return strings.TrimSuffix(head, "\r\n") + headers + "\r\n"
	}
	for name, c := range map[string]struct {
		raw    string
		status int
		code   string
		usable bool
	}{
		"garbage":              {"\x16\x03\x01\x02\x00hush\x01\x00\r\n\r\n", 400, malformed, false},
		"no host":              {"GET /hush HTTP/1.1\r\n\r\n", 400, malformed, false},
		"host twice":           {"GET /hush HTTP/1.1\r\nHost: hush\r\nHost: b\r\n\r\n", 400, malformed, false},
		"broken escape":        {"GET /hush%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, malformed, false},
		"negative length":      {"PUT /snapshots/snap-0a/blocks/0 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, malformed, false},
		"two lengths":          {"PUT /snapshots/snap-0a/blocks/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhush", 400, malformed, false},
		"two lengths, a block": {"PUT /snapshots/snap-0a/blocks/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + string(secretBlock), 400, malformed, false},
		"unknown framing":      {"PUT /snapshots/snap-0a/blocks/0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: hush\r\n\r\n", 501, malformed, false},
		"unknown expectation":  {"PUT /snapshots/snap-0a/blocks/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: hush\r\n\r\nhush", 417, malformed, false},
		"header without colon": {"GET /snapshots HTTP/1.1\r\nHost: a\r\nhush\r\n\r\n", 400, malformed, false},
		"HTTP/9":               {"GET /hush HTTP/9.9\r\nHost: a\r\n\r\n", 505, malformed, false},
		"64 KiB header":        {"GET /snapshots HTTP/1.1\r\nHost: a\r\nX-Junk: " + long + "\r\n\r\n", 431, plain, true},
		"64 KiB path":          {"GET /snapshots/" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", 431, plain, true},
		"64 KiB of headers":    {"GET /snapshots HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Amz-Checksum: hush\r\n", 4000) + "\r\n", 431, plain, true},
		"64 KiB authorization": {"GET /snapshots HTTP/1.1\r\nHost: a\r\nAuthorization: AWS4-HMAC-SHA256 " + long + "\r\n\r\n", 431, tooLarge, true},
		"60 KiB authorization": {"GET /snapshots HTTP/1.1\r\nHost: a\r\nAuthorization: AWS4-HMAC-SHA256 " + long[:60<<10] + "\r\n\r\n", 403, "IncompleteSignatureException", true},
		"64 KiB and signed":    {signed("X-Junk: " + long + "\r\n"), 431, tooLarge, true},
		"512 KiB and signed":   {signed("X-Junk: " + strings.Repeat(long, 8) + "\r\n"), 431, tooLarge, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.wire(t)
			w.send([]byte(c.raw))
			r := w.reply()
			if r.status != c.status || r.code() != c.code {
				t.Errorf("got %v, want %d %s", r, c.status, c.code)
			}
			var body struct {
				Message string `json:"message"`
				Error   struct{ Message string }
			}
			if err := json.Unmarshal(r.body, &body); err != nil || body.Message+body.Error.Message == "" || r.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %v of type %s has no message", err, r, r.header.Get("Content-Type"))
			}
			id := r.header.Get("X-Amzn-Requestid")
			if n := strings.Count(s.output(t), "request_id="+id); len(id) != 36 || n != 1 {
				t.Errorf("the log has %d lines for the request id %q", n, id)
			}
			if c.usable {
				w.usable()
			}
			s.wire(t).usable()
		})
	}
	for _, secret := range []string{"hush", secretText, s.secret(t)} {
		if strings.Contains(s.output(t), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// TestForeignTokens presents the tokens of one server to another. Those of
// other snapshots and operations are a matter of the clients' tests.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	one, other := startServer(t), startServer(t)
	complete := func(s *server) (snapshot string, page *ebs.ListSnapshotBlocksOutput) {
		u := uploader{s.ebs(t), s.ec2(t)}
		snapshot, _ = u.upload(t, denseFile(t, 101), nil, "")
		page, err := u.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshot, MaxResults: aws.Int32(100)})
		if err != nil {
			t.Fatal(err)
		}
		return snapshot, page
	}
	_, foreign := complete(one)
	snapshot, _ := complete(other)
	for target, want := range map[string]string{
		"/snapshots/" + snapshot + "/blocks/0?blockToken=" + *foreign.Blocks[0].BlockToken: "INVALID_BLOCK_TOKEN",
		"/snapshots/" + snapshot + "/blocks?pageToken=" + *foreign.NextToken:               "INVALID_PAGE_TOKEN",
	} {
		if r := other.get(t, target); r.status != 400 || r.code() != "ValidationException" || r.reason() != want {
			t.Errorf("got %v, want 400 ValidationException %s", r, want)
		}
	}
}

// denseFile makes a file of n blocks that are not zero.
func denseFile(t *testing.T, n int) string {
	t.Helper()
	path := t.TempDir() + "/dense"
	if err := os.WriteFile(path, bytes.Repeat(secretBlock, n), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLog holds the log to one line for each request, by its id, and to
// silence about everything secret.
func TestLog(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--verbose", "--log-format", "json")
	snapshot := s.startSnapshot(t)
	w := s.wire(t)
	var ids []string
	var secrets []string
	const withKey = `{"VolumeSize":1,"KmsKeyArn":"arn:aws:kms:us-east-1:111122223333:key/hush-key"}`
	const withToken = `{"VolumeSize":0,"ClientToken":"hush client token"}`
	for _, r := range []struct {
		m    message
		body []byte
	}{
		{put(snapshot, "0", secretBlock, "Content-Length: 524288"), secretBlock},
		{put(snapshot, "5000", secretBlock, "Content-Length: 524288"), secretBlock},
		{put(snapshot, "0", []byte("other bytes"), "Content-Length: 524288"), secretBlock},
		{put("snap-0123456789abcdef0", "0", secretBlock, "Content-Length: 524288"), secretBlock},
		{put(snapshot, "0", secretBlock, "Content-Length: 524288", "X-Amz-Security-Token: hush-token"), secretBlock},
		{message{method: "GET", target: "/snapshots/" + snapshot + "/blocks?pageToken=hushpagetoken"}, nil},
		{message{method: "GET", target: "/snapshots/" + snapshot + "/blocks/0?blockToken=hushblocktoken"}, nil},
		{message{method: "GET", target: "/snapshots/" + snapshot + "/blocks/0?blockToken=hush*token"}, nil},
		{message{method: "GET", target: "/nothing?hush=hush"}, nil},
		{startMessage(withKey), []byte(withKey)},
		{startMessage(withToken), []byte(withToken)},
	} {
		head := s.head(t, r.m)
		_, signature, _ := strings.Cut(string(head), "Signature=")
		secrets = append(secrets, signature[:64])
		w.send(head, r.body)
		ids = append(ids, w.reply().header.Get("X-Amzn-Requestid"))
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}

	lines := make(map[string]int)
	for line := range strings.Lines(s.output(t)) {
		var entry struct {
			RequestID string `json:"request_id"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.RequestID != "" {
			lines[entry.RequestID]++
		}
	}
	for i, id := range ids {
		if lines[id] != 1 {
			t.Errorf("request %d, id %q, has %d lines in the log", i, id, lines[id])
		}
	}
	secrets = append(secrets, secretText, s.secret(t), "hush")
	for _, secret := range secrets {
		if strings.Contains(s.output(t), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}
