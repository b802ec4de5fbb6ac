package ec2

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"shale/internal/rest"
)

// A form is the parameters of a Query request. Parameters that nobody asks it
// for are ignored: newer SDKs add some. Spec: ec2-snapshots §1.1.
type form struct {
	values url.Values
	// numbers has, for each beginning of a name, the numbers that follow it:
	// "Filter" and "Filter.1.Value" for Filter.1.Value.2.
	numbers map[string][]number
}

// A number is one N of a list NAME.N, by value and as it is written.
type number struct {
	value uint64
	text  string
}

// maxDepth is how many parts of a name are looked at. No list that is asked for
// is nested deeper, and a name of nothing but dots must not cost more.
const maxDepth = 4

func parseForm(raw string) (form, error) {
	values, err := rest.ParseQuery(raw)
	if err != nil {
		return form{}, err
	}
	f := form{values: values, numbers: map[string][]number{}}
	for name := range values {
		end := 0 // of the beginning
		for i, part := range strings.SplitN(name, ".", maxDepth+1) {
			if i == maxDepth {
				break
			}
			if n, err := strconv.ParseUint(part, 10, 31); err == nil && i > 0 {
				f.numbers[name[:end]] = append(f.numbers[name[:end]], number{n, part})
			}
			if i > 0 {
				end++ // the dot
			}
			end += len(part)
		}
	}
	for name, list := range f.numbers {
		slices.SortFunc(list, func(a, b number) int {
			return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.text, b.text))
		})
		f.numbers[name] = slices.Compact(list)
	}
	return f, nil
}

// has reports whether the parameter is there, even if it is empty.
func (f form) has(name string) bool { return f.values.Has(name) }

// scalar returns the value of a parameter, empty if it is absent. One that is
// given twice is refused.
func (f form) scalar(name string) (string, error) {
	if len(f.values[name]) > 1 {
		return "", refuse(invalidCombination, "The parameter '%s' may only be specified once.", name)
	}
	return f.values.Get(name), nil
}

// boolean returns the value of a parameter, false if it is absent.
func (f form) boolean(name string) (bool, error) {
	s, err := f.scalar(name)
	if err != nil {
		return false, err
	}
	switch s {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, refuse(invalidValue, "Value ( %s ) for parameter %s is invalid. Expecting true or false.", s, lowerFirst(name))
}

// list returns the values of NAME.1, NAME.2, …, in that order. Numbers may be
// missing. A bare NAME comes first: to ignore it would answer a request for one
// snapshot with all of them.
func (f form) list(name string) ([]string, error) {
	var values []string
	if f.has(name) {
		v, err := f.scalar(name)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	for _, n := range f.numbers[name] {
		key := name + "." + n.text
		if !f.has(key) {
			continue // only the beginning of other names
		}
		v, err := f.scalar(key)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
