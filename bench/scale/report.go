package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A line is one figure of the report.
type line struct {
	Title  string  `json:"title"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Digits int     `json:"digits"` // after the decimal point
	// Against is what the value is held against; 0 for nothing.
	Against float64 `json:"against,omitempty"`
	// Limit is the most that the ratio, or else the value, is to be; a negative
	// one the least; 0 for none.
	Limit float64 `json:"limit,omitempty"`
}

func (s *scale) add(l line) { s.lines = append(s.lines, l) }

// ratio is Value / Against, 0 without the latter.
func (l *line) ratio() float64 {
	if l.Against == 0 {
		return 0
	}
	return l.Value / l.Against
}

// judge says what was to be reached, and whether it was.
func (l *line) judge() (target, met string) {
	judged := l.Value
	if l.Against != 0 {
		judged = l.ratio()
	}
	sign, ok := "≤", judged <= l.Limit
	switch {
	case l.Limit == 0:
		return "", ""
	case l.Limit < 0:
		sign, ok = "≥", judged >= -l.Limit
	}
	return sign + " " + strconv.FormatFloat(max(l.Limit, -l.Limit), 'f', -1, 64), map[bool]string{true: "yes", false: "NO"}[ok]
}

func printTable(w io.Writer, lines []line) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tvalue\tagainst\tratio\ttarget\tmet")
	for _, l := range lines {
		against, ratio := "", ""
		if l.Against != 0 {
			against, ratio = fmt.Sprintf("%.*f", l.Digits, l.Against), fmt.Sprintf("%.2f", l.ratio())
		}
		target, met := l.judge()
		fmt.Fprintf(t, "%s, %s\t%.*f\t%s\t%s\t%s\t%s\n", l.Title, l.Unit, l.Digits, l.Value, against, ratio, target, met)
	}
	return t.Flush()
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

const mib = 1 << 20

// peakMemory is the most resident memory that a process has had, in MiB. The
// process "self" is this one.
func peakMemory(pid string) (float64, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), " kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/%s/status", pid)
}
