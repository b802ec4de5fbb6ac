package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// TestHostileClients lets clients of every bad kind loose on a server, more of
// them than it has connections for, while good ones write, read and compare. In
// the end nothing must be left of it: no wrong byte, no goroutine, no file, no
// memory. SHALE_HOSTILE is how long it takes, ten seconds without it.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	length := 10 * time.Second
	if text := os.Getenv("SHALE_HOSTILE"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, "--max-connections", "200")
	h := newHostile(t, s)
	if err := h.good(t.Context(), 0); err != nil { // once, so that caches and pools are there
		t.Fatal(err)
	}
	before := s.gauges(t)

	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var clients sync.WaitGroup
	var rounds atomic.Int64
	for i := range 3 {
		clients.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				if err := h.good(t.Context(), i<<32+n); err != nil {
					t.Errorf("a good client: %v", err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	counts := make([]atomic.Int64, len(hostileKinds))
	for range 64 {
		clients.Go(func() {
			for ctx.Err() == nil {
				kind := rand.IntN(len(hostileKinds))
				if err := hostileKinds[kind].run(h, ctx); err != nil {
					t.Errorf("%s: %v", hostileKinds[kind].name, err)
					return
				}
				counts[kind].Add(1)
			}
		})
	}
	clients.Wait()
	var text strings.Builder
	for i := range counts {
		fmt.Fprintf(&text, ", %s %d", hostileKinds[i].name, counts[i].Load())
	}
	t.Logf("%v: good rounds %d%s", length, rounds.Load(), text.String())
	if rounds.Load() == 0 {
		t.Error("no good client got through")
	}
	h.after(t, before)
}

// after checks that nothing is left.
func (h *hostile) after(t *testing.T, before gauges) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(h.s.dir, "segments", "*"))
	if err != nil {
		t.Fatal(err)
	}
	more := 20 + float64(len(segments)) // which are kept open
	var now gauges
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		now = h.s.gauges(t)
		if now.goroutines <= before.goroutines+10 && now.files <= before.files+more {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("goroutines, files: %.0f, %.0f; %.0f, %.0f before", now.goroutines, now.files, before.goroutines, before.files)
			break
		}
	}
	if grown := now.memory - before.memory; grown > 160<<20 {
		t.Errorf("the server has grown by %.0f MiB", grown/(1<<20))
	}
	t.Logf("goroutines %.0f, files %.0f, memory %.0f MiB; before %.0f, %.0f, %.0f MiB",
		now.goroutines, now.files, now.memory/(1<<20), before.goroutines, before.files, before.memory/(1<<20))
	if r := h.s.get(t, "/readyz"); r.status != http.StatusOK {
		t.Errorf("/readyz: %v", r)
	}
	for _, word := range []string{"panic", "level=ERROR", h.secret} {
		if strings.Contains(h.s.output(t), word) {
			t.Errorf("the log has %q", word)
		}
	}
	// Of all that was sent to it, nothing has arrived.
	in := &ebs.CompleteSnapshotInput{SnapshotId: &h.target, ChangedBlocksCount: aws.Int32(0)}
	if _, err := h.ebs.CompleteSnapshot(t.Context(), in); err != nil {
		t.Error(err)
	}
	waiter := ec2.NewSnapshotCompletedWaiter(h.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay = 50 * time.Millisecond })
	if err := waiter.Wait(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{h.target}}, 30*time.Second); err != nil {
		t.Error(err)
	}
}

// gauges are what a server holds.
type gauges struct{ goroutines, files, memory float64 }

