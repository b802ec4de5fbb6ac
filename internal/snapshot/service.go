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

	"shale/internal/blockstore"
	"shale/internal/quota"
	"shale/internal/seat"
	"shale/internal/token"
	"shale/internal/vfs"
)

const (
	// blockTokenLife and pageTokenLife are how long tokens can be used.
	// Spec: ebs-direct §8.5.
	blockTokenLife = 7 * 24 * time.Hour
	pageTokenLife  = time.Hour

	// maxWriting and maxReading bound the blocks held in memory, 96 MiB in
	// all: those on their way in, and those on their way out, so that slow
	// senders do not hold up readers. Further requests wait, for at most
	// bufferWait, and a block that hardly moves makes room for them.
	maxWriting = 128
	maxReading = 64
	// maxImaging bounds those of maxReading that images have: as slow as their
	// readers may be, some are left for single blocks.
	maxImaging = 48
	bufferWait = 5 * time.Second
	// maxListing bounds the pages of blocks, at some 2.5 MiB each with their
	// answers.
	maxListing = 16
	// takeWithin is in how long a client has to take a block, or a page, while
	// others wait: at 128 KiB/s, and sooner than those others give up.
	takeWithin = 4 * time.Second
)

// Options are what a Service is made of.
type Options struct {
	Catalog Catalog
	Store   *blockstore.Store
	Keyring Keyring
	Tokens  *token.Codec
	Now     func() time.Time // the clock of all that the service times
	Logger  *slog.Logger     // nil discards
	// Scratch is where the count of usage puts a file for as long as it runs.
	Scratch vfs.FS
	// BinTime is how long a completed snapshot that is deleted stays in the
	// recycle bin; 0 for not at all.
	BinTime time.Duration
	Quotas  *quota.Quotas // nil for those that there are if none are set
}

// A Service is the snapshot service. Make one with New and let Run do its
// background work.
type Service struct {
	catalog Catalog
	store   *blockstore.Store
	keyring Keyring
	tokens  *token.Codec
	now     func() time.Time
	log     *slog.Logger
	binTime time.Duration
	quotas  *quota.Quotas

	writing    *seat.Room
	reading    *seat.Room
	imaging    *seat.Room // of the seats of reading, the ones that images have
	listing    *seat.Room
	takeWithin time.Duration

	folds     folds
	manifests manifests
	lags      lags

	recount    chan struct{} // holds one value when usage may have changed
	maxCounted int
	partBuffer int
	scratch    vfs.FS

	stopped sync.Once // to say so
}

// New makes a Service.
func New(o Options) *Service {
	s := &Service{
		catalog: o.Catalog, store: o.Store, keyring: o.Keyring, tokens: o.Tokens, now: o.Now, log: o.Logger,
		binTime: o.BinTime, quotas: o.Quotas, manifests: manifests{lead: make(chan struct{}, 1)},
		writing: seat.NewRoom(maxWriting, bufferWait), reading: seat.NewRoom(maxReading, bufferWait), imaging: seat.NewRoom(maxImaging, bufferWait), listing: seat.NewRoom(maxListing, bufferWait),
		takeWithin: takeWithin,
		recount:    make(chan struct{}, 1), maxCounted: maxCounted, partBuffer: partBuffer, scratch: o.Scratch,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.quotas == nil {
		s.quotas = quota.New(quota.Config{}, o.Now)
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

// own finds a snapshot of the caller's own, as it stands at this moment.
func (s *Service) own(ctx context.Context, c Caller, id string) (Snapshot, error) {
	return s.ownBy(ctx, c, id, s.catalog.Snapshot)
}

// ownToWrite is own for a write, which its commit decides on once more.
func (s *Service) ownToWrite(ctx context.Context, c Caller, id string) (Snapshot, error) {
	snap, err := s.ownBy(ctx, c, id, s.catalog.SnapshotToWrite)
	if err == nil && snap.State != Open { // or its deadline was an earlier one
		return s.own(ctx, c, id)
	}
	return snap, err
}

func (s *Service) ownBy(
	ctx context.Context, c Caller, id string, find func(context.Context, string) (Snapshot, bool, error),
) (Snapshot, error) {
	snap, err := s.ownStored(ctx, c, id, find)
	if err == nil {
		s.veil(&snap)
	}
	return snap, err
}

// ownStored is ownBy, in the state that is stored, which may be seen only later.
func (s *Service) ownStored(
	ctx context.Context, c Caller, id string, find func(context.Context, string) (Snapshot, bool, error),
) (Snapshot, error) {
	snap, found, err := find(ctx, id)
	if err != nil {
		return Snapshot{}, err
	}
	if !found || snap.Account != c.Account || snap.Region != c.Region {
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id}
	}
	s.observe(&snap)
	if !s.veil(new(snap)) {
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id}
	}
	return snap, nil
}

// observe brings a snapshot's state up to this moment: an open one whose time
// is over has failed, whether that has been recorded yet or not.
func (s *Service) observe(snap *Snapshot) {
	if snap.State == Open && !s.now().Before(snap.Deadline) {
		snap.State, snap.Message = Failed, timedOut
	}
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

// Delete removes a snapshot of the caller's own at once: into the recycle bin
// if it is completed and there is a bin, else for good. One that is pending is
// cancelled, one that is locked stays. On return the deletion is durable.
func (s *Service) Delete(ctx context.Context, c Caller, id string) error {
	if err := s.admitDelete(ctx, c, id); err != nil {
		return err
	}
	for range maxAttempts {
		deleted, err := s.beforeDelete(ctx, c, id)
		if err != nil {
			return s.storeError(err)
		}
		done, err := s.catalog.Delete(ctx, c.Account, c.Region, id, s.binTime)
		deleted(done && err == nil)
		if err != nil {
			return s.storeError(err)
		}
		if done {
			s.folds.kick()
			s.usageChanged()
			return s.storeError(s.describe(ctx, id))
		}
		if err := s.checkUnlocked(ctx, c, id); err != nil {
			return err
		}
		// It was unlocked in the meantime.
	}
	return &Error{Code: Internal, Err: fmt.Errorf("delete snapshot: raced %d times", maxAttempts)}
}

// CheckDelete says why Delete would refuse, and changes nothing.
func (s *Service) CheckDelete(ctx context.Context, c Caller, id string) error {
	if err := s.admitDelete(ctx, c, id); err != nil {
		return err
	}
	return s.checkUnlocked(ctx, c, id)
}

func (s *Service) admitDelete(ctx context.Context, c Caller, id string) error {
	snap, err := s.own(ctx, c, id)
	if err != nil {
		return s.storeError(err)
	}
	return s.admit(ctx, c, &snap, need{action: DeleteSnapshot})
}

// checkUnlocked refuses if a lock keeps the snapshot from being deleted.
func (s *Service) checkUnlocked(ctx context.Context, c Caller, id string) error {
	snap, err := s.own(ctx, c, id)
	if err != nil {
		return s.storeError(err)
	}
	l, _, err := s.lockOf(ctx, snap.Key)
	if err != nil {
		return s.storeError(err)
	}
	if l != nil && l.State != LockExpired {
		return &Error{Code: Locked, Snapshot: id}
	}
	return nil
}

// storeError gives the service's error for one of the store's or catalog's.
func (s *Service) storeError(err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	var stopped *blockstore.StoppedError
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled), denied(err):
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
