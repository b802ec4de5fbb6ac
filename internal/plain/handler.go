// Package plain is the door of the plain JSON dialect: the operations of the
// EBS direct APIs and a few more over the same URIs, for scripts and for people
// with curl. Answers are envelopes, {"success":true,"data":…}, names are in
// snake_case and times in RFC 3339 (plain-json). It has no rules of its own
// but the length of a page of snapshots, and none about who may call: that has
// been settled before it is asked. Images and streams of extents have no
// envelope. GET /openapi.json describes it all.
package plain

import (
	_ "embed"
	"net/http"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// openAPI describes the dialect. It is written by hand; tests compare it with
// what is served, and play its examples. Spec: plain-json, What this dialect
// adds.
//
//go:embed openapi.json
var openAPI []byte

// A Handler serves the dialect. It has no state and is safe for concurrent
// use.
type Handler struct {
	service *snapshot.Service
}

// New returns a Handler over s.
func New(s *snapshot.Service) *Handler { return &Handler{service: s} }

// Serve answers r on behalf of c; signed is as for the other doors, and nil as
// a rule. Serve expects the header x-amzn-RequestId to be set. Its error is
// for Refuse if it has written nothing; else what it has written is not all,
// and the connection has to be cut.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error {
	rt, err := rest.Plain.Match(r)
	if err != nil {
		return err
	}
	if err := rest.CheckEncoding(r); err != nil {
		return err
	}
	auditOwn(r, rt)
	switch rt.Op {
	case rest.ListSnapshots:
		return h.list(w, r, c)
	case rest.DescribeSnapshot:
		return h.describe(w, r, c, rt)
	case rest.DeleteSnapshot:
		return h.delete(w, r, c, rt)
	case rest.ListSnapshotBlocks:
		pending, err := asksPending(r)
		if err != nil {
			return err
		}
		if pending {
			return h.pending(w, r, c, rt)
		}
	case rest.SetTags:
		return h.setTags(w, r, c, rt)
	case rest.RemoveTags:
		return h.removeTags(w, r, c, rt)
	case rest.GetImage:
		return h.image(w, r, c, rt)
	case rest.ListExtents:
		return h.extents(w, r, c, rt)
	case rest.DiffSnapshots:
		return h.diff(w, r, c, rt)
	case rest.DescribeAPI:
		rest.Send(w, http.StatusOK, "application/json", openAPI)
		return nil
	}
	return codec.Serve(w, r, h.service, c, rt, signed)
}

// codec is this dialect's share in the six operations.
var codec = rest.Codec{
	Start: decodeStart,
	// A new snapshot has the form of all others; so has the answer to a
	// repeated request, which is the original one. Spec: ebs-direct §3.
	Started: appendSnapshot,
	Written: func(buf []byte, d block.Digest) []byte {
		return append(append(append(buf, `{"checksum":"`...), d.Base64()...), `"}`...)
	},
	Completed: func(buf []byte, s snapshot.State) []byte {
		return append(append(append(buf, `{"status":"`...), s.String()...), `"}`...)
	},
	Blocks:           appendBlockPage,
	Changed:          appendChangedPage,
	Before:           beforeData,
	After:            afterData,
	ChecksumOptional: true,
}

// The envelope of success.
const beforeData, afterData = `{"success":true,"data":`, `}`

// writeData sends data, a JSON value, in the envelope of success.
func writeData(w http.ResponseWriter, status int, data []byte) {
	b := make([]byte, 0, len(beforeData)+len(data)+len(afterData))
	b = append(b, beforeData...)
	b = append(b, data...)
	rest.Send(w, status, "application/json", append(b, afterData...))
}
