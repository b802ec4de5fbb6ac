package snapshot

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"time"

	"shale/internal/block"
	"shale/internal/blockmap"
)

const (
	// maxCounted bounds the blocks that a pass of the count holds in memory, at
	// some 30 to 60 bytes each.
	maxCounted = 1 << 17
	// countRest is how long the count rests at least between two runs; it rests
	// restFactor times as long as a run takes if that is more, so that it never
	// takes more than a tenth of a processor.
	countRest  = 5 * time.Second
	restFactor = 9
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
	// SetUsage records the usage of completed snapshots, by their keys; rows of
	// others are left out. It may take more than one transaction.
	SetUsage(ctx context.Context, usage map[int64]Usage) error
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

// KeepUsage counts usage at the start and after changes, until ctx ends.
func (s *Service) KeepUsage(ctx context.Context) {
	again := time.NewTicker(countAgain)
	defer again.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	var counted uint64 // what the holders were
	for {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		now, err := s.count(ctx, counted)
		took := time.Since(began)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.ErrorContext(ctx, "usage could not be counted, its figures stay as they were", "err", err)
		case now != counted:
			counted = now
			s.log.DebugContext(ctx, "usage counted", "took", took)
		}
		rest.Reset(max(countRest, restFactor*took))
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
	_, err := s.count(ctx, 0)
	return err
}

var holdersSeed = maphash.MakeSeed()

// count is CountUsage unless the holders are those it counted before, of which
// it is given, and gives, a hash; 0 for none.
func (s *Service) count(ctx context.Context, before uint64) (uint64, error) {
	at := s.now().UTC().Truncate(time.Millisecond)
	holders, err := s.catalog.Holders(ctx)
	if err != nil {
		return 0, err
	}
	var h maphash.Hash
	h.SetSeed(holdersSeed)
	for _, x := range holders {
		maphash.WriteComparable(&h, x)
	}
	now := h.Sum64() | 1
	if now == before {
		return now, nil
	}
	zeros, err := s.catalog.ZeroBlocks(ctx)
	if err != nil {
		return 0, err
	}
	c := counter{
		service: s, holders: holders, zeros: zeros, limit: s.maxCounted,
		distinct: make([]int64, len(holders)), unique: make([]int64, len(holders)),
	}
	if err := c.run(ctx); err != nil {
		return 0, err
	}
	usage := make(map[int64]Usage, len(holders))
	for i, x := range holders {
		if !x.Pending {
			usage[x.Key] = Usage{Unique: c.unique[i] * block.Size, Shared: (c.distinct[i] - c.unique[i]) * block.Size, CountedAt: at}
		}
	}
	return now, s.catalog.SetUsage(ctx, usage)
}

// A counter counts, for each holder, its blocks and those that are its alone.
//
// It goes from one holder to the next by what differs between their maps, and
// keeps for each block how often the holder at hand has it and since which
// holder. That costs the first map, and then the changes: a year of daily
// snapshots is hardly more work than one. A block is a holder's alone if it
// was there for just that one.
//
// Blocks are taken by ranges of the first bytes of their ids, one after the
// other, each so small that its blocks fit into memory.
type counter struct {
	service          *Service
	holders          []Holder
	zeros            map[block.ID]bool // blocks without a payload, one in each domain
	limit            int               // blocks in a pass
	distinct, unique []int64           // by holder
}

// A held is what is known about a block. The zero value is one that no holder
// had so far.
type held struct {
	count int32 // how often the holder at hand has it
	// since is the holder with which that began, from 1, or the only one that
	// had it if it is gone; many once it is no one holder's alone.
	since int32
}

const many = -1

// heldID is an id, cut: 128 bits tell blocks apart just as well.
type heldID [16]byte

func (c *counter) run(ctx context.Context) error {
	const end = 1 << 32 // of the first four bytes
	for from, width := uint64(0), uint64(end); from < end; {
		done, err := c.pass(ctx, from, from+width)
		if err != nil {
			return err
		}
		if !done && width > 1 {
			width /= 2
			continue
		}
		from += width
	}
	return nil
}

// pass counts the blocks of a range. It reports false, and has counted
// nothing, if they were too many.
func (c *counter) pass(ctx context.Context, from, to uint64) (done bool, err error) {
	inRange := func(id block.ID) bool {
		p := uint64(binary.BigEndian.Uint32(id[:]))
		return !id.IsZero() && from <= p && p < to
	}
	blocks := make(map[heldID]held)
	distinct := make([]int64, len(c.holders))
	present := int64(0)
	var last block.ID // the root before
	for i, holder := range c.holders {
		at := int32(i + 1)
		for change, err := range blockmap.Diff(ctx, c.service.store.Scan(), last, holder.Root, 0) {
			if err != nil {
				return false, fmt.Errorf("count the blocks of snapshot %d: %w", holder.Key, err)
			}
			if id := change.First; inRange(id) && !c.zeros[id] {
				b := blocks[heldID(id[:])]
				if b.count--; b.count == 0 {
					present--
					if b.since != at-1 {
						b.since = many
					}
				}
				blocks[heldID(id[:])] = b
			}
			if id := change.Second; inRange(id) && !c.zeros[id] {
				b := blocks[heldID(id[:])]
				if b.count++; b.count == 1 {
					present++
					if b.since == 0 {
						b.since = at
					} else {
						b.since = many
					}
				}
				blocks[heldID(id[:])] = b
				if len(blocks) > c.limit && to-from > 1 {
					return false, nil
				}
			}
		}
		last = holder.Root
		distinct[i] = present
	}
	if err := c.pending(ctx, blocks); err != nil {
		return false, err
	}
	for i := range distinct {
		c.distinct[i] += distinct[i]
	}
	for _, b := range blocks {
		if b.since != many && (b.count == 0 || int(b.since) == len(c.holders)) {
			c.unique[b.since-1]++
		}
	}
	return true, nil
}

// pending takes from all holders what has been written to a pending snapshot.
func (c *counter) pending(ctx context.Context, blocks map[heldID]held) error {
	for _, holder := range c.holders {
		for from := block.Index(0); holder.Pending && from <= block.MaxIndex; {
			rows, err := c.service.catalog.Pending(ctx, &Snapshot{Key: holder.Key}, from, pendingPage)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if b, found := blocks[heldID(row.ID[:])]; found {
					b.since = many
					blocks[heldID(row.ID[:])] = b
				}
			}
			if len(rows) < pendingPage {
				break
			}
			from = rows[len(rows)-1].Index + 1
		}
	}
	return nil
}
