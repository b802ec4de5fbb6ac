package blockstore

import (
	"context"
	"errors"

	"shale/internal/block"
	"shale/internal/domain"
)

// A Write is one block on its way into a snapshot.
type Write struct {
	Snapshot int64 // the catalog's key of the snapshot
	Index    block.Index
	Digest   block.Digest
	// Key is that of the snapshot's domain; nil in the unencrypted one.
	Key *domain.Key
	// Data has block.Size bytes, or none for a block of zeros. It is the store's
	// until Write returns, and of no use afterwards: it may be compressed and,
	// with a Key, sealed in place, for which it should have room for
	// domain.Overhead bytes more.
	Data []byte
}

// A Node is an encoded map node; its ID is the SHA-256 of Data.
type Node struct {
	ID   block.ID
	Data []byte
}

// Size is what the node takes in a batch, in bytes.
func (n Node) Size() int { return len(n.Data) + entrySize }

// MaxNodes bounds the Size of all nodes of one WriteNodes.
const MaxNodes = 4 << 20

// A record is something to be stored.
type record struct {
	kind  Kind
	id    block.ID
	codec Codec
	raw   uint32
	data  []byte // as stored: compressed and sealed, if it is to be; nil for zeros
	// sealing is nil in the unencrypted domain.
	sealing *Sealing
	// from is where the index has it, if it is copied from there.
	from *Location
}

// A job is what one caller waits for: records, and the ref to record with
// them.
type job struct {
	records []record
	ref     *Ref
	// reserve is the room that a relocation has to leave, in bytes.
	reserve int64
	// rotate begins another container, and stands for nothing else.
	rotate bool
	done   chan error // gets one error
}

// size is what the job adds to a batch, in bytes, its entries in the frame
// included.
func (j *job) size() int64 {
	var n int64
	for i := range j.records {
		n += int64(len(j.records[i].data)) + entrySize
	}
	return n
}

// Write stores a block, unless it is stored already, and records it in its
// snapshot. On return both survive a crash. Errors: ErrFull, *StoppedError,
// ErrClosed, or the index's reason why the snapshot takes no more writes. It
// does not return early when ctx ends, as a commit on its way cannot be
// recalled.
func (s *Store) Write(ctx context.Context, w Write) error {
	ref := Ref{Snapshot: w.Snapshot, Index: w.Index, ID: w.Key.ID(w.Digest)}
	var err error
	if ref.Hit, err = s.holds(ctx, ref.ID); err != nil {
		return err
	}
	var records []record
	for {
		j := &job{ref: &ref, done: make(chan error, 1)}
		if !ref.Hit {
			if records == nil {
				records = []record{w.record(ref.ID)}
			}
			j.records = records
		}
		if err := s.enqueue(ctx, j); !errors.Is(err, ErrMissed) {
			return err
		}
		s.located.Invalidate(ref.ID)
		ref.Hit = false // from the data that is still here
	}
}

// Refer records a block in its snapshot as Write does, if the block is stored
// already; else ErrMissed, and nothing has changed. It needs no Data.
func (s *Store) Refer(ctx context.Context, w Write) error {
	ref := Ref{Snapshot: w.Snapshot, Index: w.Index, ID: w.Key.ID(w.Digest)}
	var err error
	if ref.Hit, err = s.holds(ctx, ref.ID); err != nil {
		return err
	}
	if !ref.Hit {
		return ErrMissed
	}
	if err = s.enqueue(ctx, &job{ref: &ref, done: make(chan error, 1)}); errors.Is(err, ErrMissed) {
		s.located.Invalidate(ref.ID)
	}
	return err
}

// record gives what is to be stored of the block. It compresses and seals in the
// goroutine of the caller, so that as many blocks are done at a time as there
// are processors, and before the one stage that writes.
func (w *Write) record(id block.ID) record {
	r := record{kind: KindBlock, id: id, raw: block.Size, data: w.Data}
	if r.data == nil {
		r.codec = CodecZero
	} else if n := compress(r.data); n > 0 {
		r.codec, r.data = CodecS2, r.data[:n]
	}
	if w.Key == nil {
		return r
	}
	r.sealing = &Sealing{Domain: w.Key.Number(), Cipher: cipherFor(r.codec), Digest: w.Key.SealDigest(id, w.Digest)}
	if r.data != nil {
		r.sealing.Nonce, r.data = w.Key.SealPayload(id, byte(r.codec), r.data)
	}
	return r
}

// WriteNodes stores map nodes, up to MaxNodes bytes of them and one more, in a
// batch apart from blocks. On return they are durable and can be read, and are
// not reclaimed while the caller has the Hold that he took before. Their Data
// is the store's from then on. Errors as for Write.
func (s *Store) WriteNodes(ctx context.Context, nodes []Node) error {
	records := make([]record, 0, len(nodes))
	seen := make(map[block.ID]bool, len(nodes))
	for _, n := range nodes {
		if !seen[n.ID] { // else equal subtrees in different places
			records = append(records, record{kind: KindNode, id: n.ID, raw: uint32(len(n.Data)), data: n.Data})
		}
		seen[n.ID] = true
	}
	if err := s.writeNew(ctx, records); err != nil {
		return err
	}
	for i := range records { // what was just written is often what is read next
		s.keepNode(records[i].id, records[i].data)
	}
	return nil
}

// writeNew stores those of the records that are not stored. The others are as
// new from then on: a collector that is at work does not take them.
func (s *Store) writeNew(ctx context.Context, records []record) error {
	ids := make([]block.ID, len(records))
	for i := range records {
		ids[i] = records[i].id
	}
	if err := s.FindLost(ctx); err != nil {
		return err
	}
	found, err := s.index.Renew(ctx, ids)
	if err != nil {
		if !errors.Is(err, ErrFull) && !errors.Is(err, ErrRolledBack) {
			err = s.stop(ctx, err)
		}
		return err
	}
	j := &job{done: make(chan error, 1)}
	for i := range records {
		if !found[i] {
			j.records = append(j.records, records[i])
		}
	}
	if len(j.records) == 0 {
		return nil
	}
	return s.enqueue(ctx, j)
}

// holds reports whether a block is stored and sound, as far as is known: the
// commit has the last word.
func (s *Store) holds(ctx context.Context, id block.ID) (bool, error) {
	if _, found := s.located.GetIfPresent(id); found {
		return true, nil
	}
	loc, found, err := s.locate(ctx, id)
	return found && !loc.Damaged, err
}

// enqueue hands the job to the next batch and waits for its outcome.
func (s *Store) enqueue(ctx context.Context, j *job) error {
	if err := s.Err(); err != nil {
		return err
	}
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		return ErrClosed
	}
	select {
	case s.queue <- j:
		s.closing.RUnlock()
		return <-j.done
	case <-ctx.Done():
		s.closing.RUnlock()
		return ctx.Err()
	}
}
