package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/rest"
)

const ask = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"

var busy = fmt.Sprintf("rest.Kind %d", rest.Busy)

// served checks that c is answered.
func (c *client) served(what string) {
	c.t.Helper()
	c.send(ask)
	if status, _, _ := c.answer(); status != http.StatusOK {
		c.t.Errorf("%s: status %d", what, status)
	}
}

// closed checks that the server has closed c.
func (c *client) closed(what string) {
	c.t.Helper()
	if n, err := c.r.Read(make([]byte, 1)); n > 0 || err == nil {
		c.t.Errorf("%s is still open", what)
	}
}

// await waits for what comes true by itself.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// One connection too many takes the place of the one that has been idle for the
// longest, whether it waits in net/http or in the lounge. It never takes that of one
// with a request in progress.
func TestMaxConnections(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.MaxConnections, o.Anonymous = 3, testAccount })
	begun, release := make(chan struct{}), make(chan struct{})
	f.plain.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
		begun <- struct{}{}
		<-release
		_, err := io.WriteString(w, "done")
		return err
	}
	addr := f.listen(t)
	first, second := dial(t, addr), dial(t, addr)
	second.served("the second")
	await(t, "the second rests", func() bool { return f.server.Resting() == 2 })
	first.served("the first") // and is younger now
	await(t, "both wait in the lounge", func() bool { return f.server.Lounging() == 2 })
	third, fourth := dial(t, addr), dial(t, addr)
	fourth.served("the fourth")
	second.closed("the longest idle connection")
	first.served("the first, from the lounge")
	third.served("the third")

	working := []*client{first, third, fourth}
	for _, c := range working {
		c.send("GET /snapshots HTTP/1.1\r\nHost: h\r\n\r\n")
		<-begun
	}
	dial(t, addr).closed("a connection beside three that are busy")
	close(release)
	for _, c := range working {
		if status, body, _ := c.answer(); status != http.StatusOK || body != "done" {
			t.Errorf("got %d %q", status, body)
		}
	}
	dial(t, addr).served("one that comes later")
}

// A client that sends a body of which nobody needs anything, byte by byte, holds
// neither a place among the connections nor the handler for long.
func TestUselessBodyRests(t *testing.T) {
	for name, head := range map[string]string{
		"refused": putHead("Content-Length: 1000\r\n"),
		"probe":   "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, func(o *gateway.Options) { o.MaxConnections = 2 })
			addr := f.listen(t)
			slow := []*client{dial(t, addr), dial(t, addr)}
			for _, c := range slow {
				c.send(head)
				go func() {
					for {
						if _, err := io.WriteString(c, "x"); err != nil {
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				}()
			}
			time.Sleep(500 * time.Millisecond) // until both are being drained
			good := dial(t, addr)
			good.served("a connection beside two that send what nobody needs")
			served, answered := time.Now(), 0
			for _, c := range slow { // one of which had to go
				if _, err := c.r.Peek(1); err == nil {
					answered++
				}
			}
			if took := time.Since(served); answered != 1 || took > 10*time.Second {
				t.Errorf("%d of two were answered, within another %v", answered, took)
			}
		})
	}
}

// A connection comes back from the lounge as it was, any number of times.
func TestLounge(t *testing.T) {
	f := newFixture(t, nil)
	addr := f.listen(t)
	c := dial(t, addr)
	for range 3 {
		c.served("a connection that was idle")
		time.Sleep(300 * time.Millisecond)
	}
	c.send("hush\r\n\r\n")
	if status, body := f.refusal(t, c); status != http.StatusBadRequest || body != malformed {
		t.Errorf("got %d %q", status, body)
	}
	gone := dial(t, addr)
	gone.served("a connection that is closed in the lounge")
	time.Sleep(300 * time.Millisecond)
	gone.Close()
}

// Nothing of a request is lost, and no body is taken for one, where a client begins
// it ahead of the answer before, or pauses in the middle of its first bytes. The
// connection goes to the lounge all the same once there is nothing left of it.
func TestLoungeWithRequestInHand(t *testing.T) {
	const line = "PUT /snapshots/a/tags HTTP/1.1\r\n"
	head := line + fmt.Sprintf("Host: h\r\nContent-Length: %d\r\n\r\n", len(ask))
	put := head + ask
	for _, cut := range []int{1, 3, len(line), len(head), len(head) + 10, len(put)} {
		for when, ahead := range map[string]bool{"ahead": true, "after": false} {
			t.Run(fmt.Sprintf("%d %s", cut, when), func(t *testing.T) {
				t.Parallel()
				f := anonymous(t, 0)
				f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						return err
					}
					select {
					case <-r.Context().Done():
						return r.Context().Err()
					case <-time.After(300 * time.Millisecond):
					}
					_, err = fmt.Fprintf(w, "%s %s", r.Method, body)
					return err
				}
				c := dial(t, f.listen(t))
				first, second := ask, put[:cut]
				if ahead {
					first, second = ask+put[:cut], ""
				}
				c.send(first)
				if status, _, _ := c.answer(); status != http.StatusOK {
					t.Errorf("the request before: status %d", status)
				}
				c.send(second)
				time.Sleep(300 * time.Millisecond)
				c.send(put[cut:])
				if status, body, keep := c.answer(); status != http.StatusOK || body != "PUT "+ask || !keep {
					t.Errorf("got %d %q, keep=%v", status, body, keep)
				}
				await(t, "the connection waits in the lounge", func() bool { return f.server.Lounging() == 1 })
				c.served("the connection, from the lounge")
			})
		}
	}
}

