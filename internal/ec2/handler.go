// Package ec2 is the door of the EC2 Query operations that concern snapshots;
// the table in action.go names them. It turns forms into requests of the
// snapshot service and answers into XML (ec2-snapshots §1). Which snapshots
// there are is the service's to say; the syntax of IDs, of account numbers and
// of a page's size are EC2's own and are checked here.
package ec2

import (
	"context"
	"errors"
	"net/http"

	"shale/internal/block"
	"shale/internal/query"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// A Handler serves the Query protocol. It has no state and is safe for
// concurrent use.
type Handler struct {
	service *snapshot.Service
	regions []string
	batch   int64 // of how many snapshots at a time a list without pages is made
}

// New returns a Handler over s for the regions.
func New(s *snapshot.Service, regions []string) *Handler { return &Handler{s, regions, maxResults} }

// Serve answers r on behalf of c. A form's signature covers its bytes, so the
// signed digest is of no use here: whoever verified it has read the body. Serve
// expects the header x-amzn-RequestId to be set. It returns an error for Refuse if
// it has written nothing; after that the error only means that the answer is not
// whole.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, _ *block.Digest) error {
	parameters, err := query.Read(r)
	if err != nil {
		return err
	}
	f := form{parameters}
	name, err := f.Scalar("Action")
	if err != nil {
		return err
	}
	if name == "" {
		return refuse(missingAction, "The request must contain the parameter Action")
	}
	serve, ok := actions[name]
	if !ok {
		return refuse(invalidAction, "The action %s is not valid for this web service. "+
			"This server serves EC2's operations on snapshots and their tags.", name)
	}
	auditForm(r.Context(), f)
	q := call{form: f, name: name, caller: c, answer: answer{w: w, name: name}}
	defer q.answer.leave()
	if q.dryRun, err = f.boolean("DryRun"); err != nil {
		return err
	}
	members, err := serve(h, r.Context(), &q)
	switch {
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		return err
	}
	auditAnswer(r.Context(), name, requestID(w), members)
	q.answer.finish(members)
	return nil
}

// describeSnapshots answers DescribeSnapshots. Spec: ec2-snapshots §2.
func (h *Handler) describeSnapshots(ctx context.Context, q *call) ([]byte, error) {
	req, err := decodeDescribe(q.form)
	if err != nil {
		return nil, err
	}
	l := list{element: "snapshotSet", size: req.MaxResults, token: req.NextToken, named: len(req.IDs) > 0}
	return h.list(ctx, q, l, func(b []byte, size *int64, token *string) ([]byte, string, error) {
		req.MaxResults, req.NextToken = size, token
		page, err := h.service.Describe(ctx, q.caller, req)
		for i := range page.Snapshots {
			b = appendSnapshot(b, &page.Snapshots[i])
		}
		return b, page.NextToken, err
	})
}

// deleteSnapshot answers DeleteSnapshot. A dry run finds out what can be found
// out without deleting: whether the snapshot is there, is the caller's own and
// is not locked.
// Spec: ec2-snapshots §3.
func (h *Handler) deleteSnapshot(ctx context.Context, q *call) ([]byte, error) {
	id, err := q.snapshotID()
	if err != nil {
		return nil, err
	}
	if q.dryRun {
		if err := h.service.CheckDelete(ctx, q.caller, id); err != nil {
			return nil, err
		}
		return nil, errDryRun
	}
	return done(h.service.Delete(ctx, q.caller, id))
}

// writeXML sends a whole answer.
func writeXML(w http.ResponseWriter, status int, body []byte) {
	setHeaders(w)
	rest.Send(w, status, contentType, body)
}

const contentType = "text/xml;charset=UTF-8"

// setHeaders sets the headers that EC2 sends. Spec: ec2-snapshots §1.2.
func setHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	h.Set("Server", "AmazonEC2")
}
