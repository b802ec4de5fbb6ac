package gateway_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// send sends r on a connection of its own.
func send(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// A client speaks HTTP byte by byte.
type client struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("send %.40q…: %v", s, err)
	}
}

// answer reads one answer, and says whether the server keeps the connection.
func (c *client) answer() (status int, body string, keep bool) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b), !resp.Close
}

// anonymous is a fixture that everybody may use.
func anonymous(t testing.TB, stall time.Duration) *fixture {
	return newFixture(t, func(o *gateway.Options) { o.Anonymous, o.Stall = testAccount, stall })
}

func putHead(headers string) string {
	return "PUT " + putTarget + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n"
}

// refuseUnread has the door refuse a put without looking at its body.
func refuseUnread(f *fixture) {
	f.plain.serve = func(http.ResponseWriter, *http.Request, *block.Digest) error {
		return &snapshot.Error{Code: snapshot.NotFound}
	}
}

var wantNotFound = fmt.Sprintf("plain refused: snapshot.Code %d", snapshot.NotFound)

// A client that sends its whole block before it looks for an answer gets the
// refusal, and can go on with the same connection.
func TestRefusalReachesSlowSender(t *testing.T) {
	for name, framing := range map[string]struct{ header, before, after string }{
		"length":  {fmt.Sprintf("Content-Length: %d\r\n", block.Size), "", ""},
		"chunked": {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n", block.Size), "\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := anonymous(t, 0)
			refuseUnread(f)
			c := dial(t, f.listen(t))
			for range 3 {
				c.send(putHead(framing.header))
				c.send(framing.before)
				for range 16 {
					time.Sleep(time.Millisecond) // a slow network, not a wait for anything
					c.send(strings.Repeat("x", block.Size/16))
				}
				c.send(framing.after)
				status, body, keep := c.answer()
				if status != http.StatusBadRequest || body != wantNotFound || !keep {
					t.Fatalf("got %d %q, keep=%v", status, body, keep)
				}
			}
		})
	}
}

// The same when it is the signature that is refused.
func TestRefusedSignatureReachesSender(t *testing.T) {
	f := newFixture(t, nil)
	r, err := http.NewRequest("PUT", "http://"+f.listen(t)+putTarget, bytes.NewReader(make([]byte, block.Size)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 nonsense")
	if _, body := send(t, r); body != refused("ebs", sigv4.Malformed) {
		t.Errorf("got %q", body)
	}
}

// More than a block is not waited for.
func TestRefusalOfEndlessBody(t *testing.T) {
	f := anonymous(t, 0)
	refuseUnread(f)
	c := dial(t, f.listen(t))
	c.send(putHead("Content-Length: 1000000000\r\n"))
	c.send(strings.Repeat("x", 2*block.Size))
	if status, body, keep := c.answer(); status != http.StatusBadRequest || body != wantNotFound || keep {
		t.Errorf("got %d %q, keep=%v", status, body, keep)
	}
}

// A client that stops in the middle does not hold up its refusal for ever.
func TestRefusalOfStalledBody(t *testing.T) {
	f := anonymous(t, 50*time.Millisecond)
	refuseUnread(f)
	c := dial(t, f.listen(t))
	c.send(putHead("Content-Length: 1000\r\n") + "x")
	if status, body, keep := c.answer(); status != http.StatusBadRequest || body != wantNotFound || keep {
		t.Errorf("got %d %q, keep=%v", status, body, keep)
	}
}

// Nor does it hold its connection for ever, once it is refused, whatever it was
// that it did not send.
func TestStalledConnectionEnds(t *testing.T) {
	for name, head := range map[string]string{
		"length":           putHead("Content-Length: 1000\r\n") + "x",
		"block":            putHead(fmt.Sprintf("Content-Length: %d\r\n", block.Size)) + "x",
		"chunked":          putHead("Transfer-Encoding: chunked\r\n") + "5\r\nx",
		"bad chunk":        putHead("Transfer-Encoding: chunked\r\n") + "nonsense\r\n",
		"100-continue":     putHead("Content-Length: 1000\r\nExpect: 100-continue\r\n"),
		"chunks, 100":      putHead("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"),
		"more than enough": putHead("Content-Length: 1000000\r\n") + strings.Repeat("x", 700<<10),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := anonymous(t, 50*time.Millisecond)
			refuseUnread(f)
			c := dial(t, f.listen(t))
			c.send(head)
			if status, body, keep := c.answer(); status != http.StatusBadRequest || body != wantNotFound || keep {
				t.Errorf("got %d %q, keep=%v", status, body, keep)
			}
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := c.r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection goes on: read %d bytes, %v", n, err)
			}
		})
	}
}

