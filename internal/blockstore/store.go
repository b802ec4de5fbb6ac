// Package blockstore keeps blocks and map nodes by id: durable, deduplicated,
// checked on every read. The engine here is the same over every Medium (local
// segment files; an object store) and asks an Index (the catalog) where things
// are.
//
// A batch is what one group commit makes durable. It passes two stages, each
// a goroutine: append writes the payloads to the medium and syncs them, commit
// records them in the index in one synced transaction. While one batch syncs
// the next fills, while one is recorded the next is written, and nobody ever
// waits for a timer. A write is acknowledged after the second stage. The index
// names nothing that was not synced before, so there is nothing to replay
// after a crash.
//
// A Store is safe for concurrent use.
package blockstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"shale/internal/block"
)

const (
	// maxBatch closes a batch: beyond 8 MiB only latency grows.
	maxBatch = 8 << 20
	// queueLength bounds the writes that wait for a batch. Their bodies are
	// bounded by who reads them.
	queueLength = 256
	// maxLocated bounds the locations kept in memory: about 10 MiB, for 32 GiB
	// of blocks; 16 MiB if all of them are encrypted.
	maxLocated = 1 << 16
	// maxNodes bounds the map nodes kept in memory, in bytes, of which each takes
	// nodeOverhead beside its own: a node of a small snapshot is a hundred.
	maxNodes     = 16 << 20
	nodeOverhead = 256
	// MaxUncommitted bounds the bytes that a medium can hold beyond what the
	// index has committed: the three batches that can be on their way (one
	// being recorded, one waiting for that, one being appended), each at most
	// MaxNodes longer than maxBatch, with room to spare.
	MaxUncommitted = 6 * maxBatch
	// reserveBlocks, reserveNodes and reserveMoved are the room that is left on
	// the medium: what completes snapshots goes on when new blocks are refused,
	// and what is relocated to give back space when that is, too.
	reserveBlocks = 64 << 20
	reserveNodes  = 16 << 20
	reserveMoved  = 4 << 20
	// maxAhead is where appending waits for the index to catch up: one batch
	// short of that.
	maxAhead = 4 * maxBatch
)

// Options are what a Store is made of.
type Options struct {
	Medium Medium
	Index  Index
	Logger *slog.Logger // nil discards
	// NodeLength gives the length of the encoded map node that b begins with, as
	// far as it tells, with which nodes that lie behind each other are found with
	// the first of them. With nil each is looked up.
	NodeLength func(b []byte) int
}

// A Store is the engine. Make one with New.
type Store struct {
	medium Medium
	index  Index
	log    *slog.Logger
	// located keeps sound locations. One may be out of date: what is read
	// there is checked, and a hit on it is when it is committed.
	located *otter.Cache[block.ID, Location]
	// nodes keeps map nodes that have been verified; they never change.
	nodes      *otter.Cache[block.ID, keptNode]
	nodeLength func([]byte) int

	// findLost begins FindLost, and lostFound is closed at its end.
	findLost  sync.Once
	lostFound chan struct{}

	queue   chan *job
	commits chan *batch
	done    sync.WaitGroup
	stopped atomic.Pointer[StoppedError]

	// appended counts the bytes appended, and end is where they end; both are
	// the append stage's. committed is how many of them the index has recorded.
	appended  int64
	end       Place
	committed atomic.Int64

	closing sync.RWMutex // held for reading while a job is put into the queue
	closed  bool

	inflight struct {
		sync.Mutex
		ids map[block.ID]int // appended or being appended, not yet recorded
	}

	held held

	stats Stats
}

// Stats counts what a Store has done since it was made.
type Stats struct {
	Batches      atomic.Int64 // committed
	BytesStored  atomic.Int64 // appended to the medium, frames included
	DedupHits    atomic.Int64 // writes whose block was stored already
	BlocksStored atomic.Int64 // writes whose block was not
	BlocksRead   atomic.Int64
	DamagedReads atomic.Int64 // reads that found damage
}

// A StoppedError says why a store takes no more writes.
type StoppedError struct{ Cause error }

func (e *StoppedError) Error() string {
	return fmt.Sprintf("store takes no more writes after: %v", e.Cause)
}

// Unwrap returns the cause.
func (e *StoppedError) Unwrap() error { return e.Cause }

// New starts a store. Close stops it.
func New(o Options) *Store {
	s := &Store{
		located: otter.Must(&otter.Options[block.ID, Location]{MaximumSize: maxLocated}),
		nodes: otter.Must(&otter.Options[block.ID, keptNode]{
			MaximumWeight: maxNodes, Weigher: func(_ block.ID, node keptNode) uint32 { return uint32(nodeOverhead + len(node.data)) },
		}),
		medium: o.Medium, index: o.Index, log: o.Logger, nodeLength: o.NodeLength,
		queue: make(chan *job, queueLength), commits: make(chan *batch, 1), lostFound: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.inflight.ids = make(map[block.ID]int)
	s.held.init()
	s.done.Go(s.appendBatches)
	s.done.Go(s.commitBatches)
	return s
}

// Close refuses new writes, waits for those on their way and closes the
// medium.
func (s *Store) Close() error {
	s.closing.Lock()
	s.closed = true
	close(s.queue)
	s.closing.Unlock()
	s.done.Wait()
	return s.medium.Close()
}

// Err says why the store takes no more writes, or is nil.
func (s *Store) Err() error {
	if e := s.stopped.Load(); e != nil {
		return e
	}
	return nil
}

// Stats gives the counters, which go on counting.
func (s *Store) Stats() *Stats { return &s.stats }

// stop ends all writing for good: after a failed write, sync or commit nobody
// knows what is on the disk, and trying again can only pretend to know.
func (s *Store) stop(ctx context.Context, cause error) error {
	var e *StoppedError
	if !errors.As(cause, &e) {
		e = &StoppedError{cause}
	}
	if s.stopped.CompareAndSwap(nil, e) {
		s.log.ErrorContext(ctx, "store stopped taking writes; restart the server once the disk is sound", "err", cause)
	}
	return s.stopped.Load()
}
