package blockstore

import (
	"context"
	"errors"

	"shale/internal/block"
)

// A Write is one block on its way into a snapshot.
type Write struct {
	Snapshot int64 // the catalog's key of the snapshot
	Index    block.Index
	ID       block.ID
	// Data has block.Size bytes, or none for a block of zeros. The store reads
	// it until Write returns.
	Data []byte
}

// A Node is an encoded map node.
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
	kind Kind
	id   block.ID
	raw  uint32
	data []byte // nil for zeros
}

// A job is what one caller waits for: records, and the ref to record with
// them.
type job struct {
	records []record
	ref     *Ref
	done    chan error // gets one error
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
	ref := Ref{Snapshot: w.Snapshot, Index: w.Index, ID: w.ID}
	var err error
	if ref.Hit, err = s.holds(ctx, w.ID); err != nil {
		return err
	}
	for {
		j := &job{ref: &ref, done: make(chan error, 1)}
		if !ref.Hit {
			j.records = []record{{kind: KindBlock, id: w.ID, raw: block.Size, data: w.Data}}
		}
		if err := s.enqueue(ctx, j); !errors.Is(err, ErrMissed) {
			return err
		}
		s.located.Invalidate(w.ID)
		ref.Hit = false // from the data that is still here
	}
}

// WriteNodes stores map nodes, up to MaxNodes bytes of them and one more, in a
// batch apart from blocks. On return they are durable and can be read. Errors
// as for Write.
func (s *Store) WriteNodes(ctx context.Context, nodes []Node) error {
	j := &job{done: make(chan error, 1)}
	seen := make(map[block.ID]bool, len(nodes))
	for _, n := range nodes {
		if seen[n.ID] {
			continue // equal subtrees in different places
		}
		seen[n.ID] = true
		loc, found, err := s.locate(ctx, n.ID)
		if err != nil {
			return err
		}
		if !found || loc.Damaged {
			j.records = append(j.records, record{kind: KindNode, id: n.ID, raw: uint32(len(n.Data)), data: n.Data})
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
