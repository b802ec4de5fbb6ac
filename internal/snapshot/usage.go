package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/pace"
)

const (
	// maxCounted bounds the blocks that the count holds in memory, at some 30 to
	// 60 bytes each, and partBuffer what it gathers of each part before it
	// writes that to its file: 4 MiB in all.
	maxCounted = 1 << 17
	partBuffer = 16 << 10
	// countRest is how long the count rests at least between two runs.
	countRest = 5 * time.Second
	// countShare says how much of a processor the count takes: one part in so many.
	countShare = 10
	// countAgain is when it looks for changes that nobody told it of.
	countAgain = 10 * time.Minute
)

// A Usage is what a completed snapshot's blocks take, in bytes: blocks of
// zeros take nothing, and a block that it has at several indexes counts once.
// Map nodes are not counted.
type Usage struct {
	Unique    int64 // what deleting the snapshot would free
	Shared    int64 // what others hold as well
	CountedAt time.Time
}

// UsageCatalog is the part of a Catalog that the count of usage needs.
type UsageCatalog interface {
	// Holders gives the roots that hold blocks, those of one lineage one after
	// the other.
	Holders(ctx context.Context) ([]Holder, error)
	// ZeroBlocks gives the ids of the blocks of zeros that are stored, one in
	// each encryption domain at most. They have no payload.
	ZeroBlocks(ctx context.Context) (map[block.ID]bool, error)
	// SetUsage records the usage of completed snapshots, those in the recycle bin
	// among them, by their keys, and in the end of what it was counted; rows of
	// others are left out. It may take more than one transaction.
	SetUsage(ctx context.Context, usage map[int64]Usage, of HoldersDigest) error
	// UsageOf gives of what the usage was counted that was recorded last; the
	// zero value if none was.
	UsageOf(ctx context.Context) (HoldersDigest, error)
	// Usage fills in what was recorded last.
	Usage(ctx context.Context, list []Snapshot) error
}

// A Holder is what keeps the blocks of a snapshot from being freed.
type Holder struct {
	Key int64
	// Root is that of a completed snapshot, or of the parent's map of one that
	// is pending.
	Root block.ID
	// Pending says that the blocks written to the snapshot are held as well,
	// and that nobody asks for its usage.
	Pending bool
}

// A HoldersDigest is the SHA-256 of a list of holders: while it is the same, a
// count would find the same.
type HoldersDigest [sha256.Size]byte

func digestHolders(list []Holder) HoldersDigest {
	h := sha256.New()
	for i := range list {
		x := &list[i]
		var b [8 + sha256.Size + 1]byte
		binary.BigEndian.PutUint64(b[:], uint64(x.Key))
		copy(b[8:], x.Root[:])
		if x.Pending {
			b[len(b)-1] = 1
		}
		h.Write(b[:])
	}
	return HoldersDigest(h.Sum(nil))
}

// FillUsage fills in the usage of those of the snapshots that are the caller's
// own, as of the last count. A snapshot that has not been counted yet has none.
func (s *Service) FillUsage(ctx context.Context, c Caller, list []Snapshot) error {
	if err := s.catalog.Usage(ctx, list); err != nil {
		return s.storeError(err)
	}
	for i := range list {
		if list[i].Account != c.Account {
			list[i].Usage = nil
		}
	}
	return nil
}

// KeepUsage counts usage after changes, those before a start too, until ctx ends.
func (s *Service) KeepUsage(ctx context.Context) {
	again := time.NewTicker(countAgain)
	defer again.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		counted, err := s.count(ctx, true, pace.NewShare(countShare))
		took := time.Since(began)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errOvertaken):
			s.usageChanged()
		case err != nil:
			s.log.ErrorContext(ctx, "usage could not be counted, its figures stay as they were", "err", err)
		case counted:
			s.log.DebugContext(ctx, "usage counted", "took", took)
		}
		rest.Reset(countRest)
		select {
		case <-s.recount:
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// usageChanged says that a count would find something else.
func (s *Service) usageChanged() {
	select {
	case s.recount <- struct{}{}:
	default:
	}
}

// CountUsage counts the usage of all completed snapshots and records it. If one
// block map cannot be read, nothing is recorded: figures that leave it out
// would be wrong for those that share blocks with it.
func (s *Service) CountUsage(ctx context.Context) error {
	for {
		if _, err := s.count(ctx, false, nil); !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

// errOvertaken says that a snapshot was deleted and reclaimed while it was being
// counted. The count can begin again, without it.
var errOvertaken = errors.New("a snapshot was deleted meanwhile")

// overtaken gives the count's error: errOvertaken if a record was not found, and
// one of the holders is not there any more.
func (s *Service) overtaken(ctx context.Context, holders []Holder, err error) error {
	if !errors.Is(err, blockstore.ErrNotFound) {
		return err
	}
	now, again := s.catalog.Holders(ctx)
	if again != nil {
		return errors.Join(err, again)
	}
	there := make(map[int64]bool, len(now))
	for _, x := range now {
		there[x.Key] = true
	}
	if slices.ContainsFunc(holders, func(x Holder) bool { return !there[x.Key] }) {
		return errOvertaken
	}
	return err
}

// count is CountUsage, but for errOvertaken. With ifChanged it counts only, and
// reports so, if the holders are not those of the last count.
func (s *Service) count(ctx context.Context, ifChanged bool, share *pace.Share) (counted bool, err error) {
	at := s.now().UTC().Truncate(time.Millisecond)
	holders, err := s.catalog.Holders(ctx)
	if err != nil {
		return false, err
	}
	of := digestHolders(holders)
	if ifChanged {
		if last, err := s.catalog.UsageOf(ctx); err != nil || last == of {
			return false, err
		}
	}
	zeros, err := s.catalog.ZeroBlocks(ctx)
	if err != nil {
		return false, err
	}
	c := counter{
		service: s, holders: holders, zeros: zeros, limit: s.maxCounted, share: share,
		distinct: make([]int64, len(holders)), unique: make([]int64, len(holders)),
	}
	c.log.fs, c.log.buffer = s.scratch, s.partBuffer
	if err := errors.Join(c.run(ctx), c.log.close()); err != nil {
		return false, s.overtaken(ctx, holders, err)
	}
	usage := make(map[int64]Usage, len(holders))
	for i, x := range holders {
		if !x.Pending {
			usage[x.Key] = Usage{Unique: c.unique[i] * block.Size, Shared: (c.distinct[i] - c.unique[i]) * block.Size, CountedAt: at}
		}
	}
	return true, s.catalog.SetUsage(ctx, usage, of)
}
