package gateway

import (
	"bytes"
	"sync"
)

const (
	// usualHeader and usualLines are how long any header may be, in bytes and
	// in lines, each of which costs more memory than it has bytes. SDKs need a
	// fraction of it.
	usualHeader = 8 << 10
	usualLines  = 100
	// maxLongHeaders bounds those that are longer, at any time.
	maxLongHeaders = 64
)

// A headerCount counts what was read of the header that a connection waits for.
// One that is longer than usual needs a place, so that many connections cannot
// fill the memory with headers that never end.
type headerCount struct {
	mu    sync.Mutex    // the connection may be closed while it is read
	room  chan struct{} // has a value for each place taken
	taken bool          // one of them is this header's
	bytes int
	lines int
	text  bool // the line begun is not empty
	ended bool
}

// add counts p, as far as it is of the header. It reports false if that is
// longer than usual, and there is no room for it.
func (h *headerCount) add(p []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 && !h.ended {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		h.bytes += len(p) - len(rest)
		h.text = h.text || len(bytes.Trim(line, "\r")) > 0
		if whole {
			h.ended = !h.text && h.lines > 0
			h.lines, h.text = h.lines+1, false
		}
		p = rest
	}
	if h.taken || h.bytes <= usualHeader && h.lines <= usualLines {
		return true
	}
	select {
	case h.room <- struct{}{}:
		h.taken = true
	default:
	}
	return h.taken
}

// reset begins with the header of the next request, or with none.
func (h *headerCount) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		<-h.room
	}
	h.bytes, h.lines, h.taken, h.text, h.ended = 0, 0, false, false, false
}
