package gateway

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

// However a header comes in parts, it is counted the same; up to its end every byte
// is, and where net/http finds a whole one the count has its end, too.
func FuzzHeaderCount(f *testing.F) {
	for _, header := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\nHost: h\n\nbody",
		"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\r\n\r\n",
		"\r", "\n", "\n\n", "x",
	} {
		f.Add([]byte(header), uint64(3))
	}
	f.Fuzz(func(t *testing.T, header []byte, cuts uint64) {
		room := make(chan struct{}, 1)
		whole, parts := headerCount{room: room}, headerCount{room: make(chan struct{}, 1)}
		fits := whole.add(header)
		allFit := true
		for rest := header; len(rest) > 0; {
			n := min(len(rest), 1+int(cuts&7))
			cuts = cuts>>3 | cuts<<61
			allFit = parts.add(rest[:n]) && allFit
			rest = rest[n:]
		}
		if !fits || !allFit {
			t.Error("there is room for one, and it was refused")
		}
		if whole.bytes != parts.bytes || whole.lines != parts.lines || whole.ended != parts.ended || whole.taken != parts.taken {
			t.Errorf("whole %d bytes, %d lines, %v, %v; in parts %d, %d, %v, %v",
				whole.bytes, whole.lines, whole.ended, whole.taken, parts.bytes, parts.lines, parts.ended, parts.taken)
		}
		if !whole.ended && whole.bytes != len(header) {
			t.Errorf("%d of %d bytes are counted", whole.bytes, len(header))
		}
		if whole.taken != (whole.bytes > usualHeader || whole.lines > usualLines) {
			t.Errorf("%d bytes, %d lines: place taken: %v", whole.bytes, whole.lines, whole.taken)
		}
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(header))); err == nil && !whole.ended {
			t.Errorf("net/http has a %s, and its end was not found", r.Method)
		}
		whole.reset()
		if len(room) != 0 || whole.bytes != 0 || whole.ended {
			t.Error("something is left of the last header")
		}
	})
}
