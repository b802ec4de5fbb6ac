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
	"shale/internal/quota"
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
	for attempt := range maxAttempts {
		snap, err := s.start(ctx, c, &r, attempt)
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

// start is one attempt of Start, of which the first counts for its rate. It fails
// with ErrRaced if what it saw did not hold until the end.
func (s *Service) start(ctx context.Context, c Caller, r *StartRequest, attempt int) (Snapshot, error) {
	n := NewSnapshot{Limits: s.limits(c), Snapshot: Snapshot{
		Account: c.Account, Region: c.Region, Description: r.Description, VolumeSize: *r.VolumeSize, Tags: r.Tags,
	}}
	bound := bind(r)
	var replayed Snapshot
	var known bool
	var mismatch, err error
	if r.ClientToken != nil {
		if replayed, known, mismatch, err = s.replay(ctx, c, *r.ClientToken, bound); err != nil {
			return Snapshot{}, err
		}
		n.Token = *r.ClientToken
		if n.Request, err = json.Marshal(bound); err != nil {
			return Snapshot{}, err
		}
	}
	var parent *Snapshot
	if r.ParentSnapshotID != nil {
		found, err := s.own(ctx, c, *r.ParentSnapshotID)
		switch {
		case err == nil:
			parent = &found
		case known && gone(err): // since
			parent = &Snapshot{ID: *r.ParentSnapshotID, Account: c.Account, Region: c.Region}
		default:
			return Snapshot{}, blame(err, "parentSnapshotId")
		}
	}
	if err := s.admitStart(ctx, c, r, parent); err != nil {
		return Snapshot{}, err
	}
	if attempt == 0 {
		if err := s.throttle(c, quota.StartRate, ""); err != nil {
			return Snapshot{}, err
		}
	}
	if known {
		return replayed, mismatch
	}
	if n.Snapshot.ID, err = newID(); err != nil {
		return Snapshot{}, err
	}
	var arn string
	var key *domain.Key
	if parent == nil {
		arn, key, err = s.newDomain(ctx, c, r, n.Snapshot.ID)
	} else {
		if err := parent.mayBegin(*r.VolumeSize); err != nil {
			return Snapshot{}, err
		}
		if s.unreadable(parent.ID) {
			return Snapshot{}, &Error{Code: ParentIncomplete, Snapshot: parent.ID, Field: "parentSnapshotId"}
		}
		arn = parent.KMSKeyARN
		key, err = s.parentDomain(ctx, c, parent, n.Snapshot.ID)
		n.ParentKey = parent.Key
		n.Snapshot.ParentID, n.Snapshot.Lineage = parent.ID, parent.Lineage
		n.Snapshot.Base, n.Snapshot.BaseBlocks = parent.Root, parent.Blocks
	}
	if err != nil {
		return Snapshot{}, err
	}
	n.Snapshot.StartTime = s.now().UTC().Truncate(time.Millisecond)
	n.Snapshot.Timeout = time.Duration(bound.Timeout) * time.Minute
	n.Snapshot.Deadline = n.Snapshot.StartTime.Add(n.Snapshot.Timeout)
	n.Snapshot.encrypt(arn, key)
	created, err := s.catalog.Create(ctx, n)
	if err == nil {
		s.lagStart(c.whim(), created.ID)
	}
	if atLimit(err) && r.ClientToken != nil {
		// The last for which there was room may be that of the same request,
		// sent twice.
		replayed, known, mismatch, err := s.replay(ctx, c, *r.ClientToken, bound)
		if err != nil || known {
			return replayed, cmp.Or(err, mismatch)
		}
	}
	return created, err
}

// newID draws the ID of a new snapshot.
func newID() (string, error) {
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		return "", err
	}
	return makeID(binary.BigEndian.Uint64(number[:])), nil
}

// admitStart is admit for a new snapshot, which is judged by the parent that it
// starts from, nil for none. Tags take the right to give them to a snapshot that
// is not there yet. Spec: ebs-direct §11.2.
func (s *Service) admitStart(ctx context.Context, c Caller, r *StartRequest, parent *Snapshot) error {
	if c.free() {
		return s.admit(ctx, c, parent, need{action: StartSnapshot})
	}
	start := need{action: StartSnapshot, of: noSnapshot, tags: r.Tags, about: func(key string) []string {
		switch {
		case key == "ebs:volumesize":
			return []string{strconv.FormatInt(*r.VolumeSize, 10)}
		case key == "ebs:description" && r.Description != nil:
			return []string{*r.Description}
		case key == "ebs:parentsnapshot" && parent != nil:
			return []string{snapshotARN(c.Region, parent.ID)}
		}
		return nil
	}}
	if parent != nil {
		start.of = ""
	}
	needs := []need{start}
	if len(r.Tags) > 0 {
		needs = append(needs, need{action: CreateTags, of: anySnapshot, tags: r.Tags})
	}
	return s.admit(ctx, c, parent, needs...)
}

// mayBegin refuses a snapshot as the parent of one that is to have the size, in
// GiB.
func (s *Snapshot) mayBegin(volumeSize int64) error {
	switch s.State {
	case Completed:
	case Open, Completing, Copying:
		return &Error{Code: ParentIncomplete, Snapshot: s.ID, Field: "parentSnapshotId"}
	default:
		return &Error{Code: NotFound, Snapshot: s.ID, Field: "parentSnapshotId"}
	}
	if volumeSize < s.VolumeSize {
		return &Error{
			Code: VolumeSmallerThanParent, Snapshot: s.ID, Field: "volumeSize",
			Value: strconv.FormatInt(volumeSize, 10), Expected: strconv.FormatInt(s.VolumeSize, 10),
		}
	}
	return nil
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

// replay gives the answer to a request whose client token is bound already: the
// snapshot as it was, or the error that the request is not the one bound.
func (s *Service) replay(ctx context.Context, c Caller, clientToken string, request boundRequest) (_ Snapshot, known bool, mismatch, err error) {
	stored, snap, found, err := s.catalog.Bound(ctx, c.Account, c.Region, clientToken)
	if err != nil || !found {
		return Snapshot{}, false, nil, err
	}
	var bound boundRequest
	if err := json.Unmarshal(stored, &bound); err != nil {
		return Snapshot{}, false, nil, fmt.Errorf("request bound to a client token: %w", err)
	}
	if !bound.equal(request) {
		return Snapshot{}, true, &Error{Code: ClientTokenReused, Snapshot: snap.ID, Field: "clientToken"}, nil
	}
	return Snapshot{ // as it was
		Key: snap.Key, ID: snap.ID, Account: snap.Account, Region: snap.Region, State: Open,
		ParentID: snap.ParentID, Lineage: snap.Lineage, Description: snap.Description, VolumeSize: snap.VolumeSize,
		StartTime: snap.StartTime, Timeout: snap.Timeout, Deadline: snap.StartTime.Add(snap.Timeout),
		Tags: bound.Tags, Base: snap.Base, BaseBlocks: snap.BaseBlocks, Domain: snap.Domain, KMSKeyARN: snap.KMSKeyARN,
	}, true, nil, nil
}
