// Package ebs is the door of the EBS direct APIs: it turns AWS's rest-json
// into requests of the snapshot service, and the service's answers and errors
// into AWS's, byte for byte as far as they were seen (ebs-direct). It has no
// rules of its own. Who is calling has been settled before it is asked.
package ebs

import (
	"net/http"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// A Handler serves the six operations. It has no state and is safe for
// concurrent use.
type Handler struct {
	service *snapshot.Service
}

// New returns a Handler over s.
func New(s *snapshot.Service) *Handler { return &Handler{service: s} }

// Serve answers r on behalf of c. A signed digest, if there is one, is what
// the signature says of the body. Serve expects the header x-amzn-RequestId to
// be set; it returns an error, for Refuse, only if it has written nothing.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error {
	rt, err := rest.AWS.Match(r)
	if err != nil {
		return err
	}
	if err := rest.CheckEncoding(r); err != nil {
		return err
	}
	return codec.Serve(w, r, h.service, c, rt, signed)
}

// codec is this dialect's share in the six operations.
var codec = rest.Codec{
	Start:   decodeStart,
	Started: appendStarted,
	Written: func(buf []byte, _ block.Digest) []byte { return append(buf, "{}"...) },
	Completed: func(buf []byte, s snapshot.State) []byte {
		return append(append(append(buf, `{"Status":"`...), s.String()...), `"}`...)
	},
	Blocks:  appendBlockPage,
	Changed: appendChangedPage,
}
