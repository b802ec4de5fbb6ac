// Package reclaim gives back the space of what nothing refers to any more:
// blocks, map nodes and manifests of snapshots that were deleted, and the
// containers that they leave behind.
//
// It is safe by counted generations and not by clocks. A cycle opens
// generation g. Whatever is stored or named in the index from then on is put
// into g, in the transaction that names it. The cycle waits for those who hold
// records that nothing names yet (blockstore.Hold), lists in one transaction
// all that keeps something, and marks every record that can be reached from
// there. What is unmarked and older than g is condemned: it is still there, and
// no write counts it as stored. The next cycle marks everything anew, and only
// what is unmarked again, and has been named by nobody meanwhile, is removed
// from the index. Containers that have few records left are copied together,
// and a container without any is dropped. docs/architecture.md, Reclaiming
// space, has the argument.
//
// A cycle that fails anywhere before its sweep has changed nothing, and one that
// is interrupted later is gone on with by the next.
package reclaim

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// A Generation counts cycles.
type Generation int64

// A Candidate is a record as the sweep sees it.
type Candidate struct {
	ID         block.ID
	Container  blockstore.ContainerID
	Length     int64 // stored, bytes
	Generation Generation
	Condemned  Generation // 0: it is not
}

// A Sentence is what a sweep does to some records.
type Sentence struct{ Condemn, Pardon, Remove []Candidate }

// Figures are what a cycle has found.
type Figures struct {
	Began     time.Time // the zero time: there was none
	LiveBytes int64     // of containers, in use
	DeadBytes int64     // of containers, to be given back
	Condemned int64     // records that the next cycle removes
}

// ErrSuperseded says that another cycle has begun.
var ErrSuperseded = errors.New("another cycle has begun")

// A Catalog is the index as reclaiming sees it. Changes are durable on return.
type Catalog interface {
	// OpenGeneration opens the next generation. Whatever is named after its
	// return is at least of that.
	OpenGeneration(ctx context.Context) (Generation, error)
	// Held gives the roots of all maps that must be kept, those that have much in
	// common one after the other, and tells mark the ids of all records that are
	// kept by themselves: written blocks of open snapshots, and manifests. It
	// misses nothing that was held before the call and is held after it.
	Held(ctx context.Context, mark func(id block.ID)) ([]block.ID, error)
	// Records counts the records.
	Records(ctx context.Context) (int64, error)
	// Candidates gives up to limit records with ids above after, in order.
	Candidates(ctx context.Context, after block.ID, limit int) ([]Candidate, error)
	// CarryOut carries out a sentence as far as it still fits: it condemns what is
	// older than g and not condemned, pardons what is condemned as it was, and
	// removes likewise. ErrSuperseded unless g is open.
	CarryOut(ctx context.Context, g Generation, s *Sentence) error

	// Containers gives the committed length of each container, in bytes.
	Containers(ctx context.Context) (map[blockstore.ContainerID]int64, error)
	// CountRecords counts the records in each container that has some. A pause may
	// be nil.
	CountRecords(ctx context.Context, pause func(ctx context.Context, records int64) error) (map[blockstore.ContainerID]int64, error)
	// Record looks up a record.
	Record(ctx context.Context, id block.ID) (blockstore.Stored, bool, error)
	// DropContainer says that a container is to be removed, unless it is the
	// one with the highest number.
	DropContainer(ctx context.Context, c blockstore.ContainerID) (bool, error)
	// Dropped gives those of which that was said.
	Dropped(ctx context.Context) ([]blockstore.ContainerID, error)
	// ForgetContainer forgets one of them that is gone.
	ForgetContainer(ctx context.Context, c blockstore.ContainerID) error
	// Shrink gives back what the index itself does not need.
	Shrink(ctx context.Context) error

	// Reclaimed and SetReclaimed keep the figures of the last cycle.
	Reclaimed(ctx context.Context) (Figures, error)
	SetReclaimed(ctx context.Context, f Figures) error
	// DeletedSince reports whether a snapshot has been deleted since.
	DeletedSince(ctx context.Context, t time.Time) (bool, error)
}

// A Store is the block store as reclaiming sees it.
type Store interface {
	// Barrier waits for those who hold records that nothing names yet.
	Barrier(ctx context.Context) error
	Scan() *blockstore.NodeReader
	// Frames gives the frames of a container up to its committed length.
	Frames(ctx context.Context, c blockstore.ContainerID, length int64) func(func(blockstore.Frame, error) bool)
	// Pinned gives the roots of maps that are being read. Those that are pinned
	// later were held by the index until then.
	Pinned() []block.ID
	// Relocate copies records to the end of the store, where there has to be room
	// for so many bytes more than theirs: blockstore.ErrFull.
	Relocate(ctx context.Context, list []blockstore.Stored, more int64) error
	// Rotate begins another container.
	Rotate(ctx context.Context) error
	// Drop removes the file of a container.
	Drop(ctx context.Context, c blockstore.ContainerID) error
}

