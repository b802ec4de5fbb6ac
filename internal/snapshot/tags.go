package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"shale/internal/token"
)

// Tagging is the part of a Catalog that keeps tags. An account's tags on a
// snapshot are its own: it sees no other's, and nobody sees them but itself.
type Tagging interface {
	// Tags fills in the account's tags, in their order.
	Tags(ctx context.Context, account string, list []Snapshot) error
	// TagSnapshots gives each snapshot the tags, in one transaction. A key
	// that it has keeps its place, others follow in the order given. The
	// error is an *Error: NotFound for a snapshot that the caller cannot see,
	// TooManyTags for one that would have more than limit.
	TagSnapshots(ctx context.Context, c Caller, ids []string, tags []Tag, limit int) error
	// UntagSnapshots takes the tags that match from each snapshot, or with nil
	// all, in one transaction; reserved ones stay. The error is an *Error:
	// NotFound for a snapshot that the caller neither sees nor has tags on.
	UntagSnapshots(ctx context.Context, c Caller, ids []string, matches []TagMatch) error
	// TagTarget finds a snapshot whose tags, of the caller's own, the caller may
	// change: one that it sees, has in its bin, or has tags on.
	TagTarget(ctx context.Context, c Caller, id string) (s Snapshot, found bool, err error)
	// AccountTags gives the caller's tags by place, from after the cursor on:
	// on any snapshot, or with IDs only on those.
	AccountTags(ctx context.Context, c Caller, ids []string, after TagCursor, limit int) ([]PlacedTag, error)
}

// A TagMatch matches a tag by its key and, unless Value is nil, by its value.
type TagMatch struct {
	Key   string
	Value *string
}

// A PlacedTag is a tag and the snapshot that it is on.
type PlacedTag struct {
	SnapshotID string
	Tag        Tag
	At         TagCursor
}

// A TagCursor is a place in an account's tags: after the one it names.
type TagCursor struct {
	Snapshot int64 // its Key
	Position int64
}

const (
	// Characters of a tag in EC2, whose limits are by one larger than those of
	// StartSnapshot. Spec: ec2-snapshots §4.
	maxTagKey   = 128
	maxTagValue = 256
	// reservedTagPrefix begins the keys that are the service's own.
	reservedTagPrefix = "aws:"
	// tagPage is how many tags are read from the catalog at a time, and the
	// page of a request that gives a token without a size.
	tagPage = 1000
)

// TagRequest puts tags on snapshots.
type TagRequest struct {
	IDs  []string
	Tags []Tag
}

// CheckTags finds out whether CreateTags would be refused, and changes nothing.
func (s *Service) CheckTags(ctx context.Context, c Caller, r TagRequest) error {
	if err := checkNewTags(r.Tags); err != nil {
		return err
	}
	if err := s.admitTagging(ctx, c, r.IDs, need{action: CreateTags, tags: r.Tags}); err != nil {
		return err
	}
	for _, id := range r.IDs {
		if err := s.checkTagging(ctx, c, id, r.Tags); err != nil {
			return s.storeError(err)
		}
	}
	return nil
}

// checkTagging finds out for one snapshot what TagSnapshots of the catalog does: the
// caller sees it, or has it in its bin, and there is room for the tags.
func (s *Service) checkTagging(ctx context.Context, c Caller, id string, tags []Tag) error {
	snap, found, err := s.catalog.TagTarget(ctx, c, id)
	if err == nil && !found {
		err = &Error{Code: NotFound, Snapshot: id}
	}
	if err == nil && snap.Account != c.Account { // of which it may only have tags
		_, _, err = s.visible(ctx, c, id)
	}
	if err != nil {
		return err
	}
	list := []Snapshot{snap}
	if err := s.catalog.Tags(ctx, c.Account, list); err != nil {
		return err
	}
	keys := make(map[string]bool, len(tags))
	for _, t := range append(list[0].Tags, tags...) {
		if !strings.HasPrefix(t.Key, reservedTagPrefix) {
			keys[t.Key] = true
		}
	}
	if len(keys) > maxTags {
		return &Error{Code: TooManyTags, Snapshot: id}
	}
	return nil
}

