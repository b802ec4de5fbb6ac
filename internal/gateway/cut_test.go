package gateway_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

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
