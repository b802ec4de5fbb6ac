package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"shale/internal/block"
)

const (
	// leastTimeout and mostTimeout bound the inactivity timeout that the
	// snapshot is started with, in minutes. Spec: ebs-direct §5.2.
	leastTimeout = 60
	mostTimeout  = 4320
	// cleanupTime is how long an upload that failed tries to delete what it
	// began.
	cleanupTime = 10 * time.Second
)

// An UploadRequest asks for an image to become a snapshot.
type UploadRequest struct {
	Path string
	// Parent is the ID of the snapshot that the new one differs little from;
	// empty for none.
	Parent      string
	Description string
	// Tags are given to the snapshot besides LengthTag.
	Tags  []Tag
	Meter *Meter // may be nil
}

// An UploadResult says what an upload did. Its JSON form is that of
// `shale upload --json`.
type UploadResult struct {
	SnapshotID string `json:"snapshot_id"`
	ParentID   string `json:"parent_snapshot_id,omitempty"`
	VolumeSize int64  `json:"volume_size"`  // GiB
	Bytes      int64  `json:"bytes"`        // length of the image
	Blocks     int64  `json:"blocks_total"` // that the image reaches into
	Sent       int64  `json:"blocks_sent"`  // zeroed ones included
	BytesSent  int64  `json:"bytes_sent"`   // of blocks sent
	// Zeroed counts the blocks sent as zeros because the parent holds data
	// where the image has none.
	Zeroed    int64 `json:"blocks_zeroed"`
	Unchanged int64 `json:"blocks_unchanged"` // inherited from the parent
	// Checksum is the aggregate that the server verified, in base64.
	Checksum string  `json:"checksum"`
	Seconds  float64 `json:"seconds"`
}

// Upload sends an image and returns once its snapshot is completed. On failure
// the snapshot that it started is deleted, unless the server has accepted the
// whole and only its verdict is missing. Errors: *ImageChangedError,
// *StateError, *ServiceError, *UnreachableError, *LeftoverError.
func (c *Client) Upload(ctx context.Context, r UploadRequest) (UploadResult, error) {
	began := time.Now()
	src, err := openSource(r.Path)
	if err != nil {
		return UploadResult{}, err
	}
	defer src.Close()
	u := &upload{client: c, request: r, source: src, gib: src.volumeGiB()}
	if err := u.inherit(ctx); err != nil {
		return UploadResult{}, err
	}
	defer u.close()
	if err := u.start(ctx); err != nil {
		return UploadResult{}, fmt.Errorf("upload %s: %w", r.Path, err)
	}
	done, err := u.fill(ctx)
	if err != nil {
		return UploadResult{}, u.cleanUp(ctx, fmt.Errorf("upload %s: %w", r.Path, err))
	}
	u.leaveDigests(ctx, done)
	stats := u.ledger.stats
	return UploadResult{
		SnapshotID: u.id,
		ParentID:   r.Parent,
		VolumeSize: u.gib,
		Bytes:      src.length,
		Blocks:     src.blocks(),
		Sent:       stats.sent,
		BytesSent:  stats.sent * block.Size,
		Zeroed:     stats.zeroed,
		Unchanged:  stats.unchanged,
		Checksum:   u.ledger.checksum().Base64(),
		Seconds:    time.Since(began).Seconds(),
	}, nil
}

// An upload is one Upload under way.
type upload struct {
	client  *Client
	request UploadRequest
	source  *source
	gib     int64       // of the volume
	parent  *digestList // nil without a parent
	draft   *listDraft  // nil if none could be begun
	ledger  *ledger

	id      string // of the snapshot, once started
	started time.Time
	sealed  bool // CompleteSnapshot was accepted
}

// inherit finds out what the parent holds.
func (u *upload) inherit(ctx context.Context) error {
	if u.request.Parent == "" {
		return nil
	}
	parent, err := u.client.Describe(ctx, u.request.Parent)
	if err != nil {
		return err
	}
	if err := usable(parent); err != nil {
		return err
	}
	u.gib = max(u.gib, parent.VolumeSize)
	u.parent, err = u.client.parentDigests(ctx, parent, u.request.Meter)
	return err
}

