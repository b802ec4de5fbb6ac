package gateway

import (
	"context"
	"errors"
	"io"
	"time"

	"shale/internal/rest"
	"shale/internal/seat"
)

const (
	// usualBody is how much of a body any request may have in memory, in bytes:
	// more than almost all of them need.
	usualBody = 8 << 10
	// maxLongBodies bounds those that are longer, at any time. A further one
	// waits for longWait.
	maxLongBodies = 64
	longWait      = 5 * time.Second
)

// A longBody is a body that is read into memory whole. Beyond usualBody it needs
// a seat, so that many connections cannot fill the memory with bodies that never
// end; while others wait, a slow one loses its seat.
type longBody struct {
	*body
	ctx   context.Context
	room  *seat.Room
	place *seat.Seat // once it is longer than usual
	rest  io.Reader  // the body, with the place
}

// Read fails with an *rest.Error of kind Busy where there is no room.
func (l *longBody) Read(p []byte) (int, error) {
	if l.place == nil && l.n < usualBody {
		return l.body.Read(p[:min(int64(len(p)), usualBody-l.n)])
	}
	if l.err != nil {
		return 0, l.err
	}
	if l.place == nil {
		place, err := l.room.Take(l.ctx, l.body)
		if errors.Is(err, seat.ErrFull) {
			return 0, &rest.Error{Kind: rest.Busy}
		}
		if err != nil {
			return 0, err
		}
		l.place, l.rest = place, place.Receive(l.body)
	}
	n, err := l.rest.Read(p)
	if err != nil && !l.place.Settle() {
		return n, &rest.Error{Kind: rest.Busy}
	}
	return n, err
}

// leave gives the seat back, once what was read is needed no more.
func (l *longBody) leave() {
	if l.place != nil {
		l.place.Leave()
	}
}
