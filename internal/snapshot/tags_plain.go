package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	return s.changeTags(ctx, c, id, tags, func(*Tag) bool { return true }, func(key int64) (bool, error) {
		return s.catalog.SetTags(ctx, key, c.Account, tags)
	})
}

// RemoveTag removes the tag with the key from a snapshot of the caller's own,
// where it has one. Otherwise it is like SetTags.
func (s *Service) RemoveTag(ctx context.Context, c Caller, id, tag string) (Snapshot, error) {
	var v violations
	v.snapshotID("snapshotId", id)
	if err := v.err(); err != nil {
		return Snapshot{}, err
	}
	r := UntagRequest{IDs: []string{id}, Matches: []TagMatch{{Key: tag}}}
	if err := checkUntag(r); err != nil {
		return Snapshot{}, err
	}
	return s.changeTags(ctx, c, id, nil, func(t *Tag) bool { return t.Key == tag }, func(int64) (bool, error) {
		return true, s.untag(ctx, c, r)
	})
}

// changeTags calls change with the key of a snapshot of the caller's own, and
// gives the snapshot as it is after that. The caller must be allowed to create
// the tags given, and to delete those that are removed and not given.
func (s *Service) changeTags(ctx context.Context, c Caller, id string, given []Tag, removed func(*Tag) bool,
	change func(key int64) (done bool, err error),
) (Snapshot, error) {
	snap, err := s.own(ctx, c, id)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if err := s.admitRetagging(ctx, c, &snap, given, removed); err != nil {
		return Snapshot{}, err
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
	page, err := s.list(ctx, DescribeRequest{IDs: []string{id}}, &selection{catalog: s.catalog, caller: c, own: true}, Cursor{})
	if err != nil {
		return Snapshot{}, err
	}
	if len(page.Snapshots) != 1 {
		return Snapshot{}, &Error{Code: Internal, Err: errors.New("a snapshot that was found is not described")}
	}
	return page.Snapshots[0], nil
}

// admitRetagging is admit for a change of a snapshot's tags, as CreateTags and
// DeleteTags would make it.
func (s *Service) admitRetagging(ctx context.Context, c Caller, snap *Snapshot, given []Tag, removed func(*Tag) bool) error {
	if c.free() {
		return s.admit(ctx, c, snap, need{action: CreateTags})
	}
	var needs []need
	if len(given) > 0 {
		needs = append(needs, need{action: CreateTags, tags: given})
	}
	list := []Snapshot{*snap}
	if err := s.catalog.Tags(ctx, c.Account, list); err != nil {
		return s.storeError(err)
	}
	gone := slices.DeleteFunc(list[0].Tags, func(t Tag) bool {
		return !removed(&t) || slices.ContainsFunc(given, func(g Tag) bool { return g.Key == t.Key })
	})
	if len(gone) > 0 || len(given) == 0 {
		needs = append(needs, need{action: DeleteTags, tags: gone})
	}
	return s.admit(ctx, c, snap, needs...)
}

// tags checks what the model says of a list of tags. Spec: ebs-direct §2.4.
func (v *violations) tags(tags []Tag) {
	for i, t := range tags {
		v.text(fmt.Sprintf("tags.%d.member.key", i+1), &t.Key, 127, anyPattern)
		v.text(fmt.Sprintf("tags.%d.member.value", i+1), &t.Value, 255, pattern{})
	}
}
