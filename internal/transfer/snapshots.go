package transfer

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"shale/internal/block"
)

// LengthTag is the key of the tag that keeps an image's exact length in
// bytes, in decimal: volumes are whole GiB and images are not.
const LengthTag = "shale:image-bytes"

const (
	firstPoll   = 50 * time.Millisecond
	longestPoll = 2 * time.Second
	// describePage is what DescribeSnapshots allows at most.
	describePage = 1000
	// settleTime is how long AWS was seen to deny a snapshot's blocks after
	// it had called the snapshot completed, with room. Spec: ebs-direct §2.5.
	settleTime = 2 * time.Minute
)

// A Tag is one key and value on a snapshot.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A Snapshot is what EC2 tells of one.
type Snapshot struct {
	ID          string    `json:"snapshot_id"`
	State       string    `json:"status"` // "pending", "completed", "error"
	Message     string    `json:"status_message,omitempty"`
	VolumeSize  int64     `json:"volume_size"` // GiB
	StartTime   time.Time `json:"start_time"`
	CompletedAt time.Time `json:"completed_at,omitzero"`
	Description string    `json:"description,omitempty"`
	Owner       string    `json:"owner_id,omitempty"`
	Encrypted   bool      `json:"encrypted,omitempty"`
	// FullBytes is the size of all its blocks, inherited ones included; nil
	// where the server does not say.
	FullBytes *int64 `json:"full_bytes,omitempty"`
	Tags      []Tag  `json:"tags,omitempty"`
}

// ImageBytes returns the exact length of the image that the snapshot was
// uploaded from, in bytes; ok is false without a usable tag.
func (s *Snapshot) ImageBytes() (n int64, ok bool) {
	for _, t := range s.Tags {
		if t.Key != LengthTag {
			continue
		}
		n, err := strconv.ParseInt(t.Value, 10, 64)
		return n, err == nil && n >= 0 && n <= s.VolumeSize<<30
	}
	return 0, false
}

// settled returns the time until which the snapshot's blocks may be denied
// without its being gone.
func (s *Snapshot) settled() time.Time {
	if s.CompletedAt.IsZero() {
		return time.Time{}
	}
	return s.CompletedAt.Add(settleTime)
}

// blocks is the number of blocks of the volume.
func (s *Snapshot) blocks() block.Index {
	return block.Index(min(s.VolumeSize, block.MaxVolumeGiB) * block.PerGiB)
}

// Describe returns one snapshot. An unknown ID is a *ServiceError for which
// IsNotFound holds.
func (c *Client) Describe(ctx context.Context, id string) (Snapshot, error) {
	var out *ec2.DescribeSnapshotsOutput
	err := c.toEC2.do(ctx, func(ctx context.Context) (err error) {
		out, err = c.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
		return err
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("describe snapshot %s: %w", id, err)
	}
	for _, s := range out.Snapshots {
		if aws.ToString(s.SnapshotId) == id {
			return fromEC2(s), nil
		}
	}
	return Snapshot{}, fmt.Errorf("describe snapshot %s: %s answered without it", id, c.toEC2.endpoint)
}

// List gives the caller's own snapshots in the server's order.
func (c *Client) List(ctx context.Context) iter.Seq2[Snapshot, error] {
	return func(yield func(Snapshot, error) bool) {
		in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: aws.Int32(describePage)}
		for {
			var out *ec2.DescribeSnapshotsOutput
			err := c.toEC2.do(ctx, func(ctx context.Context) (err error) {
				out, err = c.ec2.DescribeSnapshots(ctx, in)
				return err
			})
			if err != nil {
				yield(Snapshot{}, fmt.Errorf("list snapshots: %w", err))
				return
			}
			for _, s := range out.Snapshots {
				if !yield(fromEC2(s), nil) {
					return
				}
			}
			if aws.ToString(out.NextToken) == "" {
				return
			}
			in.NextToken = out.NextToken
		}
	}
}

// Delete removes a snapshot, pending ones included, and the digest list that
// its upload left here.
func (c *Client) Delete(ctx context.Context, id string) error {
	attempts := 0
	err := c.toEC2.do(ctx, func(ctx context.Context) error {
		_, err := c.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		if attempts++; attempts > 1 && IsNotFound(err) {
			return nil // an attempt before this one did it, its answer was lost
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	c.digests.remove(id)
	return nil
}

// waitCompleted polls until the snapshot is completed. A snapshot that ends
// in error is a *StateError.
func (c *Client) waitCompleted(ctx context.Context, id string) (Snapshot, error) {
	for pause := firstPoll; ; pause = min(pause*2, longestPoll) {
		s, err := c.Describe(ctx, id)
		if err != nil {
			return Snapshot{}, err
		}
		switch s.State {
		case string(ec2types.SnapshotStateCompleted):
			return s, nil
		case string(ec2types.SnapshotStatePending):
		default:
			return s, &StateError{Snapshot: id, State: s.State, Message: s.Message}
		}
		if err := sleep(ctx, pause); err != nil {
			return Snapshot{}, err
		}
	}
}

func fromEC2(s ec2types.Snapshot) Snapshot {
	out := Snapshot{
		ID:          aws.ToString(s.SnapshotId),
		State:       string(s.State),
		Message:     aws.ToString(s.StateMessage),
		VolumeSize:  int64(aws.ToInt32(s.VolumeSize)),
		StartTime:   aws.ToTime(s.StartTime),
		CompletedAt: aws.ToTime(s.CompletionTime),
		Description: aws.ToString(s.Description),
		Owner:       aws.ToString(s.OwnerId),
		Encrypted:   aws.ToBool(s.Encrypted),
		FullBytes:   s.FullSnapshotSizeInBytes,
	}
	for _, t := range s.Tags {
		out.Tags = append(out.Tags, Tag{Key: aws.ToString(t.Key), Value: aws.ToString(t.Value)})
	}
	return out
}
