package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"iter"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/quota"
)

// Why a snapshot failed, in AWS's words. Spec: ebs-direct §5.1.
const (
	countMismatch    = "Changed blocks count mismatch for snapshot"
	checksumMismatch = "Checksum mismatch for snapshot"
	timedOut         = "Snapshot timed out"
	damagedParent    = "Damaged data in the snapshot's lineage" // shale's own
)

const (
	pendingPage = 4096 // written blocks read at a time
)

// Complete seals a snapshot: from its durable return on no block is written to
// it. What was claimed is verified afterwards, in the background, so the first
// call is answered Completing; later ones are answered the state that the
// snapshot then has. Spec: ebs-direct §5.
func (s *Service) Complete(ctx context.Context, c Caller, r CompleteRequest) (State, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	snap, err := s.own(ctx, c, r.SnapshotID)
	if err != nil {
		return 0, s.storeError(err)
	}
	if err := s.admit(ctx, c, &snap, need{action: CompleteSnapshot}); err != nil {
		return 0, err
	}
	if err := s.throttle(c, quota.CompleteRate, snap.ID); err != nil {
		return 0, err
	}
	if snap.Timeout == 0 { // a copy
		return 0, &Error{Code: NotFound, Snapshot: snap.ID}
	}
	if snap.State != Open {
		return snap.State, nil
	}
	claim, err := r.claim()
	if err != nil {
		return 0, err
	}
	// What is claimed cannot be verified without the key.
	key, err := s.writeKey(ctx, c, &snap)
	if err != nil {
		return 0, s.storeError(err)
	}
	if claim.Aggregate != nil {
		*claim.Aggregate = snap.claimOf(*claim.Aggregate, key)
	}
	w := c.whim()
	if w.Fails {
		claim = Claim{ChangedBlocks: unkeepable}
	}
	s.lagComplete(w, snap.ID)
	done, err := s.catalog.Seal(ctx, snap.Key, claim)
	if err != nil {
		return 0, s.storeError(err)
	}
	if !done { // it raced with another call, a deletion, or the clock
		snap, err = s.own(ctx, c, r.SnapshotID)
		return snap.State, s.storeError(err)
	}
	s.folds.kick()
	return Completing, nil
}

// check refuses values outside the model's constraints.
func (r *CompleteRequest) check() error {
	var v violations
	v.snapshotID("snapshotId", r.SnapshotID)
	if r.ChangedBlocks == nil {
		v.missing("changedBlocksCount")
	} else {
		v.number("changedBlocksCount", r.ChangedBlocks, 0, 1<<31-1)
	}
	v.text("checksum", r.Checksum, 64, checksumPattern)
	v.enum("checksumAlgorithm", r.Algorithm, sha256Name)
	v.enum("checksumAggregationMethod", r.AggregationMethod, linearName)
	return v.err()
}

// claim gives what a request that has been checked asserts.
func (r *CompleteRequest) claim() (Claim, error) {
	claim := Claim{ChangedBlocks: *r.ChangedBlocks}
	if r.Checksum == nil && r.Algorithm == nil && r.AggregationMethod == nil {
		return claim, nil
	}
	for _, m := range []struct {
		field string
		value *string
	}{{"checksum", r.Checksum}, {"checksumAlgorithm", r.Algorithm}, {"checksumAggregationMethod", r.AggregationMethod}} {
		if m.value == nil {
			return Claim{}, &Error{Code: ChecksumIncomplete, Field: m.field}
		}
	}
	// A checksum that is no digest can match nothing; as with AWS that shows
	// later, in the state.
	digest, _ := parseDigest(*r.Checksum)
	claim.Aggregate = &digest
	return claim, nil
}

// claimOf is what the catalog keeps of an aggregate checksum, given the key of
// an encrypted snapshot.
func (s *Snapshot) claimOf(aggregate block.Digest, key *domain.Key) block.Digest {
	if key == nil {
		return aggregate
	}
	return key.Claim(s.ID, aggregate)
}

