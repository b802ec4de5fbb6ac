package ec2_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"shale/internal/ec2"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// meaningless are the actions that are refused whoever asks.
var meaningless = map[string]bool{
	"CreateSnapshot": true, "DescribeSnapshotTierStatus": true, "ModifySnapshotTier": true, "RestoreSnapshotTier": true,
}

// Every action is judged by the caller's policies, under DryRun too: refused to
// who may do nothing and to who may do all but this, done for who may do just
// this. Spec: ec2-snapshots §1.3, §1.5.
func TestEveryActionIsJudged(t *testing.T) {
	env := snapshottest.New(t)
	env.BinTime = time.Hour
	env.Restart(t)
	door := ec2.New(env.Service, []string{snapshottest.Region})
	made := func() string {
		if err := env.Service.SetEncryptionByDefault(t.Context(), snapshottest.Caller, false); err != nil {
			t.Fatal(err) // an action before may have switched it on
		}
		s, err := env.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: new(int64(1))})
		if err == nil {
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
	for _, action := range ec2.Actions() {
		if meaningless[action] {
			continue
		}
		id := made()
		resource := "arn:aws:ec2:us-east-1::snapshot/" + id
		form := "&SnapshotId=" + id
		switch action {
		case "CreateTags", "DeleteTags":
			form = "&Tag.1.Key=a&ResourceId.1=" + id
		case "CopySnapshot":
			form = "&SourceRegion=us-east-1&SourceSnapshotId=" + id
		case "ModifySnapshotAttribute":
			form += "&CreateVolumePermission.Add.1.UserId=" + snapshottest.Other.Account
		case "DescribeSnapshotAttribute", "ResetSnapshotAttribute":
			form += "&Attribute=createVolumePermission"
		case "LockSnapshot":
			form += "&LockMode=governance&LockDuration=1"
		case "UnlockSnapshot":
			if _, err := env.Service.Lock(t.Context(), snapshottest.Caller, snapshot.LockRequest{SnapshotID: id, Days: new(int64(1))}); err != nil {
				t.Fatal(err)
			}
		case "RestoreSnapshotFromRecycleBin":
			if err := env.Service.Delete(t.Context(), snapshottest.Caller, id); err != nil {
				t.Fatal(err)
			}
		default:
			if action != "DeleteSnapshot" {
				resource, form = "*", "&State=block-all-sharing&KmsKeyId=alias/aws/ebs"
			}
		}
		serve := func(c snapshot.Caller, dryRun string) (int, string) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("Action="+action+form+dryRun))
			w := httptest.NewRecorder()
			if err := door.Serve(w, r, c, nil); err != nil {
				door.Refuse(w, r, err)
			}
			return w.Code, w.Body.String()
		}
		nobody := snapshottest.User(t, snapshottest.Caller, "nobody")
		almost := snapshottest.User(t, snapshottest.Caller, "almost", snapshottest.Allow("*"), snapshottest.Deny("ec2:"+action))
		just := snapshottest.User(t, snapshottest.Caller, "just", snapshottest.Allow("ec2:"+action+",kms:*"))
		for _, dryRun := range []string{"&DryRun=true", ""} {
			status, body := serve(nobody, dryRun)
			want := "<Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this operation. User: " + nobody.By.ARN +
				" is not authorized to perform: ec2:" + action + " on resource: " + resource + " because no identity-based policy allows the ec2:" + action + " action</Message>"
			if status != http.StatusForbidden || !strings.Contains(body, want) {
				t.Errorf("%s%s by nobody: %d %s", action, dryRun, status, body)
			}
			if status, body := serve(almost, dryRun); status != http.StatusForbidden || !strings.Contains(body, "with an explicit deny in an identity-based policy") {
				t.Errorf("%s%s by who may all but this: %d %s", action, dryRun, status, body)
			}
			status, body = serve(just, dryRun)
			if dryRun != "" && (status != http.StatusPreconditionFailed || !strings.Contains(body, "DryRunOperation")) || dryRun == "" && status != http.StatusOK {
				t.Errorf("%s%s by who may just this: %d %s", action, dryRun, status, body)
			}
		}
	}
}

// Of two operations who may is told before whether the ID is one.
// Spec: ec2-snapshots §1.5.
func TestAttributesAreJudgedFirst(t *testing.T) {
	door := ec2.New(snapshottest.New(t).Service, []string{snapshottest.Region})
	for _, action := range []string{"DescribeSnapshotAttribute", "ResetSnapshotAttribute", "ModifySnapshotAttribute"} {
		for id, want := range map[string]string{"snap-x": "InvalidSnapshotID.Malformed", "snap-0123456789abcdef0": "InvalidSnapshot.NotFound"} {
			for name, c := range map[string]snapshot.Caller{
				"UnauthorizedOperation": snapshottest.User(t, snapshottest.Caller, "nobody"),
				want:                    snapshottest.User(t, snapshottest.Caller, "just", snapshottest.Allow("ec2:*")),
			} {
				if action == "ModifySnapshotAttribute" {
					name = want
				}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(
					"Action="+action+"&Attribute=createVolumePermission&OperationType=add&UserId=111122223333&SnapshotId="+id))
				if got, _ := ec2.Code(door.Serve(httptest.NewRecorder(), r, c, nil)); got != name {
					t.Errorf("%s of %s by %s: got %s, want %s", action, id, c.By.Name, got, name)
				}
			}
		}
	}
}
