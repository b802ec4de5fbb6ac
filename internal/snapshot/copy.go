package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/kms"
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
	keyInaccessible  = "Given key ID is not accessible"
	damagedSource    = "Damaged data in the source snapshot" // shale's own
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
	// Refused says why it will fail, in the words of the wire; empty if that
	// is not known from the beginning.
	Refused string
}

// A CopyResult is what makes a copy completed.
type CopyResult struct {
	// SourceKey is the source that has to be completed still when the copy
	// is, 0 if none has to.
	SourceKey  int64
	Map        Map
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
	if err := r.check(); err != nil {
		return Snapshot{}, err
	}
	name, found, err := s.copyKey(ctx, c, &r)
	if err != nil || r.DryRun {
		return Snapshot{}, s.storeError(err)
	}
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		return Snapshot{}, s.storeError(err)
	}
	n := Copy{SourceRegion: r.SourceRegion, SourceID: r.SourceID, Snapshot: Snapshot{
		ID: makeID(binary.BigEndian.Uint64(number[:])), Account: c.Account, Region: c.Region, Message: copyWaits,
		Description: r.Description, Tags: r.Tags, StartTime: s.now().UTC().Truncate(time.Millisecond),
		CompletionMinutes: r.completionMinutes(),
	}}
	if !found {
		// Whether the copy is encrypted could not be settled by its source, which
		// must not be read if it appears before the copy is made.
		n.Refused = sourceNotFound
	}
	if name != "" {
		arn, key, err := s.keyring.Domain(ctx, c.kms(), name)
		if region, _ := owner(arn); err == nil && region != c.Region {
			err = &kms.Error{Code: kms.NotFound}
		}
		if err = keyError(err, useDefault, c, name); inaccessible(err) {
			n.Refused = keyInaccessible
		} else if err != nil {
			return Snapshot{}, s.storeError(err)
		} else {
			n.Snapshot.encrypt(arn, key)
		}
	}
	created, done, err := s.catalog.CreateCopy(ctx, n, maxCopies)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if !done {
		return Snapshot{}, &Error{Code: TooManyCopies, Value: strconv.Itoa(maxCopies)}
	}
	s.folds.kick()
	return created.Snapshot, nil
}

// copyKey gives the name of the key that a copy is to be encrypted with, empty
// for none. What an account encrypts by default counts as of the request. Only
// whether the source is encrypted is asked of it; found is false if it is not
// there, which fails later. Spec: ec2-snapshots §5.
func (s *Service) copyKey(ctx context.Context, c Caller, r *CopyRequest) (name string, found bool, err error) {
	source, _, err := s.visible(ctx, Caller{Account: c.Account, Region: r.SourceRegion}, r.SourceID)
	found = err == nil
	if !found && !gone(err) {
		return "", false, err
	}
	byDefault, name, err := s.defaults(ctx, c)
	if err != nil {
		return "", false, err
	}
	asked := r.Encrypted != nil && *r.Encrypted
	switch {
	case r.KMSKey != nil:
		if found && !source.Encrypted() && !asked && !byDefault {
			return "", false, &Error{Code: KeyWithoutEncryption, Field: "encrypted"}
		}
		return *r.KMSKey, found, nil
	case !source.Encrypted() && !asked && !byDefault:
		return "", found, nil
	}
	return name, found, nil
}

// finished reports whether an error says that a snapshot is completed already.
func finished(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == AlreadyCompleted
}

// gone reports whether an error says that a snapshot is not there.
func gone(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == NotFound
}

// inaccessible reports whether an error says that a key cannot be used, by
// this caller or at all.
func inaccessible(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Code == KeyNotFound || e.Code == KeyRefused || e.Code == InvalidKey)
}

