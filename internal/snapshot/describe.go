package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"shale/internal/token"
)

const (
	// describePage is how many snapshots are read from the catalog at a time,
	// and the page of a request that gives a token without a size.
	describePage = 1000
	// listTokenLife bounds the life of a place in a list of snapshots.
	listTokenLife = 24 * time.Hour
)

// Describe lists snapshots that the caller may see, by start time and then ID.
// An ID that the caller may not see fails the whole call. Pages are full but
// for the last. Spec: ec2-snapshots §2.
func (s *Service) Describe(ctx context.Context, c Caller, r DescribeRequest) (DescribePage, error) {
	selected, err := s.compile(c, &r)
	if err != nil {
		return DescribePage{}, err
	}
	after, err := s.openList(r.NextToken)
	if err != nil {
		return DescribePage{}, err
	}
	if err := s.admit(ctx, c, nil, need{action: DescribeSnapshots}); err != nil {
		return DescribePage{}, err
	}
	return s.list(ctx, r, selected, after)
}

// list is Describe for a caller who may.
func (s *Service) list(ctx context.Context, r DescribeRequest, selected *selection, after Cursor) (DescribePage, error) {
	c := selected.caller
	limit := pageOf(r.MaxResults, r.NextToken, describePage)
	read := describePage
	if limit > 0 && selected.everything() {
		read = min(read, limit+1)
	}
	list := func(after Cursor) ([]Snapshot, error) { return s.listVisible(ctx, selected, after, read) }
	if len(r.IDs) > 0 {
		read = len(r.IDs) + 1 // all at once
		list = func(after Cursor) ([]Snapshot, error) { return s.listIDs(ctx, c, r.IDs, after, read) }
	}
	var page DescribePage
	for {
		found, err := list(after)
		if err != nil {
			return DescribePage{}, s.storeError(err)
		}
		if len(found) == 0 {
			return page, nil
		}
		last, whole := found[len(found)-1], len(found) < read
		after = Cursor{last.StartTime, last.ID}
		found = slices.DeleteFunc(found, func(snap Snapshot) bool { return !s.veil(&snap) })
		if found, err = selected.keep(ctx, found); err != nil {
			return DescribePage{}, s.storeError(err)
		}
		page.Snapshots = append(page.Snapshots, found...)
		if limit > 0 && len(page.Snapshots) > limit {
			page.Snapshots = page.Snapshots[:limit]
			last := page.Snapshots[limit-1]
			page.NextToken = s.listToken(Cursor{last.StartTime, last.ID})
			return page, nil
		}
		if whole {
			return page, nil
		}
	}
}

// listIDs gives the snapshots of the IDs from after the cursor on, each once.
// One that the caller may not see fails them all.
func (s *Service) listIDs(ctx context.Context, c Caller, ids []string, after Cursor, limit int) ([]Snapshot, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []Snapshot
	for _, id := range slices.Compact(ids) {
		snap, _, err := s.seen(ctx, c, id)
		if err != nil {
			return nil, err
		}
		if place(&snap).compare(after) > 0 {
			list = append(list, snap)
		}
	}
	slices.SortFunc(list, func(a, b Snapshot) int { return place(&a).compare(place(&b)) })
	return list[:min(limit, len(list))], nil
}

// listVisible gives snapshots that the caller may see from after the cursor on.
func (s *Service) listVisible(ctx context.Context, sel *selection, after Cursor, limit int) (list []Snapshot, err error) {
	c := sel.caller
	if sel.own {
		if list, err = s.catalog.Snapshots(ctx, c.Account, c.Region, after, limit); err != nil {
			return nil, err
		}
	}
	if sel.others {
		shared, err := s.catalog.Shared(ctx, c, after, limit)
		if err != nil {
			return nil, err
		}
		if len(shared) > 0 {
			list = append(list, shared...)
			slices.SortFunc(list, func(a, b Snapshot) int { return place(&a).compare(place(&b)) })
		}
	}
	if sel.own {
		list = s.ghosts(c, after, list)
	}
	list = list[:min(limit, len(list))]
	for i := range list {
		s.observe(&list[i])
		s.veil(&list[i])
	}
	return list, nil
}

// place is where a snapshot stands in a list.
func place(s *Snapshot) Cursor { return Cursor{s.StartTime, s.ID} }

func (c Cursor) compare(other Cursor) int {
	return cmp.Or(c.Start.Compare(other.Start), cmp.Compare(c.ID, other.ID))
}

