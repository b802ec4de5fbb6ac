package snapshot

import (
	"context"
	"iter"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/domain"
)

// Compare gives the indexes, from the given one on and ascending, at which two
// completed snapshots that the caller may read differ in content, or in one
// having a block where the other has none. Inside a domain equal ids are equal
// blocks, so that it costs O(changes) and takes no key. Two domains name the
// same block differently: then all blocks of both are visited and the digests
// compared that stand beside their locations, which takes the keys. The first
// error ends it.
func (s *Service) Compare(ctx context.Context, c Caller, first, second *Snapshot, from block.Index) iter.Seq2[blockmap.Change, error] {
	changes := blockmap.Diff(ctx, s.store.NodeReader(), first.Root, second.Root, from)
	if first.Domain == second.Domain {
		return changes
	}
	return func(yield func(blockmap.Change, error) bool) {
		firstKey, err := s.readKey(ctx, c, first)
		if err != nil {
			yield(blockmap.Change{}, err)
			return
		}
		secondKey, err := s.readKey(ctx, c, second)
		if err != nil {
			yield(blockmap.Change{}, err)
			return
		}
		for change, err := range changes {
			same := false
			if err == nil {
				same, err = s.sameBlock(ctx, change, firstKey, secondKey)
			}
			if !same && !yield(change, err) || err != nil {
				return
			}
		}
	}
}

// sameBlock reports whether the blocks of a change, each of its own domain,
// have the same content.
func (s *Service) sameBlock(ctx context.Context, change blockmap.Change, first, second *domain.Key) (bool, error) {
	if change.First.IsZero() || change.Second.IsZero() {
		return false, nil
	}
	a, err := s.store.Digest(ctx, first, change.First)
	if err != nil {
		return false, err
	}
	b, err := s.store.Digest(ctx, second, change.Second)
	return a == b, err
}
