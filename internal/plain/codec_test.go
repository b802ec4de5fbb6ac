package plain_test

import (
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/plain"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

func TestDecodeStart(t *testing.T) {
	all := snapshot.StartRequest{
		VolumeSize: new(int64(1)), ParentSnapshotID: new("snap-1"),
		Tags: []snapshot.Tag{{Key: "b", Value: "1"}, {Key: "a"}}, Description: new(""), ClientToken: new("t"),
		Encrypted: new(false), KMSKeyARN: new("arn"), Timeout: new(int64(10)),
	}
	tests := []struct {
		name, body string
		want       snapshot.StartRequest
	}{
		{"no body", ``, snapshot.StartRequest{}},
		{"blanks", " \n", snapshot.StartRequest{}},
		{"nothing", `{}`, snapshot.StartRequest{}},
		{"AWS", `{"VolumeSize":1,"ParentSnapshotId":"snap-1","Tags":[{"Key":"b","Value":"1"},{"Key":"a"}],
			"Description":"","ClientToken":"t","Encrypted":false,"KmsKeyArn":"arn","Timeout":10}`, all},
		{"snake", `{"volume_size":1,"parent_snapshot_id":"snap-1","tags":[{"key":"b","value":"1"},{"key":"a","value":null}],
			"description":"","client_token":"t","encrypted":false,"kms_key_arn":"arn","timeout":10}`, all},
		{"mixed", `{"Tags":{"b":"1","a":null},"volume_size":1,"ParentSnapshotId":"snap-1","description":"","ClientToken":"t",
			"encrypted":false,"KmsKeyArn":"arn","timeout":10,"Timeout":null}`, all},
		{"nulls", `{"VolumeSize":null,"volume_size":null,"tags":null}`, snapshot.StartRequest{}},
		{"other spellings", `{"volumeSize":1,"Volume_Size":1,"TAGS":1}`, snapshot.StartRequest{}},
		{"escaped name", `{"\u0076olume_size":1}`, snapshot.StartRequest{VolumeSize: new(int64(1))}},
		{"no tags", `{"tags":{}}`, snapshot.StartRequest{}},
		{"null in a list", `{"tags":[null,{}]}`, snapshot.StartRequest{Tags: []snapshot.Tag{{}, {}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := plain.DecodeStart([]byte(tt.body))
			if d := cmp.Diff(tt.want, got); err != nil || d != "" {
				t.Errorf("error %v (-want +got):\n%s", err, d)
			}
		})
	}
}

// A body is accepted as an object of JSON or refused with an *Error; either
// spelling of a list of tags and the object of the same tags mean the same.
func FuzzDecodeStart(f *testing.F) {
	f.Add([]byte(`{"volume_size":1,"tags":{"a":"b","c":null},"Timeout":60}`))
	f.Add([]byte(`{"VolumeSize":1,"Tags":[{"Key":"a","value":"b"},null]}`))
	f.Add([]byte(`{"tags":[{"Key":"a","key":"b"}],"tags":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := plain.DecodeStart(body)
		if err != nil {
			if _, ok := errors.AsType[*rest.Error](err); !ok {
				t.Fatalf("%q: got %v, want a *rest.Error", body, err)
			}
			if status, code := plain.Row(err); status != 400 || code != "VALIDATION_ERROR" {
				t.Errorf("%q: %v is told as %d %s", body, err, status, code)
			}
			return
		}
		if len(strings.TrimSpace(string(body))) > 0 && !jsontext.Value(body).IsValid() {
			t.Errorf("%q was accepted", body)
		}
		for _, tag := range req.Tags {
			if !utf8.ValidString(tag.Key + tag.Value) {
				t.Errorf("%q gave the tag %q", body, tag)
			}
		}
		again, err := json.Marshal(map[string]any{"Tags": req.Tags})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := plain.DecodeStart(again); err != nil || !slices.Equal(got.Tags, req.Tags) {
			t.Errorf("%s: got %q, %v; want %q", again, got.Tags, err, req.Tags)
		}
	})
}

// Every condition that can be told apart has a row of its own, and only faults
// of the server's own are told as such.
func TestEveryErrorHasARow(t *testing.T) {
	check := func(err error, fault bool) {
		t.Helper()
		status, code := plain.Row(err)
		if code == "" || status < 400 || (status == 500) != fault || (code == "INTERNAL_ERROR") != fault {
			t.Errorf("%#v: got %d %q", err, status, code)
		}
	}
	for c := range snapshot.NumCodes {
		fault := c == snapshot.Internal || c == snapshot.StorageFull || c == snapshot.StorageStopped || c == snapshot.Damaged || c == snapshot.DomainLost
		check(&snapshot.Error{Code: c}, fault)
	}
	for k := range rest.NumKinds {
		check(&rest.Error{Kind: k}, false)
	}
	for k := range sigv4.NumKinds {
		check(&sigv4.Error{Kind: k}, false)
	}
	check(errors.New("anything else"), true)
	check(&snapshot.Error{Code: math.MaxInt}, true)
}

func TestRefuse(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		body   string // without the request ID
	}{
		{"nobody", &sigv4.Error{Kind: sigv4.Missing, Detail: "who is it?"}, 401, `{"code":"UNAUTHENTICATED","message":"who is it?"`},
		{
			"a web page", &sigv4.Error{Kind: sigv4.ForeignOrigin}, 403,
			`{"code":"ACCESS_DENIED","message":"requests from web pages of another origin are not accepted"`,
		},
		{
			"a region", &sigv4.Error{Kind: sigv4.WrongRegion, Detail: "not here"}, 400,
			`{"code":"VALIDATION_ERROR","message":"Invalid request parameters: not here"`,
		},
		{
			"wrapped", fmt.Errorf("x: %w", &snapshot.Error{Code: snapshot.NotFound, Snapshot: "snap-0"}), 404,
			`{"code":"NOT_FOUND","message":"the snapshot 'snap-0' does not exist","reason":"SNAPSHOT_NOT_FOUND"`,
		},
		{
			"a long header", &rest.Error{Kind: rest.HeaderTooLong, Value: "65536"}, 431,
			`{"code":"VALIDATION_ERROR","message":"Invalid request parameters: the request line and the header are longer than 65536 bytes together"`,
		},
		{
			"too often", &snapshot.Error{Code: snapshot.AccountThrottled}, 429,
			`{"code":"THROTTLED","message":"the account asks for this too often; send fewer requests a second"`,
		},
		{
			"one snapshot too often", &snapshot.Error{Code: snapshot.SnapshotThrottled, Snapshot: "snap-0"}, 429,
			`{"code":"THROTTLED","message":"the snapshot snap-0 is asked for too often; send fewer requests a second","reason":"RESOURCE_LEVEL_THROTTLE"`,
		},
		{
			"anything too often", &rest.Error{Kind: rest.RateExceeded}, 429,
			`{"code":"THROTTLED","message":"the account sends too many requests; send fewer of them a second"`,
		},
		{
			"pending snapshots", &snapshot.Error{Code: snapshot.TooManyPending, Value: "100"}, 402,
			`{"code":"QUOTA_EXCEEDED","message":"too many snapshots are pending, the most is 100; complete or delete some"`,
		},
		{
			"snapshots", &snapshot.Error{Code: snapshot.TooManySnapshots, Value: "9"}, 402,
			`{"code":"QUOTA_EXCEEDED","message":"too many snapshots, the most is 9; delete some","reason":"DEPENDENCY_SERVICE_QUOTA_EXCEEDED"`,
		},
		{
			"a full disk", &snapshot.Error{Code: snapshot.StorageFull}, 500,
			`{"code":"INTERNAL_ERROR","message":"the server's disk is full; nothing was stored"`,
		},
		{
			"anything else", errors.New("disk 7 is on fire"), 500,
			`{"code":"INTERNAL_ERROR","message":"an error of the server's own; its log has the cause under this request_id"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("x-amzn-RequestId", "id")
			plain.New(nil).Refuse(w, httptest.NewRequest("GET", "/", nil), tt.err)
			want := `{"success":false,"error":` + tt.body + `,"request_id":"id"}}`
			if after := w.Header().Get("Retry-After"); (after == "1") != (tt.status == 429) {
				t.Errorf("Retry-After is %q", after)
			}
			if d := cmp.Diff(want, w.Body.String()); w.Code != tt.status || d != "" {
				t.Errorf("got %d, want %d (-want +got):\n%s", w.Code, tt.status, d)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (tt.status == 401) {
				t.Errorf("got WWW-Authenticate: %s", challenge)
			}
		})
	}
}

// A page of the most entries, with tokens as long as AWS's.
func BenchmarkAppendBlockPage(b *testing.B) {
	const entries = 10_000
	token := strings.Repeat("AlMB_-9z", 12)[:95]
	page := snapshot.BlockPage{Expiry: time.UnixMilli(0), NextToken: token}
	for i := range entries {
		page.Blocks = append(page.Blocks, snapshot.ListedBlock{Index: block.Index(i), Token: token})
	}
	b.SetBytes(int64(len(plain.AppendBlockPage(nil, &page))))
	for b.Loop() {
		plain.AppendBlockPage(nil, &page)
	}
	b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// What a snapshot says of itself is shown in every state: why it failed, or why a
// copy waits.
func TestStatusMessage(t *testing.T) {
	for _, tt := range []struct {
		snap snapshot.Snapshot
		want string
	}{
		{snapshot.Snapshot{State: snapshot.Copying, Message: "Metadata not updated"}, `"status":"pending","status_message":"Metadata not updated",`},
		{snapshot.Snapshot{State: snapshot.Failed, Message: "x"}, `"status":"error","status_message":"x",`},
		{snapshot.Snapshot{State: snapshot.Completed}, `"status":"completed","volume_size"`},
	} {
		if got := string(plain.AppendSnapshot(nil, &tt.snap)); !strings.Contains(got, tt.want) {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
