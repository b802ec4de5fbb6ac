package snapshot

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"shale/internal/block"
	"shale/internal/domain"
)

const (
	maxTags        = 50
	defaultTimeout = 60 // minutes
	// maxAttempts bounds how often Start begins anew when it raced with
	// another request.
	maxAttempts = 16
)

// Start makes a new pending snapshot; it and its tags and client token are
// durable on return. A request whose client token is bound already gets the
// snapshot as it was then, pending. Spec: ebs-direct §3.
func (s *Service) Start(ctx context.Context, c Caller, r StartRequest) (Snapshot, error) {
	if err := r.check(); err != nil {
		return Snapshot{}, err
	}
	for range maxAttempts {
		snap, err := s.start(ctx, c, &r)
		if !errors.Is(err, ErrRaced) {
			s.usageChanged() // it holds its parent's blocks
			return snap, s.storeError(err)
		}
	}
	return Snapshot{}, &Error{Code: Internal, Err: fmt.Errorf("start snapshot: raced %d times", maxAttempts)}
}

// check refuses what is wrong whatever the state of the service.
func (r *StartRequest) check() error {
	var v violations
	if r.VolumeSize == nil {
		v.missing("volumeSize")
	} else if *r.VolumeSize < 1 {
		v.add("volumeSize", strconv.FormatInt(*r.VolumeSize, 10), "Member must have value greater than or equal to 1")
	}
	v.text("parentSnapshotId", r.ParentSnapshotID, 64, snapshotIDPattern)
	v.tags(r.Tags)
	v.text("description", r.Description, 255, anyPattern)
	v.text("clientToken", r.ClientToken, 255, noSpacePattern)
	v.text("kmsKeyArn", r.KMSKeyARN, 2048, keyARNPattern)
	v.number("timeout", r.Timeout, 10, 4320)
	if err := v.err(); err != nil {
		return err
	}
	if *r.VolumeSize > block.MaxVolumeGiB {
		return &Error{Code: VolumeTooLarge, Field: "volumeSize", Value: strconv.FormatInt(*r.VolumeSize, 10)}
	}
	if err := r.checkEncryption(); err != nil {
		return err
	}
	if r.Description != nil && !legibleXML(*r.Description) {
		return &Error{Code: InvalidText, Field: "description"}
	}
	return checkTags(r.Tags)
}

// checkEncryption refuses what the outcome matrix refuses whatever the
// account's defaults are. Spec: ebs-direct §6.1.
func (r *StartRequest) checkEncryption() error {
	switch {
	case r.ParentSnapshotID != nil && r.KMSKeyARN != nil:
		return &Error{Code: ParentWithKey, Field: "kmsKeyArn"}
	case r.ParentSnapshotID != nil && r.Encrypted != nil:
		return &Error{Code: ParentWithEncrypted, Field: "encrypted"}
	case r.KMSKeyARN != nil && r.Encrypted != nil && !*r.Encrypted:
		return &Error{Code: KeyWithoutEncryption, Field: "encrypted"}
	}
	return nil
}

// checkTags applies the rules beyond the model's. Spec: ebs-direct §8.3.
func checkTags(tags []Tag) error {
	invalid := func(format string, args ...any) error {
		return &Error{Code: InvalidTag, Field: "tags", Err: fmt.Errorf(format, args...)}
	}
	if len(tags) > maxTags {
		return invalid("%d tags, the most is %d", len(tags), maxTags)
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		switch {
		case strings.HasPrefix(t.Key, "aws:"):
			return invalid("key %q: the prefix aws: is reserved", t.Key)
		case seen[t.Key]:
			return invalid("key %q is given twice", t.Key)
		case !legibleXML(t.Key) || !legibleXML(t.Value):
			return invalid("key %q: key or value holds a character that XML 1.0 cannot carry", t.Key)
		}
		seen[t.Key] = true
	}
	return nil
}