// check refuses what is wrong whatever the source is.
func (r *CopyRequest) check() error {
	var v violations
	v.snapshotID("sourceSnapshotId", r.SourceID)
	v.text("description", r.Description, 255, pattern{})
	v.text("kmsKeyId", r.KMSKey, 2048, anyPattern)
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
// and after a crash at any point: until the last transaction nothing refers to
// what it stored.
func (s *Service) runCopy(ctx context.Context, c *Copy) error {
	if c.Refused != "" {
		return s.failCopy(ctx, c, c.Refused)
	}
	source, why, err := s.source(ctx, c)
	if err != nil {
		return err
	}
	if why != "" {
		return s.failCopy(ctx, c, why)
	}
	hold := s.store.Hold() // as in fold
	defer hold.Release()
	result, err := s.copyMap(ctx, c, &source, hold)
	switch {
	case inaccessible(err):
		return s.failCopy(ctx, c, keyInaccessible)
	case gone(err), finished(err): // the copy itself, by others, while it was written to
		return nil
	case lasting(err):
		if _, why, lookErr := s.source(ctx, c); lookErr != nil {
			return lookErr
		} else if why != "" { // it was deleted meanwhile
			return s.failCopy(ctx, c, why)
		}
		s.log.ErrorContext(ctx, "snapshot cannot be copied", "snapshot", c.Snapshot.ID, "source", source.ID, "err", err)
		return s.failCopy(ctx, c, damagedSource)
	case err != nil:
		return err
	}
	if result.Map, err = s.describeCompletion(ctx, c.Snapshot.Key, result); err != nil {
		return err
	}
	// If the source is deleted before, the next look at it finds that out.
	done, err := s.catalog.FinishCopy(ctx, c.Snapshot.Key, result)
	if err == nil && done {
		err = s.describe(ctx, c.Snapshot.ID)
		s.log.InfoContext(ctx, "snapshot copied", "snapshot", c.Snapshot.ID, "source", source.ID)
	}
	return err
}

// copyMap gives the map of a copy. In the domain of the source that is the
// source's own and nothing is copied; in another one the blocks are written
// into it first.
func (s *Service) copyMap(ctx context.Context, c *Copy, source *Snapshot, hold *blockstore.Hold) (CopyResult, error) {
	_, to, err := s.copyKeys(ctx, c, source)
	if err != nil {
		return CopyResult{}, err
	}
	result := CopyResult{
		SourceKey: source.Key, Map: Map{Root: source.Root, Blocks: source.Blocks}, VolumeSize: source.VolumeSize, Lineage: source.Lineage,
	}
	if source.Domain != c.Snapshot.Domain {
		result.SourceKey, result.Lineage = 0, c.Snapshot.Lineage
		if result.Map.Root, err = s.translate(ctx, c, source, hold); err != nil {
			return CopyResult{}, err
		}
	}
	if to != nil {
		result.Map.MAC = to.MAC(domain.OwnMap, c.Snapshot.ID, result.VolumeSize, result.Map.Root)
	}
	return result, nil
}

// copyKeys gives the keys of the source and of the copy, if the copy's account
// may use them now.
func (s *Service) copyKeys(ctx context.Context, c *Copy, source *Snapshot) (from, to *domain.Key, err error) {
	caller := Caller{Account: c.Snapshot.Account, Region: c.Snapshot.Region}
	if from, err = s.readKey(ctx, caller, source); err != nil {
		return nil, nil, err
	}
	to, err = s.writeKey(ctx, caller, &c.Snapshot)
	return from, to, err
}

// source finds what is to be copied. why says why that cannot be.
func (s *Service) source(ctx context.Context, c *Copy) (source Snapshot, why string, err error) {
	source, _, err = s.visible(ctx, Caller{Account: c.Snapshot.Account, Region: c.SourceRegion}, c.SourceID)
	switch {
	case gone(err):
		return Snapshot{}, sourceNotFound, nil
	case err != nil:
		return Snapshot{}, "", err
	case source.Encrypted() && !c.Snapshot.Encrypted():
		// The copy was asked for when this was not there, or not shared yet:
		// else it would be encrypted. In the clear it is never written down.
		return Snapshot{}, sourceNotFound, nil
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
