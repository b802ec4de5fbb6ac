// Package plain is the door of the plain JSON dialect: the operations of the
// EBS direct APIs and a few more over the same URIs, for scripts and for people
// with curl. Answers are envelopes, {"success":true,"data":…}, names are in
// snake_case and times in RFC 3339 (plain-json). It has no rules of its own
// but the length of a page of snapshots, and none about who may call: that has
// been settled before it is asked.
//
// This version serves the six operations and GET and DELETE of snapshots. The
// dialect's other paths are refused by name.
package plain

import (
	"net/http"
	"strings"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// A Handler serves the dialect. It has no state and is safe for concurrent
// use.
type Handler struct {
	service *snapshot.Service
}

// New returns a Handler over s.
func New(s *snapshot.Service) *Handler { return &Handler{service: s} }

// Serve answers r on behalf of c; signed is as for the other doors, and nil as
// a rule. Serve expects the header x-amzn-RequestId to be set; it returns an
// error, for Refuse, only if it has written nothing.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error {
	rt, err := rest.Plain.Match(r)
	if err != nil {
		return unserved(r, err)
	}
	if err := rest.CheckEncoding(r); err != nil {
		return err
	}
	switch rt.Op {
	case rest.StartSnapshot:
		return h.start(w, r, c)
	case rest.PutSnapshotBlock:
		return h.putBlock(w, r, c, rt, signed)
	case rest.CompleteSnapshot:
		return h.complete(w, r, c, rt)
	case rest.ListSnapshotBlocks:
		return h.listBlocks(w, r, c, rt)
	case rest.ListChangedBlocks:
		return h.listChanged(w, r, c, rt)
	case rest.GetSnapshotBlock:
		return h.getBlock(w, r, c, rt)
	case rest.ListSnapshots:
		return h.list(w, r, c)
	case rest.DescribeSnapshot:
		return h.describe(w, r, c, rt)
	default:
		return h.delete(w, r, c, rt)
	}
}

// later are the last segments of the dialect's paths that this version does
// not serve. Spec: plain-json, What this dialect adds.
var later = []string{"/tags", "/image", "/extents", "/diff"}

// unserved turns the unknown path of an operation that the dialect has, but
// not yet here, into an error that says so.
func unserved(r *http.Request, err error) error {
	path := r.URL.EscapedPath()
	for _, suffix := range later {
		id, ok := strings.CutSuffix(path, suffix)
		if id, inside := strings.CutPrefix(id, "/snapshots/"); ok && inside && id != "" && !strings.Contains(id, "/") {
			return &rest.Error{Kind: rest.NotServed, Value: "the path " + path}
		}
	}
	return err
}

func (h *Handler) start(w http.ResponseWriter, r *http.Request, c snapshot.Caller) error {
	body, err := rest.ReadBody(r, rest.MaxJSON)
	if err != nil {
		return err
	}
	req, err := decodeStart(body)
	if err != nil {
		return err
	}
	s, err := h.service.Start(r.Context(), c, req)
	if err != nil {
		return err
	}
	// The answer to a repeated request is the original one, whatever has
	// become of the snapshot since. Spec: ebs-direct §3.
	s.State = snapshot.Open
	writeData(w, http.StatusCreated, appendSnapshot(nil, &s))
	return nil
}

func (h *Handler) putBlock(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route, signed *block.Digest) error {
	req, err := rt.PutBlock(r)
	if err != nil {
		return err
	}
	req.ChecksumOptional = true
	req.SignedDigest = signed
	digest, err := h.service.PutBlock(r.Context(), c, req)
	if err != nil {
		return err
	}
	rest.SetChecksum(w.Header(), digest)
	writeData(w, http.StatusCreated, []byte(`{"checksum":"`+digest.Base64()+`"}`))
	return nil
}

func (h *Handler) complete(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	req, err := rt.Complete(r)
	if err != nil {
		return err
	}
	state, err := h.service.Complete(r.Context(), c, req)
	if err != nil {
		return err
	}
	writeData(w, http.StatusAccepted, []byte(`{"status":"`+state.String()+`"}`))
	return nil
}

func (h *Handler) listBlocks(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	if err := noState(r); err != nil {
		return err
	}
	req, err := rt.ListBlocks(r)
	if err != nil {
		return err
	}
	page, err := h.service.ListBlocks(r.Context(), c, req)
	if err != nil {
		return err
	}
	writeData(w, http.StatusOK, appendBlockPage(nil, &page))
	return nil
}

// noState refuses the parameter that asks for the blocks of a pending snapshot:
// to ignore it would answer another question than was asked.
func noState(r *http.Request) error {
	q, err := rest.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if q.Has("state") {
		return &fieldError{"state", "the query parameter state is not served by this version; without it, the blocks of a completed snapshot are listed"}
	}
	return nil
}

func (h *Handler) listChanged(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	req, err := rt.ListChanged(r)
	if err != nil {
		return err
	}
	page, err := h.service.ListChangedBlocks(r.Context(), c, req)
	if err != nil {
		return err
	}
	writeData(w, http.StatusOK, appendChangedPage(nil, &page))
	return nil
}

func (h *Handler) getBlock(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	req, err := rt.GetBlock(r)
	if err != nil {
		return err
	}
	data, err := h.service.GetBlock(r.Context(), c, req)
	if err != nil {
		return err
	}
	defer data.Release()
	rest.SendBlock(w, data.Bytes, data.Digest)
	return nil
}

// writeData sends data, a JSON value, in the envelope of success.
func writeData(w http.ResponseWriter, status int, data []byte) {
	b := make([]byte, 0, len(data)+len(`{"success":true,"data":}`))
	b = append(b, `{"success":true,"data":`...)
	b = append(b, data...)
	rest.Send(w, status, "application/json", append(b, '}'))
}
