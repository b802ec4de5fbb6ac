package blockstore

import (
	"context"
	"errors"
	"fmt"
)

// A batch is what one group commit makes durable.
type batch struct {
	jobs   []*job
	commit Commit
	err    error // from the append stage
	// upTo is Store.appended with this batch.
	upTo int64
	// reached is closed when all batches before this one, which has no jobs,
	// have been dealt with, and what they appended is recorded if there is room.
	reached chan struct{}
}

// appendBatches is the first stage: it gathers jobs, writes their payloads and
// syncs them.
func (s *Store) appendBatches() {
	defer close(s.commits)
	ctx := context.Background() // a batch on its way is never given up
	var held *job
	for {
		b, next, open := s.gather(held)
		if len(b.jobs) > 0 {
			s.append(ctx, b)
			s.commits <- b
		}
		if held = next; !open && held == nil {
			return
		}
	}
}

// gather makes a batch of the held job, or else of the first one to come, and
// of what is waiting behind it. Map nodes and manifests, and what is relocated,
// are kept apart from blocks: next is a job for the following batch. open is false once the store
// is closed and nothing waits.
func (s *Store) gather(held *job) (b *batch, next *job, open bool) {
	b = &batch{}
	first := held
	if first == nil {
		if first, open = <-s.queue; !open {
			return b, nil, false
		}
	}
	b.jobs = append(b.jobs, first)
	size, class := first.size(), first.class()
	for size < maxBatch && !first.rotate {
		select {
		case j, more := <-s.queue:
			if !more {
				return b, nil, false
			}
			if j.class() != class || j.rotate {
				return b, j, true
			}
			b.jobs = append(b.jobs, j)
			size += j.size()
		default:
			return b, nil, true
		}
	}
	return b, nil, true
}

// A class is what shares batches.
type class int

const (
	classBlocks class = iota
	classNodes        // and manifests
	classMoved        // which are refused when they have no room, and nothing with them
)

func (j *job) class() class {
	switch {
	case len(j.records) > 0 && j.records[0].from != nil:
		return classMoved
	case j.ref != nil || len(j.records) > 0 && j.records[0].kind == KindBlock:
		return classBlocks
	default:
		return classNodes
	}
}

// reserve is the room that the batch leaves on the medium.
func (b *batch) reserve() int64 {
	switch b.jobs[0].class() {
	case classBlocks:
		return reserveBlocks
	case classMoved:
		n := int64(0)
		for _, j := range b.jobs {
			n = max(n, j.reserve)
		}
		return reserveMoved + n
	}
	for _, j := range b.jobs {
		for i := range j.records {
			if j.records[i].kind != KindManifest {
				return reserveNodes
			}
		}
	}
	return 0 // a deletion is what makes room
}

