package rest_test

import (
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// headers makes a request with the headers given as name, value, name, ….
func headers(nameValues ...string) *http.Request {
	r := httptest.NewRequest("PUT", "/", nil)
	for i := 0; i < len(nameValues); i += 2 {
		r.Header.Add(nameValues[i], nameValues[i+1])
	}
	return r
}

func TestPutBlock(t *testing.T) {
	rt := rest.Route{SnapshotID: "snap-0", BlockIndex: "2147483647"}
	got, err := rt.PutBlock(headers("X-AMZ-DATA-LENGTH", "524288", "x-amz-checksum", "abc=",
		"x-amz-Checksum-Algorithm", "SHA256", "x-amz-Progress", "-7"))
	if err != nil {
		t.Fatal(err)
	}
	want := snapshot.PutBlockRequest{
		SnapshotID: "snap-0", Index: math.MaxInt32, DataLength: new(int64(524288)),
		Checksum: new("abc="), Algorithm: new("SHA256"), Progress: new(int64(-7)),
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(want, "Body")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	got, err = rest.Route{SnapshotID: "x", BlockIndex: "-1"}.PutBlock(headers())
	want = snapshot.PutBlockRequest{SnapshotID: "x", Index: -1}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(want, "Body")); err != nil || d != "" {
		t.Errorf("without headers: error %v (-want +got):\n%s", err, d)
	}
}

func TestComplete(t *testing.T) {
	rt := rest.Route{SnapshotID: "snap-0"}
	got, err := rt.Complete(headers("x-amz-ChangedBlocksCount", "3", "x-amz-Checksum", "abc=",
		"x-amz-Checksum-Algorithm", "SHA256", "x-amz-Checksum-Aggregation-Method", "LINEAR",
		"x-amz-Changed-Blocks-Count", "not this one"))
	want := snapshot.CompleteRequest{
		SnapshotID: "snap-0", ChangedBlocks: new(int64(3)), Checksum: new("abc="),
		Algorithm: new("SHA256"), AggregationMethod: new("LINEAR"),
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("error %v (-want +got):\n%s", err, d)
	}
}

func TestQueries(t *testing.T) {
	rt := rest.Route{SnapshotID: "snap-0", BlockIndex: "5"}
	r := httptest.NewRequest("GET", "/?pageToken=a%2Bb%3D&maxResults=100&startingBlockIndex=9&firstSnapshotId=snap-1&blockToken=&other=1&other=2", nil)
	list, err := rt.ListBlocks(r)
	if d := cmp.Diff(snapshot.ListBlocksRequest{
		SnapshotID: "snap-0", PageToken: new("a+b="),
		MaxResults: new(int64(100)), StartingIndex: new(int64(9)),
	}, list); err != nil || d != "" {
		t.Errorf("ListBlocks: error %v (-want +got):\n%s", err, d)
	}
	changed, err := rt.ListChanged(r)
	if d := cmp.Diff(snapshot.ListChangedRequest{
		FirstSnapshotID: new("snap-1"), SecondSnapshotID: "snap-0",
		PageToken: new("a+b="), MaxResults: new(int64(100)), StartingIndex: new(int64(9)),
	}, changed); err != nil || d != "" {
		t.Errorf("ListChanged: error %v (-want +got):\n%s", err, d)
	}
	get, err := rt.GetBlock(r)
	if d := cmp.Diff(snapshot.GetBlockRequest{SnapshotID: "snap-0", Index: 5, Token: new("")}, get); err != nil || d != "" {
		t.Errorf("GetBlock: error %v (-want +got):\n%s", err, d)
	}
}

func TestDecodeErrors(t *testing.T) {
	put := func(index string, h ...string) error {
		_, err := rest.Route{BlockIndex: index}.PutBlock(headers(h...))
		return err
	}
	list := func(query string) error {
		_, err := rest.Route{}.ListBlocks(httptest.NewRequest("GET", "/?"+query, nil))
		return err
	}
	tests := []struct {
		err   error
		kind  rest.Kind
		field string
	}{
		{put("abc"), rest.NotAnInteger, "blockIndex"},
		{put("1.5"), rest.NotAnInteger, "blockIndex"},
		{put(" 1"), rest.NotAnInteger, "blockIndex"},
		{put("1 "), rest.NotAnInteger, "blockIndex"},
		{put("0x10"), rest.NotAnInteger, "blockIndex"},
		{put("1_0"), rest.NotAnInteger, "blockIndex"},
		{put("2147483648"), rest.NotAnInteger, "blockIndex"},
		{put("-2147483649"), rest.NotAnInteger, "blockIndex"},
		{put("99999999999"), rest.NotAnInteger, "blockIndex"},
		{put("99999999999999999999999"), rest.NotAnInteger, "blockIndex"},
		{put("1", "x-amz-Data-Length", ""), rest.NotAnInteger, "dataLength"},
		{put("1", "x-amz-Data-Length", "1", "x-amz-Data-Length", "1"), rest.Repeated, "dataLength"},
		{put("1", "x-amz-Checksum", "a", "X-Amz-Checksum", "a"), rest.Repeated, "checksum"},
		{put("1", "x-amz-Progress", "half"), rest.NotAnInteger, "progress"},
		{put("1", "x-amz-Progress", "half", "x-amz-Checksum", "a", "x-amz-Checksum", "a"), rest.Repeated, "checksum"},
		{list("maxResults="), rest.NotAnInteger, "maxResults"},
		{list("maxResults"), rest.NotAnInteger, "maxResults"},
		{list("maxResults=100&maxResults=100"), rest.Repeated, "maxResults"},
		{list("startingBlockIndex=1e3"), rest.NotAnInteger, "startingBlockIndex"},
		{list("pageToken=a;maxResults=b&pageToken=b"), rest.Repeated, "pageToken"},
		{list("pageToken=%zz"), rest.BadQuery, ""},
		{list("%=1"), rest.BadQuery, ""},
	}
	for i, tt := range tests {
		e, ok := errors.AsType[*rest.Error](tt.err)
		if !ok || e.Kind != tt.kind || e.Field != tt.field {
			t.Errorf("row %d: got %#v, want kind %d of field %q", i, tt.err, tt.kind, tt.field)
		}
	}
}

// What the model calls an integer round-trips; anything else is refused with
// the field named.
func FuzzDecode(f *testing.F) {
	f.Add("3", "524288", "maxResults=100&pageToken=a%2Bb")
	f.Add("-1", "", "&&=&a=b;c")
	f.Add("abc", "1", "maxResults=1&maxResults=2")
	f.Fuzz(func(t *testing.T, index, length, query string) {
		r := &http.Request{Header: http.Header{"X-Amz-Data-Length": {length}}, URL: &url.URL{RawQuery: query}}
		rt := rest.Route{SnapshotID: "snap-0", BlockIndex: index}
		put, err := rt.PutBlock(r)
		_, indexErr := strconv.ParseInt(index, 10, 32)
		_, lengthErr := strconv.ParseInt(length, 10, 32)
		if (err == nil) != (indexErr == nil && lengthErr == nil) {
			t.Fatalf("index %q, length %q: got error %v", index, length, err)
		}
		if err == nil && (put.Index < math.MinInt32 || put.Index > math.MaxInt32) {
			t.Errorf("index %q became %d", index, put.Index)
		}
		for _, decode := range []func() error{
			func() error { _, err := rt.ListBlocks(r); return err },
			func() error { _, err := rt.ListChanged(r); return err },
			func() error { _, err := rt.GetBlock(r); return err },
		} {
			if err := decode(); err != nil {
				if _, ok := errors.AsType[*rest.Error](err); !ok {
					t.Errorf("query %q: got %v, want a *rest.Error", query, err)
				}
			}
		}
	})
}
