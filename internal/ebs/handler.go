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
	default:
		return h.getBlock(w, r, c, rt)
	}
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
	writeJSON(w, http.StatusCreated, appendStarted(nil, &s))
	return nil
}

func (h *Handler) putBlock(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route, signed *block.Digest) error {
	req, err := rt.PutBlock(r)
	if err != nil {
		return err
	}
	req.SignedDigest = signed
	digest, err := h.service.PutBlock(r.Context(), c, req)
	if err != nil {
		return err
	}
	rest.SetChecksum(w.Header(), digest)
	writeJSON(w, http.StatusCreated, []byte("{}"))
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
	writeJSON(w, http.StatusAccepted, []byte(`{"Status":"`+state.String()+`"}`))
	return nil
}

func (h *Handler) listBlocks(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	req, err := rt.ListBlocks(r)
	if err != nil {
		return err
	}
	page, err := h.service.ListBlocks(r.Context(), c, req)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, appendBlockPage(nil, &page))
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
	writeJSON(w, http.StatusOK, appendChangedPage(nil, &page))
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

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	rest.Send(w, status, "application/json", body)
}
