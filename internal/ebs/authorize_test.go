package ebs_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/ebs"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// Each of the six operations is judged by the caller's policies, in AWS's words.
// Spec: ebs-direct §9.2.
func TestEveryOperationIsJudged(t *testing.T) {
	env := snapshottest.New(t)
	door := ebs.New(env.Service)
	start := func() string {
		s, err := env.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: new(int64(1))})
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	done, pending := start(), start()
	if _, err := env.Service.Complete(t.Context(), snapshottest.Caller, snapshot.CompleteRequest{SnapshotID: done, ChangedBlocks: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if err := env.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := snapshottest.User(t, snapshottest.Caller, "alice")
	for _, tt := range []struct{ method, path, body, action, id string }{
		{"POST", "/snapshots", `{"VolumeSize":1}`, "StartSnapshot", "null"},
		{"POST", "/snapshots", `{"VolumeSize":1,"ParentSnapshotId":"` + done + `"}`, "StartSnapshot", done},
		{"PUT", "/snapshots/" + pending + "/blocks/0", "", "PutSnapshotBlock", pending},
		{"POST", "/snapshots/completion/" + pending, "", "CompleteSnapshot", pending},
		{"GET", "/snapshots/" + done + "/blocks", "", "ListSnapshotBlocks", done},
		{"GET", "/snapshots/" + done + "/changedblocks?firstSnapshotId=" + done, "", "ListChangedBlocks", done},
		{"GET", "/snapshots/" + done + "/blocks/0?blockToken=x", "", "GetSnapshotBlock", done},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
		for name, value := range map[string]string{
			"X-Amz-Changedblockscount": "0", "X-Amz-Data-Length": "524288", "X-Amz-Checksum": "x", "X-Amz-Checksum-Algorithm": "SHA256",
		} {
			if tt.action == "PutSnapshotBlock" || tt.action == "CompleteSnapshot" && name == "X-Amz-Changedblockscount" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		err := door.Serve(w, r, c, nil)
		if err == nil {
			t.Errorf("%s: answered with %d", tt.action, w.Code)
			continue
		}
		door.Refuse(w, r, err)
		want := `{"Message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ebs:` + tt.action +
			` on resource: arn:aws:ec2:us-east-1::snapshot/` + tt.id + ` because no identity-based policy allows the ebs:` + tt.action + ` action"}`
		const kind = "AccessDeniedException:http://internal.amazon.com/coral/com.amazon.zeppelindataservice/"
		if w.Code != http.StatusForbidden || w.Body.String() != want || w.Header().Get("X-Amzn-Errortype") != kind {
			t.Errorf("%s: %d %s %s", tt.action, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
	}
}
