package plain_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/plain"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// Every path but the description of the dialect is judged by the caller's
// policies.
func TestEveryPathIsJudged(t *testing.T) {
	env := snapshottest.New(t)
	door := plain.New(env.Service)
	start := func(complete bool) string {
		s, err := env.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: new(int64(1))})
		if err == nil && complete {
			_, err = env.Service.Complete(t.Context(), snapshottest.Caller, snapshot.CompleteRequest{SnapshotID: s.ID, ChangedBlocks: new(int64(0))})
		}
		if err == nil {
			err = env.Service.Settle(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	done, pending := start(true), start(false)
	for _, tt := range []struct{ method, path, body, action string }{
		{"POST", "/snapshots", `{"volume_size":1}`, "ebs:StartSnapshot"},
		{"POST", "/snapshots", `{"volume_size":1,"tags":{"a":"b"}}`, "ec2:CreateTags"},
		{"PUT", "/snapshots/" + pending + "/blocks/0", "", "ebs:PutSnapshotBlock"},
		{"GET", "/snapshots/" + pending + "/blocks?state=pending", "", "ebs:ListSnapshotBlocks"},
		{"POST", "/snapshots/completion/" + pending, "", "ebs:CompleteSnapshot"},
		{"GET", "/snapshots/" + done + "/blocks", "", "ebs:ListSnapshotBlocks"},
		{"GET", "/snapshots/" + done + "/changedblocks?firstSnapshotId=" + done, "", "ebs:ListChangedBlocks"},
		{"GET", "/snapshots/" + done + "/blocks/0?blockToken=x", "", "ebs:GetSnapshotBlock"},
		{"GET", "/snapshots", "", "ec2:DescribeSnapshots"},
		{"GET", "/snapshots/" + done, "", "ec2:DescribeSnapshots"},
		{"PUT", "/snapshots/" + done + "/tags", `{"a":"b"}`, "ec2:CreateTags"},
		{"DELETE", "/snapshots/" + done + "/tags", "", "ec2:DeleteTags"},
		{"DELETE", "/snapshots/" + done + "/tags?key=a", "", "ec2:DeleteTags"},
		{"GET", "/snapshots/" + done + "/image", "", "ebs:ListSnapshotBlocks"},
		{"HEAD", "/snapshots/" + done + "/image", "", "ebs:GetSnapshotBlock"},
		{"GET", "/snapshots/" + done + "/extents", "", "ebs:GetSnapshotBlock"},
		{"GET", "/snapshots/" + done + "/extents", "", "ebs:ListSnapshotBlocks"},
		{"GET", "/snapshots/" + done + "/diff?from=" + done, "", "ebs:ListChangedBlocks"},
		{"GET", "/snapshots/" + done + "/diff?from=" + done, "", "ebs:GetSnapshotBlock"},
		{"DELETE", "/snapshots/" + done, "", "ec2:DeleteSnapshot"},
	} {
		for _, c := range []snapshot.Caller{
			snapshottest.User(t, snapshottest.Caller, "almost", snapshottest.Allow("*"), snapshottest.Deny(tt.action)),
			snapshottest.User(t, snapshottest.Caller, "nobody"),
		} {
			r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("X-Amz-Changedblockscount", "0")
			w := httptest.NewRecorder()
			err := door.Serve(w, r, c, nil)
			if err == nil {
				t.Errorf("%s %s by %s: answered with %d", tt.method, tt.path, c.By.Name, w.Code)
				continue
			}
			door.Refuse(w, r, err)
			want := `{"success":false,"error":{"code":"ACCESS_DENIED","message":"User: ` + c.By.ARN + ` is not authorized to perform: ` + tt.action
			if c.By.Name == "nobody" {
				want = `{"success":false,"error":{"code":"ACCESS_DENIED","message":"User: ` + c.By.ARN + ` is not authorized to perform: `
			}
			if w.Code != http.StatusForbidden || !strings.HasPrefix(w.Body.String(), want) {
				t.Errorf("%s %s by %s: %d %s", tt.method, tt.path, c.By.Name, w.Code, w.Body)
			}
		}
	}
}
