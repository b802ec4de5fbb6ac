package gateway

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// maxAdvance is the most that one request may move the clock, in seconds.
// Spec: test-controls, Clock.
const maxAdvance = 3_700_000_000

// serveTest answers below /_test/, without credentials but not to web pages of
// other origins. Without test controls there is nothing there.
func (x *exchange) serveTest(path string) error {
	x.op = "/_test"
	switch {
	case x.o.TestControls == nil:
		return &rest.Error{Kind: rest.UnknownPath, Value: path}
	case foreignOrigin(x.r):
		return &sigv4.Error{Kind: sigv4.ForeignOrigin}
	case path == "/_test/behaviour":
		return x.serveBehaviour()
	case path != "/_test/clock":
		return &rest.Error{Kind: rest.NotServed, Value: "the path " + path}
	}
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		d, err := x.readAdvance()
		if err != nil {
			return err
		}
		if err := x.o.TestControls.Advance(x.r.Context(), d); err != nil {
			return fmt.Errorf("advance the clock: %w", err)
		}
		x.misbehaviour.move()
	default:
		return &rest.Error{
			Kind: rest.UnknownMethod, Value: x.r.Method,
			Allow: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		}
	}
	now, offset := x.o.TestControls.Clock()
	writeJSON(x.w, http.StatusOK, jsonType, envelope{Success: true, Data: clock{
		Now:           now.UTC().Format("2006-01-02T15:04:05.000Z"),
		OffsetSeconds: int64(offset / time.Second),
	}})
	return nil
}

// readAdvance reads {"advance_seconds": N}, strictly: a test that misspells
// must not believe that time has passed.
func (x *exchange) readAdvance() (time.Duration, error) {
	b, err := readAll(x.r)
	if err != nil {
		return 0, err
	}
	const member = "advance_seconds"
	var members map[string]jsontext.Value
	if err := rest.DecodeObject(b, &members); err != nil {
		return 0, err
	}
	for name := range members {
		if name != member {
			return 0, &rest.Error{Kind: rest.BadJSON, Err: fmt.Errorf("it has a member %q, and only %s is known", name, member)}
		}
	}
	value, ok := members[member]
	if !ok {
		return 0, &snapshot.Error{Code: snapshot.InvalidRequest, Violations: []snapshot.Violation{{Field: "advanceSeconds"}}}
	}
	seconds, err := strconv.ParseInt(string(value), 10, 64)
	_, offset := x.o.TestControls.Clock()
	if most := min(maxAdvance, int64((math.MaxInt64-offset)/time.Second)); err != nil || seconds < 1 || seconds > most {
		text := string(value[:min(len(value), 64)])
		return 0, &snapshot.Error{Code: snapshot.InvalidRequest, Violations: []snapshot.Violation{{
			Field: "advanceSeconds", Value: &text, Constraint: fmt.Sprintf("Member must be an integer from 1 to %d", most),
		}}}
	}
	return time.Duration(seconds) * time.Second, nil
}

// An envelope is a success in the plain dialect. Failures are its door's.
type envelope struct {
	Success bool `json:"success"`
	Data    any  `json:"data"`
}

type clock struct {
	Now           string `json:"now"`
	OffsetSeconds int64  `json:"offset_seconds"`
}
