package resttest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/snapshot/snapshottest"
)

// requestID is that of every request: {{request-id}}.
const requestID = "49d7e0de-d1a7-4c17-8dbd-32d924b40643"

// serve serves d until the test ends and returns its address.
func serve(t *testing.T, d Door) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", requestID)
		caller := snapshottest.Caller
		if a := r.Header.Get("Caller"); a != "" {
			caller.Account = a
		}
		var signed *block.Digest
		if letter := r.Header.Get("Signed-Digest"); letter != "" {
			signed = new(digestOf(letter))
		}
		if err := d.Serve(w, r, caller, signed); err != nil {
			io.CopyN(io.Discard, r.Body, block.Size)
			d.Refuse(w, r, err)
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// request sends the request and keeps its answer.
func (p *player) request(text string) {
	p.t.Helper()
	if p.answer != "" {
		p.t.Fatalf("line %d: the request before it has no response", p.line)
	}
	text, err := p.vars.expand(strings.TrimRight(text, "\n"))
	if err != nil {
		p.t.Fatalf("line %d: %v", p.line, err)
	}
	if p.answer, err = exchange(p.server, text); err != nil {
		p.t.Fatalf("line %d: %v", p.line, err)
	}
}

// exchange sends a request on a connection of its own, as it stands, and
// returns the answer in the form of a response section.
func exchange(server, text string) (string, error) {
	head, body, _ := strings.Cut(text, "\n\n")
	line, headers, _ := strings.Cut(head, "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: %s\r\n", line, server)
	cutShort := false
	if sent := textproto(headers); sent["content-length"] == "" && sent["transfer-encoding"] == "" && body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	} else if n, err := strconv.Atoi(sent["content-length"]); err == nil {
		cutShort = n > len(body)
	}
	for h := range strings.SplitSeq(headers, "\n") {
		if h != "" {
			b.WriteString(h + "\r\n")
		}
	}
	b.WriteString("\r\n" + body)

	conn, err := net.Dial("tcp", server)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	go func() { // the answer may come first
		io.WriteString(conn, b.String())
		if cutShort {
			conn.(*net.TCPConn).CloseWrite()
		}
	}()
	method, _, _ := strings.Cut(line, " ")
	r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return "", err
	}
	return render(r)
}

// textproto returns header lines by lower-case name.
func textproto(headers string) map[string]string {
	m := map[string]string{}
	for line := range strings.SplitSeq(headers, "\n") {
		name, value, _ := strings.Cut(line, ":")
		m[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return m
}

// render writes r as a response section. The headers that it leaves out are
// checked here.
func render(r *http.Response) (string, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	if r.ContentLength != int64(len(body)) && r.Request.Method != http.MethodHead {
		return "", fmt.Errorf("Content-Length is %d, the body has %d bytes", r.ContentLength, len(body))
	}
	if id := r.Header.Get("X-Amzn-Requestid"); id != requestID {
		return "", fmt.Errorf("the request ID is %q", id)
	}
	var lines []string
	for name, values := range r.Header {
		if name == "Date" || name == "Content-Length" || name == "X-Amzn-Requestid" {
			continue
		}
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	if r.Close && r.Header.Get("Connection") == "" {
		lines = append(lines, "Connection: close")
	}
	slices.Sort(lines)
	head := fmt.Sprintf("%d\n%s", r.StatusCode, strings.Join(lines, "\n"))
	if len(body) == 0 {
		return head, nil
	}
	return head + "\n\n" + string(body), nil
}

// response compares the last answer with what it should be.
func (p *player) response(template string) {
	p.t.Helper()
	template = strings.TrimRight(template, "\n")
	ok, err := p.vars.match(template, p.answer)
	if err != nil {
		p.t.Fatalf("line %d: %v", p.line, err)
	}
	if !ok {
		want, _ := p.vars.expand(template)
		p.t.Fatalf("line %d (-want +got):\n%s", p.line, cmp.Diff(abridge(want), abridge(p.answer)))
	}
	p.answer = ""
}

// abridge cuts a block's bytes to what a person wants to see of them.
func abridge(s string) string {
	if len(s) < 20_000 {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:1000], len(s))
}
