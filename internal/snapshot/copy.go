package snapshot

import (
	"context"
	"errors"
	"strconv"
	"time"

	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/kms"
)

const (
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
	// a Lineage of its own. At a limit it fails with an *Error of code
	// TooManyCopies or TooManySnapshots.
	CreateCopy(ctx context.Context, c Copy, l Limits) (created Copy, err error)
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
	source, err := s.copySource(ctx, c, &r)
	if err != nil {
		return Snapshot{}, err
	}
	name, err := s.copyKey(ctx, c, &r, source)
	if err != nil || r.DryRun {
		return Snapshot{}, s.storeError(err)
	}
	id, err := newID()
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	n := Copy{SourceRegion: r.SourceRegion, SourceID: r.SourceID, Snapshot: Snapshot{
		ID: id, Account: c.Account, Region: c.Region, Message: copyWaits,
		Description: r.Description, Tags: r.Tags, StartTime: s.now().UTC().Truncate(time.Millisecond),
		CompletionMinutes: r.completionMinutes(),
	}}
	if source == nil {
		// Whether the copy is encrypted could not be settled by its source, which
		// must not be read if it appears before the copy is made.
		n.Refused = sourceNotFound
	} else if err := s.mayRead(ctx, c, source); inaccessible(err) {
		n.Refused = keyInaccessible
	} else if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if name != "" {
		arn, key, err := s.keyring.Domain(ctx, c.kms(id), name)
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
	created, err := s.catalog.CreateCopy(ctx, n, s.limits(c))
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	s.folds.kick()
	return created.Snapshot, nil
}

// copySource finds the source of a copy and is admit for the copy, which takes
// the right to the source, whether that is there or not, and to a new snapshot.
// That it is not there, nil, fails later. Spec: ec2-snapshots §5.
func (s *Service) copySource(ctx context.Context, c Caller, r *CopyRequest) (*Snapshot, error) {
	source, _, err := s.visible(ctx, Caller{Account: c.Account, Region: r.SourceRegion}, r.SourceID)
	found := err == nil
	if !found {
		if !gone(err) {
			return nil, s.storeError(err)
		}
		source = Snapshot{ID: r.SourceID, Region: r.SourceRegion}
	}
	needs := []need{{action: CopySnapshot}, {action: CopySnapshot, of: anySnapshot, tags: r.Tags}}
	if len(r.Tags) > 0 {
		needs = append(needs, need{action: CreateTags, of: anySnapshot, tags: r.Tags, about: func(key string) []string {
			if key == "ec2:createaction" {
				return []string{"CopySnapshot"}
			}
			return nil
		}})
	}
	if err := s.admit(ctx, c, &source, needs...); err != nil || !found {
		return nil, err
	}
	return &source, nil
}

// mayRead asks whether the caller may read the source of a copy with its key, in
// the source's region. That can be asked only now: when it is read, the key's
// policy only has to allow something to somebody of the account.
func (s *Service) mayRead(ctx context.Context, c Caller, source *Snapshot) error {
	if !source.Encrypted() {
		return nil
	}
	c.Region = source.Region
	_, err := s.keyring.Check(ctx, c.kms(source.ID), source.KMSKeyARN, kms.DescribeKey, kms.Decrypt)
	return keyError(err, useRead, c, source.KMSKeyARN)
}

// copyKey gives the name of the key that a copy is to be encrypted with, empty
// for none. What an account encrypts by default counts as of the request. Only
// whether the source is encrypted is asked of it; it is nil if it is not there.
// Spec: ec2-snapshots §5.
func (s *Service) copyKey(ctx context.Context, c Caller, r *CopyRequest, source *Snapshot) (name string, err error) {
	byDefault, name, err := s.defaults(ctx, c)
	if err != nil {
		return "", err
	}
	asked := r.Encrypted != nil && *r.Encrypted
	encrypted := source != nil && source.Encrypted()
	switch {
	case r.KMSKey != nil:
		if source != nil && !encrypted && !asked && !byDefault {
			return "", &Error{Code: KeyWithoutEncryption, Field: "encrypted"}
		}
		return *r.KMSKey, nil
	case !encrypted && !asked && !byDefault:
		return "", nil
	}
	return name, nil
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
	caller := c.Snapshot.worker()
	if to, err = s.writeKey(ctx, caller, &c.Snapshot); err != nil {
		return nil, nil, err
	}
	caller.Region = c.SourceRegion
	from, err = s.readKey(ctx, caller, source)
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
