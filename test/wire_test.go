package test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A wire is a connection on which a test says exactly what it wants to.
type wire struct {
	t    *testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

// wireTimeout is longer than the server waits for a body that does not come.
const wireTimeout = time.Minute

func (s *server) wire(t *testing.T) *wire {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(wireTimeout)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: c.(*net.TCPConn), in: bufio.NewReader(c)}
}

// send writes the parts. The server may have refused and closed by then, which
// shows when the answer is read.
func (w *wire) send(parts ...[]byte) {
	for _, p := range parts {
		if _, err := w.conn.Write(p); err != nil {
			return
		}
	}
}

// A reply is an answer with its body read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// code is the error code, as an SDK finds it.
func (r reply) code() string {
	code, _, _ := strings.Cut(r.header.Get("X-Amzn-Errortype"), ":")
	return code
}

// reason is the member Reason of an error.
func (r reply) reason() string {
	var v struct{ Reason string }
	json.Unmarshal(r.body, &v) // then there is none
	return v.Reason
}

func (r reply) String() string {
	return fmt.Sprintf("%d %s %.300q", r.status, r.code(), r.body)
}

// reply reads the next answer.
func (w *wire) reply() reply {
	w.t.Helper()
	r, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatalf("half an answer: %v", err)
	}
	return reply{r.StatusCode, r.Header, body}
}

// usable checks that the connection takes another request.
func (w *wire) usable() {
	w.t.Helper()
	w.send([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	if r := w.reply(); r.status != http.StatusOK {
		w.t.Errorf("the next request on the connection: %v", r)
	}
}

// A message is a request to be signed and written as it is.
type message struct {
	method, target string
	service        string // ebs if empty
	header         http.Header
	payloadHash    string   // of the empty body if empty
	lines          []string // further headers, not signed
}

// head signs m with the server's key and returns all of it but the body.
func (s *server) head(t *testing.T, m message) []byte {
	t.Helper()
	path, query, _ := strings.Cut(m.target, "?")
	r := &http.Request{
		Method: m.method, Host: s.address, Header: m.header.Clone(),
		URL: &url.URL{Scheme: "http", Host: s.address, Opaque: "//" + s.address + path, RawQuery: query},
	}
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	if m.payloadHash == "" {
		m.payloadHash = hexHash(nil)
	}
	if m.service == "" {
		m.service = "ebs"
	}
	config := s.config(t)
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, m.payloadHash, m.service, config.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\n", m.method, m.target, s.address)
	if err := r.Header.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range m.lines {
		out.WriteString(line + "\r\n")
	}
	out.WriteString("\r\n")
	return out.Bytes()
}

// get sends a signed request without a body on a connection of its own.
func (s *server) get(t *testing.T, target string) reply {
	t.Helper()
	w := s.wire(t)
	w.send(s.head(t, message{method: "GET", target: target}))
	return w.reply()
}

// put is a message that writes data to a block; the lines say how the body
// comes.
func put(snapshot, index string, data []byte, lines ...string) message {
	sum := sha256.Sum256(data)
	return message{
		method: "PUT", target: "/snapshots/" + snapshot + "/blocks/" + index, payloadHash: "UNSIGNED-PAYLOAD",
		header: http.Header{
			"X-Amz-Checksum":           {base64.StdEncoding.EncodeToString(sum[:])},
			"X-Amz-Checksum-Algorithm": {"SHA256"},
			"X-Amz-Data-Length":        {"524288"},
			"X-Amz-Content-Sha256":     {"UNSIGNED-PAYLOAD"},
		},
		lines: lines,
	}
}

// start is a StartSnapshot with the given body.
func startMessage(body string) message {
	return message{
		method: "POST", target: "/snapshots", payloadHash: hexHash([]byte(body)),
		header: http.Header{"Content-Type": {"application/json"}},
		lines:  []string{fmt.Sprintf("Content-Length: %d", len(body))},
	}
}

// startSnapshot makes a pending snapshot of 1 GiB.
func (s *server) startSnapshot(t *testing.T) string {
	t.Helper()
	const body = `{"VolumeSize":1}`
	w := s.wire(t)
	w.send(s.head(t, startMessage(body)), []byte(body))
	r := w.reply()
	var got struct{ SnapshotId string }
	if err := json.Unmarshal(r.body, &got); err != nil || r.status != http.StatusCreated {
		t.Fatalf("StartSnapshot: %v", r)
	}
	return got.SnapshotId
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// chunk is b as one chunk of a chunked body.
func chunk(b []byte) []byte {
	return fmt.Appendf(nil, "%x\r\n%s\r\n", len(b), b)
}

var (
	chunked   = "Transfer-Encoding: chunked"
	lastChunk = []byte("0\r\n\r\n")
)
