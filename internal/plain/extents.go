package plain

import (
	"iter"
	"net/http"
	"strconv"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// extents answers GET /snapshots/{id}/extents.
func (h *Handler) extents(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	return sendExtents(w, r, h.service.Extents(r.Context(), c, rt.SnapshotID))
}

// diff answers GET /snapshots/{id}/diff?from=ID.
func (h *Handler) diff(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	q, err := rest.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	switch from := q["from"]; {
	case len(from) == 0:
		return &fieldError{"from", "the parameter from is missing: the ID of the snapshot to compare with"}
	case len(from) > 1:
		return &rest.Error{Kind: rest.Repeated, Field: "from"}
	default:
		return sendExtents(w, r, h.service.Diff(r.Context(), c, from[0], rt.SnapshotID))
	}
}

const (
	ndjson = "application/x-ndjson"
	// streamBuffer is how many bytes of a stream are gathered before they are
	// sent. A stream that is no longer is sent whole, so that an error anywhere
	// in it still has its envelope.
	streamBuffer = 64 << 10
	maxLine      = 80
)

// sendExtents sends extents as lines of JSON. An error after the first byte is
// returned all the same; it cuts the connection. That can be told from the end
// only where bodies have a length or chunks.
// Spec: plain-json, What this dialect adds.
func sendExtents(w http.ResponseWriter, r *http.Request, extents iter.Seq2[snapshot.Extent, error]) error {
	b := make([]byte, 0, streamBuffer)
	begun := false
	for e, err := range extents {
		if err != nil {
			return err
		}
		if len(b)+maxLine > streamBuffer {
			if !r.ProtoAtLeast(1, 1) {
				return &fieldError{text: "the answer is a long stream, which needs HTTP/1.1: in HTTP/1.0 one that was cut looks whole"}
			}
			if !begun {
				w.Header().Set("Content-Type", ndjson)
				w.WriteHeader(http.StatusOK)
				begun = true
			}
			if _, err := w.Write(b); err != nil {
				return nil //nolint:nilerr // the client has gone, and nobody is left to tell
			}
			b = b[:0]
		}
		b = appendExtent(b, e)
	}
	if !begun {
		rest.Send(w, http.StatusOK, ndjson, b)
		return nil
	}
	w.Write(b)
	return nil
}

func appendExtent(b []byte, e snapshot.Extent) []byte {
	b = append(b, `{"offset":`...)
	b = strconv.AppendInt(b, e.Offset, 10)
	b = append(b, `,"length":`...)
	b = strconv.AppendInt(b, e.Length, 10)
	b = append(b, `,"state":"`...)
	b = append(b, e.Content.String()...)
	return append(b, "\"}\n"...)
}
