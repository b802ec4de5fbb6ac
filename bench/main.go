// Command bench measures shale against a reference server that does the least
// possible honest work (see bench/reference), both as processes of their own,
// in the same run, in interleaved rounds, over loopback.
//
// It prints each figure as the median of its rounds with their least and
// greatest, beside what it is held against: the reference, or shale itself
// under another condition. Rates belong to the machine, ratios much less so.
// Nothing is gated: the exit status is 0 unless something could not be run.
//
//	bench [-quick] [-only put,get,… | -old FILE] [-json] [-data-dir DIR] [-bin DIR]
//
// With -old it compares two builds of shale instead (compareBuilds).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "smoke test of about a minute: one round, few blocks; its figures mean little")
	flag.StringVar(&o.only, "only", "", "phases to run, with commas between: "+strings.Join(phaseNames(), ", ")+" (default all)")
	flag.StringVar(&o.old, "old", "", "an older build of shale: in place of the phases, compare GET of both in turns")
	flag.BoolVar(&o.json, "json", false, "print one JSON object to standard output instead of the table")
	flag.StringVar(&o.dataDir, "data-dir", os.TempDir(), "folder on the disk to measure; the data goes to a new folder in it, removed at the end")
	flag.StringVar(&o.bin, "bin", "bin", "folder that holds the programs shale and bench-reference")
	flag.Parse()
	if err := measure(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	quick   bool
	only    string
	old     string
	json    bool
	dataDir string
	bin     string
}

// chosen returns the phases that o asks for, in their order.
func (o options) chosen() ([]phase, error) {
	if o.only == "" {
		return phases, nil
	}
	names := strings.Split(o.only, ",")
	for _, name := range names {
		if !slices.Contains(phaseNames(), name) {
			return nil, fmt.Errorf("no phase %q; there are %s", name, strings.Join(phaseNames(), ", "))
		}
	}
	var chosen []phase
	for _, p := range phases {
		if slices.Contains(names, p.name) {
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}

// measure runs the phases and prints what came out: progress to standard
// error, the report to standard output. However it ends, its data is removed.
func measure(o options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	chosen, err := o.chosen()
	if err != nil {
		return err
	}
	if o.old != "" && (o.only != "" || o.json) {
		return errors.New("-old prints one table of its own: leave out -only and -json")
	}
	dir, err := os.MkdirTemp(o.dataDir, "shale-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	where, err := describe(dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, where)

	b := newBench(o.quick, filepath.Join(o.bin, "shale"), filepath.Join(o.bin, "bench-reference"), dir)
	defer b.close()
	if o.old != "" {
		return b.compareBuilds(ctx, os.Stdout, o.old)
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for round := range b.size.rounds {
		for _, p := range chosen {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, b.size.rounds, p.name)
			if err := b.measure(ctx, p); err != nil {
				return fmt.Errorf("phase %s: %w", p.name, err)
			}
		}
	}
	if o.json {
		return printJSON(os.Stdout, where, b.figures())
	}
	fmt.Printf("\n%s\nmedian (least–greatest) of %d rounds; a ratio is that of each round\n"+
		"against: the reference server, unless the line names something else\n\n", where, b.size.rounds)
	return printTable(os.Stdout, b.figures())
}
