package plain

import (
	"net/http"
	"strconv"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// asksPending reports whether a listing is of the blocks that a pending
// snapshot has received. Spec: plain-json, What this dialect adds.
func asksPending(r *http.Request) (bool, error) {
	q, err := rest.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return false, err
	}
	switch state := q["state"]; {
	case len(state) == 0:
		return false, nil
	case len(state) > 1:
		return false, &rest.Error{Kind: rest.Repeated, Field: "state"}
	case state[0] != "pending":
		return false, &fieldError{"state", "state must be pending; without it, the blocks of a completed snapshot are listed"}
	}
	return true, nil
}

// pending answers GET /snapshots/{id}/blocks?state=pending.
func (h *Handler) pending(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	req, err := rt.ListBlocks(r)
	if err != nil {
		return err
	}
	rest.AuditListBlocks(r.Context(), &req)
	place, err := h.service.TakePlace(r.Context(), rest.Client(w))
	if err != nil {
		return err
	}
	defer place.Leave()
	page, err := h.service.ListPending(r.Context(), c, req)
	if err != nil {
		return err
	}
	place.Send()
	writeData(w, http.StatusOK, appendPendingPage(nil, &page))
	return nil
}

func appendPendingPage(b []byte, p *snapshot.PendingPage) []byte {
	b = append(b, `{"blocks":[`...)
	for i := range p.Blocks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"block_index":`...)
		b = strconv.AppendUint(b, uint64(p.Blocks[i].Index), 10)
		b = append(b, `,"checksum":"`...)
		b = append(b, p.Blocks[i].Digest.Base64()...)
		b = append(b, `"}`...)
	}
	b = append(b, ']')
	if p.NextToken != "" {
		b = append(b, `,"next_token":`...)
		b = rest.AppendString(b, p.NextToken)
	}
	b = append(b, `,"volume_size":`...)
	b = strconv.AppendInt(b, p.VolumeSize, 10)
	b = append(b, `,"block_size":`...)
	b = strconv.AppendInt(b, block.Size, 10)
	return append(b, '}')
}
