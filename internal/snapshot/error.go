package snapshot

import (
	"fmt"
	"strings"

	"shale/internal/block"
)

// A Code names one condition that the specification tells apart. It is a word
// of the domain: each dialect maps it to its own status, type and text, in one
// table.
type Code int

// The conditions under which the service refuses a request.
const (
	// Internal is a fault of the server's own. Its cause is for the log only.
	Internal Code = iota
	// InvalidRequest: values outside the model's constraints, listed in
	// Error.Violations. Spec: ebs-direct §2.3, §2.4.
	InvalidRequest
	// NotFound: no snapshot that this caller may see in this way. Error.Snapshot.
	NotFound
	// ParentIncomplete: the parent is still pending. Error.Snapshot.
	ParentIncomplete
	// VolumeTooLarge: Error.Value is the size asked for, in GiB.
	VolumeTooLarge
	// VolumeSmallerThanParent: Error.Value is the size asked for, in GiB.
	VolumeSmallerThanParent
	// ParentWithKey: a parent and a KMS key given together.
	ParentWithKey
	// ParentWithEncrypted: a parent and Encrypted given together.
	ParentWithEncrypted
	// KeyWithoutEncryption: a KMS key given with Encrypted=false.
	KeyWithoutEncryption
	// EncryptionRequired: Encrypted=false, while the account encrypts all new
	// snapshots.
	EncryptionRequired
	// ParentUnencrypted: a child of the unencrypted Error.Snapshot, while the
	// account encrypts all new snapshots.
	ParentUnencrypted
	// InvalidKey: the KMS key named is none that can encrypt this snapshot.
	// Error.Value says why, in the words of the KMS, for the caller only.
	InvalidKey
	// KeyNotFound: a KMS key is not there, or not for this caller. Error.Value
	// as above.
	KeyNotFound
	// KeyRefused: a KMS key cannot be used, as it is or by this caller.
	// Error.Value as above.
	KeyRefused
	// KeyThrottled: the KMS is asked too much; try again.
	KeyThrottled
	// DomainLost: the server has no data key any more to read or write the
	// snapshot with.
	DomainLost
	// InvalidTag: Error.Err says which tag and why.
	InvalidTag
	// InvalidText: Error.Field holds a character that XML cannot carry.
	InvalidText
	// ClientTokenReused: the token is bound to a request with other parameters.
	ClientTokenReused
	// BlockBeyondVolume: Error.Index is past the end of the volume.
	BlockBeyondVolume
	// BodyIncomplete: the block's bytes stopped short or came too slowly.
	BodyIncomplete
	// BodyTooLong: more than one block of bytes was sent.
	BodyTooLong
	// DataLengthInvalid: Error.Value is the announced length.
	DataLengthInvalid
	// AlgorithmUnsupported: Error.Value is the checksum algorithm asked for.
	AlgorithmUnsupported
	// ChecksumMismatch: Error.Computed and Error.Expected, both base64.
	ChecksumMismatch
	// SignedDigestMismatch: the body is not the one that was signed.
	SignedDigestMismatch
	// AlreadyCompleted: the snapshot takes no more blocks. Error.Snapshot.
	AlreadyCompleted
	// ChecksumIncomplete: of the checksum trio of CompleteSnapshot the member
	// Error.Field (checksum, checksumAlgorithm, checksumAggregationMethod) is
	// missing while another is there.
	ChecksumIncomplete
	// PublicUnsupported: another's public snapshot, whose blocks cannot be
	// read. Error.Snapshot.
	PublicUnsupported
	// PublicBlocked: the account blocks public access.
	PublicBlocked
	// EncryptedPublic: an encrypted snapshot cannot be public.
	EncryptedPublic
	// DefaultKeyShared: a snapshot under a key that AWS manages cannot be
	// shared.
	DefaultKeyShared
	// ReservedTagKey: the key begins with "aws:".
	ReservedTagKey
	// TooManyTags: more of an account's tags than a snapshot can have.
	TooManyTags
	// FirstSnapshotMissing: ListChangedBlocks without a first snapshot.
	FirstSnapshotMissing
	// Unrelated: the two snapshots are not of one lineage.
	Unrelated
	// InvalidBlockToken: Error.Value is the token.
	InvalidBlockToken
	// InvalidPageToken: Error.Value is the token.
	InvalidPageToken
	// NotPending: the written blocks of a snapshot that takes no more of them.
	// Error.Snapshot.
	NotPending
	// InvalidFilter: Error.Field is the filter's name, Error.Err says why.
	InvalidFilter
	// Throttled: too many blocks are on their way; try again.
	Throttled
	// AccountThrottled: the account asks for this operation too often; try
	// again.
	AccountThrottled
	// SnapshotThrottled: one snapshot is read, or written to, too often; try
	// again. Error.Snapshot.
	SnapshotThrottled
	// TooManyPending: Error.Value is how many pending snapshots the account may
	// have.
	TooManyPending
	// TooManySnapshots: Error.Value is how many snapshots the account may have.
	TooManySnapshots
	// StorageFull: the disk has no room; reads go on.
	StorageFull
	// StorageStopped: the store takes no more writes after a failed write or
	// sync; reads go on.
	StorageStopped
	// Damaged: a stored block does not read back as it was written.
	Damaged
	// TooManyCopies: Error.Value is how many may be in progress at a time.
	TooManyCopies
	// Locked: a snapshot that is locked cannot be deleted. Error.Snapshot.
	Locked
	// LockForbidden: a lock in compliance mode does not change in this way;
	// Error.Err says in which. Error.Snapshot.
	LockForbidden
	// NotLocked: there is no lock to remove. Error.Snapshot.
	NotLocked
	// NotLockable: the snapshot has failed. Error.Snapshot.
	NotLockable

	// NumCodes is the number of codes, for tests of completeness.
	NumCodes
)

