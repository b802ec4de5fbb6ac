// Command scale measures what must stay flat as a store grows, on a store that
// HTTP could not fill in an hour: volumes of 64 TiB with 2^27 blocks, ten
// million distinct blocks, a hundred thousand snapshots in one lineage.
//
// The store is made below the server: segments of the right names and lengths
// whose blocks are holes, block maps made by the map's own fold, rows as the
// server's commits would have made them. Nothing of a block is ever read. All
// that is then measured is the work of the real service on a real disk, each
// phase in a process of its own, whose peak of memory is its own too.
//
//	scale [-quick] [-only list,diff,…] [-keep] [-json] [-data-dir DIR] [-bin DIR]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const region = "us-east-1"

// A size says how much is loaded and measured.
type size struct {
	distinct int64    // blocks
	volumes  []volume // the completed snapshots, the smallest first
	days     int      // snapshots of the long lineage
	calls    int      // of what is measured by its median
	listed   int      // entries listed over HTTP
	writing  int      // blocks written over 64 connections
}

// The names of volumes that phases ask for.
const (
	small  = "10^4 blocks"
	large  = "10^7 blocks"
	dense  = "64 TiB, dense"
	scarce = "64 TiB, sparse"
)

var fullSize = size{
	distinct: 10_000_000, days: 100_000, calls: 50, listed: 3_000_000, writing: 8192,
	volumes: []volume{
		{small, 5, 10_000, 1, 10_000_000},
		{"10^6 blocks", 489, 1_000_000, 1, 10_000_000},
		{large, 4883, 10_000_000, 1, 10_000_000},
		{scarce, 64 << 10, 1 << 21, 1 << 6, 10_000_000},
		{dense, 64 << 10, 1 << 27, 1, 10_000_000},
	},
}

var quickSize = size{
	distinct: 100_000, days: 2_000, calls: 5, listed: 100_000, writing: 256,
	volumes: []volume{
		{small, 5, 10_000, 1, 100_000},
		{large, 49, 100_000, 1, 100_000},
		{scarce, 64 << 10, 1 << 13, 1 << 14, 100_000},
		{dense, 256, 1 << 19, 1, 100_000},
	},
}

type options struct {
	quick   bool
	only    string
	keep    bool
	json    bool
	dataDir string
	bin     string
	phase   string
}

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "smoke test of less than half a minute: everything a hundred times smaller; its figures mean little")
	flag.StringVar(&o.only, "only", "", "phases to run, with commas between: "+strings.Join(phaseNames(), ", ")+" (default all)")
	flag.BoolVar(&o.keep, "keep", false, "use -data-dir itself, load it only if it is empty, and leave it at the end")
	flag.BoolVar(&o.json, "json", false, "print one JSON array to standard output instead of the table")
	flag.StringVar(&o.dataDir, "data-dir", os.TempDir(), "folder on the disk to measure; the data, 10 GB, goes to a new folder in it, removed at the end")
	flag.StringVar(&o.bin, "bin", "bin", "folder that holds the program shale")
	flag.StringVar(&o.phase, "phase", "", "run one phase in this process on the loaded folder -data-dir; for scale itself")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.phase != "" {
		return runPhase(ctx, o)
	}
	return measure(ctx, o)
}

// A scale is one phase at work.
type scale struct {
	size    size
	dir     string
	program string // shale
	world   world
	lines   []line
}

// runPhase runs one phase and prints its lines as JSON.
func runPhase(ctx context.Context, o options) error {
	s := &scale{size: fullSize, dir: o.dataDir, program: filepath.Join(o.bin, "shale")}
	if o.quick {
		s.size = quickSize
	}
	i := slices.IndexFunc(phases, func(p phase) bool { return p.name == o.phase })
	if i < 0 {
		return fmt.Errorf("no phase %q", o.phase)
	}
	if i > 0 { // the first makes the world
		var err error
		if s.world, err = readWorld(s.dir); err != nil {
			return err
		}
	}
	if err := phases[i].run(s, ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s.lines)
}

// measure runs the phases, each as a process, and prints what came out.
// However it ends, its data is removed, unless it is to be kept.
func measure(ctx context.Context, o options) (err error) {
	dir, fresh := o.dataDir, false
	if o.keep {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		_, err := os.Stat(worldFile(dir))
		fresh = err != nil
	} else {
		if dir, err = os.MkdirTemp(o.dataDir, "shale-scale-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		fresh = true
	}
	only := strings.FieldsFunc(o.only, func(r rune) bool { return r == ',' })
	for _, name := range only {
		if !slices.Contains(phaseNames(), name) {
			return fmt.Errorf("no phase %q; there are %s", name, strings.Join(phaseNames(), ", "))
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var lines []line
	began := time.Now()
	for i, p := range phases {
		if i == 0 && !fresh || i > 0 && len(only) > 0 && !slices.Contains(only, p.name) {
			continue
		}
		say("phase %s", p.name)
		args := []string{"-phase", p.name, "-data-dir", dir, "-bin", o.bin}
		if o.quick {
			args = append(args, "-quick")
		}
		var out bytes.Buffer
		child := exec.CommandContext(ctx, program, args...)
		child.Stdout, child.Stderr = &out, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		if err := child.Run(); err != nil {
			return fmt.Errorf("phase %s: %w", p.name, err)
		}
		var more []line
		if err := json.Unmarshal(out.Bytes(), &more); err != nil {
			return fmt.Errorf("phase %s: %w", p.name, err)
		}
		lines = append(lines, more...)
	}
	say("all phases in %v", since(began))
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(lines)
	}
	return printTable(os.Stdout, lines)
}

// say tells how far it is, on standard error.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "scale: "+format+"\n", args...)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
