package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"shale/internal/block"
	"shale/internal/rest"
)

// refusal reads one answer to a request that never was one, checks what all of
// them have in common, and returns its status and body.
// Spec: ebs-direct §2.1, §9.4.
func (f *fixture) refusal(t *testing.T, c *client) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.r.Read(make([]byte, 1)); err != io.EOF || !resp.Close {
		t.Errorf("the connection goes on: read %d bytes, %v, Connection: close is %v", n, err, resp.Close)
	}
	if resp.ContentLength != int64(len(b)) {
		t.Errorf("Content-Length %d of %d bytes", resp.ContentLength, len(b))
	}
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
		t.Errorf("Date: %v", err)
	}
	id := resp.Header.Get("X-Amzn-Requestid")
	line := fmt.Sprintf("level=INFO msg=request op=unknown status=%d bytes_in=0 bytes_out=%d ", resp.StatusCode, len(b))
	found := 0
	for l := range strings.Lines(f.log.String()) {
		if strings.Contains(l, "request_id="+id) {
			found++
			if !strings.Contains(l, line) {
				t.Errorf("the log has %q, want %q in it", l, line)
			}
		}
	}
	if len(id) != 36 || found != 1 {
		t.Errorf("the request id %q has %d lines in the log", id, found)
	}
	return resp.StatusCode, string(b)
}

var malformed = fmt.Sprintf("ebs refused: rest.Kind %d", rest.Malformed)

