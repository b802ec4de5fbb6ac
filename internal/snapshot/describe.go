package snapshot

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
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
	match, err := compile(c, &r)
	if err != nil {
		return DescribePage{}, err
	}
	after, err := s.openList(r.NextToken)
	if err != nil {
		return DescribePage{}, err
	}
	limit := 0 // all
	if r.MaxResults != nil {
		limit = int(*r.MaxResults)
	} else if r.NextToken != nil {
		limit = describePage
	}
	var page DescribePage
	take := func(snap *Snapshot) (full bool) {
		if !match(snap) {
			return false
		}
		if limit > 0 && len(page.Snapshots) == limit {
			last := page.Snapshots[limit-1]
			page.NextToken = s.listToken(Cursor{last.StartTime, last.ID})
			return true
		}
		page.Snapshots = append(page.Snapshots, *snap)
		return false
	}
	if len(r.IDs) > 0 {
		err = s.describeIDs(ctx, c, r.IDs, after, take)
	} else {
		err = s.describeAll(ctx, c, after, take)
	}
	if err != nil {
		return DescribePage{}, s.storeError(err)
	}
	return page, nil
}

func (s *Service) describeIDs(ctx context.Context, c Caller, ids []string, after Cursor, take func(*Snapshot) bool) error {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []Snapshot
	for _, id := range slices.Compact(ids) {
		snap, err := s.own(ctx, c, id)
		if err != nil {
			return err
		}
		list = append(list, snap)
	}
	if err := s.catalog.Tags(ctx, list); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Snapshot) int { return compareCursors(Cursor{a.StartTime, a.ID}, Cursor{b.StartTime, b.ID}) })
	for i := range list {
		if compareCursors(Cursor{list[i].StartTime, list[i].ID}, after) > 0 && take(&list[i]) {
			return nil
		}
	}
	return nil
}

func compareCursors(a, b Cursor) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
}

func (s *Service) describeAll(ctx context.Context, c Caller, after Cursor, take func(*Snapshot) bool) error {
	for {
		list, err := s.catalog.Snapshots(ctx, c.Account, c.Region, after, describePage)
		if err == nil {
			err = s.catalog.Tags(ctx, list)
		}
		if err != nil {
			return err
		}
		for i := range list {
			s.observe(&list[i])
			if take(&list[i]) {
				return nil
			}
		}
		if len(list) < describePage {
			return nil
		}
		last := list[len(list)-1]
		after = Cursor{last.StartTime, last.ID}
	}
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

// compile checks the selectors and filters and gives the test that they make.
func compile(c Caller, r *DescribeRequest) (func(*Snapshot) bool, error) {
	for _, f := range r.Filters {
		if f.attribute() == nil {
			return nil, &Error{Code: InvalidFilter, Field: f.Name, Err: errors.New("there is no filter of this name")}
		}
	}
	// Only own snapshots are visible: none is shared with anybody, or public.
	owners := len(r.Owners) == 0 || slices.Contains(r.Owners, "self") || slices.Contains(r.Owners, c.Account)
	restorable := len(r.RestorableBy) == 0 || slices.Contains(r.RestorableBy, "self") || slices.Contains(r.RestorableBy, c.Account)
	return func(s *Snapshot) bool {
		return owners && restorable && !slices.ContainsFunc(r.Filters, func(f Filter) bool { return !f.match(s) })
	}, nil
}

// Progress is how far a snapshot is, as the wire shows it: nothing until it is
// completed. Spec: ebs-direct §5.3.
func (s *Snapshot) Progress() string {
	if s.State == Completed {
		return "100%"
	}
	return "0%"
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
	"transfer-type":      func(*Snapshot) []string { return []string{"standard"} },
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

// match reports whether one value of the filter matches the snapshot.
func (f Filter) match(s *Snapshot) bool {
	for _, have := range f.attribute()(s) {
		for _, pattern := range f.Values {
			if glob(pattern, have) {
				return true
			}
		}
	}
	return false
}

// glob matches the whole text: * stands for any characters, ? for one, and a
// backslash takes the next character as it is. It costs at most
// O(len(pattern) × len(text)), whatever a client sends.
func glob(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
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
