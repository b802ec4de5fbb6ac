package rest

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"shale/internal/snapshot"
)

// PutBlock decodes a PutSnapshotBlock, all but SignedDigest and
// ChecksumOptional. The body stays unread. Spec: ebs-direct §4.
func (rt Route) PutBlock(r *http.Request) (snapshot.PutBlockRequest, error) {
	h := reader{header: r.Header}
	req := snapshot.PutBlockRequest{
		SnapshotID: rt.SnapshotID,
		Index:      h.int32("blockIndex", rt.BlockIndex),
		DataLength: h.integer("dataLength", "X-Amz-Data-Length"),
		Checksum:   h.text("checksum", "X-Amz-Checksum"),
		Algorithm:  h.text("checksumAlgorithm", "X-Amz-Checksum-Algorithm"),
		Progress:   h.integer("progress", "X-Amz-Progress"),
		Body:       r.Body,
	}
	return req, h.err
}

// Complete decodes a CompleteSnapshot. Note that the header of the count has
// no inner hyphens. Spec: ebs-direct §5.
func (rt Route) Complete(r *http.Request) (snapshot.CompleteRequest, error) {
	h := reader{header: r.Header}
	req := snapshot.CompleteRequest{
		SnapshotID:        rt.SnapshotID,
		ChangedBlocks:     h.integer("changedBlocksCount", "X-Amz-Changedblockscount"),
		Checksum:          h.text("checksum", "X-Amz-Checksum"),
		Algorithm:         h.text("checksumAlgorithm", "X-Amz-Checksum-Algorithm"),
		AggregationMethod: h.text("checksumAggregationMethod", "X-Amz-Checksum-Aggregation-Method"),
	}
	return req, h.err
}

// ListBlocks decodes a ListSnapshotBlocks. Spec: ebs-direct §8.1.
func (rt Route) ListBlocks(r *http.Request) (snapshot.ListBlocksRequest, error) {
	q := queryReader(r)
	req := snapshot.ListBlocksRequest{
		SnapshotID:    rt.SnapshotID,
		PageToken:     q.text("pageToken", "pageToken"),
		MaxResults:    q.integer("maxResults", "maxResults"),
		StartingIndex: q.integer("startingBlockIndex", "startingBlockIndex"),
	}
	return req, q.err
}

// ListChanged decodes a ListChangedBlocks. Spec: ebs-direct §8.2.
func (rt Route) ListChanged(r *http.Request) (snapshot.ListChangedRequest, error) {
	q := queryReader(r)
	req := snapshot.ListChangedRequest{
		FirstSnapshotID:  q.text("firstSnapshotId", "firstSnapshotId"),
		SecondSnapshotID: rt.SnapshotID,
		PageToken:        q.text("pageToken", "pageToken"),
		MaxResults:       q.integer("maxResults", "maxResults"),
		StartingIndex:    q.integer("startingBlockIndex", "startingBlockIndex"),
	}
	return req, q.err
}

// GetBlock decodes a GetSnapshotBlock. Spec: ebs-direct §8.4.
func (rt Route) GetBlock(r *http.Request) (snapshot.GetBlockRequest, error) {
	q := queryReader(r)
	req := snapshot.GetBlockRequest{
		SnapshotID: rt.SnapshotID,
		Index:      q.int32("blockIndex", rt.BlockIndex),
		Token:      q.text("blockToken", "blockToken"),
	}
	return req, q.err
}

// A reader takes named values from headers or from a query string and keeps
// the first error, so that a request is decoded in one expression. A field is
// the member's name in lowerCamel spelling, a name that of its header, in
// canonical form, or parameter.
type reader struct {
	header http.Header
	params []param
	err    error
}

func queryReader(r *http.Request) reader {
	params, err := parseParams(r.URL.RawQuery)
	return reader{params: params, err: err}
}

// text returns the value of name, nil if it is absent.
func (d *reader) text(field, name string) *string {
	var value *string
	n := len(d.header[name])
	if n > 0 {
		value = &d.header[name][0]
	}
	for i := range d.params {
		if p := &d.params[i]; p.name == name {
			value = &p.value
			n++
		}
	}
	if n > 1 {
		d.fail(&Error{Kind: Repeated, Field: field})
		return nil
	}
	return value
}

// integer returns the 32-bit value of name, nil if it is absent.
func (d *reader) integer(field, name string) *int64 {
	s := d.text(field, name)
	if s == nil {
		return nil
	}
	n := d.int32(field, *s)
	return &n
}

// int32 parses s. Every integer that the model has outside of a body has 32
// bits; negative ones pass, they are the service's to refuse.
func (d *reader) int32(field, s string) int64 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		d.fail(&Error{Kind: NotAnInteger, Field: field, Value: s})
	}
	return n
}

func (d *reader) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// A param is one parameter of a query string, decoded.
type param struct{ name, value string }

// ParseQuery splits a query string. Unlike net/url it takes a semicolon for a
// letter like any other, which is what AWS's clients take it for.
func ParseQuery(raw string) (url.Values, error) {
	params, err := parseParams(raw)
	if err != nil {
		return nil, err
	}
	values := url.Values{}
	for _, p := range params {
		values.Add(p.name, p.value)
	}
	return values, nil
}

func parseParams(raw string) (params []param, err error) {
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, &Error{Kind: BadQuery, Err: err}
		}
		value, err = url.QueryUnescape(value)
		if err != nil {
			return nil, &Error{Kind: BadQuery, Err: err}
		}
		params = append(params, param{name, value})
	}
	return params, nil
}