func (s *server) gauges(t *testing.T) gauges {
	t.Helper()
	r, err := http.Get("http://" + s.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) float64 {
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
		if m == nil {
			t.Fatalf("no %s in /metrics", name)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	return gauges{value("go_goroutines"), value("process_open_fds"), value("process_resident_memory_bytes")}
}

// A hostile is what bad clients know of a server: its address, and a key that is
// right. It is safe for concurrent use.
type hostile struct {
	s           *server
	ebs         *ebs.Client
	ec2         *ec2.Client
	credentials aws.Credentials
	secret      string
	target      string // a pending snapshot
	kept        string // a completed one
}

func newHostile(t *testing.T, s *server) *hostile {
	t.Helper()
	config := s.config(t)
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config.Retryer = nil // good clients come back, as SDKs do
	config.RetryMaxAttempts = 30
	h := &hostile{
		s: s, ebs: ebs.NewFromConfig(config), ec2: ec2.NewFromConfig(config),
		credentials: credentials, secret: credentials.SecretAccessKey,
	}
	// Nothing is written to the target, for as long as this takes.
	target, err := h.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Timeout: aws.Int32(4320)})
	if err != nil {
		t.Fatal(err)
	}
	h.target = *target.SnapshotId
	if h.kept, _, err = h.make(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	return h
}

// make makes a snapshot of some blocks.
func (h *hostile) make(ctx context.Context, seed int) (id string, content map[int][]byte, err error) {
	started, err := h.ebs.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		return "", nil, err
	}
	content = make(map[int][]byte)
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	for len(content) < 8 {
		b := make([]byte, blockSize)
		for i := 0; i < len(b); i += 8 {
			copy(b[i:], strconv.AppendUint(nil, r.Uint64()%1e8+1e8, 10))
		}
		index := r.IntN(2048)
		content[index] = b
		if err := putBlock(ctx, h.ebs, *started.SnapshotId, index, b); err != nil {
			return "", nil, err
		}
	}
	in := &ebs.CompleteSnapshotInput{SnapshotId: started.SnapshotId, ChangedBlocksCount: aws.Int32(int32(len(content)))}
	if _, err := h.ebs.CompleteSnapshot(ctx, in); err != nil {
		return "", nil, err
	}
	waiter := ec2.NewSnapshotCompletedWaiter(h.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay = 50 * time.Millisecond })
	err = waiter.Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*started.SnapshotId}}, time.Minute)
	return *started.SnapshotId, content, err
}

// good makes a snapshot, reads it back, and deletes it.
func (h *hostile) good(ctx context.Context, seed int) error {
	id, content, err := h.make(ctx, seed)
	if err != nil {
		return err
	}
	var read atomic.Int64
	err = eachBlock(ctx, h.ebs, id, func(index int, b []byte) error {
		if read.Add(1); !bytes.Equal(b, content[index]) {
			return fmt.Errorf("block %d came back changed", index)
		}
		return nil
	})
	if n := int(read.Load()); err == nil && n != len(content) {
		err = fmt.Errorf("%d blocks came back of %d", n, len(content))
	}
	if err != nil {
		return err
	}
	_, err = h.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	return err
}

// A forgery is a request and what is wrong with its signature.
type forgery struct {
	method, path, service, region string
	at                            time.Time
	length                        string // the header Content-Length
}

// head signs f.
func (h *hostile) head(f forgery) ([]byte, error) {
	sum := sha256.Sum256(secretBlock)
	r, err := http.NewRequest(f.method, "http://"+h.s.address+f.path, nil)
	if err != nil {
		return nil, err
	}
	hash := hexHash(nil)
	if f.method == "PUT" {
		hash = "UNSIGNED-PAYLOAD"
		r.Header.Set("X-Amz-Content-Sha256", hash)
		r.Header.Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
		r.Header.Set("X-Amz-Checksum-Algorithm", "SHA256")
		r.Header.Set("X-Amz-Data-Length", "524288")
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), h.credentials, r, hash, f.service, f.region, f.at); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\n", f.method, r.URL.RequestURI(), h.s.address)
	if err := r.Header.Write(&out); err != nil {
		return nil, err
	}
	if f.length != "" {
		out.WriteString(f.length + "\r\n")
	}
	out.WriteString("\r\n")
	return out.Bytes(), nil
}

// block is a right request to write a block of the target, up to its body.
func (h *hostile) block(length string) ([]byte, error) {
	return h.head(forgery{"PUT", "/snapshots/" + h.target + "/blocks/" + strconv.Itoa(rand.IntN(2048)), "ebs", "us-east-1", time.Now(), length})
}

// dial opens a connection for at most ten seconds. Where there is no room for it,
// it may be closed at any time.
func (h *hostile) dial() (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", h.s.address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn), nil
}

// begin opens a connection and gives the head of a sound write of a block, which
// is not sent yet.
func (h *hostile) begin() (head []byte, c *net.TCPConn, err error) {
	if head, err = h.block("Content-Length: 524288"); err == nil {
		c, err = h.dial()
	}
	return head, c, err
}

