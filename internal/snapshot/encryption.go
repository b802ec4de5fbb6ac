package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"shale/internal/block"
	"shale/internal/domain"
	"shale/internal/kms"
)

// A Keyring keeps the encryption domains and gives their keys to those who may
// use them. Errors are *kms.Error, domain.ErrLost, or a fault of the server's.
type Keyring interface {
	// Domain gives the domain of the KMS key of the name, for new blocks, with
	// the ARN of that key. If there is none it is made; on return it is durable.
	// The caller must be allowed to generate data keys, and to decrypt.
	Domain(ctx context.Context, c kms.Caller, name string) (arn string, key *domain.Key, err error)
	// Check finds the KMS key of the name and asks whether the caller may do the
	// actions with it.
	Check(ctx context.Context, c kms.Caller, name string, actions ...kms.Action) (kms.Key, error)
	// Key gives the key of a domain, if the caller may do the actions with its
	// KMS key, and decrypt.
	Key(ctx context.Context, c kms.Caller, n domain.Number, actions ...kms.Action) (*domain.Key, error)
	// Cached gives the key of a domain if it is in memory, else nil.
	Cached(n domain.Number) *domain.Key
}

// kms is the caller as the KMS sees it, who asks for the blocks of the snapshot,
// or for none. Spec: ebs-direct §6.2.
func (c Caller) kms(snapshotID string) kms.Caller {
	return kms.Caller{Account: c.Account, Region: c.Region, By: c.By, Via: kms.ViaEC2, EBSID: snapshotID, Worker: c.Worker}
}

// worker is the account of a snapshot, for which the server goes on with what
// the account was allowed when it asked.
func (s *Snapshot) worker() Caller { return Caller{Account: s.Account, Region: s.Region, Worker: true} }

// A use is what a caller wants a KMS key for. It decides how a refusal looks.
// Spec: ebs-direct §6.2.
type use int

const (
	useNamed   use = iota // a key that the request names, for a new snapshot
	useDefault            // the default key, for a new snapshot
	useParent             // the key of the parent, for a child
	useWrite              // the key of a snapshot that is being written
	useRead               // the key of a snapshot that is being read
)

// keyError gives the service's error for one of a KMS key's. Its text for the
// log has no ARN.
func keyError(err error, u use, c Caller, arn string) error {
	var refused *kms.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, domain.ErrLost):
		return &Error{Code: DomainLost, Err: domain.ErrLost}
	case errors.Is(err, syscall.ENOSPC):
		return &Error{Code: StorageFull, Err: err}
	case !errors.As(err, &refused):
		return err
	}
	code := KeyRefused
	switch refused.Code {
	case kms.Throttled:
		code = KeyThrottled
	case kms.NotFound, kms.InvalidARN, kms.InvalidUsage:
		code = KeyNotFound
		if u == useNamed {
			code = InvalidKey
		}
	case kms.AccessDenied:
		if u == useRead {
			code = KeyNotFound
		} else if _, account := owner(arn); u == useNamed && account != c.Account {
			code = InvalidKey // whether it is there is not the caller's business
		}
	}
	e := &Error{Code: code, Value: string(refused.Code) + ": " + refused.Text}
	if u == useNamed {
		e.Field = "kmsKeyArn"
	}
	return e
}

// owner gives the region and the account of a key by its ARN:
// arn:aws:kms:REGION:ACCOUNT:key/ID.
func owner(arn string) (region, account string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return "", ""
	}
	return parts[3], parts[4]
}

// newDomain decides whether a snapshot without a parent is encrypted, and in
// which domain: with a nil key it is not. The ID is the one it is to have.
// Spec: ebs-direct §6.1.
func (s *Service) newDomain(ctx context.Context, c Caller, r *StartRequest, id string) (arn string, key *domain.Key, err error) {
	byDefault, name, err := s.defaults(ctx, c)
	if err != nil {
		return "", nil, err
	}
	u := useDefault
	switch {
	case r.KMSKeyARN != nil: // and Encrypted is not false, that has been checked
		u, name = useNamed, *r.KMSKeyARN
		if region, _ := owner(name); region != c.Region {
			return "", nil, &Error{Code: InvalidKey, Field: "kmsKeyArn", Value: "the key is of another region"}
		}
	case r.Encrypted != nil && !*r.Encrypted && byDefault:
		return "", nil, &Error{Code: EncryptionRequired, Field: "encrypted"}
	case !byDefault && (r.Encrypted == nil || !*r.Encrypted):
		return "", nil, nil
	}
	arn, key, err = s.keyring.Domain(ctx, c.kms(id), name)
	return arn, key, keyError(err, u, c, name)
}

