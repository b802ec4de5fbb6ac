package gateway_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
)

// An error in the middle of an answer cuts the connection, so that no client
// takes what it got for all there is, and the log says why.
// Spec: plain-json, What this dialect adds.
func TestCut(t *testing.T) {
	for _, length := range []string{"", "1000"} { // in chunks, or of a known length
		f := newFixture(t, nil)
		f.ebs.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			io.WriteString(w, strings.Repeat("x", 10))
			http.NewResponseController(w).Flush()
			return errors.New("the disk is on fire")
		}
		address := f.listen(t)
		r := sign(t, request("GET", "/snapshots/snap-0/blocks", ""), signing{})
		r.URL.Scheme, r.URL.Host, r.RequestURI, r.Host = "http", address, "", "127.0.0.1:8484"
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != 200 || len(body) != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("length %q: got %d, %d bytes, error %v; want a body that was cut", length, answer.StatusCode, len(body), err)
		}
		if log := f.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "the disk is on fire") {
			t.Errorf("length %q: the log says %s", length, log)
		}
	}
}

// A client that does not take its answer can be made to let go of it at once, for
// others that need the memory, which the log says.
func TestInterruptedAnswer(t *testing.T) {
	f := newFixture(t, nil)
	answered := make(chan error, 1)
	f.ebs.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
		time.AfterFunc(100*time.Millisecond, w.(interface{ Interrupt() }).Interrupt)
		var err error
		for err == nil { // until more is under way than fits between here and there
			_, err = w.Write(make([]byte, 1<<20))
		}
		answered <- err
		return nil
	}
	address := f.listen(t)
	r := sign(t, request("GET", "/snapshots/snap-0/blocks", ""), signing{})
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := r.Write(c); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answered:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want that the time is over", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it still waits for the client")
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(f.log.String(), "did not take its answer"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log says %s", f.log.String())
		}
	}
	if log := f.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log says %s", log)
	}
}
