package snapshot_test

import (
	"slices"
	"strings"
	"testing"

	"shale/internal/snapshot"
)

// A filter's value may name any text there is, and is not much longer than that:
// it is matched with each snapshot, each tag, each lock.
func TestLengthOfFilterValues(t *testing.T) {
	f := newFixture(t)
	text := strings.Repeat("*", 256)
	if _, err := f.startWith(snapshot.StartRequest{Tags: []snapshot.Tag{{Key: "k", Value: text[:255]}}}); err != nil {
		t.Fatal(err)
	}
	id := f.start("")
	if err := f.Service.CreateTags(t.Context(), caller, snapshot.TagRequest{IDs: []string{id}, Tags: []snapshot.Tag{{Key: "k", Value: text}}}); err != nil {
		t.Fatal(err)
	}
	lists := map[string]func(...snapshot.Filter) (int, error){
		"tag:k": func(l ...snapshot.Filter) (int, error) {
			page, err := f.Service.Describe(t.Context(), caller, snapshot.DescribeRequest{Filters: l})
			return len(page.Snapshots), err
		},
		"value": func(l ...snapshot.Filter) (int, error) {
			page, err := f.Service.ListTags(t.Context(), caller, snapshot.ListTagsRequest{Filters: l})
			return len(page.Tags), err
		},
		"lock-state": func(l ...snapshot.Filter) (int, error) {
			page, err := f.Service.Locks(t.Context(), caller, snapshot.LocksRequest{Filters: l})
			return len(page.Snapshots) + 1, err
		},
	}
	for name, list := range lists {
		escaped := strings.Repeat(`\*`, 256)
		if n, err := list(snapshot.Filter{Name: name, Values: []string{escaped}}); err != nil || n != 1 {
			t.Errorf("%s: the longest text there is: found %d, %v", name, n, err)
		}
		_, err := list(snapshot.Filter{Name: name, Values: []string{"x", escaped + "x"}})
		wantCodes(t, name+", by one character longer", err, snapshot.InvalidFilter)
	}
}

// What a filter costs for each snapshot does not come with the number of its values
// again: they are read once for a request.
func TestFiltersAreReadOnce(t *testing.T) {
	f := newFixture(t)
	const snapshots, values = 50, 200
	for range snapshots {
		f.start("")
	}
	allocations := func(n int) float64 {
		filter := snapshot.Filter{Name: "description", Values: slices.Repeat([]string{strings.Repeat("*a", 200)}, n)}
		return testing.AllocsPerRun(1, func() {
			if _, err := f.Service.Describe(t.Context(), caller, snapshot.DescribeRequest{Filters: []snapshot.Filter{filter}}); err != nil {
				t.Error(err)
			}
		})
	}
	if one, many := allocations(1), allocations(values); many > one+snapshots*values/2 {
		t.Errorf("%.0f allocations with %d values, %.0f with one", many, values, one)
	}
}