// append writes the records of the batch that are not on their way already.
func (s *Store) append(ctx context.Context, b *batch) {
	if err := s.Err(); err != nil {
		b.err = err
		return
	}
	if b.jobs[0].rotate {
		s.rotate(ctx, b)
		return
	}
	var records []record
	s.inflight.Lock()
	for _, j := range b.jobs {
		for _, r := range j.records {
			if j.ref != nil && s.inflight.ids[r.id] > 0 {
				// The commit checks that the other copy made it.
				j.ref.Hit = true
			} else {
				records = append(records, r)
			}
			s.inflight.ids[r.id]++
		}
		if j.ref != nil {
			b.commit.Refs = append(b.commit.Refs, *j.ref)
		}
	}
	s.inflight.Unlock()
	if len(records) == 0 {
		return
	}
	if s.appended-s.committed.Load() > maxAhead {
		// The index has no room to record what was appended. Nothing more is
		// until it has: this batch only asks it to.
		b.err = ErrFull
		b.coverAppended(s)
		return
	}
	frame := Frame{Entries: make([]Entry, len(records))}
	offsets, size := layOut(records)
	for i, r := range records {
		frame.Entries[i] = Entry{
			Kind: r.kind, Codec: r.codec, ID: r.id, Length: uint32(len(r.data)), Raw: r.raw,
			CRC: checksum(r.id, r.data), Sealing: r.sealing,
		}
	}
	reserve := b.reserve()
	place, err := s.medium.Append(ctx, size, reserve, func(p Place) [][]byte {
		frame.Place, frame.Length = p, size
		for i := range frame.Entries {
			frame.Entries[i].Offset = p.Offset + offsets[i]
		}
		return pieces(&frame, records, offsets)
	})
	switch {
	case errors.Is(err, ErrFull):
		b.err = err
		return
	case err != nil:
		b.err = s.stop(ctx, err)
		return
	}
	s.stats.BytesStored.Add(size)
	s.end = Place{Container: place.Container, Offset: place.Offset + size}
	s.appended += size
	b.upTo = s.appended
	b.commit.Container, b.commit.Committed = place.Container, place.Offset+size
	for i := range frame.Entries {
		e := &frame.Entries[i]
		stored := Stored{Kind: e.Kind, ID: e.ID, Location: e.Location(place.Container)}
		if from := records[i].from; from != nil {
			b.commit.Moved = append(b.commit.Moved, Move{stored, *from})
		} else {
			b.commit.Stored = append(b.commit.Stored, stored)
		}
	}
}

// coverAppended has the batch record how far the container has been appended to,
// and nothing else. It is for the append stage.
func (b *batch) coverAppended(s *Store) {
	b.commit, b.upTo = Commit{Container: s.end.Container, Committed: s.end.Offset}, s.appended
}

// rotate begins another container, once the index knows the one before: a start
// takes one that it does not know for what a crash has left, and no more.
func (s *Store) rotate(ctx context.Context, b *batch) {
	before := &batch{reached: make(chan struct{})}
	before.coverAppended(s)
	s.commits <- before
	<-before.reached
	if b.err = s.Err(); b.err != nil {
		return
	}
	if s.committed.Load() != s.appended {
		b.err = ErrFull // the index has no room to record it
		return
	}
	place, err := s.medium.Rotate(ctx)
	switch {
	case errors.Is(err, ErrFull):
		b.err = err
	case err != nil:
		b.err = s.stop(ctx, err)
	default:
		// As if it had been appended: if this commit fails, the next rotation
		// has it recorded before there is yet another container.
		s.end = place
		s.appended += pageSize
		b.coverAppended(s)
	}
}

// layOut gives the offset of each payload from the start of the batch, and the
// batch's length. Blocks begin at a page, nodes are packed.
func layOut(records []record) (offsets []int64, size int64) {
	at := framePages(len(records)) * pageSize
	for i := range records {
		if records[i].kind == KindBlock {
			at = pad(at)
		}
		offsets = append(offsets, at)
		at += int64(len(records[i].data))
	}
	return offsets, pad(at)
}

var zeroPage [pageSize]byte

// pieces gives the bytes of a batch in order, padding included.
func pieces(f *Frame, records []record, offsets []int64) [][]byte {
	out := [][]byte{f.encode()}
	at := int64(len(out[0]))
	for i := range records {
		if gap := offsets[i] - at; gap > 0 {
			out = append(out, zeroPage[:gap])
		}
		if len(records[i].data) > 0 {
			out = append(out, records[i].data)
		}
		at = offsets[i] + int64(len(records[i].data))
	}
	if gap := f.Length - at; gap > 0 {
		out = append(out, zeroPage[:gap])
	}
	return out
}

// commitBatches is the second stage: it records batches in their order and
// tells those who wait.
func (s *Store) commitBatches() {
	ctx := context.Background()
	for b := range s.commits {
		if b.reached != nil {
			s.recordAppended(ctx, b) //nolint:errcheck // the store has stopped then, which rotate sees
			close(b.reached)
			continue
		}
		s.commitBatch(ctx, b)
	}
}