// admitTagging is admit for an operation on the caller's tags on each of the
// snapshots, of which it sees some only by its tags.
func (s *Service) admitTagging(ctx context.Context, c Caller, ids []string, n need) error {
	if c.free() || len(ids) == 0 { // what is not there shows when it is done
		return s.admit(ctx, c, nil, n)
	}
	snaps := make([]Snapshot, len(ids))
	for i, id := range ids {
		var err error
		var found bool
		if snaps[i], found, err = s.catalog.TagTarget(ctx, c, id); err != nil {
			return s.storeError(err)
		}
		if !found {
			return &Error{Code: NotFound, Snapshot: id}
		}
	}
	for i := range snaps[:len(snaps)-1] {
		if err := s.authorize(ctx, c, &snaps[i], &n); err != nil {
			return err
		}
	}
	return s.admit(ctx, c, &snaps[len(snaps)-1], n)
}

// CreateTags puts the tags on each of the snapshots, in any state, that the
// caller may see; on those of others they are still the caller's own. All of it
// is durable on return, or nothing. Spec: ec2-snapshots §4.
func (s *Service) CreateTags(ctx context.Context, c Caller, r TagRequest) error {
	if err := checkNewTags(r.Tags); err != nil {
		return err
	}
	if err := s.admitTagging(ctx, c, r.IDs, need{action: CreateTags, tags: r.Tags}); err != nil {
		return err
	}
	err := s.catalog.TagSnapshots(ctx, c, r.IDs, r.Tags, maxTags)
	if err == nil {
		err = s.describe(ctx, r.IDs...)
	}
	return s.storeError(err)
}

// checkNewTags applies EC2's rules. Lengths count characters.
func checkNewTags(tags []Tag) error {
	invalid := func(format string, args ...any) error {
		return &Error{Code: InvalidTag, Field: "tags", Err: fmt.Errorf(format, args...)}
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		switch {
		case strings.HasPrefix(t.Key, reservedTagPrefix):
			return &Error{Code: ReservedTagKey, Field: "tags"}
		case t.Key == "":
			return invalid("a tag must have a key")
		case !utf8.ValidString(t.Key) || !utf8.ValidString(t.Value) || !legibleXML(t.Key) || !legibleXML(t.Value):
			return invalid("key %q: key or value holds a character that XML 1.0 cannot carry", t.Key)
		case utf8.RuneCountInString(t.Key) > maxTagKey:
			return invalid("a key has %d characters, the most is %d", utf8.RuneCountInString(t.Key), maxTagKey)
		case utf8.RuneCountInString(t.Value) > maxTagValue:
			return invalid("key %q: the value has %d characters, the most is %d", t.Key, utf8.RuneCountInString(t.Value), maxTagValue)
		case seen[t.Key]:
			return invalid("key %q is given twice", t.Key)
		}
		seen[t.Key] = true
	}
	if len(tags) > maxTags { // a bound for what follows; the rest is the catalog's to count
		return &Error{Code: TooManyTags}
	}
	return nil
}

// UntagRequest takes tags from snapshots.
type UntagRequest struct {
	IDs     []string
	Matches []TagMatch // nil for all
}

// DeleteTags takes the caller's own tags that match from each of the snapshots,
// of which it may have lost sight. That there is no such tag is no error. All
// of it is durable on return, or nothing. Spec: ec2-snapshots §4.
func (s *Service) DeleteTags(ctx context.Context, c Caller, r UntagRequest) error {
	if err := s.CheckUntag(ctx, c, r); err != nil {
		return err
	}
	return s.untag(ctx, c, r)
}

// untag is DeleteTags for a caller who may.
func (s *Service) untag(ctx context.Context, c Caller, r UntagRequest) error {
	err := s.catalog.UntagSnapshots(ctx, c, r.IDs, r.Matches)
	if err == nil {
		err = s.describe(ctx, r.IDs...)
	}
	return s.storeError(err)
}

// CheckUntag finds out whether DeleteTags would be refused for the tags by
// themselves or by the caller's policies, and changes nothing.
func (s *Service) CheckUntag(ctx context.Context, c Caller, r UntagRequest) error {
	if err := checkUntag(r); err != nil {
		return err
	}
	n := need{action: DeleteTags}
	for _, m := range r.Matches {
		t := Tag{Key: m.Key}
		if m.Value != nil {
			t.Value = *m.Value
		}
		n.tags = append(n.tags, t)
	}
	return s.admitTagging(ctx, c, r.IDs, n)
}