// A Violation is one value outside the model's constraints.
type Violation struct {
	// Field is the member in lowerCamel spelling, as AWS prints it.
	Field string
	// Value is the offending value as AWS prints it, without quotes; nil for
	// a member that is missing.
	Value *string
	// Constraint is the broken rule in the words of AWS's framework: "Member
	// must …". Spec: ebs-direct §2.3.
	Constraint string
}

// An Error says why the service refused or failed a request. Code and fields
// are for programs, the text is for people. Which fields are set depends on
// the code.
type Error struct {
	Code       Code
	Snapshot   string
	Index      block.Index
	Field      string // the member at fault, lowerCamel
	Value      string
	Computed   string
	Expected   string
	Violations []Violation
	Err        error
}

// secret names the members whose values never reach a log.
// Spec: ebs-direct §2.4, Sensitive.
var secret = map[string]bool{"blockToken": true, "pageToken": true, "clientToken": true, "kmsKeyArn": true, "kmsKeyId": true}

// Error tells a person what was wrong and what would be right. It may be
// logged: tokens and key ARNs do not appear in it.
func (e *Error) Error() string {
	switch e.Code {
	case InvalidRequest:
		parts := make([]string, len(e.Violations))
		for i, v := range e.Violations {
			switch {
			case v.Value == nil:
				parts[i] = fmt.Sprintf("%s is missing", v.Field)
			case secret[v.Field]:
				parts[i] = fmt.Sprintf("%s: %s", v.Field, lowerFirst(v.Constraint))
			default:
				parts[i] = fmt.Sprintf("%s %q: %s", v.Field, *v.Value, lowerFirst(v.Constraint))
			}
		}
		return strings.Join(parts, "; ")
	case NotFound:
		return fmt.Sprintf("the snapshot '%s' does not exist", e.Snapshot)
	case ParentIncomplete:
		return fmt.Sprintf("the parent snapshot %s is not completed; wait until it is", e.Snapshot)
	case VolumeTooLarge:
		return fmt.Sprintf("volume size %s GiB is too large, the most is %d GiB", e.Value, block.MaxVolumeGiB)
	case VolumeSmallerThanParent:
		return fmt.Sprintf("volume size %s GiB is smaller than the parent's %s GiB", e.Value, e.Expected)
	case ParentWithKey:
		return "a parent snapshot and a KMS key cannot be given together; a child is encrypted as its parent is"
	case ParentWithEncrypted:
		return "a parent snapshot and an encryption flag cannot be given together; a child is encrypted as its parent is"
	case KeyWithoutEncryption:
		return "encrypted cannot be false when a KMS key is given"
	case EncryptionRequired:
		return "encrypted cannot be false while the account encrypts all new snapshots by default"
	case ParentUnencrypted:
		return fmt.Sprintf("the parent snapshot %s is not encrypted, and the account encrypts all new snapshots by default; copy the parent to an encrypted one first", e.Snapshot)
	case InvalidKey:
		return "the KMS key is unknown, of another region or account, or not one that encrypts"
	case KeyNotFound:
		return "the KMS key is not found"
	case KeyRefused:
		return "the KMS key cannot be used"
	case KeyThrottled:
		return "the KMS is asked too much at the moment; try again"
	case DomainLost:
		return "the snapshot's encryption domain is missing or damaged on the server"
	case InvalidTag:
		return fmt.Sprintf("invalid tag: %v", e.Err)
	case InvalidText:
		return fmt.Sprintf("%s holds a character that XML 1.0 cannot carry", e.Field)
	case ClientTokenReused:
		return "the client token belongs to an earlier request with other parameters"
	case BlockBeyondVolume:
		return fmt.Sprintf("block index %d is beyond the end of the volume, whose last block is %s", e.Index, e.Expected)
	case BodyIncomplete:
		return fmt.Sprintf("the block's data ended early or came too slowly; send exactly %d bytes", block.Size)
	case BodyTooLong:
		return fmt.Sprintf("the block's data is longer than %d bytes", block.Size)
	case DataLengthInvalid:
		return fmt.Sprintf("data length %s is not valid, a block has %d bytes", e.Value, block.Size)
	case AlgorithmUnsupported:
		return fmt.Sprintf("checksum algorithm %q is not supported, use SHA256", e.Value)
	case ChecksumMismatch:
		return fmt.Sprintf("the data's checksum is %s, not %s as was announced", e.Computed, e.Expected)
	case SignedDigestMismatch:
		return "the data is not what was signed: its SHA-256 differs from x-amz-content-sha256"
	case AlreadyCompleted:
		return fmt.Sprintf("the snapshot %s is already completed and takes no more blocks", e.Snapshot)
	case ChecksumIncomplete:
		return fmt.Sprintf("%s is missing; checksum, algorithm and aggregation method go together", e.Field)
	case PublicUnsupported:
		return fmt.Sprintf("the snapshot %s is public, and blocks of public snapshots cannot be read; copy it first", e.Snapshot)
	case PublicBlocked:
		return "public sharing of snapshots is blocked for this account"
	case EncryptedPublic:
		return "an encrypted snapshot cannot be shared publicly"
	case DefaultKeyShared:
		return "a snapshot that is encrypted with a key managed by AWS cannot be shared; copy it under a key of your own"
	case ReservedTagKey:
		return "tag keys that begin with aws: are reserved"
	case TooManyTags:
		return fmt.Sprintf("a snapshot can have at most %d tags", maxTags)
	case FirstSnapshotMissing:
		return "the first snapshot is missing; to list all blocks of one snapshot, list its blocks"
	case Unrelated:
		return "the two snapshots are not of one lineage"
	case InvalidBlockToken:
		return "the block token is invalid or has expired; list the blocks again"
	case InvalidPageToken:
		return "the page token is invalid or has expired; list from the start"
	case NotPending:
		return fmt.Sprintf("the snapshot %s is not pending any more; without the parameter state the blocks of a completed one are listed", e.Snapshot)
	case InvalidFilter:
		return fmt.Sprintf("filter %q: %v", e.Field, e.Err)
	case Throttled:
		return "too many blocks are on their way at the moment; try again"
	case AccountThrottled:
		return "the account asks for this too often; send fewer requests a second"
	case SnapshotThrottled:
		return fmt.Sprintf("the snapshot %s is asked for too often; send fewer requests a second", e.Snapshot)
	case TooManyPending:
		return fmt.Sprintf("too many snapshots are pending, the most is %s; complete or delete some", e.Value)
	case TooManySnapshots:
		return fmt.Sprintf("too many snapshots, the most is %s; delete some", e.Value)
	case StorageFull:
		return "the server's disk is full; nothing was stored"
	case StorageStopped:
		return "the server's store stopped taking writes after a disk error"
	case Damaged:
		return fmt.Sprintf("block %d of %s is damaged on the server's disk", e.Index, e.Snapshot)
	case TooManyCopies:
		return fmt.Sprintf("too many snapshot copies are in progress, the most is %s; wait until one has ended", e.Value)
	case Locked:
		return fmt.Sprintf("the snapshot '%s' is locked and can't be deleted", e.Snapshot)
	case LockForbidden:
		return fmt.Sprintf("the snapshot '%s' is locked in compliance mode: %v", e.Snapshot, e.Err)
	case NotLocked:
		return fmt.Sprintf("the snapshot '%s' is not locked", e.Snapshot)
	case NotLockable:
		return fmt.Sprintf("the snapshot '%s' is in the state error and can't be locked", e.Snapshot)
	default:
		return fmt.Sprintf("internal error: %v", e.Err)
	}
}

// Unwrap returns the cause, if one is known.
func (e *Error) Unwrap() error { return e.Err }

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
