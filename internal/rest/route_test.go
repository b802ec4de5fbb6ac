package rest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shale/internal/rest"
)

func TestMatch(t *testing.T) {
	const id = "snap-033d116c0448c309d"
	tests := []struct {
		method, path string
		aws, plain   rest.Operation // 0 for none
	}{
		{"POST", "/snapshots", rest.StartSnapshot, rest.StartSnapshot},
		{"POST", "/snapshots/completion/" + id, rest.CompleteSnapshot, rest.CompleteSnapshot},
		{"PUT", "/snapshots/" + id + "/blocks/3", rest.PutSnapshotBlock, rest.PutSnapshotBlock},
		{"GET", "/snapshots/" + id + "/blocks/3", rest.GetSnapshotBlock, rest.GetSnapshotBlock},
		{"GET", "/snapshots/" + id + "/blocks", rest.ListSnapshotBlocks, rest.ListSnapshotBlocks},
		{"GET", "/snapshots/" + id + "/changedblocks", rest.ListChangedBlocks, rest.ListChangedBlocks},
		{"GET", "/snapshots", 0, rest.ListSnapshots},
		{"GET", "/snapshots/" + id, 0, rest.DescribeSnapshot},
		{"DELETE", "/snapshots/" + id, 0, rest.DeleteSnapshot},

		// "completion" is a word of the route, never an ID.
		{"POST", "/snapshots/completion/blocks", rest.CompleteSnapshot, rest.CompleteSnapshot},
		{"GET", "/snapshots/completion/blocks", 0, 0},
		{"PUT", "/snapshots/completion/blocks/3", 0, 0},
		{"GET", "/snapshots/completion", 0, 0},
		{"POST", "/snapshots/%63ompletion/" + id, rest.CompleteSnapshot, rest.CompleteSnapshot},

		{"PUT", "/snapshots", 0, 0},
		{"POST", "/snapshots/" + id + "/blocks/3", 0, 0},
		{"HEAD", "/snapshots/" + id + "/blocks/3", 0, 0},
		{"GET", "/Snapshots/" + id + "/blocks", 0, 0},
		{"GET", "/snapshots/" + id + "/Blocks", 0, 0},
		{"GET", "/snapshots/" + id + "/blocks/3/4", 0, 0},
		{"GET", "/", 0, 0},
		{"GET", "/other", 0, 0},

		// Paths are not cleaned.
		{"POST", "/snapshots/", 0, 0},
		{"POST", "//snapshots", 0, 0},
		{"POST", "/./snapshots", 0, 0},
		{"POST", "/x/../snapshots", 0, 0},
		{"GET", "/snapshots/../x", 0, 0},
		{"GET", "/snapshots/./blocks", 0, 0},
		{"GET", "/snapshots/%2e%2e/blocks", 0, 0},
		{"GET", "/snapshots//blocks", 0, 0},
		{"GET", "/snapshots/" + id + "/blocks/", 0, 0},
		{"GET", "/snapshots/" + id + "//blocks", 0, 0},
	}
	for _, tt := range tests {
		for _, table := range []struct {
			name   string
			routes rest.Table
			want   rest.Operation
		}{{"AWS", rest.AWS, tt.aws}, {"Plain", rest.Plain, tt.plain}} {
			rt, err := table.routes.Match(httptest.NewRequest(tt.method, tt.path, nil))
			if rt.Op != table.want || (err == nil) != (table.want != 0) {
				t.Errorf("%s: %s %s: got %v, %v; want %v", table.name, tt.method, tt.path, rt.Op, err, table.want)
			}
		}
	}
}

