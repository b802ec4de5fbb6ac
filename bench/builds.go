package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// A build is one of two programs that are compared with each other. Each serves
// a copy of one data folder.
type build struct {
	program string
	server  *server
	// What each round gave: throughput and processor time against the
	// reference's, and throughput against the first build's.
	rate, cpu, gain []float64
}

// compareBuilds reads the same blocks from an older build, from the one that is
// measured, and from the reference, in a new order of the three in each of many
// rounds: a difference of two percent between two builds cannot be seen in runs of
// their own. First from the page cache, then with nothing in it.
func (b *bench) compareBuilds(ctx context.Context, w io.Writer, old string) error {
	builds := []*build{{program: old}, {program: b.shaleProgram}}
	defer func() {
		for _, x := range builds {
			if x.server != nil {
				x.server.kill()
			}
		}
	}()
	if err := b.prepareBuilds(ctx, builds); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GET\tbuild\tagainst the reference\tprocessor time, against the reference's\tagainst the older build")
	for _, cold := range []bool{false, true} {
		name, times := "page-cached", 4 // of all blocks in a round, which takes a second
		if cold {
			name, times = "nothing cached", 1
		} else if err := b.bringIn(); err != nil {
			return err
		}
		for _, x := range builds {
			x.rate, x.cpu, x.gain = nil, nil, nil
		}
		for round := range b.size.buildRounds {
			fmt.Fprintf(os.Stderr, "round %d of %d: GET, %s\n", round+1, b.size.buildRounds, name)
			if err := b.readBuilds(ctx, builds, times, cold); err != nil {
				return err
			}
		}
		for _, x := range builds {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, x.program, meanText(x.rate), meanText(x.cpu), meanText(x.gain))
		}
	}
	fmt.Fprintf(w, "\nmean ± its standard error of %d rounds\n\n", b.size.buildRounds)
	return t.Flush()
}

// prepareBuilds writes the blocks with the older build, which the newer one can
// read, and starts both on copies.
func (b *bench) prepareBuilds(ctx context.Context, builds []*build) (err error) {
	if b.reference, err = launchReference(b.refProgram, b.referenceFile(), b.log("reference")); err != nil {
		return err
	}
	if b.shale, err = launchShale(builds[0].program, b.shaleDir(), b.log("shale")); err != nil {
		return err
	}
	if _, _, err := b.writeUnique(ctx, b.size.blocks/2, connections); err != nil {
		return err
	}
	if err := b.shale.seal(ctx, &b.onShale); err != nil {
		return err
	}
	b.onReference.tokens = b.onShale.tokens
	if err := b.shale.stop(); err != nil {
		return err
	}
	for i, x := range builds {
		dir := b.buildDir(i)
		if err := copyFolder(dir, b.shaleDir()); err != nil {
			return err
		}
		if x.server, err = launchShale(x.program, dir, b.log(filepath.Base(dir))); err != nil {
			return err
		}
		if err := x.server.waitIdle(ctx); err != nil {
			return err
		}
	}
	return os.RemoveAll(b.shaleDir())
}

func (b *bench) buildDir(i int) string { return filepath.Join(b.dir, fmt.Sprint("build-", i)) }

// readBuilds is one round.
func (b *bench) readBuilds(ctx context.Context, builds []*build, times int, cold bool) error {
	n := len(builds)
	runs := make([]run, n+1) // the last is the reference's
	for range times {
		order := rand.Perm(b.onShale.blocks)
		for _, i := range rand.Perm(n + 1) {
			s, d := b.reference, &b.onReference
			if i < n {
				s, d = builds[i].server, &b.onShale
			}
			if cold {
				if err := b.forget(); err != nil {
					return err
				}
			}
			r, err := s.read(ctx, b.source, d, order, d.all(), connections)
			if err != nil {
				return err
			}
			runs[i].add(r)
		}
	}
	for i, x := range builds {
		x.rate = append(x.rate, runs[i].bytesPerSecond()/runs[n].bytesPerSecond())
		x.cpu = append(x.cpu, runs[i].cpuPerGiB()/runs[n].cpuPerGiB())
		x.gain = append(x.gain, runs[i].bytesPerSecond()/runs[0].bytesPerSecond())
	}
	return nil
}

// meanText gives the mean of values and its standard error.
func meanText(values []float64) string {
	n := float64(len(values))
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += v / n
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return fmt.Sprintf("%.3f ± %.3f", mean, math.Sqrt(squares/(n-1)/n))
}
