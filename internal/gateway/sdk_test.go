package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"shale/internal/block"
	"shale/internal/gateway"
)

// Whatever AWS's own SDK signs is accepted: what it makes of our doors' answers
// is not the question here.
func TestSDK(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.Now = time.Now })
	endpoint := aws.String("http://" + f.listen(t))
	provider := credentials.NewStaticCredentialsProvider(testKey, testSecret, "")
	ebsClient := ebs.New(ebs.Options{Region: "eu-west-3", BaseEndpoint: endpoint, Credentials: provider, RetryMaxAttempts: 1})
	ec2Client := ec2.New(ec2.Options{Region: "us-east-1", BaseEndpoint: endpoint, Credentials: provider, RetryMaxAttempts: 1})
	ctx, id := context.Background(), aws.String("snap-0123456789abcdef0")
	data := bytes.Repeat([]byte{7}, block.Size)

	for name, call := range map[string]func() error{
		"StartSnapshot": func() error {
			_, err := ebsClient.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
			return err
		},
		"PutSnapshotBlock": func() error {
			_, err := ebsClient.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
				SnapshotId: id, BlockIndex: aws.Int32(3), DataLength: aws.Int32(block.Size),
				Checksum: aws.String(base64Sum(data)), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
				BlockData: bytes.NewReader(data),
			})
			return err
		},
		"CompleteSnapshot": func() error {
			_, err := ebsClient.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: id, ChangedBlocksCount: aws.Int32(1)})
			return err
		},
		"ListChangedBlocks": func() error {
			_, err := ebsClient.ListChangedBlocks(ctx, &ebs.ListChangedBlocksInput{SecondSnapshotId: id, FirstSnapshotId: id, MaxResults: aws.Int32(100)})
			return err
		},
		"GetSnapshotBlock": func() error {
			_, err := ebsClient.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: id, BlockIndex: aws.Int32(3), BlockToken: aws.String("A+/=_-")})
			return err
		},
		"DescribeSnapshots": func() error {
			_, err := ec2Client.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*id}})
			return err
		},
	} {
		err := call()
		if e, ok := errors.AsType[*smithyhttp.ResponseError](err); err != nil && (!ok || e.HTTPStatusCode() != 200) {
			t.Errorf("%s: %v", name, err)
		}
		if d := f.ebs; name == "PutSnapshotBlock" && !bytes.Equal(d.body, data) {
			t.Errorf("%s: the door read %d bytes", name, len(d.body))
		}
	}
	if f.ebs.caller.Region != "eu-west-3" || f.ec2.caller.Account != testAccount {
		t.Errorf("callers %v, %v", f.ebs.caller, f.ec2.caller)
	}
}