// A client that pauses in the middle of its block has its answer soon. If it
// then sends the rest before it looks, the answer is there.
func TestRefusalOfPausedBody(t *testing.T) {
	for name, framing := range map[string]struct{ header, before string }{
		"length":  {fmt.Sprintf("Content-Length: %d\r\n", block.Size), ""},
		"chunked": {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n", block.Size)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := anonymous(t, 0)
			refuseUnread(f)
			c := dial(t, f.listen(t))
			began := time.Now()
			c.send(putHead(framing.header) + framing.before + strings.Repeat("x", block.Size/16))
			if _, err := c.r.Peek(1); err != nil {
				t.Fatalf("no answer: %v", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the answer took %v", took)
			}
			for range 15 {
				c.send(strings.Repeat("x", block.Size/16))
				time.Sleep(50 * time.Millisecond) // longer together than net/http keeps a connection that it is done with
			}
			c.CloseWrite()
			if status, body, keep := c.answer(); status != http.StatusBadRequest || body != wantNotFound || keep {
				t.Errorf("got %d %q, keep=%v", status, body, keep)
			}
		})
	}
}

// A client that waits for 100 Continue gets the refusal instead, at once, and
// is not asked for its body.
func TestExpectContinueRefused(t *testing.T) {
	f := anonymous(t, 0)
	refuseUnread(f)
	c := dial(t, f.listen(t))
	c.send(putHead(fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n", block.Size)))
	if status, body, keep := c.answer(); status != http.StatusBadRequest || body != wantNotFound || keep {
		t.Errorf("got %d %q, keep=%v", status, body, keep)
	}
}

func TestExpectContinueAccepted(t *testing.T) {
	f := anonymous(t, 0)
	c := dial(t, f.listen(t))
	for range 2 {
		c.send(putHead("Content-Length: 5\r\nExpect: 100-continue\r\n"))
		if status, _, _ := c.answer(); status != http.StatusContinue {
			t.Fatalf("got %d, want 100", status)
		}
		c.send("hello")
		if status, body, keep := c.answer(); status != http.StatusOK || body != "plain served" || !keep {
			t.Errorf("got %d %q, keep=%v", status, body, keep)
		}
	}
}

// A stalled body ends in an error of Read, and the answer still arrives.
func TestStalledBody(t *testing.T) {
	f := anonymous(t, 50*time.Millisecond)
	var got error
	f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		_, got = io.Copy(io.Discard, r.Body)
		return &snapshot.Error{Code: snapshot.BodyIncomplete, Err: got}
	}
	c := dial(t, f.listen(t))
	c.send(putHead("Content-Length: 100\r\n") + "not all")
	status, body, keep := c.answer()
	if want := fmt.Sprintf("plain refused: snapshot.Code %d", snapshot.BodyIncomplete); status != 400 || body != want || keep {
		t.Errorf("got %d %q, keep=%v", status, body, keep)
	}
	if !errors.Is(got, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", got)
	}
}

// A sender that lets a byte drop now and then is given up.
func TestTrickledBody(t *testing.T) {
	const stall = 100 * time.Millisecond
	f := anonymous(t, stall)
	got := make(chan error, 1)
	f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
		return err
	}
	c := dial(t, f.listen(t))
	c.send(putHead("Content-Length: 1000\r\n"))
	for range 1000 {
		time.Sleep(stall / 4)
		c.Write([]byte("x")) // fails once it has been given up
		select {
		case err := <-got:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read: got %v, want that the deadline has passed", err)
			}
			return
		default:
		}
	}
	t.Error("the whole body was waited for")
}

// What counts is that it comes, not how long the whole takes; and when
// it is there, the answer may take longer than the next byte might have.
func TestSlowBodyAndSlowAnswer(t *testing.T) {
	const stall = 500 * time.Millisecond
	f := anonymous(t, stall)
	cancelled := false
	f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return err
		}
		select {
		case <-r.Context().Done():
			cancelled = true
		case <-time.After(2 * stall):
		}
		_, err := io.WriteString(w, "done")
		return err
	}
	c := dial(t, f.listen(t))
	for range 2 {
		c.send(putHead("Content-Length: 24576\r\n"))
		for range 6 {
			time.Sleep(stall / 4)
			c.send(strings.Repeat("x", 4096))
		}
		if status, body, keep := c.answer(); status != 200 || body != "done" || !keep || cancelled {
			t.Fatalf("got %d %q, keep=%v, cancelled=%v", status, body, keep, cancelled)
		}
	}
}

// A body that nobody reads, on a request that has no use for one, does not
// keep its handler waiting.
func TestUnreadBody(t *testing.T) {
	f := anonymous(t, 50*time.Millisecond)
	f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		_, err := io.WriteString(w, "done")
		return err
	}
	c := dial(t, f.listen(t))
	c.send("GET /snapshots HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nall of it!")
	if status, body, keep := c.answer(); status != 200 || body != "done" || !keep {
		t.Errorf("got %d %q, keep=%v", status, body, keep)
	}
	c.send("GET /snapshots HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
	if status, body, keep := c.answer(); status != 200 || body != "done" || keep {
		t.Errorf("got %d %q, keep=%v", status, body, keep)
	}
}
