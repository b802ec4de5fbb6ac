package snapshot

import (
	"context"
	"errors"
	"time"

	"shale/internal/seat"
)

// For tests of what happens when there is no buffer.
const (
	MaxWriting = maxWriting
	MaxReading = maxReading
)

// SetBufferWait sets how long a request waits for a buffer.
func (s *Service) SetBufferWait(d time.Duration) {
	s.writing, s.reading, s.imaging = seat.NewRoom(maxWriting, d), seat.NewRoom(maxReading, d), seat.NewRoom(maxImaging, d)
}

// SetTakeWithin sets how long a client has to take a block while others wait.
func (s *Service) SetTakeWithin(d time.Duration) { s.takeWithin = d }

// Admit asks for a block of the snapshot to be written, and does no more.
func Admit(ctx context.Context, s *Service, c Caller, snap *Snapshot) error {
	return s.admit(ctx, c, snap, need{action: PutSnapshotBlock})
}

// Reading is how many blocks are in memory on their way out.
func Reading(s *Service) int { return s.reading.Taken() }

// SetMaxCounted sets how many blocks the count of usage holds in memory, and how
// many bytes of each part of its log.
func (s *Service) SetMaxCounted(blocks, buffer int) { s.maxCounted, s.partBuffer = blocks, buffer }

// CountIfChanged counts usage as a server does, if there is something to count.
func CountIfChanged(ctx context.Context, s *Service) (counted bool, err error) {
	return s.count(ctx, true, nil)
}

// InTurn gives the order in which snapshots are tried of which some have failed
// before, so often.
func InTurn(keys []int64, failed map[int64]int) []int64 {
	var f folds
	f.init()
	for key, times := range failed {
		for range times {
			f.end(key, errors.New("no answer"))
		}
	}
	f.again()
	for _, key := range keys { // and there was no room for any
		if f.begin(key) {
			f.giveBack(key)
		}
	}
	inTurn(&f, keys, func(key *int64) int64 { return *key })
	return keys
}
