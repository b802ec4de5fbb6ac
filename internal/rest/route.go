// Package rest holds what the two dialects on the /snapshots URIs share: the
// route table, the decoding of path, query and x-amz-* headers into requests
// of the service, the reading of JSON bodies, the sending of whole answers, and
// one error type for requests that do not get as far as the service. It says
// what a request means, never whether that is allowed: constraints are the
// service's, and how an answer looks is the dialect's. Everything here is safe
// for concurrent use.
package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// An Operation is what a method and a path ask for.
type Operation int

// The six operations of the EBS direct APIs (ebs-direct §1), and after them
// those that only the plain dialect has.
const (
	StartSnapshot Operation = iota + 1
	PutSnapshotBlock
	CompleteSnapshot
	ListSnapshotBlocks
	ListChangedBlocks
	GetSnapshotBlock

	ListSnapshots
	DescribeSnapshot
	DeleteSnapshot
	SetTags
	RemoveTags
	GetImage
	ListExtents
	DiffSnapshots
	DescribeAPI
)

var operationNames = [...]string{
	StartSnapshot:      "StartSnapshot",
	PutSnapshotBlock:   "PutSnapshotBlock",
	CompleteSnapshot:   "CompleteSnapshot",
	ListSnapshotBlocks: "ListSnapshotBlocks",
	ListChangedBlocks:  "ListChangedBlocks",
	GetSnapshotBlock:   "GetSnapshotBlock",
	ListSnapshots:      "ListSnapshots",
	DescribeSnapshot:   "DescribeSnapshot",
	DeleteSnapshot:     "DeleteSnapshot",
	SetTags:            "SetTags",
	RemoveTags:         "RemoveTags",
	GetImage:           "GetImage",
	ListExtents:        "ListExtents",
	DiffSnapshots:      "DiffSnapshots",
	DescribeAPI:        "DescribeAPI",
}

// String returns the operation's name, as AWS spells it if it has it.
func (o Operation) String() string {
	if o < StartSnapshot || int(o) >= len(operationNames) {
		return "unknown"
	}
	return operationNames[o]
}

// A Route is a request's operation with the variable segments of its path,
// percent-decoded once. Segments that the operation does not have are empty.
type Route struct {
	Op         Operation
	SnapshotID string
	BlockIndex string // as sent; the decoding functions parse it
}

// A Table is the set of routes of one dialect.
type Table []entry

type entry struct {
	method, pattern string
	op              Operation
}

// AWS has the routes of a signed request. Spec: ebs-direct §1.
var AWS = Table{
	{http.MethodPost, "/snapshots", StartSnapshot},
	{http.MethodPost, "/snapshots/completion/{id}", CompleteSnapshot},
	{http.MethodPut, "/snapshots/{id}/blocks/{index}", PutSnapshotBlock},
	{http.MethodGet, "/snapshots/{id}/blocks/{index}", GetSnapshotBlock},
	{http.MethodGet, "/snapshots/{id}/blocks", ListSnapshotBlocks},
	{http.MethodGet, "/snapshots/{id}/changedblocks", ListChangedBlocks},
}

// Plain has the routes of the plain JSON dialect. Spec: plain-json, What this
// dialect adds.
var Plain = append(slices.Clone(AWS), Table{
	{http.MethodGet, "/snapshots", ListSnapshots},
	{http.MethodGet, "/snapshots/{id}", DescribeSnapshot},
	{http.MethodDelete, "/snapshots/{id}", DeleteSnapshot},
	{http.MethodPut, "/snapshots/{id}/tags", SetTags},
	{http.MethodDelete, "/snapshots/{id}/tags", RemoveTags},
	{http.MethodGet, "/snapshots/{id}/image", GetImage},
	{http.MethodHead, "/snapshots/{id}/image", GetImage},
	{http.MethodGet, "/snapshots/{id}/extents", ListExtents},
	{http.MethodGet, "/snapshots/{id}/diff", DiffSnapshots},
	{http.MethodGet, "/openapi.json", DescribeAPI},
}...)

// Match finds r's route. Without one it returns an *Error of kind UnknownPath,
// or of kind UnknownMethod with the methods that the path does have. A path is
// taken as it was sent: nothing is cleaned, so a dot segment, an empty one or a
// trailing slash makes it unknown.
func (t Table) Match(r *http.Request) (Route, error) {
	var room [maxSegments]string // so that nothing is allocated for each block
	segments, ok := split(room[:0], r.URL.EscapedPath())
	if !ok {
		return Route{}, &Error{Kind: UnknownPath, Value: r.URL.EscapedPath()}
	}
	for _, e := range t {
		if e.method == r.Method {
			if rt, ok := e.match(segments); ok {
				return rt, nil
			}
		}
	}
	var allow []string
	for _, e := range t {
		if _, ok := e.match(segments); ok {
			allow = append(allow, e.method)
		}
	}
	if allow == nil {
		return Route{}, &Error{Kind: UnknownPath, Value: r.URL.EscapedPath()}
	}
	slices.Sort(allow)
	return Route{}, &Error{Kind: UnknownMethod, Value: r.Method, Allow: allow}
}

// match compares path segments with e's pattern. The word "completion" is no
// snapshot ID, which all begin with "snap-"; so it never stands for one, and
// /snapshots/completion/blocks is the completion of "blocks", not a listing of
// "completion". Spec: ebs-direct §1.
func (e entry) match(segments []string) (Route, bool) {
	rt := Route{Op: e.op}
	pattern := e.pattern[1:]
	for i, s := range segments {
		var want string
		want, pattern, _ = strings.Cut(pattern, "/")
		switch {
		case want == "{id}" && (i != 1 || s != "completion"):
			rt.SnapshotID = s
		case want == "{index}":
			rt.BlockIndex = s
		case want != s || want == "":
			return Route{}, false
		}
	}
	return rt, pattern == ""
}

// maxSegments is how many the longest path has.
const maxSegments = 4

// split cuts an escaped path at its slashes, decodes each segment once and
// appends them to segments. It reports false for a path that cannot be any
// route's.
func split(segments []string, path string) ([]string, bool) {
	if !strings.HasPrefix(path, "/") {
		return nil, false
	}
	for s := range strings.SplitSeq(path[1:], "/") {
		s, err := url.PathUnescape(s)
		if err != nil || s == "" || s == "." || s == ".." || len(segments) == maxSegments {
			return nil, false
		}
		segments = append(segments, s)
	}
	return segments, true
}
