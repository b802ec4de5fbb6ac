package blockstore

import (
	"context"
	"errors"

	"shale/internal/block"
)

// A ContainerID numbers a container: a file or an object that batches are
// kept in. Numbers ascend and are never used again.
type ContainerID int64

// A Place is where a batch begins.
type Place struct {
	Container ContainerID
	Offset    int64    // bytes
	Salt      [16]byte // of the container
}

// A Reader reads containers.
type Reader interface {
	// ReadAt fills p from the container. It may be called concurrently.
	ReadAt(ctx context.Context, c ContainerID, p []byte, off int64) error
	// First is the place of the first batch of a container. A *CorruptError says
	// that what tells it cannot be believed.
	First(ctx context.Context, c ContainerID) (Place, error)
}

// A Medium keeps the bytes of batches in containers.
type Medium interface {
	Reader
	// Append makes one batch of size bytes durable, if reserve bytes stay free
	// beside it: it chooses the place, asks build for the bytes to put there
	// (whole pages, size in sum) and returns once they are synced, with the
	// place. Calls come one at a time. An error that is ErrFull left nothing
	// behind; after any other the medium must not be written to again.
	Append(ctx context.Context, size, reserve int64, build func(Place) [][]byte) (Place, error)
	// ReadAtSource is ReadAt past every cache, and keeps nothing in memory.
	ReadAtSource(ctx context.Context, c ContainerID, p []byte, off int64) error
	// Short gives those of the containers that are missing, or end before the
	// length that was committed to them, and where they end, in bytes. It may be
	// called concurrently with all else.
	Short(ctx context.Context, committed map[ContainerID]int64) (map[ContainerID]int64, error)
	// Rotate ends the container that is appended to and begins another, empty
	// one: its first place, durable. It is called as Append is, with its errors.
	Rotate(ctx context.Context) (Place, error)
	// Drop removes a container, durably on return; readers that have it open may
	// go on. One that is not there is no error.
	Drop(ctx context.Context, c ContainerID) error
	Close() error
}

// A Location says where a stored record is and how it is kept.
type Location struct {
	Container ContainerID
	Offset    int64
	Length    uint32 // stored, bytes
	CRC       uint64
	Codec     Codec
	Damaged   bool // the bytes there were bad when they were last looked at
	// Sealing is nil in the unencrypted domain: a pointer, because most of the
	// locations kept in memory may have none.
	Sealing *Sealing
}

// A Stored is a record that a batch made durable.
type Stored struct {
	Kind     Kind
	ID       block.ID
	Location Location
}

// A Ref records that a block was written to a snapshot.
type Ref struct {
	Snapshot int64 // the catalog's key of the snapshot
	Index    block.Index
	ID       block.ID
	// Hit says that the batch holds no payload for the block because it is
	// stored already: to be checked again when the batch is committed.
	Hit bool
}

// A Commit is one batch as the index records it.
type Commit struct {
	Container ContainerID // 0 if the batch has no payloads
	Committed int64       // the container's length with this batch, bytes
	Stored    []Stored
	Moved     []Move
	Refs      []Ref
}

// An Index finds records by id. It is the store's one commit point.
type Index interface {
	// Locate finds a record. Concurrent calls are allowed.
	Locate(ctx context.Context, id block.ID) (loc Location, found bool, err error)
	// LocateNodes finds those of the map nodes that are there. Concurrent calls
	// are allowed.
	LocateNodes(ctx context.Context, ids []block.ID) (map[block.ID]Location, error)
	// Commit records a batch in one transaction that is durable on return:
	// the records' locations (the first of an id stays, unless it is damaged
	// or condemned), those that were moved, if they are where they were moved
	// from, the container's length, and each ref that may still be recorded. All
	// records that it names are of the open generation from then on. The
	// verdicts, one per ref, are nil, ErrMissed for a hit whose block is not
	// stored or is damaged or condemned, or the reason why the snapshot takes
	// no more writes. Later refs to one index win. Calls come one at a time.
	// An error that is ErrFull or ErrRolledBack recorded nothing; after any
	// other the outcome is unknown.
	Commit(ctx context.Context, c *Commit) (verdicts []error, err error)
	// Renew puts the records into the open generation, durably on return, and
	// reports which of them are stored, neither damaged nor condemned. Errors as
	// for Commit.
	Renew(ctx context.Context, ids []block.ID) (found []bool, err error)
	// Containers gives the committed length of every container but those that
	// are being removed.
	Containers(ctx context.Context) (map[ContainerID]int64, error)
	// MarkLost records that a container ends at the length, before what was
	// committed to it, and says how many records that concerns.
	MarkLost(ctx context.Context, c ContainerID, length int64) (int64, error)
	// MarkDamaged records that the bytes at a location are bad, if the
	// record is still there.
	MarkDamaged(ctx context.Context, id block.ID, loc Location) error
	// MarkSound takes that back.
	MarkSound(ctx context.Context, id block.ID, loc Location) error
}

var (
	// ErrFull says that there is no room; nothing was written.
	ErrFull = errors.New("no space left")
	// ErrRolledBack says that a commit failed and is known to have recorded
	// nothing, for a reason that does not concern other commits.
	ErrRolledBack = errors.New("nothing was recorded")
	// ErrMissed says that a block thought to be stored is not.
	ErrMissed = errors.New("block is not stored")
	// ErrNotFound says that no record has the id.
	ErrNotFound = errors.New("no such record")
	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("store is closed")
)