func (u *upload) start(ctx context.Context) error {
	in := &ebs.StartSnapshotInput{
		VolumeSize: &u.gib,
		// One token for all attempts, or a lost answer leaves a second
		// snapshot behind.
		ClientToken: aws.String(rand.Text()),
		// The timer runs while blocks are only compared, so it must allow for
		// reading the whole volume at a leisurely 34 MiB/s.
		Timeout: aws.Int32(int32(min(leastTimeout+u.gib/2, mostTimeout))),
		Tags:    []types.Tag{{Key: aws.String(LengthTag), Value: aws.String(strconv.FormatInt(u.source.length, 10))}},
	}
	if u.request.Description != "" {
		in.Description = &u.request.Description
	}
	if u.request.Parent != "" {
		in.ParentSnapshotId = &u.request.Parent
	}
	for _, t := range u.request.Tags {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	var out *ebs.StartSnapshotOutput
	err := u.client.toEBS.do(ctx, func(ctx context.Context) (err error) {
		out, err = u.client.ebs.StartSnapshot(ctx, in)
		return err
	})
	if err != nil {
		return err
	}
	u.id, u.started = aws.ToString(out.SnapshotId), time.Now()
	if size := aws.ToInt32(out.BlockSize); size != block.Size {
		return u.cleanUp(ctx, fmt.Errorf("the server has blocks of %d bytes, not %d", size, block.Size))
	}
	return nil
}

// fill sends the blocks, seals the snapshot and waits until it is completed.
func (u *upload) fill(ctx context.Context) (Snapshot, error) {
	if u.client.digests.folder != "" {
		var err error
		if u.draft, err = u.client.digests.draft(); err != nil {
			u.noDigests(ctx, err)
		}
	}
	u.ledger = newLedger(u.draft)
	if err := u.send(ctx); err != nil {
		return Snapshot{}, err
	}
	if err := u.source.checkUnchanged(); err != nil {
		return Snapshot{}, err
	}
	u.request.Meter.begin(PhaseComplete, 0)
	if err := u.complete(ctx); err != nil {
		return Snapshot{}, err
	}
	return u.client.waitCompleted(ctx, u.id)
}

func (u *upload) complete(ctx context.Context) error {
	checksum := u.ledger.checksum().Base64()
	err := u.client.toEBS.do(ctx, func(ctx context.Context) error {
		_, err := u.client.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
			SnapshotId:                &u.id,
			ChangedBlocksCount:        aws.Int32(int32(u.ledger.stats.sent)),
			Checksum:                  &checksum,
			ChecksumAlgorithm:         types.ChecksumAlgorithmChecksumAlgorithmSha256,
			ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("complete snapshot %s: %w", u.id, err)
	}
	u.sealed = true
	return nil
}

// leaveDigests keeps the digests of the completed snapshot for its children.
func (u *upload) leaveDigests(ctx context.Context, s Snapshot) {
	if u.draft == nil {
		return
	}
	draft := u.draft
	u.draft = nil
	list, err := draft.finish(&u.client.digests, s)
	if err != nil {
		u.noDigests(ctx, err)
		return
	}
	list.Close()
}

func (u *upload) noDigests(ctx context.Context, err error) {
	u.client.log.WarnContext(ctx, "no digest list is kept here; a child's upload will read this snapshot", "snapshot", u.id, "err", err)
}

func (u *upload) close() {
	if u.draft != nil {
		u.draft.discard()
	}
	if u.parent != nil {
		u.parent.Close()
	}
}

// A LeftoverError reports an upload that failed and left its snapshot behind:
// because it could not be deleted, or because the server may well complete it.
type LeftoverError struct {
	Snapshot string
	Sealed   bool  // nothing is missing but the server's verdict
	Delete   error // why it could not be deleted, unless Sealed
	Err      error // why the upload failed
}

func (e *LeftoverError) Error() string {
	if e.Sealed {
		return fmt.Sprintf("%v; all of snapshot %s was sent, but whether it completed is not known", e.Err, e.Snapshot)
	}
	return fmt.Sprintf("%v; its snapshot %s could not be deleted: %v", e.Err, e.Snapshot, e.Delete)
}

func (e *LeftoverError) Unwrap() error { return e.Err }

// cleanUp deletes the snapshot of an upload that failed for the given reason
// and returns the reason, with what became of the snapshot.
func (u *upload) cleanUp(ctx context.Context, reason error) error {
	var verdict *StateError
	interrupted := ctx.Err() != nil
	if u.sealed && !interrupted && !errors.As(reason, &verdict) {
		return &LeftoverError{Snapshot: u.id, Sealed: true, Err: reason}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := u.client.Delete(ctx, u.id); err != nil && !IsNotFound(err) {
		return &LeftoverError{Snapshot: u.id, Delete: err, Err: reason}
	}
	u.client.log.InfoContext(ctx, "deleted the unfinished snapshot", "snapshot", u.id)
	return reason
}