// checkUntag refuses keys that nobody can delete.
func checkUntag(r UntagRequest) error {
	if slices.ContainsFunc(r.Matches, func(m TagMatch) bool { return strings.HasPrefix(m.Key, reservedTagPrefix) }) {
		return &Error{Code: ReservedTagKey, Field: "tags"}
	}
	return nil
}

// ListTagsRequest selects tags of the caller's own. Spec: ec2-snapshots §4.
type ListTagsRequest struct {
	Filters    []Filter // key, resource-id, resource-type, tag:KEY, value
	MaxResults *int64   // nil for all in one page, unless there is a NextToken
	NextToken  *string
}

// A TagPage is one page of tags, by snapshot and then in their order.
type TagPage struct {
	Tags      []PlacedTag
	NextToken string // empty on the last page
}

// ResourceType is the type of all that can be tagged here.
const ResourceType = "snapshot"

// tag reports whether one value of the filter matches the tag; known is false if
// there is no such filter.
func (m matcher) tag(t *PlacedTag) (matches, known bool) {
	var have string
	switch m.Name {
	case "key":
		have = t.Tag.Key
	case "resource-id":
		have = t.SnapshotID
	case "resource-type":
		have = ResourceType
	case "value":
		have = t.Tag.Value
	default:
		key, isTag := cutTag(m.Name)
		if !isTag || t.Tag.Key != key {
			return false, isTag
		}
		have = t.Tag.Value
	}
	return m.value(have), true
}

// ListTags lists tags of the caller's own, on snapshots that it cannot see any
// more, too. Pages are full but for the last. Spec: ec2-snapshots §4.
func (s *Service) ListTags(ctx context.Context, c Caller, r ListTagsRequest) (TagPage, error) {
	filters, err := matchers(r.Filters)
	if err != nil {
		return TagPage{}, err
	}
	for _, m := range filters {
		if _, known := m.tag(&PlacedTag{}); !known {
			return TagPage{}, &Error{Code: InvalidFilter, Field: m.Name, Err: errNoSuchFilter}
		}
	}
	after, err := s.openTags(r.NextToken)
	if err != nil {
		return TagPage{}, err
	}
	if err := s.admit(ctx, c, nil, need{action: DescribeTags}); err != nil {
		return TagPage{}, err
	}
	limit := pageOf(r.MaxResults, r.NextToken, tagPage)
	var page TagPage
	for {
		list, err := s.catalog.AccountTags(ctx, c, literalIDs(r.Filters), after, tagPage)
		if err != nil {
			return TagPage{}, s.storeError(err)
		}
		for i := range list {
			if slices.ContainsFunc(filters, func(m matcher) bool { matches, _ := m.tag(&list[i]); return !matches }) {
				continue
			}
			if limit > 0 && len(page.Tags) == limit {
				page.NextToken = s.tagToken(page.Tags[limit-1].At)
				return page, nil
			}
			page.Tags = append(page.Tags, list[i])
		}
		if len(list) < tagPage {
			return page, nil
		}
		after = list[len(list)-1].At
	}
}

var errNoSuchFilter = errors.New("there is no filter of this name")

// literalIDs gives the IDs that a filter names outright, so that they alone are
// looked at; nil if none does.
func literalIDs(filters []Filter) []string {
	for _, f := range filters {
		if f.Name == "resource-id" && !slices.ContainsFunc(f.Values, func(v string) bool { return strings.ContainsAny(v, `*?\`) }) {
			return f.Values
		}
	}
	return nil
}

// pageOf is the size of a page, 0 for all.
func pageOf(maxResults *int64, nextToken *string, other int) int {
	switch {
	case maxResults != nil:
		return int(*maxResults)
	case nextToken != nil:
		return other
	}
	return 0
}

// tagToken makes the token of a place in a list of tags.
func (s *Service) tagToken(at TagCursor) string {
	return s.tokens.Page(token.Page{
		Kind: token.KindTags, First: uint64(at.Snapshot), Second: uint64(at.Position), Expiry: s.now().Add(listTokenLife),
	})
}

func (s *Service) openTags(t *string) (TagCursor, error) {
	if t == nil {
		return TagCursor{Position: -1}, nil
	}
	p, err := s.tokens.OpenPage(token.KindTags, *t, s.now())
	if err != nil {
		return TagCursor{}, &Error{Code: InvalidPageToken, Field: "nextToken", Value: *t}
	}
	return TagCursor{int64(p.First), int64(p.Second)}, nil
}