// What net/http refuses by itself is refused as a door would, first on a
// connection, after another request, and together with one.
func TestUnreadRequest(t *testing.T) {
	const good = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, tt := range []struct {
		name, raw string
		status    int
		says      string // in the log; tells that net/http's words are still known
	}{
		{"garbage", "\x16\x03\x01hush\x00\x01\x00\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"no host", "GET /hush HTTP/1.1\r\n\r\n", 400, "Host is missing"},
		{"two hosts", "GET /hush HTTP/1.1\r\nHost: hush\r\nHost: b\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"malformed host", "GET / HTTP/1.1\r\nHost: h ush\r\n\r\n", 400, "Host is malformed"},
		{"broken escape", "GET /hush%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"no request line", "hush\r\nHost: h\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"header without colon", "GET / HTTP/1.1\r\nHost: h\r\nhush\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"header name", "GET / HTTP/1.1\r\nHost: h\r\nhu\x01sh: a\r\n\r\n", 400, "Content-Length are each given"},
		{"space after a name", "GET / HTTP/1.1\r\nHost: h\r\nhush : a\r\n\r\n", 400, "space in it"},
		{"header value", "GET / HTTP/1.1\r\nHost: h\r\nA: hu\x01sh\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"negative length", "PUT /hush HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"two lengths", "PUT /hush HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhush", 400, "cannot be read as HTTP/1.1"},
		{"length and no number", "PUT /hush HTTP/1.1\r\nHost: h\r\nContent-Length: hush\r\n\r\n", 400, "cannot be read as HTTP/1.1"},
		{"unknown framing", "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: hush\r\n\r\n", 501, "Transfer-Encoding is not known"},
		{"unknown expectation", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: hush\r\n\r\nhush", 417, "Expect is not known"},
		{"unknown expectation in HTTP/1.0", "PUT / HTTP/1.0\r\nContent-Length: 4\r\nExpect: hush\r\n\r\nhush", 417, "Expect is not known"},
		{"HTTP/9.9", "GET /hush HTTP/9.9\r\nHost: h\r\n\r\n", 505, "send HTTP/1.1"},
	} {
		for _, before := range []string{"", "alone", "together"} {
			t.Run(tt.name+" "+before, func(t *testing.T) {
				f := anonymous(t, 0)
				c := dial(t, f.listen(t))
				switch before {
				case "":
					c.send(tt.raw)
				case "alone":
					c.send(good)
					if status, _, keep := c.answer(); status != 200 || !keep {
						t.Fatalf("the request before: got %d, keep=%v", status, keep)
					}
					c.send(tt.raw)
				case "together":
					c.send(good + tt.raw)
					c.answer()
				}
				c.CloseWrite()
				status, body := f.refusal(t, c)
				if status != tt.status || body != malformed {
					t.Errorf("got %d %q, want %d %q", status, body, tt.status, malformed)
				}
				if !strings.Contains(f.log.String(), tt.says) {
					t.Errorf("the log does not say %q:\n%s", tt.says, &f.log)
				}
				if strings.Contains(f.log.String(), "hush") {
					t.Errorf("the log holds what was sent:\n%s", &f.log)
				}
				want := fmt.Sprintf(`shale_http_requests_total{operation="unknown",status="%d"} 1`, tt.status)
				got := f.do(request("GET", "/metrics", "")).Body.String()
				if !strings.Contains(got, want) || !strings.Contains(got, "shale_http_requests_in_flight 1\n") {
					t.Errorf("the metrics lack %s, or count requests in flight other than their own", want)
				}
			})
		}
	}
}

// A client that sends a block before it looks for an answer finds the refusal
// of a header that could not be read.
func TestUnreadRequestReachesSender(t *testing.T) {
	f := anonymous(t, 0)
	c := dial(t, f.listen(t))
	c.send("PUT " + putTarget + " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")
	for range 16 {
		c.send(strings.Repeat("x", block.Size/16))
	}
	c.CloseWrite()
	if status, body := f.refusal(t, c); status != http.StatusBadRequest || body != malformed {
		t.Errorf("got %d %q", status, body)
	}
}

// What a handler answers passes, whatever it looks like.
func TestHandlersAnswerPasses(t *testing.T) {
	f := anonymous(t, 0)
	const text = "HTTP/1.1 400 Bad Request\r\n\r\n"
	f.plain.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
		for range 2 {
			io.WriteString(w, text)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		_, err := io.Copy(w, io.LimitReader(strings.NewReader(strings.Repeat("x", block.Size)), block.Size))
		return err
	}
	c := dial(t, f.listen(t))
	for range 2 {
		c.send("GET /snapshots HTTP/1.1\r\nHost: h\r\n\r\n")
		want := text + text + strings.Repeat("x", block.Size)
		if status, body, keep := c.answer(); status != 200 || body != want || !keep {
			t.Errorf("got %d, %d bytes, keep=%v", status, len(body), keep)
		}
	}
}

// A header beyond what is served is refused in its own dialect, and the
// connection stays usable; one beyond what is read ends it.
func TestHeaderTooLong(t *testing.T) {
	const kib = 1 << 10
	long := func(n int) string { return "X-Large: " + strings.Repeat("x", n) + "\r\n" }
	kind := fmt.Sprintf("refused: rest.Kind %d", rest.HeaderTooLong)
	f := anonymous(t, 0)
	addr := f.listen(t)
	c := dial(t, addr)
	signature := "Authorization: AWS4-HMAC-SHA256 " + strings.Repeat("x", 70*kib) + "\r\n"
	for _, tt := range []struct{ name, head, want string }{
		{"short", "GET /snapshots HTTP/1.1\r\nHost: h\r\n" + long(60*kib), "plain served"},
		{"plain", "GET /snapshots HTTP/1.1\r\nHost: h\r\n" + long(70*kib), "plain " + kind},
		{"many", "GET /snapshots HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", 12*kib), "plain " + kind},
		{"path", "GET /snapshots/" + strings.Repeat("x", 70*kib) + " HTTP/1.1\r\nHost: h\r\n", "plain " + kind},
		{"ebs", "GET /snapshots HTTP/1.1\r\nHost: h\r\n" + signature, "ebs " + kind},
		{"ec2", "POST / HTTP/1.1\r\nHost: h\r\n" + signature, "ec2 " + kind},
		{"body", putHead(long(70*kib) + "Content-Length: 5\r\n"), "plain " + kind},
		{"largest", "GET /snapshots HTTP/1.1\r\nHost: h\r\n" + long(255*kib), "plain " + kind},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			c.send(tt.head + "\r\n")
			if tt.name == "body" {
				c.send("hello")
			}
			if status, body, keep := c.answer(); body != tt.want || !keep {
				t.Errorf("got %d %q, keep=%v, want %q", status, body, keep, tt.want)
			}
		})
	}
	c.t = t
	c.send("GET /snapshots HTTP/1.1\r\nHost: h\r\n" + long(400*kib) + "\r\n")
	c.CloseWrite()
	if status, body := f.refusal(t, c); status != http.StatusRequestHeaderFieldsTooLarge || body != "ebs "+kind {
		t.Errorf("got %d %q", status, body)
	}
}
