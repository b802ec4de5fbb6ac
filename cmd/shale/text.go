package main

import (
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"golang.org/x/term"

	"shale/internal/transfer"
)

// isTerminal reports whether w is a terminal that a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := plainWriter(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// sizeText gives a number of bytes in the unit that suits it: "512 KiB",
// "1.5 GiB".
func sizeText(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	unit := "B"
	for _, u := range units {
		if f < 1023.95 { // else it is printed as 1024.0
			break
		}
		f, unit = f/1024, u
	}
	if f == float64(int64(f)) {
		return fmt.Sprintf("%.0f %s", f, unit)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// secondsText gives a duration as a person would say it.
func secondsText(s float64) string {
	if s < 60 {
		return fmt.Sprintf("%.1f s", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// count gives "1 block", "2 blocks".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// tags orders the tags of the command line by key.
func tags(m map[string]string) ([]transfer.Tag, error) {
	var out []transfer.Tag
	for k, v := range m {
		if k == transfer.LengthTag {
			return nil, usagef("--tag %s: shale sets this tag itself", k)
		}
		out = append(out, transfer.Tag{Key: k, Value: v})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, nil
}
