package plain

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// MaxLimit is the most snapshots in one page of GET /snapshots, and the number
// in one when no limit is given.
const MaxLimit = 1000

// list answers GET /snapshots with a page of the snapshots that c may see.
// Spec: plain-json, What this dialect adds.
func (h *Handler) list(w http.ResponseWriter, r *http.Request, c snapshot.Caller) error {
	q, err := rest.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	req, err := decodeList(q)
	if err != nil {
		return err
	}
	page, err := h.service.Describe(r.Context(), c, req)
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Code == snapshot.InvalidPageToken {
		return &fieldError{"cursor", "the cursor is invalid or has expired; list from the start"}
	}
	if err != nil {
		return err
	}
	writeData(w, http.StatusOK, appendList(nil, &page))
	return nil
}

// describe answers GET /snapshots/{id}.
func (h *Handler) describe(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	page, err := h.service.Describe(r.Context(), c, snapshot.DescribeRequest{IDs: []string{rt.SnapshotID}})
	if err != nil {
		return err
	}
	if len(page.Snapshots) != 1 {
		return &snapshot.Error{Code: snapshot.NotFound, Snapshot: rt.SnapshotID}
	}
	if err := h.service.FillUsage(r.Context(), c, page.Snapshots); err != nil {
		return err
	}
	writeData(w, http.StatusOK, appendSnapshot(nil, &page.Snapshots[0]))
	return nil
}

// delete answers DELETE /snapshots/{id}.
func (h *Handler) delete(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	if err := h.service.Delete(r.Context(), c, rt.SnapshotID); err != nil {
		return err
	}
	b := append([]byte(nil), `{"id":`...)
	b = rest.AppendString(b, rt.SnapshotID)
	writeData(w, http.StatusOK, append(b, '}'))
	return nil
}

// decodeList decodes the query of GET /snapshots. A parameter that it does not
// know is an error: a misspelt filter must not list everything.
func decodeList(q url.Values) (snapshot.DescribeRequest, error) {
	limit := int64(MaxLimit)
	req := snapshot.DescribeRequest{MaxResults: &limit, Owners: []string{"self"}}
	for name, values := range q {
		if len(values) > 1 {
			return req, &fieldError{name, "the parameter " + name + " is given more than once"}
		}
		value := values[0]
		switch {
		case name == "limit":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 1 || n > MaxLimit {
				return req, &fieldError{name, "limit must be a number from 1 to " + strconv.Itoa(MaxLimit)}
			}
			limit = n
		case name == "cursor":
			req.NextToken = &value
		case name == "status", strings.HasPrefix(name, "tag:") && name != "tag:":
			req.Filters = append(req.Filters, exactly(name, value))
		case name == "parent":
			req.Filters = append(req.Filters, exactly("parent-snapshot-id", value))
		default:
			return req, noParameter(name, "status, parent, tag:KEY, limit and cursor")
		}
	}
	return req, nil
}

// noParameter refuses a query parameter that the path does not have.
func noParameter(name, known string) error {
	verb := "are"
	if !strings.Contains(known, " ") {
		verb = "is"
	}
	return &fieldError{name, "there is no parameter " + strconv.Quote(name) + "; there " + verb + " " + known}
}

// exactly is a filter for one value, in which nothing is a wildcard.
func exactly(name, value string) snapshot.Filter {
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`)
	return snapshot.Filter{Name: name, Values: []string{escape.Replace(value)}}
}
