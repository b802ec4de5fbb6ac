package snapshot

import (
	"context"
	"time"
)

// BinTag is the tag of a snapshot in the recycle bin. It cannot be changed by
// its owner. Spec: ec2-snapshots §9.
var BinTag = Tag{Key: "aws:recycle-bin:resource-in-bin", Value: "true"}

// A BinnedSnapshot is a snapshot in the recycle bin.
type BinnedSnapshot struct {
	Snapshot  Snapshot
	EnteredAt time.Time
	ExitsAt   time.Time // when it is deleted for good
}

// A BinCatalog keeps the recycle bin. Snapshots in it are found by none of the
// catalog's other methods.
type BinCatalog interface {
	// Binned gives what is in an account's bin in a region and has not come to
	// its end, by the snapshots' start time and then ID, from after the cursor
	// on.
	Binned(ctx context.Context, account, region string, after Cursor, limit int) ([]BinnedSnapshot, error)
	// Restore takes a snapshot out of the bin, unless its time there is over.
	Restore(ctx context.Context, account, region, id string) (s Snapshot, done bool, err error)
	// Purge deletes the snapshots whose time in the bin is over, and says how
	// many they were.
	Purge(ctx context.Context) (int64, error)
}

// BinRequest selects snapshots in the caller's recycle bin.
// Spec: ec2-snapshots §9.1.
type BinRequest struct {
	IDs        []string
	MaxResults *int64 // nil for all in one page
	NextToken  *string
}

// A BinPage is one page of snapshots in the bin, by start time and then ID.
type BinPage struct {
	Snapshots []BinnedSnapshot
	NextToken string // empty on the last page
}

// Bin lists the caller's recycle bin. An ID that is not in it fails the whole
// call.
func (s *Service) Bin(ctx context.Context, c Caller, r BinRequest) (BinPage, error) {
	after, err := s.openList(r.NextToken)
	if err != nil {
		return BinPage{}, err
	}
	if err := s.admit(ctx, c, nil, need{action: ListSnapshotsInRecycleBin}); err != nil {
		return BinPage{}, err
	}
	return s.bin(ctx, c, r, after)
}

// bin is Bin for a caller who may.
func (s *Service) bin(ctx context.Context, c Caller, r BinRequest, after Cursor) (BinPage, error) {
	var err error
	found := make(map[string]bool, len(r.IDs))
	for _, id := range r.IDs {
		found[id] = false
	}
	at := func(b *BinnedSnapshot) Cursor { return Cursor{b.Snapshot.StartTime, b.Snapshot.ID} }
	read := func(after Cursor) ([]BinnedSnapshot, error) {
		return s.catalog.Binned(ctx, c.Account, c.Region, after, describePage)
	}
	if len(r.IDs) > 0 {
		_, _, err = selectPage(Cursor{}, nil, at, read, func(b *BinnedSnapshot) bool {
			if _, wanted := found[b.Snapshot.ID]; wanted {
				found[b.Snapshot.ID] = true
			}
			return false
		})
		if err != nil {
			return BinPage{}, s.storeError(err)
		}
		for _, id := range r.IDs {
			if !found[id] {
				return BinPage{}, &Error{Code: NotFound, Snapshot: id}
			}
		}
	}
	list, next, err := selectPage(after, r.MaxResults, at, read, func(b *BinnedSnapshot) bool {
		return len(r.IDs) == 0 || found[b.Snapshot.ID]
	})
	if err != nil {
		return BinPage{}, s.storeError(err)
	}
	return BinPage{list, s.nextList(next)}, nil
}

// RestoreRequest asks for a snapshot back out of the recycle bin.
// Spec: ec2-snapshots §9.2.
type RestoreRequest struct {
	SnapshotID string
	DryRun     bool // everything is checked, nothing changed
}

// Restore takes a snapshot of the caller's own out of the recycle bin: from its
// durable return on it is what it was before it was deleted.
func (s *Service) Restore(ctx context.Context, c Caller, r RestoreRequest) (Snapshot, error) {
	asked, found, err := s.catalog.TagTarget(ctx, c, r.SnapshotID)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if !found || asked.Account != c.Account {
		return Snapshot{}, &Error{Code: NotFound, Snapshot: r.SnapshotID}
	}
	if err := s.admit(ctx, c, &asked, need{action: RestoreSnapshotFromRecycleBin}); err != nil {
		return Snapshot{}, err
	}
	if r.DryRun {
		page, err := s.bin(ctx, c, BinRequest{IDs: []string{r.SnapshotID}}, Cursor{})
		if err != nil {
			return Snapshot{}, err
		}
		if len(page.Snapshots) == 1 {
			return page.Snapshots[0].Snapshot, nil
		}
		return Snapshot{}, &Error{Code: NotFound, Snapshot: r.SnapshotID} // purged between two looks
	}
	snap, done, err := s.catalog.Restore(ctx, c.Account, c.Region, r.SnapshotID)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if !done {
		return Snapshot{}, &Error{Code: NotFound, Snapshot: r.SnapshotID}
	}
	s.usageChanged() // for one that was never counted
	return snap, s.storeError(s.describe(ctx, snap.ID))
}
