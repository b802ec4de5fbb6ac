package ebs_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/ebs"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

func TestDecodeStart(t *testing.T) {
	tests := []struct {
		name, body string
		want       snapshot.StartRequest
	}{
		{"nothing", `{}`, snapshot.StartRequest{}},
		{
			"all", `{"VolumeSize":1,"ParentSnapshotId":"snap-1","Tags":[{"Key":"a","Value":"b"},{"Value":"d","Key":"c"}],
			"Description":"d","ClientToken":"t","Encrypted":false,"KmsKeyArn":"arn","Timeout":10}`,
			snapshot.StartRequest{
				VolumeSize: new(int64(1)), ParentSnapshotID: new("snap-1"),
				Tags: []snapshot.Tag{{Key: "a", Value: "b"}, {Key: "c", Value: "d"}}, Description: new("d"),
				ClientToken: new("t"), Encrypted: new(false), KMSKeyARN: new("arn"), Timeout: new(int64(10)),
			},
		},
		{"nulls", `{"VolumeSize":null,"ParentSnapshotId":null,"Tags":null,"Description":null,"ClientToken":null,
			"Encrypted":null,"KmsKeyArn":null,"Timeout":null}`, snapshot.StartRequest{}},
		{
			"empty strings are values", `{"Description":"","ClientToken":""}`,
			snapshot.StartRequest{Description: new(""), ClientToken: new("")},
		},
		{
			"names are case-sensitive", `{"volumesize":1,"volumeSize":2,"VOLUMESIZE":3,"volume_size":4,"ParentSnapshotID":"x","KMSKeyARN":"x"}`,
			snapshot.StartRequest{},
		},
		{"the documentation's wrong spelling is unknown", `{"ParentSnapshot":"snap-1"}`, snapshot.StartRequest{}},
		{
			"tag without value", `{"Tags":[{"Key":"a"},{"Key":"b","Value":null},{},null]}`,
			snapshot.StartRequest{Tags: []snapshot.Tag{{Key: "a"}, {Key: "b"}, {}, {}}},
		},
		{
			"extremes", `{"VolumeSize":-9223372036854775808,"Timeout":-2147483648}`,
			snapshot.StartRequest{VolumeSize: new(int64(-1 << 63)), Timeout: new(int64(-1 << 31))},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ebs.DecodeStart([]byte(tt.body))
			if d := cmp.Diff(tt.want, got); err != nil || d != "" {
				t.Errorf("error %v (-want +got):\n%s", err, d)
			}
		})
	}
}