// listToken makes the token of a place in a list of snapshots.
func (s *Service) listToken(at Cursor) string {
	number, _ := idNumber(at.ID)
	return s.tokens.Page(token.Page{
		Kind: token.KindList, First: uint64(at.Start.UnixMilli()), Second: number, Expiry: s.now().Add(listTokenLife),
	})
}

func (s *Service) openList(t *string) (Cursor, error) {
	if t == nil {
		return Cursor{}, nil
	}
	p, err := s.tokens.OpenPage(token.KindList, *t, s.now())
	if err != nil {
		return Cursor{}, &Error{Code: InvalidPageToken, Field: "nextToken", Value: *t}
	}
	return Cursor{time.UnixMilli(int64(p.First)).UTC(), makeID(p.Second)}, nil
}

// A selection is what a DescribeRequest selects of what the caller may see.
type selection struct {
	catalog      Catalog
	caller       Caller
	own, others  bool // whose snapshots can be among them
	owners       []string
	restorableBy []string
	filters      []matcher // those that do not look at tags
	tagFilters   []matcher
}

// compile checks the selectors and filters.
func (s *Service) compile(c Caller, r *DescribeRequest) (*selection, error) {
	sel := &selection{
		catalog: s.catalog, caller: c, own: len(r.Owners) == 0, others: len(r.Owners) == 0,
		owners: r.Owners, restorableBy: r.RestorableBy,
	}
	for _, f := range r.Filters {
		if f.attribute() == nil {
			return nil, &Error{Code: InvalidFilter, Field: f.Name, Err: errNoSuchFilter}
		}
		m, err := f.matcher()
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(f.Name, "tag") {
			sel.tagFilters = append(sel.tagFilters, m)
		} else {
			sel.filters = append(sel.filters, m)
		}
	}
	for _, owner := range r.Owners {
		if owner == "self" || owner == c.Account {
			sel.own = true
		} else {
			sel.others = true
		}
	}
	return sel, nil
}

// everything reports whether nothing that is listed is then left out.
func (sel *selection) everything() bool {
	return (len(sel.owners) == 0 || !sel.others) && len(sel.restorableBy) == 0 && len(sel.filters) == 0 && len(sel.tagFilters) == 0
}

// keep keeps what is selected, with the caller's tags. What costs a look-up in
// the catalog comes last, and once for all.
func (sel *selection) keep(ctx context.Context, list []Snapshot) ([]Snapshot, error) {
	for i := range list {
		if list[i].Account != sel.caller.Account {
			list[i].ParentID = "" // the owner's affair
		}
	}
	list = slices.DeleteFunc(list, func(s Snapshot) bool { return !sel.owned(&s) || !matchAll(sel.filters, &s) })
	if len(sel.restorableBy) > 0 {
		grants, err := sel.catalog.Grants(ctx, list, append([]string{sel.caller.Account, Everybody}, sel.restorableBy...))
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(list, func(s Snapshot) bool { return !sel.restorable(&s, grants[s.Key]) })
	}
	if err := sel.catalog.Tags(ctx, sel.caller.Account, list); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(s Snapshot) bool { return !matchAll(sel.tagFilters, &s) }), nil
}

func (sel *selection) owned(s *Snapshot) bool {
	return len(sel.owners) == 0 || slices.Contains(sel.owners, s.Account) ||
		s.Account == sel.caller.Account && slices.Contains(sel.owners, "self")
}

// restorable reports whether a snapshot shared with the accounts is one that
// any of restorableBy asks for: the caller's own and those shared with it, the
// public ones, or the caller's own that it shares with another.
// Spec: ec2-snapshots §2.
func (sel *selection) restorable(s *Snapshot, grants []string) bool {
	mine := s.Account == sel.caller.Account
	return slices.ContainsFunc(sel.restorableBy, func(by string) bool {
		switch by {
		case "self", sel.caller.Account:
			return mine || slices.Contains(grants, sel.caller.Account)
		case Everybody:
			return slices.Contains(grants, Everybody)
		}
		return mine && slices.Contains(grants, by)
	})
}

func matchAll(filters []matcher, s *Snapshot) bool {
	return !slices.ContainsFunc(filters, func(m matcher) bool { return !slices.ContainsFunc(m.attribute()(s), m.value) })
}

// Progress is how far a snapshot is, as the wire shows it: nothing until it is
// completed. Spec: ebs-direct §5.3.
func (s *Snapshot) Progress() string {
	if s.State == Completed {
		return "100%"
	}
	return "0%"
}