// record commits, and stops the store if the outcome is unknown.
func (s *Store) record(ctx context.Context, c *Commit) ([]error, error) {
	verdicts, err := s.index.Commit(ctx, c)
	if err == nil && len(verdicts) != len(c.Refs) {
		err = fmt.Errorf("index gave %d verdicts for %d refs", len(verdicts), len(c.Refs))
	}
	if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrRolledBack) {
		err = s.stop(ctx, err)
	}
	return verdicts, err
}

// recordAppended records how far the container has been appended to, after
// commits that failed. An error is one that has stopped the store; without room
// it is left to a later batch.
func (s *Store) recordAppended(ctx context.Context, b *batch) error {
	if b.upTo <= s.committed.Load() || s.Err() != nil {
		return nil
	}
	_, err := s.record(ctx, &b.commit)
	if err == nil {
		s.committed.Store(b.upTo)
	}
	if errors.Is(err, ErrFull) || errors.Is(err, ErrRolledBack) {
		return nil
	}
	return err
}

// recordSingly commits the refs one by one, so that what is wrong with one, a
// damaged page of the catalog for instance, does not fail the others. An error that
// is ErrRolledBack says that all of them failed.
func (s *Store) recordSingly(ctx context.Context, c *Commit) ([]error, error) {
	verdicts := make([]error, len(c.Refs))
	recorded := false
	for i := range c.Refs {
		one := *c
		one.Refs = c.Refs[i : i+1]
		verdict, err := s.record(ctx, &one)
		switch {
		case errors.Is(err, ErrRolledBack):
			verdicts[i] = err
		case err != nil:
			return nil, err
		default:
			verdicts[i], recorded = verdict[0], true
		}
	}
	if !recorded {
		return nil, verdicts[0]
	}
	return verdicts, nil
}

// keep remembers where blocks were put: what was just written is often what is
// read next. Where a location was known before, the index has the last word.
func (s *Store) keep(stored []Stored) {
	for i := range stored {
		if r := &stored[i]; r.Kind == KindBlock {
			if _, added := s.located.SetIfAbsent(r.ID, r.Location); !added {
				s.located.Invalidate(r.ID)
			}
		}
	}
}

func (s *Store) commitBatch(ctx context.Context, b *batch) {
	var verdicts []error
	err := b.err
	if err != nil {
		if stopped := s.recordAppended(ctx, b); stopped != nil {
			err = stopped
		}
	}
	if err == nil {
		// A commit that failed before this one may have taken blocks with it
		// that this batch relies on; the index checks that. One whose outcome
		// is unknown has stopped the store.
		err = s.FindLost(ctx)
	}
	if err == nil {
		verdicts, err = s.record(ctx, &b.commit)
		if errors.Is(err, ErrRolledBack) && len(b.commit.Refs) > 1 {
			verdicts, err = s.recordSingly(ctx, &b.commit)
		}
	}
	s.inflight.Lock()
	for _, j := range b.jobs {
		for _, r := range j.records {
			if s.inflight.ids[r.id]--; s.inflight.ids[r.id] == 0 {
				delete(s.inflight.ids, r.id)
			}
		}
	}
	s.inflight.Unlock()
	if err == nil {
		s.keep(b.commit.Stored)
		for i := range b.commit.Moved {
			s.located.Invalidate(b.commit.Moved[i].ID)
		}
		s.stats.Batches.Add(1)
		s.committed.Store(max(s.committed.Load(), b.upTo))
	}
	refs := 0
	for _, j := range b.jobs {
		outcome := err
		if j.ref != nil {
			if err == nil {
				outcome = verdicts[refs]
			}
			if outcome == nil && b.commit.Refs[refs].Hit {
				s.stats.DedupHits.Add(1)
			} else if outcome == nil {
				s.stats.BlocksStored.Add(1)
			}
			refs++
		}
		j.done <- outcome
	}
}
