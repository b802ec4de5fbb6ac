package test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
)

// TestRotateKey exchanges the key of the first account in the middle of an
// upload, beside the running server: with the new profile the upload goes on at
// once, the old key opens nothing a second later, and neither is in the log.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	old, oldEC2, oldSecret := s.ebs(t), s.ec2(t), s.secret(t)
	started, err := old.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	put := func(c *ebs.Client, index int) error {
		return putBlock(t.Context(), c, *started.SnapshotId, index, secretBlock)
	}
	if err := put(old, 0); err != nil {
		t.Fatal(err)
	}
	id, stderr, status := runShale(t, "account", "rotate-key", "default", "--data-dir", s.dir)
	if status != 0 || stderr != "" {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	rotated := time.Now()
	now, err := s.config(t).Credentials.Retrieve(t.Context())
	if err != nil || now.AccessKeyID != strings.TrimSpace(id) || now.SecretAccessKey == oldSecret {
		t.Fatalf("the profile has the key %s, %v; it was exchanged for %s", now.AccessKeyID, err, id)
	}
	if err := put(s.ebs(t), 1); err != nil {
		t.Errorf("the new key: %v", err)
	}
	time.Sleep(time.Until(rotated.Add(time.Second)))
	_, seen := oldEC2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	for want, err := range map[string]error{"UnrecognizedClientException": put(old, 2), "AuthFailure": seen} {
		if refused := smithy.APIError(nil); !errors.As(err, &refused) || refused.ErrorCode() != want {
			t.Errorf("the old key: got %v, want %s", err, want)
		}
	}
	completed, err := s.ebs(t).CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: started.SnapshotId, ChangedBlocksCount: aws.Int32(2)})
	if err != nil {
		t.Errorf("the new key: got %+v, %v", completed, err)
	}
	for _, secret := range []string{oldSecret, now.SecretAccessKey} {
		if strings.Contains(s.output(t), secret) {
			t.Error("the log has a secret")
		}
	}
}