// A decoded body is one that the standard grammar admits, and its strings are
// valid UTF-8; a refused one is refused with an *Error.
func FuzzDecodeStart(f *testing.F) {
	f.Add([]byte(`{"VolumeSize":1,"Tags":[{"Key":"a","Value":"b"}],"Description":"\u00e9","Encrypted":true,"Timeout":60}`))
	f.Add([]byte(`{"VolumeSize":1}{}`))
	f.Add([]byte(`{"x":[[[[]]]],"x":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := ebs.DecodeStart(body)
		if err != nil {
			if _, ok := errors.AsType[*rest.Error](err); !ok {
				t.Fatalf("%q: got %v, want a *rest.Error", body, err)
			}
			return
		}
		if !jsontext.Value(body).IsValid() {
			t.Errorf("%q was accepted", body)
		}
		for _, s := range []*string{req.Description, req.ClientToken, req.ParentSnapshotID, req.KMSKeyARN} {
			if s != nil && !utf8.ValidString(*s) {
				t.Errorf("%q gave the string %q", body, *s)
			}
		}
	})
}

var (
	start  = time.Date(2026, 9, 25, 11, 57, 20, 328_999_999, time.FixedZone("elsewhere", 3600))
	expiry = time.UnixMilli(1790922504246)
)

// The first two are AWS's own bytes but for the spelling of the time.
// Spec: ebs-direct §3.
func TestAppendStarted(t *testing.T) {
	tests := []struct {
		s    snapshot.Snapshot
		want string
	}{
		{
			snapshot.Snapshot{
				ID: "snap-033d116c0448c309d", Account: "111122223333", State: snapshot.Open, VolumeSize: 1,
				Description: new("…"), StartTime: time.UnixMilli(1790337440328), Tags: []snapshot.Tag{{Key: "a", Value: "b"}},
			},
			`{"BlockSize":524288,"Description":"…","KmsKeyArn":null,"OwnerId":"111122223333","ParentSnapshotId":null,` +
				`"SnapshotId":"snap-033d116c0448c309d","SseType":null,"StartTime":1790337440.328,"Status":"pending",` +
				`"Tags":[{"Key":"a","Value":"b"}],"VolumeSize":1}`,
		},
		{
			snapshot.Snapshot{
				ID: "snap-0", Account: "1", State: snapshot.Completed, VolumeSize: 65536, ParentID: "snap-1",
				StartTime: time.Unix(1790337440, 0), Tags: []snapshot.Tag{{Key: "a"}, {Key: "<\"\n", Value: "\u2028"}},
			},
			`{"BlockSize":524288,"Description":null,"KmsKeyArn":null,"OwnerId":"1","ParentSnapshotId":"snap-1",` +
				`"SnapshotId":"snap-0","SseType":null,"StartTime":1790337440.000,"Status":"pending",` +
				`"Tags":[{"Key":"a","Value":""},{"Key":"<\"\n","Value":"` + "\u2028" + `"}],"VolumeSize":65536}`,
		},
		{
			snapshot.Snapshot{ID: "snap-0", Account: "1", StartTime: start, Description: new("")},
			`{"BlockSize":524288,"Description":"","KmsKeyArn":null,"OwnerId":"1","ParentSnapshotId":null,` +
				`"SnapshotId":"snap-0","SseType":null,"StartTime":1790333840.328,"Status":"pending","Tags":null,"VolumeSize":0}`,
		},
	}
	for i, tt := range tests {
		if d := cmp.Diff(tt.want, string(ebs.AppendStarted(nil, &tt.s))); d != "" {
			t.Errorf("row %d (-want +got):\n%s", i, d)
		}
	}
}

func TestAppendPages(t *testing.T) {
	const blocksEnd = `"ExpiryTime":1790922504.246,`
	tests := []struct{ name, got, want string }{
		{
			"empty listing", string(ebs.AppendBlockPage(nil, &snapshot.BlockPage{Expiry: expiry, VolumeSize: 1})),
			`{"BlockSize":524288,"Blocks":[],` + blocksEnd + `"NextToken":null,"VolumeSize":1}`,
		},
		{
			"listing", string(ebs.AppendBlockPage(nil, &snapshot.BlockPage{
				Expiry: expiry, VolumeSize: 65536, NextToken: "next",
				Blocks: []snapshot.ListedBlock{{Index: 0, Token: "AlMB"}, {Index: block.MaxIndex, Token: "AlMC"}},
			})),
			`{"BlockSize":524288,"Blocks":[{"BlockIndex":0,"BlockToken":"AlMB"},{"BlockIndex":134217727,"BlockToken":"AlMC"}],` +
				blocksEnd + `"NextToken":"next","VolumeSize":65536}`,
		},
		{
			"no changes", string(ebs.AppendChangedPage(nil, &snapshot.ChangedPage{Expiry: expiry, VolumeSize: 1, NextToken: "n"})),
			`{"BlockSize":524288,"ChangedBlocks":[],` + blocksEnd + `"LastEvaluatedBlockIndex":null,"NextToken":"n","VolumeSize":1}`,
		},
		{
			"changes", string(ebs.AppendChangedPage(nil, &snapshot.ChangedPage{
				Expiry: expiry, VolumeSize: 1,
				Blocks: []snapshot.ChangedBlock{{Index: 0, FirstToken: "a", SecondToken: "b"}, {Index: 7, SecondToken: "c"}, {Index: 9, FirstToken: "d"}},
			})),
			`{"BlockSize":524288,"ChangedBlocks":[{"BlockIndex":0,"FirstBlockToken":"a","SecondBlockToken":"b"},` +
				`{"BlockIndex":7,"FirstBlockToken":null,"SecondBlockToken":"c"},` +
				`{"BlockIndex":9,"FirstBlockToken":"d","SecondBlockToken":null}],` +
				blocksEnd + `"LastEvaluatedBlockIndex":null,"NextToken":null,"VolumeSize":1}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, tt.got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			var v any
			if err := json.Unmarshal([]byte(tt.got), &v); err != nil {
				t.Error(err)
			}
		})
	}
}

// A page of the most entries, with tokens as long as AWS's, in one allocation.
func benchmarkPage(b *testing.B, encode func() []byte) {
	b.SetBytes(int64(len(encode())))
	for b.Loop() {
		encode()
	}
	b.ReportMetric(float64(pageEntries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

const pageEntries = 10_000

var benchToken = strings.Repeat("AlMB_-9z", 12)[:95]

func BenchmarkAppendBlockPage(b *testing.B) {
	page := snapshot.BlockPage{Expiry: expiry, NextToken: benchToken}
	for i := range pageEntries {
		page.Blocks = append(page.Blocks, snapshot.ListedBlock{Index: block.Index(i), Token: benchToken})
	}
	benchmarkPage(b, func() []byte { return ebs.AppendBlockPage(nil, &page) })
}

func BenchmarkAppendChangedPage(b *testing.B) {
	page := snapshot.ChangedPage{Expiry: expiry, NextToken: benchToken}
	for i := range pageEntries {
		page.Blocks = append(page.Blocks, snapshot.ChangedBlock{Index: block.Index(i), FirstToken: benchToken, SecondToken: benchToken})
	}
	benchmarkPage(b, func() []byte { return ebs.AppendChangedPage(nil, &page) })
}