// start is one attempt of Start. It fails with ErrRaced if what it saw did not
// hold until the end.
func (s *Service) start(ctx context.Context, c Caller, r *StartRequest) (Snapshot, error) {
	n := NewSnapshot{Snapshot: Snapshot{
		Account: c.Account, Region: c.Region, Description: r.Description, VolumeSize: *r.VolumeSize, Tags: r.Tags,
	}}
	bound := bind(r)
	if r.ClientToken != nil {
		replayed, found, err := s.replay(ctx, c, *r.ClientToken, bound)
		if found || err != nil {
			return replayed, err
		}
		n.Token = *r.ClientToken
		if n.Request, err = json.Marshal(bound); err != nil {
			return Snapshot{}, err
		}
	}
	var arn string
	var key *domain.Key
	var err error
	if r.ParentSnapshotID == nil {
		arn, key, err = s.newDomain(ctx, c, r)
	} else {
		var parent Snapshot
		if parent, err = s.parent(ctx, c, *r.ParentSnapshotID, *r.VolumeSize); err != nil {
			return Snapshot{}, err
		}
		arn = parent.KMSKeyARN
		key, err = s.parentDomain(ctx, c, &parent)
		n.ParentKey = parent.Key
		n.Snapshot.ParentID, n.Snapshot.Lineage = parent.ID, parent.Lineage
		n.Snapshot.Base, n.Snapshot.BaseBlocks = parent.Root, parent.Blocks
	}
	if err != nil {
		return Snapshot{}, err
	}
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		return Snapshot{}, err
	}
	n.Snapshot.ID = makeID(binary.BigEndian.Uint64(number[:]))
	n.Snapshot.StartTime = s.now().UTC().Truncate(time.Millisecond)
	n.Snapshot.Timeout = time.Duration(bound.Timeout) * time.Minute
	n.Snapshot.Deadline = n.Snapshot.StartTime.Add(n.Snapshot.Timeout)
	n.Snapshot.encrypt(arn, key)
	return s.catalog.Create(ctx, n)
}

// parent finds the snapshot that a new one is to start from.
func (s *Service) parent(ctx context.Context, c Caller, id string, volumeSize int64) (Snapshot, error) {
	parent, err := s.own(ctx, c, id)
	if err != nil {
		return Snapshot{}, blame(err, "parentSnapshotId")
	}
	switch parent.State {
	case Completed:
	case Open, Completing, Copying:
		return Snapshot{}, &Error{Code: ParentIncomplete, Snapshot: id, Field: "parentSnapshotId"}
	default:
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id, Field: "parentSnapshotId"}
	}
	if volumeSize < parent.VolumeSize {
		return Snapshot{}, &Error{
			Code: VolumeSmallerThanParent, Snapshot: id, Field: "volumeSize",
			Value: strconv.FormatInt(volumeSize, 10), Expected: strconv.FormatInt(parent.VolumeSize, 10),
		}
	}
	return parent, nil
}

// A boundRequest is the canonical form of a StartRequest that a client token
// is bound to. It is kept as JSON: fields are only ever added, and absent from
// what was written before.
type boundRequest struct {
	VolumeSize       int64   `json:"volume_size"`
	ParentSnapshotID *string `json:"parent_snapshot_id,omitempty"`
	Description      *string `json:"description,omitempty"`
	Tags             []Tag   `json:"tags,omitempty"` // in the order given
	Encrypted        *bool   `json:"encrypted,omitempty"`
	KMSKeyARN        *string `json:"kms_key_arn,omitempty"`
	Timeout          int64   `json:"timeout"` // minutes
}

func bind(r *StartRequest) boundRequest {
	b := boundRequest{
		VolumeSize: *r.VolumeSize, ParentSnapshotID: r.ParentSnapshotID, Description: r.Description, Tags: r.Tags,
		Encrypted: r.Encrypted, KMSKeyARN: r.KMSKeyARN, Timeout: defaultTimeout,
	}
	if r.Timeout != nil {
		b.Timeout = *r.Timeout
	}
	return b
}

// equal compares two requests, their tags as sets.
func (b boundRequest) equal(other boundRequest) bool {
	byKey := func(tags []Tag) []Tag {
		return slices.SortedFunc(slices.Values(tags), func(a, b Tag) int { return cmp.Compare(a.Key, b.Key) })
	}
	b.Tags, other.Tags = byKey(b.Tags), byKey(other.Tags)
	return reflect.DeepEqual(b, other)
}

// replay answers a request whose client token is bound already.
func (s *Service) replay(ctx context.Context, c Caller, clientToken string, request boundRequest) (Snapshot, bool, error) {
	stored, snap, found, err := s.catalog.Bound(ctx, c.Account, c.Region, clientToken)
	if err != nil || !found {
		return Snapshot{}, false, err
	}
	var bound boundRequest
	if err := json.Unmarshal(stored, &bound); err != nil {
		return Snapshot{}, false, fmt.Errorf("request bound to a client token: %w", err)
	}
	if !bound.equal(request) {
		return Snapshot{}, false, &Error{Code: ClientTokenReused, Snapshot: snap.ID, Field: "clientToken"}
	}
	return Snapshot{ // as it was
		Key: snap.Key, ID: snap.ID, Account: snap.Account, Region: snap.Region, State: Open,
		ParentID: snap.ParentID, Lineage: snap.Lineage, Description: snap.Description, VolumeSize: snap.VolumeSize,
		StartTime: snap.StartTime, Timeout: snap.Timeout, Deadline: snap.StartTime.Add(snap.Timeout),
		Tags: bound.Tags, Base: snap.Base, BaseBlocks: snap.BaseBlocks, Domain: snap.Domain, KMSKeyARN: snap.KMSKeyARN,
	}, true, nil
}