const (
	// sweepPage is how many records are looked at, and changed, at a time.
	sweepPage = 4096
	// sparse is the share of a container's bytes in use, in percent, up to which
	// it is copied: at most one and a half bytes are to be written for each that
	// is given back.
	sparse = 60
	// frameOverhead is what a record takes in a frame, in bytes.
	frameOverhead = 160
	// pageSize is what batches, and blocks in them, are padded to.
	pageSize = 4096
	// maxRelocated bounds what is copied at a time, payloads and entries, in bytes:
	// of small nodes a frame could not hold as many as there are in that many
	// bytes of payloads.
	maxRelocated = 4 << 20
)

// Options are what a Collector is made of.
type Options struct {
	Catalog Catalog
	Store   Store
	Now     func() time.Time
	Logger  *slog.Logger // nil discards
	// Rate bounds what is copied, in bytes per second; 0 does not.
	Rate int64
	// Rest gives what is called between pieces of work of some milliseconds, and
	// may take its time; an error ends the cycle. Each cycle has a new one, as
	// has what comes after a wait that is no work. Nil does not rest.
	Rest func() func(ctx context.Context) error
	// Alone keeps others from copying containers until release is called. It
	// reports false if one is at it. Nil if there is nobody.
	Alone func() (release func() error, alone bool, err error)
	// Step is told what a cycle begins to do; nil for nobody.
	Step func(what string)
}

// Stats are what a Collector has done since it was made, and what the last
// cycle, perhaps another's, has found.
type Stats struct {
	Records, Segments, Bytes atomic.Int64 // removed; bytes are those of segments
	Failures                 atomic.Int64 // cycles that ended with an error

	LiveBytes, DeadBytes, LastBegan atomic.Int64 // as in Figures; LastBegan in seconds since 1970
}

func (s *Stats) note(f Figures) {
	s.LiveBytes.Store(f.LiveBytes)
	s.DeadBytes.Store(f.DeadBytes)
	if !f.Began.IsZero() {
		s.LastBegan.Store(f.Began.Unix())
	}
}

// A Collector reclaims space. Only one cycle runs at a time, here and, by the
// generation in the index, anywhere.
type Collector struct {
	catalog Catalog
	store   Store
	now     func() time.Time
	log     *slog.Logger
	rate    int64
	newRest func() func(context.Context) error
	alone   func() (func() error, bool, error)
	step    func(string)
	stats   Stats

	cycle chan struct{} // has a value while one runs
}

// Stats gives the figures, which change.
func (c *Collector) Stats() *Stats { return &c.stats }

