package snapshot

import (
	"context"
	"iter"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/domain"
	"shale/internal/quota"
)

// A Content is what a snapshot has in a run of its volume.
type Content int

// The contents.
const (
	Data Content = iota + 1
	Zero         // written zeros
	Hole         // never written; only in a diff
)

// String returns the content as the wire spells it.
// Spec: plain-json, What this dialect adds.
func (c Content) String() string {
	switch c {
	case Data:
		return "data"
	case Zero:
		return "zero"
	case Hole:
		return "hole"
	}
	return "unknown"
}

// An Extent is a run of a volume with one content, as long as it can be.
// Offset and Length are in bytes, multiples of block.Size.
type Extent struct {
	Offset, Length int64
	Content        Content
}

// Extents gives the runs of a completed snapshot that are not holes, by
// offset. An error, the first of which ends it, is never preceded by a run
// that is wrong. Memory does not depend on the size of the volume.
// Spec: plain-json, What this dialect adds.
func (s *Service) Extents(ctx context.Context, c Caller, id string) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		snap, err := s.comparable(ctx, c, "snapshotId", id)
		if err != nil {
			yield(Extent{}, err)
			return
		}
		// It tells which blocks are zeros, which takes more than to list them.
		if err := s.admit(ctx, c, &snap, need{action: ListSnapshotBlocks}, need{action: GetSnapshotBlock}); err != nil {
			yield(Extent{}, err)
			return
		}
		if err := s.throttle(c, quota.ListRate, snap.ID); err != nil {
			yield(Extent{}, err)
			return
		}
		key, err := s.readKey(ctx, c, &snap)
		if err != nil {
			yield(Extent{}, s.storeError(err))
			return
		}
		m := merger{yield: yield, ask: func() error { return s.mayStillRead(ctx, c, &snap) }}
		zeros := zeroID(key)
		for entry, err := range blockmap.Walk(ctx, s.store.NodeReader(), snap.Root, 0) {
			if err != nil {
				yield(Extent{}, s.mapError(&snap, err))
				return
			}
			if !m.add(entry.Index, contentOf(entry.ID, zeros)) {
				return
			}
		}
		m.flush()
	}
}

// Diff gives the runs in which the bytes of the snapshot id differ from those
// of the snapshot from, by offset, and what id has there. Holes and zeros are
// equal bytes. The two may be of any lineages and sizes: what is past the end
// of the smaller volume counts as a hole, and no run is past the end of id's.
// Otherwise it is like Extents. Spec: plain-json, What this dialect adds.
func (s *Service) Diff(ctx context.Context, c Caller, from, id string) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		first, err := s.comparable(ctx, c, "from", from)
		if err != nil {
			yield(Extent{}, err)
			return
		}
		second, err := s.comparable(ctx, c, "snapshotId", id)
		if err != nil {
			yield(Extent{}, err)
			return
		}
		if err := s.admitBoth(ctx, c, &first, &second, need{action: ListChangedBlocks}, need{action: GetSnapshotBlock}); err != nil {
			yield(Extent{}, err)
			return
		}
		if err := s.throttle(c, quota.ListChangedRate, second.ID); err != nil {
			yield(Extent{}, err)
			return
		}
		firstKey, err := s.readKey(ctx, c, &first)
		if err != nil {
			yield(Extent{}, s.storeError(err))
			return
		}
		secondKey, err := s.readKey(ctx, c, &second)
		if err != nil {
			yield(Extent{}, s.storeError(err))
			return
		}
		m := merger{yield: yield, ask: func() error { return s.mayStillRead(ctx, c, &first, &second) }}
		firstZeros, secondZeros := zeroID(firstKey), zeroID(secondKey)
		end := block.Index(second.VolumeSize * block.PerGiB)
		for change, err := range s.Compare(ctx, c, &first, &second, 0) {
			if err != nil {
				yield(Extent{}, s.mapError(&second, err))
				return
			}
			if change.Index >= end {
				break
			}
			before, after := contentOf(change.First, firstZeros), contentOf(change.Second, secondZeros)
			if before != Data && after != Data { // zeros, both
				continue
			}
			if !m.add(change.Index, after) {
				return
			}
		}
		m.flush()
	}
}

// mayStillRead asks again for what was asked before the first run was given.
func (s *Service) mayStillRead(ctx context.Context, c Caller, snaps ...*Snapshot) error {
	for _, snap := range snaps {
		if _, err := s.keyNow(ctx, c, snap); err != nil {
			return err
		}
	}
	return nil
}

// comparable finds a completed snapshot that the caller may read and that was
// named in the field.
func (s *Service) comparable(ctx context.Context, c Caller, field, id string) (Snapshot, error) {
	var v violations
	v.snapshotID(field, id)
	if err := v.err(); err != nil {
		return Snapshot{}, err
	}
	snap, err := s.readable(ctx, c, id)
	if err != nil && field == "from" {
		err = blame(err, field)
	}
	return snap, s.storeError(err)
}

// contentOf says what a snapshot has where its map has the id, in a domain
// whose blocks of zeros have the id zeros.
func contentOf(id, zeros block.ID) Content {
	switch {
	case id.IsZero():
		return Hole
	case id == zeros:
		return Zero
	}
	return Data
}

// zeroID is the id of a block of zeros in the key's domain, nil for the
// unencrypted one.
func zeroID(key *domain.Key) block.ID {
	if key == nil {
		return block.ID(block.ZeroDigest)
	}
	return key.ID(block.ZeroDigest)
}

// askEvery is how many blocks of a stream of runs pass before it is asked again
// whether the caller may have them.
const askEvery = 1000

// A merger joins neighbouring blocks of one content.
type merger struct {
	yield  func(Extent, error) bool
	ask    func() error // whether the caller still may
	run    Extent       // being gathered; of no length before the first
	blocks int          // so far
}

// add takes the next block and reports whether to go on.
func (m *merger) add(index block.Index, content Content) bool {
	if m.blocks++; m.blocks%askEvery == 0 {
		if err := m.ask(); err != nil {
			m.yield(Extent{}, err)
			return false
		}
	}
	offset := int64(index) * block.Size
	if m.run.Content == content && m.run.Offset+m.run.Length == offset {
		m.run.Length += block.Size
		return true
	}
	if !m.flush() {
		return false
	}
	m.run = Extent{Offset: offset, Length: block.Size, Content: content}
	return true
}

// flush gives the run that was gathered, and reports whether to go on.
func (m *merger) flush() bool { return m.run.Length == 0 || m.yield(m.run, nil) }
