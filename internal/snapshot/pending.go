package snapshot

import (
	"context"

	"shale/internal/block"
	"shale/internal/quota"
	"shale/internal/token"
)

// A PendingPage is one page of the blocks that a pending snapshot has
// received, by ascending index.
type PendingPage struct {
	Blocks     []ReceivedBlock
	NextToken  string // empty on the last page
	VolumeSize int64  // GiB
}

// A ReceivedBlock is a block that was written to a pending snapshot and is
// durable; a later write may still replace it.
type ReceivedBlock struct {
	Index  block.Index
	Digest block.Digest
}

// ListPending gives a page of the blocks written so far to a pending snapshot
// of the caller's own; blocks of its parent are not among them. Pages are full
// but for the last. NotPending once the snapshot is completed or has failed.
// Spec: plain-json, What this dialect adds.
func (s *Service) ListPending(ctx context.Context, c Caller, r ListBlocksRequest) (PendingPage, error) {
	var v violations
	v.snapshotID("snapshotId", r.SnapshotID)
	v.listing(r.PageToken, r.MaxResults, r.StartingIndex)
	if err := v.err(); err != nil {
		return PendingPage{}, err
	}
	snap, err := s.ownStored(ctx, c, r.SnapshotID, s.catalog.Snapshot)
	if err != nil {
		return PendingPage{}, s.storeError(err)
	}
	if err := s.admit(ctx, c, &snap, need{action: ListSnapshotBlocks}); err != nil {
		return PendingPage{}, err
	}
	if err := snap.checkPending(); err != nil {
		return PendingPage{}, err
	}
	if err := s.throttle(c, quota.ListRate, snap.ID); err != nil {
		return PendingPage{}, err
	}
	number, _ := idNumber(snap.ID)
	place := token.Page{Kind: token.KindPending, First: number}
	start, err := s.openPage(place, r.PageToken, r.StartingIndex)
	if err != nil {
		return PendingPage{}, err
	}
	key, err := s.writeKey(ctx, c, &snap)
	if err != nil {
		return PendingPage{}, s.storeError(err)
	}
	limit := pageLimit(r.MaxResults)
	list, err := s.catalog.Pending(ctx, &snap, start.from, limit+1)
	if err != nil {
		return PendingPage{}, s.storeError(err)
	}
	// Rows are removed once a snapshot is not pending any more. If it still is,
	// none were missing.
	snap, err = s.ownStored(ctx, c, r.SnapshotID, s.catalog.Snapshot)
	if err == nil {
		err = snap.checkPending()
	}
	if err != nil {
		return PendingPage{}, s.storeError(err)
	}
	page := PendingPage{VolumeSize: snap.VolumeSize}
	w := c.whim()
	if len(list) > limit {
		page.NextToken = s.nextPage(w, place, uint64(list[limit].Index))
		list = list[:limit]
	}
	if n, cursor, fewer := w.cut(start, len(list), func(i int) block.Index { return list[i].Index }); fewer {
		list, page.NextToken = list[:n], s.nextPage(w, place, cursor)
	}
	page.Blocks = make([]ReceivedBlock, len(list))
	for i, b := range list {
		d, err := b.digestOf(key)
		if err != nil {
			return PendingPage{}, s.storeError(err)
		}
		page.Blocks[i] = ReceivedBlock{Index: b.Index, Digest: d}
	}
	return page, nil
}

// checkPending refuses a snapshot that is not pending any more, also one that is
// still seen so: its rows are gone.
func (s *Snapshot) checkPending() error {
	if s.State != Open && s.State != Completing {
		return &Error{Code: NotPending, Snapshot: s.ID}
	}
	return nil
}
