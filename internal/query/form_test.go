package query_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"shale/internal/query"
	"shale/internal/rest"
)

func TestForm(t *testing.T) {
	f, err := query.Parse("Action=X&Name.2=b&Name.10=c&Name.01=a&Name=z&Empty=&Twice=1&Twice=2&Filter.3.Value.1=v&%41=d")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.List("Name"); err != nil || strings.Join(got, "") != "zabc" {
		t.Errorf("a list: got %q, %v; want the bare name first, then by number", got, err)
	}
	if s, err := f.Scalar("A"); s != "d" || err != nil {
		t.Errorf("an escaped name: got %q, %v", s, err)
	}
	if p, err := f.Optional("Empty"); p == nil || *p != "" || err != nil {
		t.Errorf("an empty value: got %v, %v", p, err)
	}
	if p, err := f.Optional("None"); p != nil || err != nil {
		t.Errorf("no value: got %v, %v", p, err)
	}
	if e, ok := errors.AsType[*rest.Error](second(f.Scalar("Twice"))); !ok || e.Kind != rest.Repeated || e.Field != "Twice" {
		t.Errorf("a value given twice: got %v", e)
	}
	if got := slices.Collect(f.Numbers("Filter")); !slices.Equal(got, []string{"3"}) || !f.HasNumbers("Filter.3.Value") || f.HasNumbers("Filter.3") {
		t.Errorf("numbers of the beginning of a name: got %q", got)
	}
	if !f.Mentions("Filter") || f.Mentions("Filt") {
		t.Error("a beginning is a whole part of a name")
	}
}

func second(_ string, err error) error { return err }

// A form is understood, or refused as one that cannot be; nothing that it has
// is given twice.
func FuzzForm(f *testing.F) {
	f.Add("Action=CreateUser&UserName=a%2Bb&Tags.member.1.Key=k")
	f.Add("A.1=x&A.01=y&A=z&A.1.2.3.4.5=w&%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		form, err := query.Parse(raw)
		if err != nil {
			if e, ok := errors.AsType[*rest.Error](err); !ok || e.Kind != rest.BadQuery {
				t.Fatalf("%q: got %v", raw, err)
			}
			return
		}
		for _, name := range form.Names() {
			if !form.Has(name) || !form.Mentions(name) {
				t.Errorf("%q: %q is there, and is not", raw, name)
			}
			beginning, _, _ := strings.Cut(name, ".")
			seen := map[string]bool{}
			for n := range form.Numbers(beginning) {
				if seen[n] {
					t.Errorf("%q: the number %s twice", raw, n)
				}
				seen[n] = true
			}
			if _, err := form.List(beginning); err != nil && !errors.As(err, new(*rest.Error)) {
				t.Errorf("%q: list %q: %v", raw, beginning, err)
			}
		}
	})
}
