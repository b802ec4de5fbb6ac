package snapshot

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/token"
)

const (
	// blockTokenLife and pageTokenLife are how long tokens can be used.
	// Spec: ebs-direct §8.5.
	blockTokenLife = 7 * 24 * time.Hour
	pageTokenLife  = time.Hour

	// maxWriting and maxReading bound the blocks held in memory, 96 MiB in
	// all: those on their way in, and those on their way out, so that slow
	// senders do not hold up readers. Further requests wait, for at most
	// bufferWait.
	maxWriting = 128
	maxReading = 64
	bufferWait = 5 * time.Second
)

// Options are what a Service is made of.
type Options struct {
	Catalog Catalog
	Store   *blockstore.Store
	Tokens  *token.Codec
	Now     func() time.Time // the clock of all that the service times
	Logger  *slog.Logger     // nil discards
}

// A Service is the snapshot service. Make one with New and let Run do its
// background work.
type Service struct {
	catalog Catalog
	store   *blockstore.Store
	tokens  *token.Codec
	now     func() time.Time
	log     *slog.Logger

	writing, reading slots
	pool             sync.Pool // of *[block.Size]byte
	bufferWait       time.Duration

	folds folds

	recount    chan struct{} // holds one value when usage may have changed
	maxCounted int

	stopped sync.Once // to say so
}

// New makes a Service.
func New(o Options) *Service {
	s := &Service{
		catalog: o.Catalog, store: o.Store, tokens: o.Tokens, now: o.Now, log: o.Logger,
		writing: make(slots, maxWriting), reading: make(slots, maxReading), bufferWait: bufferWait,
		pool:    sync.Pool{New: func() any { return new([block.Size]byte) }},
		recount: make(chan struct{}, 1), maxCounted: maxCounted,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.folds.init()
	return s
}

// Ready says why the service cannot do all its work, or nil.
func (s *Service) Ready() error {
	if err := s.catalog.Err(); err != nil {
		return err
	}
	return s.store.Err()
}

// slots has room for a value per block held in memory.
type slots chan struct{}

// buffer takes a block's buffer. If none becomes free the client is told to
// come back: its library does that by itself, and waiting here would only
// lengthen the queue.
func (s *Service) buffer(ctx context.Context, from slots) (*[block.Size]byte, error) {
	select {
	case from <- struct{}{}:
	default:
		patience := time.NewTimer(s.bufferWait)
		defer patience.Stop()
		select {
		case from <- struct{}{}:
		case <-patience.C:
			return nil, &Error{Code: Throttled}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.pool.Get().(*[block.Size]byte), nil
}

func (s *Service) release(b *[block.Size]byte, to slots) {
	s.pool.Put(b)
	<-to
}

// own finds a snapshot of the caller's own, as it stands at this moment.
func (s *Service) own(ctx context.Context, c Caller, id string) (Snapshot, error) {
	snap, found, err := s.catalog.Snapshot(ctx, id)
	if err != nil {
		return Snapshot{}, err
	}
	if !found || snap.Account != c.Account || snap.Region != c.Region {
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id}
	}
	s.observe(&snap)
	return snap, nil
}

// observe brings a snapshot's state up to this moment: an open one whose time
// is over has failed, whether that has been recorded yet or not.
func (s *Service) observe(snap *Snapshot) {
	if snap.State == Open && !s.now().Before(snap.Deadline) {
		snap.State, snap.Message = Failed, timedOut
	}
}

// readable finds a snapshot whose blocks the caller may read.
// Spec: ebs-direct §2.5.
func (s *Service) readable(ctx context.Context, c Caller, id string) (Snapshot, error) {
	snap, err := s.own(ctx, c, id)
	if err == nil && snap.State != Completed {
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id}
	}
	return snap, err
}

// blame names the member that a snapshot that does not exist was named in,
// where there is more than one.
func blame(err error, field string) error {
	var e *Error
	if errors.As(err, &e) && e.Code == NotFound {
		e.Field = field
	}
	return err
}

// Delete removes a snapshot of the caller's own, at once and for good. One
// that is pending is cancelled. On return the deletion is durable.
func (s *Service) Delete(ctx context.Context, c Caller, id string) error {
	done, err := s.catalog.Delete(ctx, c.Account, c.Region, id)
	if err != nil {
		return s.storeError(err)
	}
	if !done {
		return &Error{Code: NotFound, Snapshot: id}
	}
	s.folds.kick()
	s.usageChanged()
	return nil
}

// storeError gives the service's error for one of the store's or catalog's.
func (s *Service) storeError(err error) error {
	var known *Error
	var stopped *blockstore.StoppedError
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, blockstore.ErrFull):
		return &Error{Code: StorageFull, Err: err}
	case errors.As(err, &stopped):
		s.stopped.Do(func() {
			s.log.Error("no more changes are taken; restart the server once the disk is sound", "err", err)
		})
		return &Error{Code: StorageStopped, Err: err}
	}
	return &Error{Code: Internal, Err: err}
}

const idPrefix = "snap-0"

// makeID gives the ID of the number: "snap-0" and 16 hex digits.
// Spec: ebs-direct §2.4.
func makeID(number uint64) string { return fmt.Sprintf("%s%016x", idPrefix, number) }

// idNumber gives the number in an ID that makeID made; ok is false for others.
func idNumber(id string) (number uint64, ok bool) {
	digits, found := strings.CutPrefix(id, idPrefix)
	if !found || len(digits) != 16 {
		return 0, false
	}
	var b [8]byte
	if _, err := hex.Decode(b[:], []byte(digits)); err != nil {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[:]), true
}