// New makes a Collector.
func New(o Options) *Collector {
	c := &Collector{
		cycle: make(chan struct{}, 1), catalog: o.Catalog, store: o.Store, now: o.Now, log: o.Logger, rate: o.Rate, newRest: o.Rest, alone: o.Alone, step: o.Step,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.newRest == nil {
		c.newRest = func() func(context.Context) error { return context.Context.Err }
	}
	if c.step == nil {
		c.step = func(string) {}
	}
	return c
}

// A Report is what a cycle did.
type Report struct {
	Figures
	Marked     int64 // records that are in use
	Pardoned   int64 // condemned ones that turned out to be in use
	Removed    int64 // records
	Relocated  int64 // records copied out of sparse containers
	Damaged    int64 // that could not be copied and keep their container
	Dropped    int64 // containers
	FreedBytes int64 // of their files
}

// Cycle runs one whole cycle.
func (c *Collector) Cycle(ctx context.Context) (Report, error) {
	select {
	case c.cycle <- struct{}{}:
		defer func() { <-c.cycle }()
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	y, err := c.Begin(ctx)
	if err == nil {
		err = y.run(ctx)
		c.stats.Records.Add(y.Removed)
		c.stats.Segments.Add(y.Dropped)
		c.stats.Bytes.Add(y.FreedBytes)
	} else {
		y = &cycle{}
	}
	if err != nil {
		c.stats.Failures.Add(1)
		return y.Report, err
	}
	c.stats.note(y.Figures)
	return y.Report, nil
}

// run goes all the steps.
func (y *cycle) run(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"waiting for what is being written", y.Barrier},
		{"marking what is in use", y.Mark},
		{"sweeping", y.Sweep},
		{"compacting", y.tidy},
		{"shrinking the catalog", y.catalog.Shrink},
	} {
		y.step(step.what)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return y.catalog.SetReclaimed(ctx, y.Figures)
}

// tidy compacts and drops, again if that has made room for more.
func (y *cycle) tidy(ctx context.Context) error {
	for again := true; again; {
		before := y.Dropped
		if err := y.Compact(ctx); err != nil {
			return err
		}
		if err := y.Drop(ctx); err != nil {
			return err
		}
		again = y.full && y.Dropped > before
	}
	return nil
}

// Survey finds out what two cycles would give back now, and changes nothing:
// FreedBytes is by how much the containers would become shorter, and Dropped how
// many would go. What is written while it looks may be counted as not in use.
func (c *Collector) Survey(ctx context.Context) (Report, error) {
	y := &cycle{Collector: c, generation: 1<<63 - 1, survey: true, rest: c.newRest()}
	y.Began = c.now()
	c.step("marking what is in use")
	if err := y.Mark(ctx); err != nil {
		return Report{}, err
	}
	c.step("looking at all records")
	if err := y.judge(ctx, func(*Sentence) error { return nil }); err != nil {
		return Report{}, err
	}
	lengths, err := c.catalog.Containers(ctx)
	if err != nil {
		return Report{}, err
	}
	for id, length := range lengths {
		if left := y.left[id]; left.sparse(length) {
			y.Dropped++
			y.FreedBytes += length - left.bytes
		}
	}
	return y.Report, nil
}

// A cycle goes step by step, in the order Barrier, Mark, Sweep, Compact, Drop,
// so that tests get in between. After an error there is no further step.
type cycle struct {
	*Collector
	generation Generation
	rest       func(context.Context) error
	marks      *marks
	left       map[blockstore.ContainerID]remainder // after the sweep
	last       blockstore.ContainerID               // the newest one then
	survey     bool                                 // what is not in use is as good as gone
	full       bool                                 // there was no room to compact everything
	Report
}

// A remainder is what a container has records of, their entries in frames included,
// condemned ones among them: to copy those before they are removed would be for
// nothing, and again next time.
type remainder struct{ records, bytes int64 }

// sparse reports whether copying the rest of a container of the length gives
// back enough. Up to two pages for each record are not counted as waste, so that
// no copy is as sparse as what it is one of.
func (r remainder) sparse(length int64) bool {
	waste := length - r.bytes - (2*r.records+2)*pageSize
	return waste*100 >= length*(100-sparse)
}

// Begin opens a generation.
func (c *Collector) Begin(ctx context.Context) (*cycle, error) {
	g, err := c.catalog.OpenGeneration(ctx)
	if err != nil {
		return nil, err
	}
	y := &cycle{Collector: c, generation: g, rest: c.newRest()}
	y.Began = c.now()
	return y, nil
}

// Barrier waits until nobody holds records from before the generation that
// nothing names yet.
func (y *cycle) Barrier(ctx context.Context) error { return y.store.Barrier(ctx) }

// Sweep condemns what is not in use, and removes what was condemned by an
// earlier cycle and is still not.
func (y *cycle) Sweep(ctx context.Context) error {
	return y.judge(ctx, func(s *Sentence) error { return y.catalog.CarryOut(ctx, y.generation, s) })
}

// judge goes through all records.
func (y *cycle) judge(ctx context.Context, carryOut func(*Sentence) error) error {
	y.left = make(map[blockstore.ContainerID]remainder)
	y.LiveBytes, y.DeadBytes = 0, 0
	var after block.ID
	for {
		page, err := y.catalog.Candidates(ctx, after, sweepPage)
		if err != nil {
			return err
		}
		var s Sentence
		for i := range page {
			y.decide(&page[i], &s)
		}
		if len(s.Condemn)+len(s.Pardon)+len(s.Remove) > 0 {
			if err := carryOut(&s); err != nil {
				return err
			}
		}
		y.Condemned += int64(len(s.Condemn))
		y.Pardoned += int64(len(s.Pardon))
		y.Removed += int64(len(s.Remove))
		if len(page) < sweepPage {
			break
		}
		after = page[len(page)-1].ID
		if err := y.rest(ctx); err != nil {
			return err
		}
	}
	lengths, err := y.catalog.Containers(ctx)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, length := range lengths {
		total += length
	}
	y.DeadBytes = max(0, total-y.LiveBytes)
	y.last = newest(lengths)
	return nil
}

// decide adds what is to be done with a record to the sentence.
func (y *cycle) decide(r *Candidate, s *Sentence) {
	marked := y.marks.has(r.ID)
	switch {
	case marked && r.Condemned != 0:
		s.Pardon = append(s.Pardon, *r)
	case !marked && r.Condemned != 0 && r.Condemned < y.generation:
		s.Remove = append(s.Remove, *r)
		return
	case !marked && r.Condemned == 0 && r.Generation < y.generation:
		s.Condemn = append(s.Condemn, *r)
	case marked || r.Condemned == 0:
		y.Marked++
		y.LiveBytes += r.Length + frameOverhead
	}
	if y.survey && !marked {
		return
	}
	left := y.left[r.Container]
	y.left[r.Container] = remainder{left.records + 1, left.bytes + r.Length + frameOverhead}
}
