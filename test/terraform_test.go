package test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// TestTerraformCalls makes the calls that Terraform's AWS provider makes for a
// copy of a snapshot, its tags and who may use it, in the provider's order, with
// its parameters and through the SDK that it uses. terraform.sh runs the
// provider itself, which is not to be had everywhere.
// Spec: ec2-snapshots §2 to §6.
func TestTerraformCalls(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client, ctx := s.ec2(t), t.Context()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, slices.Repeat([]byte("a disk\n\n"), blockSize/8), 0o600); err != nil {
		t.Fatal(err)
	}
	source, _ := uploader{ebs: s.ebs(t), ec2: client}.upload(t, file, nil, "")

	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	// aws_ebs_snapshot_copy: create, then read.
	copied, err := client.CopySnapshot(ctx, &ec2.CopySnapshotInput{
		SourceRegion:     aws.String("us-east-1"),
		SourceSnapshotId: aws.String(source),
		Description:      aws.String("a copy"),
		TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeSnapshot,
			Tags:         []types.Tag{{Key: aws.String("purpose"), Value: aws.String("first")}},
		}},
	})
	ok(err)
	ids := []string{*copied.SnapshotId}
	out, err := ec2.NewSnapshotCompletedWaiter(client, func(o *ec2.SnapshotCompletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	}).WaitForOutput(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Snapshots[0]; *got.Description != "a copy" || *got.VolumeSize != 1 || got.StorageTier != types.StorageTierStandard ||
		tagsOf(got) != "purpose=first " {
		t.Errorf("the copy is described as %q, %d GiB, %s, with %s", *got.Description, *got.VolumeSize, got.StorageTier, tagsOf(got))
	}

	// Its tags: those that went are removed by key and value, then the new ones are set.
	_, err = client.DeleteTags(ctx, &ec2.DeleteTagsInput{
		Resources: ids,
		Tags:      []types.Tag{{Key: aws.String("purpose"), Value: aws.String("first")}},
	})
	ok(err)
	_, err = client.CreateTags(ctx, &ec2.CreateTagsInput{
		Resources: ids,
		Tags:      []types.Tag{{Key: aws.String("use"), Value: aws.String("second")}},
	})
	ok(err)
	found, err := client.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids})
	if err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(found.Snapshots[0]); got != "use=second " {
		t.Errorf("after the change of tags the copy has %s", got)
	}

	// aws_snapshot_create_volume_permission: it names the attribute and gives the
	// list too, and reads the list until the account is in it, or no longer.
	account := []types.CreateVolumePermission{{UserId: aws.String("210987654321")}}
	for _, step := range []struct {
		change types.CreateVolumePermissionModifications
		want   int
	}{
		{types.CreateVolumePermissionModifications{Add: account}, 1},
		{types.CreateVolumePermissionModifications{Remove: account}, 0},
	} {
		_, err := client.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{
			Attribute:              types.SnapshotAttributeNameCreateVolumePermission,
			CreateVolumePermission: &step.change,
			SnapshotId:             aws.String(ids[0]),
		})
		ok(err)
		read, err := client.DescribeSnapshotAttribute(ctx, &ec2.DescribeSnapshotAttributeInput{
			Attribute:  types.SnapshotAttributeNameCreateVolumePermission,
			SnapshotId: aws.String(ids[0]),
		})
		ok(err)
		if got := read.CreateVolumePermissions; len(got) != step.want || step.want == 1 && *got[0].UserId != *account[0].UserId {
			t.Errorf("after %+v the snapshot is shared with %+v", step.change, got)
		}
	}

	// aws_ebs_snapshot_block_public_access: create, read, delete.
	enabled, err := client.EnableSnapshotBlockPublicAccess(ctx, &ec2.EnableSnapshotBlockPublicAccessInput{
		State: types.SnapshotBlockPublicAccessStateBlockAllSharing,
	})
	ok(err)
	state, err := client.GetSnapshotBlockPublicAccessState(ctx, &ec2.GetSnapshotBlockPublicAccessStateInput{})
	ok(err)
	if state.State != enabled.State || state.State != types.SnapshotBlockPublicAccessStateBlockAllSharing {
		t.Errorf("block public access: %s, then %s", enabled.State, state.State)
	}
	_, err = client.DisableSnapshotBlockPublicAccess(ctx, &ec2.DisableSnapshotBlockPublicAccessInput{})
	ok(err)

	// Destroy: what is gone already counts as destroyed, by this code.
	for _, want := range []string{"", "InvalidSnapshot.NotFound"} {
		_, err := client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(ids[0])})
		if (want == "" && err != nil) || (want != "" && !isCode(err, want)) {
			t.Errorf("DeleteSnapshot: %v, want %q", err, want)
		}
	}
	_, err = client.DescribeSnapshotAttribute(ctx, &ec2.DescribeSnapshotAttributeInput{
		Attribute:  types.SnapshotAttributeNameCreateVolumePermission,
		SnapshotId: aws.String(ids[0]),
	})
	if !isCode(err, "InvalidSnapshot.NotFound") {
		t.Errorf("the attribute of a deleted snapshot: %v", err)
	}
}

// tagsOf prints a snapshot's tags.
func tagsOf(s types.Snapshot) (text string) {
	for _, tag := range s.Tags {
		text += *tag.Key + "=" + *tag.Value + " "
	}
	return text
}
