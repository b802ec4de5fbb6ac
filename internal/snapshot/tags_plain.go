package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// Retagging is the part of a Catalog that replaces the tags of one snapshot.
type Retagging interface {
	// SetTags replaces the account's tags on a snapshot that is not deleted.
	SetTags(ctx context.Context, key int64, account string, tags []Tag) (done bool, err error)
}

// SetTags replaces all tags of a snapshot of the caller's own, in whatever
// state it is, and gives the snapshot as it is then. The rules are those of
// StartSnapshot. On return the change is durable.
// Spec: plain-json, What this dialect adds.
func (s *Service) SetTags(ctx context.Context, c Caller, id string, tags []Tag) (Snapshot, error) {
	var v violations
	v.snapshotID("snapshotId", id)
	v.tags(tags)
	if err := v.err(); err != nil {
		return Snapshot{}, err
	}
	if err := checkTags(tags); err != nil {
		return Snapshot{}, err
	}
	return s.changeTags(ctx, c, id, func(key int64) (bool, error) { return s.catalog.SetTags(ctx, key, c.Account, tags) })
}

// RemoveTag removes the tag with the key from a snapshot of the caller's own,
// where it has one. Otherwise it is like SetTags.
func (s *Service) RemoveTag(ctx context.Context, c Caller, id, tag string) (Snapshot, error) {
	var v violations
	v.snapshotID("snapshotId", id)
	if err := v.err(); err != nil {
		return Snapshot{}, err
	}
	return s.changeTags(ctx, c, id, func(int64) (bool, error) {
		return true, s.DeleteTags(ctx, c, UntagRequest{IDs: []string{id}, Matches: []TagMatch{{Key: tag}}})
	})
}

// changeTags calls change with the key of a snapshot of the caller's own, and
// gives the snapshot as it is after that.
func (s *Service) changeTags(ctx context.Context, c Caller, id string, change func(key int64) (done bool, err error)) (Snapshot, error) {
	snap, err := s.own(ctx, c, id)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	done, err := change(snap.Key)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if !done { // it was deleted in the meantime
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id}
	}
	if err := s.describe(ctx, id); err != nil {
		return Snapshot{}, s.storeError(err)
	}
	page, err := s.Describe(ctx, c, DescribeRequest{IDs: []string{id}})
	if err != nil {
		return Snapshot{}, err
	}
	if len(page.Snapshots) != 1 {
		return Snapshot{}, &Error{Code: Internal, Err: errors.New("a snapshot that was found is not described")}
	}
	return page.Snapshots[0], nil
}

// tags checks what the model says of a list of tags. Spec: ebs-direct §2.4.
func (v *violations) tags(tags []Tag) {
	for i, t := range tags {
		v.text(fmt.Sprintf("tags.%d.member.key", i+1), &t.Key, 127, anyPattern)
		v.text(fmt.Sprintf("tags.%d.member.value", i+1), &t.Value, 255, pattern{})
	}
}
