package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"golang.org/x/sync/errgroup"
)

const blockSize = 512 << 10

// TestRealImage puts a real ext4 image and an increment of it into shale with
// the AWS SDK for Go and gets both back bit for bit.
func TestRealImage(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"mkfs.ext4", "debugfs", "e2fsck"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no real image without e2fsprogs: %v", err)
		}
	}
	s := startServer(t)
	u := uploader{ebs: s.ebs(t), ec2: s.ec2(t)}
	goroot, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	command(t, "mkfs.ext4", "-q", "-F", "-L", "shale-test", "-d", filepath.Join(strings.TrimSpace(string(goroot)), "src", "crypto"), image, "128M")

	base, written := u.upload(t, image, nil, "")
	first := readFile(t, image)
	if total := len(first) / blockSize; written == 0 || written >= total {
		t.Errorf("%d of %d blocks were written; an image has data and holes", written, total)
	}

	extra := filepath.Join(t.TempDir(), "extra")
	if err := os.WriteFile(extra, bytes.Repeat([]byte("an increment\n"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "debugfs", "-w", "-R", "write "+extra+" extra", image)
	command(t, "debugfs", "-w", "-R", "rm rsa/rsa.go", image)
	child, changed := u.upload(t, image, first, base)
	second := readFile(t, image)
	if changed == 0 || changed >= written {
		t.Errorf("the increment has %d blocks, the whole image %d", changed, written)
	}

	for snapshot, want := range map[string][]byte{base: first, child: second} {
		got := u.download(t, snapshot)
		if !bytes.Equal(got[:len(want)], want) || len(bytes.Trim(got[len(want):], "\x00")) > 0 {
			t.Errorf("snapshot %s is not the image that was uploaded", snapshot)
		}
		restored := filepath.Join(t.TempDir(), "restored")
		if err := os.WriteFile(restored, got[:len(want)], 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "e2fsck", "-f", "-n", restored)
	}
	if n := u.changedBlocks(t, base, child); n != changed {
		t.Errorf("ListChangedBlocks: %d blocks, %d were written and all differed", n, changed)
	}
}

// An uploader copies volumes with the SDK's clients, as a user's program would.
type uploader struct {
	ebs *ebs.Client
	ec2 *ec2.Client
}

// upload makes a snapshot of the file. With a parent, whose bytes are before,
// it sends the blocks that differ, else those that are not zero. It returns how
// many these were.
func (u uploader) upload(t *testing.T, file string, before []byte, parent string) (id string, written int) {
	t.Helper()
	data := readFile(t, file)
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Description: aws.String(filepath.Base(file))}
	if parent != "" {
		in.ParentSnapshotId = aws.String(parent)
	} else {
		before = make([]byte, len(data))
	}
	started, err := u.ebs.StartSnapshot(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	aggregate := sha256.New()
	var group errgroup.Group
	group.SetLimit(16)
	for offset := 0; offset < len(data); offset += blockSize {
		b := data[offset : offset+blockSize]
		if bytes.Equal(b, before[offset:offset+blockSize]) {
			continue
		}
		sum := sha256.Sum256(b)
		aggregate.Write(sum[:])
		written++
		group.Go(func() error {
			return putBlock(t.Context(), u.ebs, *started.SnapshotId, offset/blockSize, b)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	done, err := u.ebs.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{
		SnapshotId:                started.SnapshotId,
		ChangedBlocksCount:        aws.Int32(int32(written)),
		Checksum:                  aws.String(base64.StdEncoding.EncodeToString(aggregate.Sum(nil))),
		ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
	})
	if err != nil {
		t.Fatal(err)
	}
	if done.Status != ebstypes.StatusPending {
		t.Errorf("CompleteSnapshot: status %s, want pending", done.Status)
	}
	err = ec2.NewSnapshotCompletedWaiter(u.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second
	}).Wait(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*started.SnapshotId}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return *started.SnapshotId, written
}

// putBlock writes one block.
func putBlock(ctx context.Context, c *ebs.Client, snapshot string, index int, data []byte) error {
	sum := sha256.Sum256(data)
	_, err := c.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId:        aws.String(snapshot),
		BlockIndex:        aws.Int32(int32(index)),
		BlockData:         bytes.NewReader(data),
		DataLength:        aws.Int32(int32(len(data))),
		Checksum:          aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	return err
}

// download reads a whole volume of 1 GiB; holes are zeros.
func (u uploader) download(t *testing.T, snapshot string) []byte {
	t.Helper()
	volume := make([]byte, 1<<30)
	err := eachBlock(t.Context(), u.ebs, snapshot, func(index int, data []byte) error {
		copy(volume[index*blockSize:], data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return volume
}

// eachBlock calls f with every block of a snapshot, in several goroutines at a
// time.
func eachBlock(ctx context.Context, c *ebs.Client, snapshot string, f func(index int, data []byte) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	group.Go(func() error {
		var token *string
		for {
			page, err := c.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{
				SnapshotId: aws.String(snapshot), NextToken: token, MaxResults: aws.Int32(100),
			})
			if err != nil {
				return err
			}
			for _, b := range page.Blocks {
				group.Go(func() error {
					data, err := getBlock(ctx, c, snapshot, *b.BlockIndex, *b.BlockToken)
					if err != nil {
						return err
					}
					return f(int(*b.BlockIndex), data)
				})
			}
			if token = page.NextToken; token == nil {
				return nil
			}
		}
	})
	return group.Wait()
}

// getBlock reads one block and checks it against its checksum.
func getBlock(ctx context.Context, c *ebs.Client, snapshot string, index int32, token string) ([]byte, error) {
	got, err := c.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
		SnapshotId: aws.String(snapshot), BlockIndex: aws.Int32(index), BlockToken: aws.String(token),
	})
	if err != nil {
		return nil, err
	}
	defer got.BlockData.Close()
	data, err := io.ReadAll(got.BlockData)
	if err != nil {
		return nil, fmt.Errorf("block %d of %s: %w", index, snapshot, err)
	}
	sum := sha256.Sum256(data)
	if len(data) != blockSize || base64.StdEncoding.EncodeToString(sum[:]) != aws.ToString(got.Checksum) {
		return nil, fmt.Errorf("block %d of %s: %d bytes that do not match their checksum", index, snapshot, len(data))
	}
	return data, nil
}

func (u uploader) changedBlocks(t *testing.T, first, second string) (n int) {
	t.Helper()
	var token *string
	for {
		page, err := u.ebs.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{
			FirstSnapshotId: aws.String(first), SecondSnapshotId: aws.String(second), NextToken: token,
		})
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.ChangedBlocks)
		if token = page.NextToken; token == nil {
			return n
		}
	}
}

// command runs a program, which has to succeed.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