// TransferType is how a snapshot's data gets where it is stored, as the wire
// spells it. Spec: ec2-snapshots §5.
func (s *Snapshot) TransferType() string {
	if s.CompletionMinutes > 0 {
		return "time-based"
	}
	return "standard"
}

// VolumeID is what AWS shows for a snapshot made without a volume.
// Spec: ebs-direct §5.3.
const VolumeID = "vol-ffffffff"

// TimeFormat is how EC2 prints a time, which filters match as text.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// attributes gives, for each filter but the tag filters, the value that it
// matches. Spec: ec2-snapshots §2.
var attributes = map[string]func(*Snapshot) []string{
	"description": func(s *Snapshot) []string {
		if s.Description == nil {
			return []string{""}
		}
		return []string{*s.Description}
	},
	"encrypted":          func(s *Snapshot) []string { return []string{strconv.FormatBool(s.Encrypted())} },
	"owner-alias":        func(*Snapshot) []string { return nil },
	"owner-id":           func(s *Snapshot) []string { return []string{s.Account} },
	"parent-snapshot-id": func(s *Snapshot) []string { return []string{s.ParentID} }, // shale's own
	"progress":           func(s *Snapshot) []string { return []string{s.Progress()} },
	"snapshot-id":        func(s *Snapshot) []string { return []string{s.ID} },
	"start-time":         func(s *Snapshot) []string { return []string{s.StartTime.Format(TimeFormat)} },
	"status":             func(s *Snapshot) []string { return []string{s.State.String()} },
	"storage-tier":       func(*Snapshot) []string { return []string{"standard"} },
	"transfer-type":      func(s *Snapshot) []string { return []string{s.TransferType()} },
	"volume-id":          func(*Snapshot) []string { return []string{VolumeID} },
	"volume-size":        func(s *Snapshot) []string { return []string{strconv.FormatInt(s.VolumeSize, 10)} },
	"tag-key": func(s *Snapshot) []string {
		keys := make([]string, len(s.Tags))
		for i, t := range s.Tags {
			keys[i] = t.Key
		}
		return keys
	},
}

// attribute gives what the filter looks at, or nil if there is no such filter.
func (f Filter) attribute() func(*Snapshot) []string {
	key, isTag := cutTag(f.Name)
	if !isTag {
		return attributes[f.Name]
	}
	return func(s *Snapshot) []string {
		for _, t := range s.Tags {
			if t.Key == key {
				return []string{t.Value}
			}
		}
		return nil
	}
}

func cutTag(name string) (key string, ok bool) {
	const prefix = "tag:"
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return "", false
	}
	return name[len(prefix):], true
}

// maxFilterValue is the most characters of a filter's value: as many as the longest
// text that it is matched with has, each behind a backslash.
const maxFilterValue = 2 * maxTagValue

// A matcher is a filter made ready for any number of matches.
type matcher struct {
	Filter
	globs []glob // of the values
}

// matcher fails with an *Error of code InvalidFilter.
func (f Filter) matcher() (matcher, error) {
	m := matcher{f, make([]glob, len(f.Values))}
	for i, v := range f.Values {
		if m.globs[i] = glob(v); len(m.globs[i]) > maxFilterValue {
			return matcher{}, &Error{Code: InvalidFilter, Field: f.Name, Err: fmt.Errorf("a value has more than %d characters", maxFilterValue)}
		}
	}
	return m, nil
}

// matchers gives the matchers of the filters.
func matchers(filters []Filter) ([]matcher, error) {
	list := make([]matcher, len(filters))
	for i, f := range filters {
		var err error
		if list[i], err = f.matcher(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// value reports whether one value of the filter matches the text.
func (m matcher) value(text string) bool {
	t := []rune(text)
	return slices.ContainsFunc(m.globs, func(g glob) bool { return g.match(t) })
}

// A glob matches a whole text: * stands for any characters, ? for one, and a
// backslash takes the next character as it is.
type glob []rune

// match costs at most O(len(p) × len(t)), whatever a client sends.
func (p glob) match(t []rune) bool {
	i, j := 0, 0
	star, mark := -1, 0 // the last * and how much of the text it has taken
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && p[i] == '?':
			i, j = i+1, j+1
		case i+1 < len(p) && p[i] == '\\' && p[i+1] == t[j]:
			i, j = i+2, j+1
		case i < len(p) && p[i] != '\\' && p[i] == t[j], i == len(p)-1 && p[i] == '\\' && t[j] == '\\':
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
