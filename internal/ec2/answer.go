package ec2

import (
	"context"
	"errors"
	"net/http"

	"shale/internal/query"
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

// A list is a request for one: the element that its answer is in, the size of a
// page, nil for all at once, the token of the page, and whether it names its
// entries, which are then no more than were named.
type list struct {
	element string
	size    *int64
	token   *string
	named   bool
}

// list answers with a list. page appends the items of a page, and gives the token
// of the next. What is asked for at once may be more than should be in memory: then
// each batch is sent before the next is read.
func (h *Handler) list(
	ctx context.Context, q *call, l list, page func(b []byte, size *int64, token *string) (_ []byte, next string, err error),
) ([]byte, error) {
	whole := l.size == nil && !l.named
	if whole {
		l.size = &h.batch
	}
	b := []byte("<" + l.element + ">")
	for {
		var next string
		var err error
		b, next, err = page(b, l.size, l.token)
		switch {
		case err != nil:
			return nil, err
		case q.dryRun:
			return nil, errDryRun
		case !whole || next == "":
			b = append(b, "</"+l.element+">"...)
			if next != "" {
				b = query.AppendElement(b, "nextToken", next)
			}
			return b, nil
		}
		if err := q.answer.send(ctx, h.service, b); err != nil {
			return nil, err
		}
		b, l.token = b[:0], &next
	}
}
