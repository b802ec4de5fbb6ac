package plain_test

import (
	"errors"
	"io"
	"iter"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/plain"
	"shale/internal/snapshot"
)

var errBroken = errors.New("broken")

// runs gives n extents and then, if fail is set, an error.
func runs(n int, fail bool) iter.Seq2[snapshot.Extent, error] {
	return func(yield func(snapshot.Extent, error) bool) {
		for i := range n {
			if !yield(snapshot.Extent{Offset: int64(i) << 20, Length: 1 << 19, Content: snapshot.Data}, nil) {
				return
			}
		}
		if fail {
			yield(snapshot.Extent{}, errBroken)
		}
	}
}

// A stream is whole, or an error says that it is not: before anything was sent
// as long as it is short, and after that by what the caller does then.
// Spec: plain-json, What this dialect adds.
func TestSendExtents(t *testing.T) {
	for _, tt := range []struct {
		name    string
		n       int
		fail    bool
		proto   string
		sent    bool // something
		length  bool // that is known
		refused bool
	}{
		{"none", 0, false, "HTTP/1.1", true, true, false},
		{"short", 100, false, "HTTP/1.1", true, true, false},
		{"short, broken", 100, true, "HTTP/1.1", false, false, true},
		{"long", 20_000, false, "HTTP/1.1", true, false, false},
		{"long, broken", 20_000, true, "HTTP/1.1", true, false, true},
		{"short, HTTP/1.0", 100, false, "HTTP/1.0", true, true, false},
		{"long, HTTP/1.0", 20_000, false, "HTTP/1.0", false, false, true},
	} {
		w := httptest.NewRecorder()
		w.Code = 0
		r := httptest.NewRequest("GET", "/", nil)
		r.Proto, r.ProtoMajor, r.ProtoMinor = tt.proto, 1, int(tt.proto[7]-'0')
		err := plain.SendExtents(w, r, runs(tt.n, tt.fail))
		body, _ := io.ReadAll(w.Body)
		if sent := w.Code != 0; sent != tt.sent || (err != nil) != tt.refused {
			t.Errorf("%s: sent something %v, error %v", tt.name, sent, err)
		}
		if known := w.Header().Get("Content-Length") != ""; known != tt.length {
			t.Errorf("%s: the length is known: %v", tt.name, known)
		}
		lines := strings.Count(string(body), "\n")
		if tt.sent && !tt.fail && lines != tt.n || tt.fail && lines >= tt.n {
			t.Errorf("%s: %d lines of %d", tt.name, lines, tt.n)
		}
	}
}

// Tags of an object are those that DecodeStart finds in it, or both refuse it.
func FuzzDecodeTags(f *testing.F) {
	for _, s := range []string{`{}`, `{"k":"v","l":null}`, `{"k":1}`, `{"k":"v","k":"w"}`, `[]`, ``, `{"k":"v"} x`, "{\"\xff\":\"\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := plain.DecodeTags(body)
		start, startErr := plain.DecodeStart([]byte(`{"tags":` + string(body) + `}`))
		if err == nil && (startErr != nil || len(start.Tags) != len(list)) {
			t.Errorf("%q: got %q, and %q, %v in a StartSnapshot", body, list, start.Tags, startErr)
		}
	})
}
