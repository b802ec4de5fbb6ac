// Package snapshot is the domain: what a snapshot is, which states it passes
// through and every rule of the service. It knows no HTTP and no SQL. The
// doors (ebs, ec2, plain) turn bytes into its requests and its errors into
// theirs; the catalog and the block store keep what it decides.
//
// A Service is safe for concurrent use. Races between requests are decided by
// the catalog's transactions, never by locks here.
package snapshot

import (
	"time"

	"shale/internal/block"
	"shale/internal/domain"
	"shale/internal/policy"
	"shale/internal/seat"
)

// A State is where a snapshot stands. Spec: ebs-direct §5.1.
type State int

// The states. Open and Completing are the two halves of what the wire calls
// pending: before and after CompleteSnapshot.
const (
	Open State = iota + 1
	Completing
	Completed
	Failed
	// Copying is the state of a copy until it is completed or has failed. The
	// catalog has another state, deleted, between it and Failed.
	Copying State = Failed + 2
)

// String returns the state as the wire spells it.
func (s State) String() string {
	switch s {
	case Open, Completing, Copying:
		return "pending"
	case Completed:
		return "completed"
	case Failed:
		return "error"
	}
	return "unknown"
}

// A Tag is one key and value that its owner put on a snapshot.
type Tag struct{ Key, Value string }

// A Caller is who asks: the account that the request was authenticated for,
// and the region that it was sent to.
type Caller struct {
	Account string // 12 digits
	Region  string
	// By is who of the account asks; nil for the account itself, whom no policy
	// binds.
	By *policy.Subject
	// Worker says that nobody asks now: the service goes on with what the account
	// was allowed when it asked. Nobody but the service sets it.
	Worker bool
	// Whim is how a test wants this request to be answered; nil for as it ought
	// to be.
	Whim *Whim
}

// A Snapshot is an image of a volume, as the catalog knows it.
type Snapshot struct {
	// Key is the catalog's own number for the snapshot; never reused, never
	// shown.
	Key         int64
	ID          string // "snap-0" and 16 lower-case hex digits
	Account     string // the owner
	Region      string
	State       State
	Message     string // why it failed, or waits, in AWS's words; empty otherwise
	ParentID    string // empty without a parent
	Lineage     int64  // Key of the first ancestor; its own without a parent
	Description *string
	VolumeSize  int64 // GiB
	StartTime   time.Time
	CompletedAt time.Time     // zero until completed
	Timeout     time.Duration // 0 for a copy: only StartSnapshot gives one
	Deadline    time.Time     // when it fails for inactivity, while Open
	Tags        []Tag         // of the account that looks, in their order
	// Base is the root of the parent's block map, Root that of its own once
	// completed.
	Base, Root block.ID
	// BaseBlocks and Blocks count the blocks under Base and Root.
	BaseBlocks, Blocks int64
	// Claim is what CompleteSnapshot asserted, while Completing.
	Claim Claim
	// Domain is the encryption domain of all its blocks, and KMSKeyARN the key
	// of that, empty in the unencrypted one.
	Domain    domain.Number
	KMSKeyARN string
	// MAC is that of Root once completed, and of Base before. None in the
	// unencrypted domain.
	MAC domain.MAC
	// CompletionMinutes is the time that a copy was asked to take; 0 without.
	CompletionMinutes int64
	// Usage is as of the last count, where it was asked for.
	Usage *Usage
}

// Encrypted reports whether the snapshot's blocks are encrypted at rest.
func (s *Snapshot) Encrypted() bool { return s.Domain != domain.Unencrypted }

// FullBytes is the size of all blocks that the snapshot refers to, inherited
// ones included, in bytes. It is 0 until the snapshot is completed.
func (s *Snapshot) FullBytes() int64 { return s.Blocks * block.Size }

// A Claim is what a CompleteSnapshot asserts about the blocks written.
type Claim struct {
	ChangedBlocks int64
	// Aggregate is nil when no checksum was given. Of an encrypted snapshot it
	// is a keyed hash.
	Aggregate *block.Digest
}

