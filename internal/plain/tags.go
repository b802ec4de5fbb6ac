package plain

import (
	"net/http"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// setTags answers PUT /snapshots/{id}/tags with the snapshot as it is then.
// Spec: plain-json, What this dialect adds.
func (h *Handler) setTags(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	body, err := rest.ReadBody(r, rest.MaxJSON)
	if err != nil {
		return err
	}
	list, err := decodeTags(body)
	if err != nil {
		return err
	}
	auditTags(r.Context(), list)
	s, err := h.service.SetTags(r.Context(), c, rt.SnapshotID, list)
	if err != nil {
		return err
	}
	writeData(w, http.StatusOK, appendSnapshot(nil, &s))
	return nil
}

// removeTags answers DELETE /snapshots/{id}/tags, all of them or the one named
// by key. What it does not know is an error: a misspelt parameter must not
// remove all.
func (h *Handler) removeTags(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	q, err := rest.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	for name, values := range q {
		switch {
		case name != "key":
			return noParameter(name, "key")
		case len(values) > 1:
			return &rest.Error{Kind: rest.Repeated, Field: name}
		case values[0] == "":
			return &fieldError{name, "key must not be empty: without it all tags are removed"}
		}
	}
	var s snapshot.Snapshot
	if q.Has("key") {
		s, err = h.service.RemoveTag(r.Context(), c, rt.SnapshotID, q.Get("key"))
	} else {
		s, err = h.service.SetTags(r.Context(), c, rt.SnapshotID, nil)
	}
	if err != nil {
		return err
	}
	writeData(w, http.StatusOK, appendSnapshot(nil, &s))
	return nil
}

// decodeTags decodes an object of tags, {"k":"v"}.
func decodeTags(body []byte) ([]snapshot.Tag, error) {
	var list tagObject
	if err := rest.DecodeObject(body, &list); err != nil {
		return nil, err
	}
	return list, nil
}