// Headers that are longer than usual, and do not end, are a few. All others are
// served beside them, and longer ones once there is room again.
func TestLongHeaders(t *testing.T) {
	f := newFixture(t, nil)
	addr := f.listen(t)
	long := "GET /healthz HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("a: b\r\n", 200)
	var floods []*client
	flood := func() {
		c := dial(t, addr)
		c.send(long)
		floods = append(floods, c)
	}
	for range 80 { // some of which find no room
		flood()
	}
	one := dial(t, addr)
	deadline := time.Now().Add(5 * time.Second)
	for { // until the server has read them all
		one.send(long)
		one.send("\r\n")
		status, body, _ := one.answer()
		if status == http.StatusBadRequest && strings.Contains(body, busy) {
			break
		}
		if status != http.StatusOK || time.Now().After(deadline) {
			t.Fatalf("got %d %q", status, body)
		}
		// The last of them may have been refused for the place that this had.
		flood()
		time.Sleep(10 * time.Millisecond)
	}
	dial(t, addr).served("a usual header")
	body := "POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n" + strings.Repeat("\n", 3000)
	c := dial(t, addr)
	c.send(body)
	if status, _, _ := c.answer(); status != http.StatusBadRequest { // by the probe, for its method
		t.Errorf("a body of empty lines: %d", status)
	}
	served := 0
	for _, c := range floods {
		io.WriteString(c, "\r\n") // it may have been refused and closed
		status, body, _ := c.answer()
		if status == http.StatusOK {
			served++
		} else if !strings.Contains(body, busy) {
			t.Errorf("a long header: %d %q", status, body)
		}
	}
	if served < 60 {
		t.Errorf("%d long headers had room, want 64", served)
	}
	c = dial(t, addr)
	c.send(long + "\r\n")
	if status, _, _ := c.answer(); status != http.StatusOK {
		t.Errorf("a long header later: %d", status)
	}
}

// Bodies that are longer than usual, and do not come, are a few; one that comes
// takes the place of one that pauses, which is told to come back.
func TestLongBodies(t *testing.T) {
	f := anonymous(t, 15*time.Second)
	addr := f.listen(t)
	head := "POST /snapshots HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n"
	var slow []*client
	for range 32 { // as many as there may be of clients that are not known
		c := dial(t, addr)
		c.send(head + strings.Repeat("x", 10_000))
		slow = append(slow, c)
	}
	time.Sleep(time.Second)
	began := time.Now()
	for range 3 {
		c := dial(t, addr)
		c.send(head + strings.Repeat("x", 20_000))
		if status, body, _ := c.answer(); status != http.StatusOK {
			t.Errorf("got %d %q", status, body)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("three bodies took %v", took)
	}
	told := 0
	for _, c := range slow {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if b, err := c.r.Peek(12); err == nil && string(b) == "HTTP/1.1 400" {
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			c.CloseWrite() // the rest is waited for
			_, body, _ := c.answer()
			if !strings.Contains(body, busy) {
				t.Errorf("got %q", body)
			}
			told++
		}
	}
	if told < 3 || told > 20 {
		t.Errorf("%d of 32 were told to come back", told)
	}
}

// A connection is known once a body has passed on it in good time.
func TestKnownConnections(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.Anonymous = testAccount })
	f.plain.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		client := rest.Client(w)
		if from := client.Address(); !from.IsLoopback() {
			t.Errorf("the client is at %v", from)
		}
		known := client.Known()
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return err
		}
		_, err := fmt.Fprint(w, known)
		return err
	}
	addr := f.listen(t)
	ask := func(c *client, length int, pause time.Duration) string {
		c.send(fmt.Sprintf("PUT /snapshots/snap-0123456789abcdef0/blocks/0 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", length))
		time.Sleep(pause)
		c.send(strings.Repeat("x", length))
		status, body, _ := c.answer()
		if status != http.StatusOK {
			t.Errorf("got %d %q", status, body)
		}
		return body
	}
	c := dial(t, addr)
	for i, want := range []string{"false", "false", "true", "true"} {
		length := 100 // says nothing
		if i > 0 {
			length = block.Size
		}
		if got := ask(c, length, 0); got != want {
			t.Errorf("request %d: known is %s", i+1, got)
		}
	}
	refused := dial(t, addr)
	refused.send(fmt.Sprintf("PUT /nowhere HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 x\r\nContent-Length: %d\r\n\r\n", block.Size))
	refused.send(strings.Repeat("x", block.Size))
	if status, _, _ := refused.answer(); status == http.StatusOK {
		t.Errorf("got %d", status)
	}
	if got := ask(refused, 100, 0); got != "false" {
		t.Error("a connection is known for what was refused")
	}
	slow := dial(t, addr)
	ask(slow, block.Size/2, 5*time.Second)
	if got := ask(slow, 100, 0); got != "false" {
		t.Error("a connection with a slow body is known")
	}
}
