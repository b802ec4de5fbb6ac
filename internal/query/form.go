// Package query has what AWS's Query protocols share: requests are forms, and
// answers XML. What the parameters mean, and how an answer is laid out, is for
// the doors.
//
// Spec: ebs-direct §1.1, ec2-snapshots §1.1.
package query

import (
	"cmp"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"shale/internal/rest"
)

// MaxForm is the longest form that is read, in bytes: room for some six thousand
// IDs of snapshots, or for the longest policy that a model admits.
const MaxForm = 256 << 10

// A Form is the parameters of a request. Parameters that nobody asks it for are
// ignored: newer SDKs add some. Spec: ec2-snapshots §1.1.
type Form struct {
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

// Read reads the parameters of the query string and, of a POST, those of the
// body; its Content-Type is not looked at. Every error is a *rest.Error.
// Spec: ec2-snapshots §1.1.
func Read(r *http.Request) (Form, error) {
	switch r.Method {
	case http.MethodGet:
		return Parse(r.URL.RawQuery)
	case http.MethodPost:
	default:
		return Form{}, &rest.Error{Kind: rest.UnknownMethod, Value: r.Method, Allow: []string{http.MethodPost, http.MethodGet}}
	}
	if err := rest.CheckEncoding(r); err != nil {
		return Form{}, err
	}
	body, err := rest.ReadBody(r, MaxForm)
	if err != nil {
		return Form{}, err
	}
	return Parse(r.URL.RawQuery + "&" + string(body))
}

// Parse takes a form apart. Every error is a *rest.Error.
func Parse(raw string) (Form, error) {
	values, err := rest.ParseQuery(raw)
	if err != nil {
		return Form{}, err
	}
	f := Form{values: values, numbers: map[string][]number{}}
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

// Has reports whether the parameter is there, even if it is empty.
func (f Form) Has(name string) bool { return f.values.Has(name) }

// Mentions reports whether there is a parameter of the name, or one that it
// begins.
func (f Form) Mentions(name string) bool {
	if f.Has(name) {
		return true
	}
	for parameter := range f.values {
		if strings.HasPrefix(parameter, name+".") {
			return true
		}
	}
	return false
}

// Values are all parameters, not to be changed.
func (f Form) Values() url.Values { return f.values }

// Names are those of all parameters, in alphabetical order.
func (f Form) Names() []string { return slices.Sorted(maps.Keys(f.values)) }

// Scalar returns the value of a parameter, empty if it is absent. One that is
// given twice is refused.
func (f Form) Scalar(name string) (string, error) {
	if len(f.values[name]) > 1 {
		return "", &rest.Error{Kind: rest.Repeated, Field: name}
	}
	return f.values.Get(name), nil
}

// Optional returns the value of a parameter, nil if it is absent.
func (f Form) Optional(name string) (*string, error) {
	if !f.Has(name) {
		return nil, nil
	}
	s, err := f.Scalar(name)
	return &s, err
}

// Numbers gives the numbers N of NAME.N in their order, as they are written.
// Some may be only the beginning of other names.
func (f Form) Numbers(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, n := range f.numbers[name] {
			if !yield(n.text) {
				return
			}
		}
	}
}

// HasNumbers reports whether Numbers gives any.
func (f Form) HasNumbers(name string) bool { return len(f.numbers[name]) > 0 }

// List returns the values of NAME.1, NAME.2, …, in that order. Numbers may be
// missing. A bare NAME comes first: to ignore it would answer a request for one
// thing with all of them.
func (f Form) List(name string) ([]string, error) {
	var values []string
	if f.Has(name) {
		v, err := f.Scalar(name)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	for n := range f.Numbers(name) {
		key := name + "." + n
		if !f.Has(key) {
			continue // only the beginning of other names
		}
		v, err := f.Scalar(key)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}