// A segment is decoded once, whatever it holds then.
func TestMatchSegments(t *testing.T) {
	tests := []struct{ path, id, index string }{
		{"/snapshots/snap-0/blocks/3", "snap-0", "3"},
		{"/snapshots/snap%2D0/blocks/%33", "snap-0", "3"},
		{"/snapshots/a%2Fb/blocks/-1", "a/b", "-1"},
		{"/snapshots/a%252Fb/blocks/1%20", "a%2Fb", "1 "},
		{"/snapshots/%C3%A9/blocks/x", "é", "x"},
		{"/snapshots/a+b/blocks/+1", "a+b", "+1"},
	}
	for _, tt := range tests {
		rt, err := rest.AWS.Match(httptest.NewRequest("GET", tt.path, nil))
		want := rest.Route{Op: rest.GetSnapshotBlock, SnapshotID: tt.id, BlockIndex: tt.index}
		if err != nil || rt != want {
			t.Errorf("%s: got %+v, %v; want %+v", tt.path, rt, err, want)
		}
	}
}

func TestMatchUnknownMethod(t *testing.T) {
	tests := []struct {
		table        rest.Table
		method, path string
		allow        []string // nil for an unknown path
	}{
		{rest.AWS, "PATCH", "/snapshots", []string{"POST"}},
		{rest.Plain, "PATCH", "/snapshots", []string{"GET", "POST"}},
		{rest.Plain, "POST", "/snapshots/snap-0", []string{"DELETE", "GET"}},
		{rest.Plain, "DELETE", "/snapshots/snap-0/blocks/1", []string{"GET", "PUT"}},
		{rest.Plain, "GET", "/snapshots/completion/x", []string{"POST"}},
		{rest.Plain, "GET", "/snapshots/snap-0/tags", []string{"DELETE", "PUT"}},
		{rest.Plain, "DELETE", "/snapshots/snap-0/image", []string{"GET", "HEAD"}},
		{rest.AWS, "GET", "/snapshots/snap-0/image", nil},
		{rest.AWS, "PUT", "/snapshots/snap-0/tags", nil},
		{rest.Plain, "GET", "/snapshots/snap-0/image/x", nil},
	}
	for _, tt := range tests {
		_, err := tt.table.Match(httptest.NewRequest(tt.method, tt.path, nil))
		e, ok := errors.AsType[*rest.Error](err)
		if !ok {
			t.Errorf("%s %s: got %v, want a *rest.Error", tt.method, tt.path, err)
			continue
		}
		kind := rest.UnknownMethod
		if tt.allow == nil {
			kind = rest.UnknownPath
		}
		if e.Kind != kind || !slices.Equal(e.Allow, tt.allow) {
			t.Errorf("%s %s: got kind %d, allow %q; want %d, %q", tt.method, tt.path, e.Kind, e.Allow, kind, tt.allow)
		}
	}
}

// Whatever the path, Match answers: with an operation whose segments are not
// empty, or with an *Error.
func FuzzMatch(f *testing.F) {
	for _, p := range []string{"/snapshots", "/snapshots/completion/x", "/snapshots/%2e/blocks/1", "*", "/%", "//", "/snapshots/a%2f/blocks"} {
		f.Add("GET", p)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: u}
		for _, table := range []rest.Table{rest.AWS, rest.Plain} {
			rt, err := table.Match(r)
			if err != nil {
				if _, ok := errors.AsType[*rest.Error](err); !ok {
					t.Errorf("%s %q: got %v, want a *rest.Error", method, path, err)
				}
				continue
			}
			if rt.Op.String() == "unknown" {
				t.Errorf("%s %q: no operation, and no error", method, path)
			}
			if !strings.HasPrefix(u.EscapedPath(), "/") || strings.HasSuffix(u.EscapedPath(), "/") {
				t.Errorf("%s %q matches %v", method, path, rt)
			}
			if rt.SnapshotID == "completion" && rt.Op != rest.CompleteSnapshot {
				t.Errorf("%s %q: a snapshot called completion", method, path)
			}
		}
	})
}

func TestOperationString(t *testing.T) {
	var got []string
	for o := rest.Operation(0); o <= rest.DescribeAPI+1; o++ {
		got = append(got, o.String())
	}
	want := []string{
		"unknown", "StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "ListSnapshotBlocks",
		"ListChangedBlocks", "GetSnapshotBlock", "ListSnapshots", "DescribeSnapshot", "DeleteSnapshot",
		"SetTags", "RemoveTags", "GetImage", "ListExtents", "DiffSnapshots", "DescribeAPI", "unknown",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
}
