package snapshot

import (
	"context"
	"iter"

	"shale/internal/block"
	"shale/internal/blockmap"
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
		m := merger{yield: yield}
		for entry, err := range blockmap.Walk(ctx, s.store, snap.Root, 0) {
			var content Content
			if err == nil {
				content, err = s.content(ctx, &snap, entry.ID)
			}
			if err != nil {
				yield(Extent{}, s.mapError(&snap, err))
				return
			}
			if !m.add(entry.Index, content) {
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
		m := merger{yield: yield}
		end := block.Index(second.VolumeSize * block.PerGiB)
		for change, err := range s.changes(ctx, &first, &second) {
			var before, after Content
			if err == nil {
				before, err = s.content(ctx, &first, change.First)
			}
			if err == nil {
				after, err = s.content(ctx, &second, change.Second)
			}
			if err != nil {
				yield(Extent{}, s.mapError(&second, err))
				return
			}
			if change.Index >= end {
				break
			}
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

// changes gives the indexes at which the blocks of two snapshots are not the
// same. All snapshots are of one domain, in which equal blocks have equal ids.
func (s *Service) changes(ctx context.Context, first, second *Snapshot) iter.Seq2[blockmap.Change, error] {
	return blockmap.Diff(ctx, s.store, first.Root, second.Root, 0)
}

// content says what a snapshot has where its map has the id.
func (s *Service) content(ctx context.Context, snap *Snapshot, id block.ID) (Content, error) {
	if id.IsZero() {
		return Hole, nil
	}
	d, err := s.digest(ctx, snap, id)
	if err == nil && d == block.ZeroDigest {
		return Zero, nil
	}
	return Data, err
}

// digest gives the digest of a block that the snapshot's map, or a write to
// it, names. In the unencrypted domain that is the block's id.
func (s *Service) digest(_ context.Context, _ *Snapshot, id block.ID) (block.Digest, error) {
	return block.Digest(id), nil
}

// A merger joins neighbouring blocks of one content.
type merger struct {
	yield func(Extent, error) bool
	run   Extent // being gathered; of no length before the first
}

// add takes the next block and reports whether to go on.
func (m *merger) add(index block.Index, content Content) bool {
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