// StartRequest asks for a new snapshot. Nil means absent, which for Encrypted
// is not the same as false. Spec: ebs-direct §3.
type StartRequest struct {
	VolumeSize       *int64 // GiB
	ParentSnapshotID *string
	Tags             []Tag
	Description      *string
	ClientToken      *string
	Encrypted        *bool
	KMSKeyARN        *string
	Timeout          *int64 // minutes
}

// PutBlockRequest writes one block. Spec: ebs-direct §4.
type PutBlockRequest struct {
	SnapshotID string
	Index      int64
	DataLength *int64
	Checksum   *string // base64 of the SHA-256 of the block
	Algorithm  *string
	Progress   *int64
	// ChecksumOptional admits requests without DataLength, Checksum and
	// Algorithm, as the plain dialect does.
	ChecksumOptional bool
	// SignedDigest is the SHA-256 of the body that the signature covers, when
	// it covers one.
	SignedDigest *block.Digest
	// Body gives the block's bytes. It is read only once everything that can
	// be checked before it has been, and never past block.Size+1 bytes.
	Body BodyReader
}

// A BodyReader gives the bytes of a request body. Read fails when the client
// stalls or hangs up.
type BodyReader interface{ Read(p []byte) (int, error) }

// CompleteRequest seals a snapshot. Spec: ebs-direct §5.
type CompleteRequest struct {
	SnapshotID        string
	ChangedBlocks     *int64
	Checksum          *string // base64
	Algorithm         *string
	AggregationMethod *string
}

// ListBlocksRequest asks for one page of a snapshot's blocks. Spec: ebs-direct §8.1.
type ListBlocksRequest struct {
	SnapshotID    string
	PageToken     *string
	MaxResults    *int64
	StartingIndex *int64
}

// A BlockPage is one page of a snapshot's blocks, by ascending index.
type BlockPage struct {
	Blocks     []ListedBlock
	Expiry     time.Time // when the block tokens expire
	NextToken  string    // empty on the last page
	VolumeSize int64     // GiB
}

// A ListedBlock is one block and the token that reads it.
type ListedBlock struct {
	Index block.Index
	Token string
}

// ListChangedRequest asks for one page of the blocks that differ between two
// snapshots. Spec: ebs-direct §8.2.
type ListChangedRequest struct {
	FirstSnapshotID  *string
	SecondSnapshotID string
	PageToken        *string
	MaxResults       *int64
	StartingIndex    *int64
}

// A ChangedPage is one page of differing blocks, by ascending index.
type ChangedPage struct {
	Blocks     []ChangedBlock
	Expiry     time.Time
	NextToken  string // empty on the last page
	VolumeSize int64  // GiB, of the second snapshot
}

// A ChangedBlock is an index at which two snapshots differ. A token is empty
// where its snapshot has no block.
type ChangedBlock struct {
	Index       block.Index
	FirstToken  string
	SecondToken string
}

// GetBlockRequest reads one block. Spec: ebs-direct §8.4.
type GetBlockRequest struct {
	SnapshotID string
	Index      int64
	Token      *string
	// Client is interrupted if it does not take the block while others wait for
	// its buffer; nil if it always does.
	Client seat.Client
}

// BlockData is a block that was read and verified. Release must be called
// once, after which Bytes is no longer the caller's.
type BlockData struct {
	Bytes  []byte // block.Size bytes
	Digest block.Digest
	out    *outgoing
}

// Release gives the buffer back.
func (d BlockData) Release() { d.out.release() }

// DescribeRequest selects snapshots that the caller may see. Selectors of
// different kinds and filters narrow each other; values within one are
// alternatives. Spec: ec2-snapshots §2.
type DescribeRequest struct {
	IDs          []string
	Owners       []string // account ids or "self"
	RestorableBy []string // account ids, "self" or "all"
	Filters      []Filter
	MaxResults   *int64 // nil for all in one page, unless there is a NextToken
	NextToken    *string
}

// A Filter keeps the snapshots of which one value matches. Values may hold
// the wildcards * and ?, escaped by a backslash.
type Filter struct {
	Name   string
	Values []string
}

// A DescribePage is one page of snapshots, by start time and then ID.
type DescribePage struct {
	Snapshots []Snapshot
	NextToken string // empty on the last page
}
