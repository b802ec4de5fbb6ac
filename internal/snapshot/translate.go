package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/buffer"
	"shale/internal/domain"
)

// maxTranslating bounds the blocks of one copy that are on their way, and so
// the buffers of all copies, to 8 MiB.
const maxTranslating = 8

// translate writes the blocks of a snapshot of one domain to a copy in another
// and gives the root of their map there. The blocks are rows of the copy until
// it is completed, like those of an upload; what an attempt before has stored
// is found again, and so is what the domain holds already. The keys are asked
// for with each block: one that is disabled ends a copy that has begun.
//
// The hold is given back meanwhile: it may take hours, and a collector need not
// wait for what is a row of the copy by now.
func (s *Service) translate(ctx context.Context, c *Copy, source *Snapshot, hold *blockstore.Hold) (block.ID, error) {
	hold.Release()
	want := sha256.New()
	g, writing := errgroup.WithContext(ctx)
	g.SetLimit(maxTranslating)
	failed := func() error {
		for entry, err := range blockmap.Walk(writing, s.store.NodeReader(), source.Root, 0) {
			if err != nil {
				return err
			}
			from, key, err := s.copyKeys(writing, c, source)
			if err != nil {
				return err
			}
			digest, err := s.store.Digest(writing, from, entry.ID)
			if err != nil {
				return err
			}
			want.Write(digest[:])
			w := blockstore.Write{Snapshot: c.Snapshot.Key, Index: entry.Index, Digest: digest, Key: key}
			g.Go(func() error { return s.translateBlock(writing, entry.ID, from, w) })
		}
		return nil
	}()
	if err := g.Wait(); err != nil { // before that of the walk, which ends with it
		return block.ID{}, err
	}
	if failed != nil {
		return block.ID{}, failed
	}
	_, key, err := s.copyKeys(ctx, c, source)
	if err != nil {
		return block.ID{}, err
	}
	hold.Take()
	w := written{hash: sha256.New(), key: key}
	folded, err := s.foldMap(ctx, &c.Snapshot, &w)
	if err != nil {
		return block.ID{}, err
	}
	if w.count != source.Blocks || block.Digest(w.hash.Sum(nil)) != block.Digest(want.Sum(nil)) {
		return block.ID{}, fmt.Errorf("copy of %s has %d blocks, and not those of its source, which has %d", source.ID, w.count, source.Blocks)
	}
	return folded.Root, nil
}

// translateBlock writes one block. Its payload is read only if the other domain
// does not hold the block.
func (s *Service) translateBlock(ctx context.Context, id block.ID, from *domain.Key, w blockstore.Write) error {
	if err := s.store.Refer(ctx, w); !errors.Is(err, blockstore.ErrMissed) {
		return err
	}
	if w.Digest == block.ZeroDigest {
		return s.store.Write(ctx, w)
	}
	buf := buffer.Get()
	defer buffer.Put(buf)
	if _, err := s.store.Read(ctx, from, id, buf.Block()); err != nil {
		return err
	}
	w.Data = buf.Block()
	// What is wrong now would be wrong under a right digest for ever.
	if block.Digest(sha256.Sum256(w.Data)) != w.Digest {
		return &blockstore.DamagedError{ID: id, Why: "its bytes do not have its digest"}
	}
	return s.store.Write(ctx, w)
}
