package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A goal says how a figure is judged.
type goal int

const (
	noGoal       goal = iota // for information
	ratioAtLeast             // value / against ≥ target
	ratioAtMost              // value / against ≤ target
	valueAtMost              // value ≤ target
	valueAtLeast             // value ≥ target
)

// A figure is one line of the report: a quantity of shale's and, measured in
// the same rounds, what it is held against.
type figure struct {
	title  string
	unit   string
	digits int // after the decimal point
	goal   goal
	target float64

	values  []float64 // one a round
	against []float64 // likewise; empty if nothing is
}

// add notes the values of one round.
func (f *figure) add(value float64, against ...float64) {
	f.values = append(f.values, value)
	f.against = append(f.against, against...)
}

// ratios returns value / against of each round.
func (f *figure) ratios() []float64 {
	ratios := make([]float64, len(f.against))
	for i := range f.against {
		ratios[i] = f.values[i] / f.against[i]
	}
	return ratios
}

// meets reports whether the goal is reached, "" if there is none.
func (f *figure) meets() string {
	var ok bool
	switch f.goal {
	case ratioAtLeast:
		ok = median(f.ratios()) >= f.target
	case ratioAtMost:
		ok = median(f.ratios()) <= f.target
	case valueAtMost:
		ok = median(f.values) <= f.target
	case valueAtLeast:
		ok = median(f.values) >= f.target
	default:
		return ""
	}
	if ok {
		return "yes"
	}
	return "NO"
}

func (f *figure) targetText() string {
	switch f.goal {
	case ratioAtLeast:
		return fmt.Sprintf("≥ %g", f.target)
	case ratioAtMost:
		return fmt.Sprintf("≤ %g", f.target)
	case valueAtMost:
		return fmt.Sprintf("≤ %g %s", f.target, f.unit)
	case valueAtLeast:
		return fmt.Sprintf("≥ %g %s", f.target, f.unit)
	default:
		return ""
	}
}

// spread formats the median of values and, in parentheses, the least and the
// greatest.
func spread(values []float64, digits int) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, median(values), digits, slices.Min(values), digits, slices.Max(values))
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// printTable writes the figures, each as the median of its rounds with their
// least and greatest.
func printTable(w io.Writer, figures []*figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tshale\tagainst\tratio\ttarget\tmeets")
	for _, f := range figures {
		if len(f.values) == 0 {
			continue
		}
		fmt.Fprintln(t, strings.Join([]string{
			f.title + ", " + f.unit, spread(f.values, f.digits), spread(f.against, f.digits),
			spread(f.ratios(), 2), f.targetText(), f.meets(),
		}, "\t"))
	}
	return t.Flush()
}

// printJSON writes the machine and the figures as one object.
func printJSON(w io.Writer, m machine, figures []*figure) error {
	type object struct {
		Title   string    `json:"title"`
		Unit    string    `json:"unit"`
		Shale   []float64 `json:"shale"`
		Against []float64 `json:"against,omitempty"`
		Ratios  []float64 `json:"ratios,omitempty"`
		Target  string    `json:"target,omitempty"`
		Meets   string    `json:"meets,omitempty"`
	}
	report := struct {
		Machine machine  `json:"machine"`
		Figures []object `json:"figures"`
	}{Machine: m}
	for _, f := range figures {
		if len(f.values) > 0 {
			report.Figures = append(report.Figures,
				object{f.title, f.unit, f.values, f.against, f.ratios(), f.targetText(), f.meets()})
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(report)
}
