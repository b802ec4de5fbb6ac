package ec2

import (
	"context"
	"errors"
	"net/http"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// An answer is what a call is answered with: whole, or, once send was called, in
// parts. One goroutine owns it.
type answer struct {
	w     http.ResponseWriter
	name  string          // of the action
	place *snapshot.Place // of one in parts: it is as large as a page of blocks
}

// send sends a part of the members. The client may be interrupted if it does not
// take it while others wait for the room, and the error is then errGone. Any
// other is of the first call, before anything was sent.
func (a *answer) send(ctx context.Context, s *snapshot.Service, members []byte) error {
	b := members
	if a.place == nil {
		place, err := s.TakePlace(ctx, rest.Client(a.w))
		if err != nil {
			return err
		}
		a.place = place
		setHeaders(a.w)
		a.w.Header().Set("Content-Type", contentType)
		b = append(openResponse(a.w, a.name), members...)
	}
	a.place.Send()
	if _, err := a.w.Write(b); err != nil {
		return errGone
	}
	return nil
}

// errGone says that the client has gone, and nobody is left to tell.
var errGone = errors.New("the client has gone")

// finish sends the last of the members, and the end.
func (a *answer) finish(members []byte) {
	if a.place == nil {
		b := append(openResponse(a.w, a.name), members...)
		writeXML(a.w, http.StatusOK, closeResponse(b, a.name))
		return
	}
	a.place.Send()
	a.w.Write(closeResponse(members, a.name))
}

// leave gives back what the answer has.
func (a *answer) leave() {
	if a.place != nil {
		a.place.Leave()
	}
}