// parentDomain gives the domain that a child of the snapshot is in: always the
// parent's. The ID is the child's. Spec: ebs-direct §6.1, §6.2.
func (s *Service) parentDomain(ctx context.Context, c Caller, parent *Snapshot, id string) (*domain.Key, error) {
	if !parent.Encrypted() {
		byDefault, _, err := s.defaults(ctx, c)
		if err == nil && byDefault {
			err = &Error{Code: ParentUnencrypted, Snapshot: parent.ID, Field: "parentSnapshotId"}
		}
		return nil, err
	}
	// Without Decrypt the key is as good as not there; without ReEncrypt it is,
	// but of no use.
	key, err := s.keyring.Key(ctx, c.kms(parent.ID), parent.Domain)
	if err != nil {
		return nil, keyError(err, useRead, c, parent.KMSKeyARN)
	}
	for _, half := range []struct {
		of     string
		action kms.Action
	}{{parent.ID, kms.ReEncryptFrom}, {id, kms.ReEncryptTo}} {
		if _, err := s.keyring.Check(ctx, c.kms(half.of), parent.KMSKeyARN, half.action); err != nil {
			return nil, keyError(err, useParent, c, parent.KMSKeyARN)
		}
	}
	return key, s.verifyMap(parent, key)
}

// writeKey gives the key under which blocks are written to the snapshot, nil
// if it is not encrypted.
func (s *Service) writeKey(ctx context.Context, c Caller, snap *Snapshot) (*domain.Key, error) {
	if !snap.Encrypted() {
		return nil, nil
	}
	key, err := s.keyring.Key(ctx, c.kms(snap.ID), snap.Domain)
	return key, keyError(err, useWrite, c, snap.KMSKeyARN)
}

// readKey gives the key under which blocks of the completed snapshot are read,
// nil if it is not encrypted, and checks that its map is its own.
func (s *Service) readKey(ctx context.Context, c Caller, snap *Snapshot) (*domain.Key, error) {
	if !snap.Encrypted() {
		return nil, nil
	}
	key, err := s.keyring.Key(ctx, c.kms(snap.ID), snap.Domain, kms.DescribeKey)
	if err != nil {
		return nil, keyError(err, useRead, c, snap.KMSKeyARN)
	}
	return key, s.verifyMap(snap, key)
}

// mayList checks that the caller may list blocks of the completed snapshot.
// That takes no key, so it goes on while the key is disabled; if it is in
// memory all the same, the map is checked.
func (s *Service) mayList(ctx context.Context, c Caller, snap *Snapshot) error {
	if !snap.Encrypted() {
		return nil
	}
	if _, err := s.keyring.Check(ctx, c.kms(snap.ID), snap.KMSKeyARN, kms.DescribeKey); err != nil {
		return keyError(err, useRead, c, snap.KMSKeyARN)
	}
	if key := s.keyring.Cached(snap.Domain); key != nil {
		return s.verifyMap(snap, key)
	}
	return nil
}

// mapKind is the map that a snapshot's MAC is of.
func (s *Snapshot) mapKind() (domain.MapKind, block.ID) {
	if s.State == Completed {
		return domain.OwnMap, s.Root
	}
	return domain.BaseMap, s.Base
}

// verifyMap checks that the root of a snapshot's map is the one that was
// recorded with its key.
func (s *Service) verifyMap(snap *Snapshot, key *domain.Key) error {
	kind, root := snap.mapKind()
	if err := key.Verify(snap.MAC, kind, snap.ID, snap.VolumeSize, root); err != nil {
		return &Error{Code: Internal, Snapshot: snap.ID, Err: fmt.Errorf("root of the block map of %s: %w", snap.ID, err)}
	}
	return nil
}

// encrypt puts a new snapshot, of which all else is filled in, into a domain.
func (s *Snapshot) encrypt(arn string, key *domain.Key) {
	if key == nil {
		return
	}
	s.Domain, s.KMSKeyARN = key.Number(), arn
	s.MAC = key.MAC(domain.BaseMap, s.ID, s.VolumeSize, s.Base)
}

// digestOf gives the digest of a block that was written to a pending snapshot
// with the key.
func (b *PendingBlock) digestOf(key *domain.Key) (block.Digest, error) {
	if key == nil {
		return block.Digest(b.ID), nil
	}
	digest, err := key.OpenDigest(b.ID, b.Sealed)
	if err != nil {
		return block.Digest{}, fmt.Errorf("digest of block %d: %w", b.Index, err)
	}
	return digest, nil
}
