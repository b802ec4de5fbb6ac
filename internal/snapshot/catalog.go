package snapshot

import (
	"context"
	"errors"
	"time"

	"shale/internal/block"
	"shale/internal/domain"
)

// A Catalog keeps snapshots. Each method that changes something is one
// transaction, durable on return, whose precondition the catalog itself
// checks: of two calls that race, one is refused.
type Catalog interface {
	AccountSettings
	Sharing
	Tagging
	Retagging
	UsageCatalog
	// Snapshot finds a snapshot by its ID. A deleted one is not found. Its
	// tags are not filled in, as in all that follows.
	Snapshot(ctx context.Context, id string) (s Snapshot, found bool, err error)
	// SnapshotToWrite is Snapshot for a write, which the commit decides on once more. The
	// deadline of an open snapshot may be an earlier one that writes have moved.
	SnapshotToWrite(ctx context.Context, id string) (s Snapshot, found bool, err error)
	// Snapshots gives an account's snapshots of a region, by start time and
	// then ID, from after the cursor on.
	Snapshots(ctx context.Context, account, region string, after Cursor, limit int) ([]Snapshot, error)
	// Bound finds the request that a client token is bound to, and the
	// snapshot as it was made, whether it has been deleted since or not.
	Bound(ctx context.Context, account, region, token string) (request []byte, s Snapshot, found bool, err error)
	// Create adds an open snapshot and gives it its Key and, without a
	// parent, its Lineage. With a parent, ErrRaced unless that is still
	// completed; with a token, ErrRaced if the token has been bound; else, at a
	// limit, an *Error of code TooManyPending or TooManySnapshots.
	Create(ctx context.Context, n NewSnapshot) (Snapshot, error)
	// Seal makes an open snapshot completing, unless its time is over.
	Seal(ctx context.Context, key int64, claim Claim) (done bool, err error)
	// Completing gives the snapshots that are.
	Completing(ctx context.Context) ([]Snapshot, error)
	// Pending gives written blocks of a snapshot that is not completed, by
	// index, from the index on.
	Pending(ctx context.Context, s *Snapshot, from block.Index, limit int) ([]PendingBlock, error)
	// Finish makes a completing snapshot completed, with its map. The days of
	// its lock begin to count.
	Finish(ctx context.Context, key int64, m Map) (done bool, err error)
	// Fail makes a completing snapshot, or a copy in progress, failed, for the
	// reason. Its lock is cancelled, as by Expire.
	Fail(ctx context.Context, key int64, message string) (done bool, err error)
	// Expire makes the open snapshots whose time is over failed, for the
	// reason, and says how many they were.
	Expire(ctx context.Context, message string) (int64, error)
	// Delete deletes a snapshot of the account's own, unless a lock on it is
	// in force. A completed one goes into the recycle bin for the time keep,
	// if that is not 0.
	Delete(ctx context.Context, account, region, id string, keep time.Duration) (done bool, err error)
	// Sweep removes up to limit rows that nothing needs any more: written
	// blocks of closed snapshots, and what is left of snapshots deleted
	// before the time. It reports whether there may be more.
	Sweep(ctx context.Context, deletedBefore time.Time, limit int) (more bool, err error)
	// Err says why the catalog takes no more changes, or is nil.
	Err() error

	CopyCatalog
	LockCatalog
	BinCatalog
	ManifestCatalog
}

// ErrRaced says that a precondition, checked before, did not hold any more.
var ErrRaced = errors.New("changed in the meantime")

// A NewSnapshot is a snapshot to be created. Of Snapshot, Key is ignored, and Lineage
// is the parent's.
type NewSnapshot struct {
	Snapshot  Snapshot
	ParentKey int64 // 0 without a parent
	// Token, if not empty, is bound to Request, the canonical form of the
	// request.
	Token   string
	Request []byte
	Limits  Limits
}

// Limits are how many snapshots an account may have in a region; 0 for any
// number. Spec: ebs-direct §10.
type Limits struct {
	Snapshots int64 // whatever their state, those in the recycle bin too
	Pending   int64 // started by StartSnapshot, and neither completed nor failed
	Copies    int64 // in progress
}

// A Cursor is a place in a list of snapshots: after the one it names.
type Cursor struct {
	Start time.Time
	ID    string
}

// A PendingBlock is a block written to a snapshot that is not completed.
type PendingBlock struct {
	Index block.Index
	ID    block.ID
	// Sealed is the block's digest; nil in the unencrypted domain, where the
	// id is.
	Sealed *domain.SealedDigest
}

// A Map is the block map of a snapshot that is completed.
type Map struct {
	Root   block.ID
	Blocks int64      // under the root
	MAC    domain.MAC // of the root; none in the unencrypted domain
	// CompletedAt is when the snapshot is completed; zero for now. Manifest has
	// been written for it; without a Version there is none, and one is due.
	CompletedAt time.Time
	Manifest    Manifest
}
