package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"shale/internal/block"
)

const (
	// maxCopies is how many copies an account may have in progress in a
	// region. Spec: ec2-snapshots §5.
	maxCopies = 20

	// copyWaits is what a copy says of itself while it is pending.
	copyWaits = "Metadata not updated"
)

// Why a copy failed, in AWS's words. Spec: ec2-snapshots §5.
const (
	sourceIncomplete = "Source snapshot is not complete"
	sourceNotFound   = "Source snapshot is not found"
)

// CopyRequest asks for a copy of a snapshot in the region of the caller.
// Spec: ec2-snapshots §5.
type CopyRequest struct {
	SourceRegion      string
	SourceID          string
	Description       *string
	Tags              []Tag
	Encrypted         *bool
	KMSKey            *string // its ID, its ARN, or the name or ARN of an alias
	CompletionMinutes *int64  // a wish, which is shown
	DryRun            bool    // everything is checked, nothing made
}

// A Copy is a copy that is in progress.
type Copy struct {
	Snapshot     Snapshot
	SourceRegion string
	SourceID     string
}

// A CopyResult is what a copy takes over from its source.
type CopyResult struct {
	// SourceKey is the source that has to be completed still when the copy
	// is, 0 if none has to.
	SourceKey  int64
	Root       block.ID
	Blocks     int64
	VolumeSize int64 // GiB
	Lineage    int64
}

// A CopyCatalog keeps the copies that are in progress.
type CopyCatalog interface {
	// CreateCopy adds a snapshot in the state Copying and gives it its Key and
	// a Lineage of its own. It does nothing if the account has so many copies
	// in progress in the region.
	CreateCopy(ctx context.Context, c Copy, limit int) (created Copy, done bool, err error)
	// Copies gives the copies in progress, the oldest first.
	Copies(ctx context.Context) ([]Copy, error)
	// FinishCopy makes a copy in progress completed. The days of its lock begin
	// to count.
	FinishCopy(ctx context.Context, key int64, r CopyResult) (done bool, err error)
}

// Copy makes a copy of a snapshot that the caller may read. It returns once
// the copy is durable, pending and empty; what the source is, and whether it
// can be copied, shows later, in the copy's state. Spec: ec2-snapshots §5.
func (s *Service) Copy(ctx context.Context, c Caller, r CopyRequest) (Snapshot, error) {
	if err := r.check(); err != nil || r.DryRun {
		return Snapshot{}, err
	}
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		return Snapshot{}, s.storeError(err)
	}
	created, done, err := s.catalog.CreateCopy(ctx, Copy{
		Snapshot: Snapshot{
			ID: makeID(binary.BigEndian.Uint64(number[:])), Account: c.Account, Region: c.Region, Message: copyWaits,
			Description: r.Description, Tags: r.Tags, StartTime: s.now().UTC().Truncate(time.Millisecond),
			CompletionMinutes: r.completionMinutes(),
		},
		SourceRegion: r.SourceRegion, SourceID: r.SourceID,
	}, maxCopies)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if !done {
		return Snapshot{}, &Error{Code: TooManyCopies, Value: strconv.Itoa(maxCopies)}
	}
	s.folds.kick()
	return created.Snapshot, nil
}

// check refuses what is wrong whatever the source is.
func (r *CopyRequest) check() error {
	var v violations
	v.snapshotID("sourceSnapshotId", r.SourceID)
	v.text("description", r.Description, 255, pattern{})
	v.number("completionDurationMinutes", r.CompletionMinutes, 15, 2880)
	if m := r.completionMinutes(); m%15 != 0 {
		v.add("completionDurationMinutes", strconv.FormatInt(m, 10), "Member must be a multiple of 15")
	}
	if err := v.err(); err != nil {
		return err
	}
	if r.Description != nil && !legibleXML(*r.Description) {
		return &Error{Code: InvalidText, Field: "description"}
	}
	return checkNewTags(r.Tags)
}

func (r *CopyRequest) completionMinutes() int64 {
	if r.CompletionMinutes == nil {
		return 0
	}
	return *r.CompletionMinutes
}

// runCopy completes a copy or lets it fail. It may be repeated after any error,
// and after a crash at any point.
func (s *Service) runCopy(ctx context.Context, c *Copy) error {
	source, why, err := s.source(ctx, c)
	if err != nil {
		return err
	}
	if why != "" {
		return s.failCopy(ctx, c, why)
	}
	// The map is the source's own; nothing is copied. If the source is deleted
	// before, the next look at it finds that out.
	done, err := s.catalog.FinishCopy(ctx, c.Snapshot.Key, CopyResult{
		SourceKey: source.Key, Root: source.Root, Blocks: source.Blocks, VolumeSize: source.VolumeSize, Lineage: source.Lineage,
	})
	if err == nil && done {
		s.log.InfoContext(ctx, "snapshot copied", "snapshot", c.Snapshot.ID, "source", source.ID)
	}
	return err
}

// source finds what is to be copied. why says why that cannot be.
func (s *Service) source(ctx context.Context, c *Copy) (source Snapshot, why string, err error) {
	source, _, err = s.visible(ctx, Caller{Account: c.Snapshot.Account, Region: c.SourceRegion}, c.SourceID)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Code == NotFound:
		return Snapshot{}, sourceNotFound, nil
	case err != nil:
		return Snapshot{}, "", err
	}
	switch source.State {
	case Completed:
		return source, "", nil
	case Open, Completing, Copying:
		return Snapshot{}, sourceIncomplete, nil
	default: // nothing of it can be read
		return Snapshot{}, sourceNotFound, nil
	}
}

func (s *Service) failCopy(ctx context.Context, c *Copy, why string) error {
	done, err := s.catalog.Fail(ctx, c.Snapshot.Key, why)
	if err == nil && done {
		s.log.InfoContext(ctx, "snapshot copy failed", "snapshot", c.Snapshot.ID, "reason", why)
	}
	return err
}