// send sends a request. A nil answer means that the connection was closed.
func (h *hostile) send(request []byte) (*http.Response, error) {
	c, err := h.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.Write(request)
	return answer(c), nil
}

func answer(c net.Conn) *http.Response {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	io.Copy(io.Discard, r.Body)
	r.Body.Close()
	return r
}

// refused checks that a request is answered with one of the codes, if at all.
func (h *hostile) refused(request []byte, codes ...string) error {
	r, err := h.send(request)
	if err != nil || r == nil {
		return err
	}
	code, _, _ := strings.Cut(r.Header.Get("X-Amzn-Errortype"), ":")
	for _, want := range codes {
		if code == want && r.StatusCode >= 400 {
			return nil
		}
	}
	return fmt.Errorf("got %s %s, want %v", r.Status, code, codes)
}

// drip sends something bit by bit, for at most five seconds.
func drip(ctx context.Context, c net.Conn, data []byte, size int) {
	for deadline := time.Now().Add(5 * time.Second); len(data) > 0 && ctx.Err() == nil && time.Now().Before(deadline); {
		n := min(size, len(data))
		if _, err := c.Write(data[:n]); err != nil {
			return
		}
		data = data[n:]
		time.Sleep(50 * time.Millisecond)
	}
}

// hostileKinds are what bad clients do. An error is something that the server must
// not do.
var hostileKinds = []struct {
	name string
	run  func(h *hostile, ctx context.Context) error
}{
	{"garbage", func(h *hostile, _ context.Context) error {
		b := make([]byte, rand.IntN(64<<10))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		r, err := h.send(b)
		if r != nil && r.StatusCode < 400 {
			return fmt.Errorf("got %s", r.Status)
		}
		return err
	}},
	{"half a request", func(h *hostile, _ context.Context) error {
		head, c, err := h.begin()
		if err != nil {
			return err
		}
		defer c.Close()
		whole := append(head, secretBlock...)
		c.Write(whole[:rand.IntN(len(whole))])
		if rand.IntN(2) == 0 {
			c.CloseWrite()
			answer(c)
		}
		return nil
	}},
	{"header flood", func(h *hostile, _ context.Context) error {
		var b bytes.Buffer
		b.WriteString("GET /snapshots HTTP/1.1\r\nHost: a\r\n")
		for range rand.IntN(60_000) {
			b.WriteString("a:b\r\n")
		}
		r, err := h.send(append(b.Bytes(), "\r\n"...))
		if r != nil && r.StatusCode < 400 {
			return fmt.Errorf("got %s", r.Status)
		}
		return err
	}},
	{"slow header", func(h *hostile, ctx context.Context) error {
		head, c, err := h.begin()
		if err != nil {
			return err
		}
		defer c.Close()
		drip(ctx, c, head, 1)
		return nil
	}},
	{"slow body", func(h *hostile, ctx context.Context) error {
		head, c, err := h.begin()
		if err != nil {
			return err
		}
		defer c.Close()
		burst := rand.IntN(100 << 10)
		c.Write(append(head, secretBlock[:burst]...))
		drip(ctx, c, secretBlock[burst:], 1<<10)
		return nil
	}},
	{"replay", func(h *hostile, _ context.Context) error {
		head, err := h.head(forgery{"GET", "/snapshots/" + h.target + "/blocks", "ebs", "us-east-1", time.Now().Add(-16 * time.Minute), ""})
		if err != nil {
			return err
		}
		return h.refused(head, "InvalidSignatureException")
	}},
	{"truncated signature", func(h *hostile, _ context.Context) error {
		head, err := h.block("Content-Length: 0")
		if err != nil {
			return err
		}
		before, after, _ := bytes.Cut(head, []byte("Signature="))
		n := rand.IntN(64)
		return h.refused(bytes.Join([][]byte{before, []byte("Signature="), after[:n], after[64:]}, nil),
			"InvalidSignatureException", "IncompleteSignatureException")
	}},
	{"altered presigned URL", func(h *hostile, ctx context.Context) error {
		r, err := http.NewRequest("GET", "http://"+h.s.address+"/snapshots/"+h.target+"/blocks?X-Amz-Expires=300", nil)
		if err != nil {
			return err
		}
		signed, _, err := v4.NewSigner().PresignHTTP(ctx, h.credentials, r, hexHash(nil), "ebs", "us-east-1", time.Now())
		if err != nil {
			return err
		}
		u, err := url.Parse(signed)
		if err != nil {
			return err
		}
		query := []byte(u.RawQuery)
		if at := rand.IntN(len(query)); query[at] == '0' {
			query[at] = '1'
		} else {
			query[at] = '0'
		}
		answered, err := h.send(fmt.Appendf(nil, "GET %s?%s HTTP/1.1\r\nHost: %s\r\n\r\n", u.Path, query, h.s.address))
		if answered != nil && answered.StatusCode != 403 && answered.StatusCode != 400 && answered.StatusCode != 401 {
			return fmt.Errorf("%s for %s", answered.Status, query)
		}
		return err
	}},
	{"wrong scope", func(h *hostile, _ context.Context) error {
		f := forgery{"GET", "/snapshots/" + h.target + "/blocks", "ebs", "us-east-1", time.Now(), ""}
		if rand.IntN(2) == 0 {
			f.service = "s3"
		} else {
			f.region = "eu-west-7"
		}
		head, err := h.head(f)
		if err != nil {
			return err
		}
		return h.refused(head, "InvalidSignatureException")
	}},
	{"bad length", func(h *hostile, _ context.Context) error {
		lengths := []string{"-1", "99999999999999999999", "9223372036854775807", "524289", "0x10", "1\r\nContent-Length: 2", ""}
		head, err := h.block("Content-Length: " + lengths[rand.IntN(len(lengths))])
		if err != nil {
			return err
		}
		r, err := h.send(append(head, secretBlock...))
		if r != nil && r.StatusCode < 400 {
			return fmt.Errorf("got %s", r.Status)
		}
		return err
	}},
	{"chunked garbage", func(h *hostile, _ context.Context) error {
		head, err := h.block("Transfer-Encoding: chunked")
		if err != nil {
			return err
		}
		bodies := []string{"zz\r\n", "ffffffffffffffff\r\nx", "-1\r\n", "5\r\nab\r\n0\r\n\r\n", "1;" + strings.Repeat("x", 8<<10) + "\r\na\r\n", "0\r\nTrailer: x\r\n\r\n"}
		r, err := h.send(append(head, bodies[rand.IntN(len(bodies))]...))
		if r != nil && r.StatusCode < 400 {
			return fmt.Errorf("got %s", r.Status)
		}
		return err
	}},
	{"pipelining", func(h *hostile, _ context.Context) error {
		c, err := h.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.Write(bytes.Repeat([]byte("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), 20))
		in := bufio.NewReader(c)
		for range rand.IntN(21) {
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				return nil // there was no room
			}
			if r.StatusCode != http.StatusOK {
				return fmt.Errorf("got %s", r.Status)
			}
			io.Copy(io.Discard, r.Body)
		}
		return nil
	}},
	{"open and close", func(h *hostile, _ context.Context) error {
		for range 30 {
			c, err := h.dial()
			if err != nil {
				return err
			}
			c.SetLinger(rand.IntN(2) - 1) // with a reset, or without
			defer c.Close()
		}
		return nil
	}},
	{"idle", func(h *hostile, ctx context.Context) error {
		c, err := h.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		answer(c)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.IntN(1000)) * time.Millisecond):
		}
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		if r := answer(c); r != nil && r.StatusCode != http.StatusOK {
			return fmt.Errorf("got %s", r.Status)
		}
		return nil
	}},
	{"reads nothing", func(h *hostile, ctx context.Context) error {
		head, err := h.head(forgery{"GET", "/snapshots/" + h.target + "/blocks", "ebs", "us-east-1", time.Now(), ""})
		if err != nil {
			return err
		}
		c, err := h.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		for range 50 {
			c.Write(head)
		}
		drip(ctx, c, head, 16)
		return nil
	}},
	{"takes no image", func(h *hostile, ctx context.Context) error {
		head, err := h.head(forgery{"GET", "/snapshots/" + h.kept + "/image", "ebs", "us-east-1", time.Now(), ""})
		if err != nil {
			return err
		}
		c, err := h.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetReadBuffer(4 << 10)
		c.Write(head)
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
		return nil
	}},
}