// fold verifies what was claimed about a completing snapshot, makes its map
// and completes it, or lets it fail. It may be repeated after any error, and
// after a crash at any point: until the last transaction nothing refers to
// what it stored.
func (s *Service) fold(ctx context.Context, snap *Snapshot) error {
	hold := s.store.Hold() // what it stores is named by its last transaction
	defer hold.Release()
	key, err := s.writeKey(ctx, snap.worker(), snap)
	if err != nil {
		return err
	}
	w := written{hash: sha256.New(), key: key}
	folded, err := s.foldMap(ctx, snap, &w)
	if lasting(err) {
		s.log.ErrorContext(ctx, "snapshot cannot be completed", "snapshot", snap.ID, "err", err)
		_, err = s.catalog.Fail(ctx, snap.Key, damagedParent)
		return err
	}
	if err != nil {
		return err
	}
	message := ""
	switch {
	case snap.Claim.Aggregate != nil && *snap.Claim.Aggregate != snap.claimOf(block.Digest(w.hash.Sum(nil)), key):
		message = checksumMismatch
	case snap.Claim.ChangedBlocks != w.count:
		message = countMismatch
	}
	if message != "" {
		done, err := s.catalog.Fail(ctx, snap.Key, message)
		if done {
			s.log.InfoContext(ctx, "snapshot failed", "snapshot", snap.ID, "reason", message, "written", w.count, "claimed", snap.Claim.ChangedBlocks)
		}
		return err
	}
	m := Map{Root: folded.Root, Blocks: snap.BaseBlocks + folded.Added}
	if key != nil {
		m.MAC = key.MAC(domain.OwnMap, snap.ID, snap.VolumeSize, m.Root)
	}
	if m, err = s.describeCompletion(ctx, snap.Key, CopyResult{Map: m}); err != nil {
		return err
	}
	done, err := s.catalog.Finish(ctx, snap.Key, m)
	if err == nil && done {
		err = s.describe(ctx, snap.ID)
		s.log.InfoContext(ctx, "snapshot completed", "snapshot", snap.ID, "written", w.count, "nodes", folded.Nodes)
	}
	return err
}

// lasting reports whether an error is damage that stays: what could not be read
// may be there again later, what is wrong stays so.
func lasting(err error) bool {
	var damaged *blockstore.DamagedError
	return isDamage(err) && (!errors.As(err, &damaged) || damaged.Err == nil)
}

// foldMap puts what was written to the snapshot into the map that it starts
// from. On return the new nodes are durable.
func (s *Service) foldMap(ctx context.Context, snap *Snapshot, w *written) (blockmap.Folded, error) {
	if w.key != nil {
		if err := s.verifyMap(snap, w.key); err != nil {
			return blockmap.Folded{}, err
		}
	}
	nodes := blockstore.NodeWriter{Store: s.store}
	folded, err := blockmap.Fold(ctx, s.store, &nodes, snap.Base, w.entries(ctx, s.catalog, snap))
	if err != nil {
		return blockmap.Folded{}, err
	}
	return folded, nodes.Flush(ctx)
}

// written runs through the blocks written to a snapshot, counting and
// aggregating them on the way.
type written struct {
	key   *domain.Key // of the snapshot's domain
	count int64
	// hash is over the digests of the blocks, by index. Spec: ebs-direct §7.1.
	hash hash.Hash
}

func (w *written) entries(ctx context.Context, c Catalog, snap *Snapshot) iter.Seq2[blockmap.Entry, error] {
	return func(yield func(blockmap.Entry, error) bool) {
		for from := block.Index(0); ; {
			page, err := c.Pending(ctx, snap, from, pendingPage)
			if err != nil {
				yield(blockmap.Entry{}, err)
				return
			}
			for i := range page {
				b := &page[i]
				digest, err := b.digestOf(w.key)
				if err != nil {
					yield(blockmap.Entry{}, err)
					return
				}
				w.count++
				w.hash.Write(digest[:])
				if !yield(blockmap.Entry{Index: b.Index, ID: b.ID}, nil) {
					return
				}
			}
			if len(page) < pendingPage {
				return
			}
			from = page[len(page)-1].Index + 1
		}
	}
}
