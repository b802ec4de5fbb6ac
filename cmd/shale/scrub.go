package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/datadir"
	"shale/internal/pace"
	"shale/internal/scrub"
)

type scrubCmd struct {
	dataDirFlag
	From        string `placeholder:"DIR" help:"Heal what is damaged from the data folder of another store; the server must be stopped."`
	Rate        int64  `placeholder:"MIB" help:"Read at most so many MiB a second. Without it, as fast as the disk is."`
	RootKeyFile string `placeholder:"FILE" help:"The root key, if it is not in the folder: with it what is encrypted is opened, too."`
	JSON        bool   `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (scrubCmd) Help() string {
	return `Reads every block and every map node, in the order in which they lie on the disk,
and proves them: their checksums, and that the content is the one that the id
names; of encrypted blocks that takes the key, without which the checksum has to
do. Then it walks the maps of all snapshots. What is damaged is named with the
snapshots and block indexes that need it, and quarantined: reading it is an error,
and the next upload of the same content heals it.

The server does this by itself, once in 30 days (shale serve --scrub-days). The
command reads all at once, while the server runs or not. With --from, damaged and
missing records are copied from another store that has them under the same ids: a
copy of the folder, or, for what is not encrypted, any other store. For that the
server must be stopped, and DIR has its catalog in itself.

If the server's catalog is in PostgreSQL, --catalog says where.

Exit codes: 0 nothing is damaged any more, 1 something is, 2 wrong usage.

Examples:

    shale scrub --data-dir ./data
    shale scrub --data-dir ./data --rate 50 --json
    shale scrub --data-dir ./data --from /mnt/backup/data`
}

// scrubResult is the outcome in the form of --json.
type scrubResult struct {
	Containers int64         `json:"segments"`
	Bytes      int64         `json:"bytes_read"`
	Records    int64         `json:"records_proved"`
	Keyless    int64         `json:"records_without_key"`
	Snapshots  int64         `json:"snapshots"`
	Seconds    float64       `json:"seconds"`
	Damaged    int64         `json:"damaged"`
	Wrong      int64         `json:"wrong"`
	Healed     int64         `json:"healed"`
	Findings   []findingJSON `json:"findings"`
}

// findingJSON is a finding in the form of --json.
type findingJSON struct {
	Invariant int            `json:"invariant"`
	What      string         `json:"what"`
	ID        string         `json:"id,omitempty"`
	Missing   bool           `json:"missing,omitempty"`
	Segment   int64          `json:"segment,omitempty"`
	Offset    int64          `json:"offset,omitempty"`
	Affects   []affectedJSON `json:"affects,omitempty"`
}

type affectedJSON struct {
	Snapshot string      `json:"snapshot_id"`
	Blocks   [][2]uint32 `json:"blocks"` // first and last index of each run
}

// Run scrubs.
func (c *scrubCmd) Run(ctx context.Context, std streams) (failed error) {
	if c.Rate < 0 || c.Rate > 1<<20 {
		return usagef("--rate %d is not a number of MiB from 1 to %d", c.Rate, 1<<20)
	}
	f, err := openFolder(ctx, c.DataDir, string(c.Catalog))
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, f.close()) }()
	if c.From != "" && f.dir == nil {
		return fmt.Errorf("a server has %s: stop it to heal with --from, or upload what is damaged again", f.path)
	}
	if c.From != "" { // before hours of reading
		other, err := c.openOther(ctx)
		if err != nil {
			return err
		}
		if err := other.close(); err != nil {
			return err
		}
	}
	keyless, err := f.openKeys(c.RootKeyFile)
	if err != nil {
		return err
	}
	// The findings tell of it.
	if err := blockstore.MarkLost(ctx, f.medium, f.catalog, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	result := scrubResult{}
	began := time.Now()
	report, err := c.walk(ctx, f, std)
	if err == nil && c.From != "" && report.Damaged > 0 {
		result.Healed, err = c.heal(ctx, f, report, std)
		if err == nil && result.Healed > 0 {
			report, err = c.walk(ctx, f, std)
		}
	}
	if err != nil {
		return err
	}
	last := scrub.Pass{Began: report.Began, Ended: report.Ended, Bytes: report.Bytes, Records: report.Records, Damaged: report.Damaged}
	if err := f.catalog.ScrubEnded(ctx, last); err != nil {
		return err
	}
	if report.Keyless > 0 && keyless != nil {
		fmt.Fprintf(std.err, "shale: what is encrypted was proved by its checksums only: %v\n", keyless)
	}
	result.fill(report, time.Since(began))
	if c.JSON {
		err = printJSON(std, result)
	} else {
		result.print(std.out)
	}
	if err == nil && result.Damaged+result.Wrong > 0 {
		if !c.JSON {
			fmt.Fprint(std.err, c.advice(&result))
		}
		err = silentError{errors.New("damage was found")}
	}
	return err
}

// walk goes through the whole store.
func (c *scrubCmd) walk(ctx context.Context, f *folder, std streams) (*scrub.Report, error) {
	o := scrub.Options{Catalog: f.catalog, Medium: f.medium, Key: f.key, Read: true, Mark: true}
	if c.Rate > 0 {
		o.Pace = pace.NewRate(c.Rate << 20).Wait
	}
	return f.walk(ctx, o, std)
}

// walk walks with the options, and shows how far it is.
func (f *folder) walk(ctx context.Context, o scrub.Options, std streams) (*scrub.Report, error) {
	containers, err := f.catalog.Containers(ctx)
	if err != nil {
		return nil, err
	}
	var total int64
	for _, length := range containers {
		total += length
	}
	var m meter
	m.begin("reading", total)
	pace := o.Pace
	o.Pace = func(ctx context.Context, n int64) error {
		m.done.Add(n)
		if pace == nil {
			return ctx.Err()
		}
		return pace(ctx, n)
	}
	p := newProgress(std.err)
	p.start(&m)
	defer p.stop()
	w := scrub.New(o)
	err = w.All(ctx)
	return &w.Report, err
}

// openOther opens the store to heal from.
func (c *scrubCmd) openOther(ctx context.Context) (*folder, error) {
	if _, err := os.Stat(filepath.Join(c.From, "segments")); err != nil {
		return nil, fmt.Errorf("--from: %s is no data folder to heal from: %w", c.From, err)
	}
	err := datadir.CheckHere(c.From)
	if err == nil {
		var f *folder
		if f, err = openFolder(ctx, c.From, ""); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("--from: %w", err)
}

// heal copies what is damaged or missing from another store.
func (c *scrubCmd) heal(ctx context.Context, f *folder, report *scrub.Report, std streams) (healed int64, err error) {
	other, err := c.openOther(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, other.close()) }()
	store, err := f.openStore(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	h := scrub.Healer{
		Store: store, From: other.catalog, Medium: other.medium, Key: f.key,
		Refused: func(what *scrub.Finding, why error) { fmt.Fprintf(std.err, "shale: not healed: %s: %v\n", what, why) },
	}
	return h.Heal(ctx, scrub.Options{Catalog: f.catalog, Medium: f.medium}, report)
}

func (r *scrubResult) fill(report *scrub.Report, took time.Duration) {
	r.Containers, r.Bytes, r.Records, r.Keyless = report.Containers, report.Bytes, report.Records, report.Keyless
	r.Snapshots, r.Seconds, r.Damaged, r.Wrong = report.Snapshots, took.Seconds(), report.Damaged, report.Wrong
	r.Findings = findingsJSON(report.Findings)
}

func findingsJSON(list []*scrub.Finding) []findingJSON {
	out := []findingJSON{}
	for _, f := range list {
		j := findingJSON{Invariant: f.Invariant, What: f.String(), Missing: f.Missing, Segment: int64(f.Container), Offset: f.Offset}
		if f.Record() {
			j.ID = f.ID.String()
		}
		for _, a := range f.Affects {
			one := affectedJSON{Snapshot: a.Snapshot, Blocks: [][2]uint32{}}
			for _, r := range a.Ranges {
				one.Blocks = append(one.Blocks, [2]uint32{uint32(r.First), uint32(r.Last)})
			}
			j.Affects = append(j.Affects, one)
		}
		out = append(out, j)
	}
	return out
}

// print prints the findings, and a line about the whole.
func (r *scrubResult) print(w io.Writer) {
	printFindings(w, r.Findings)
	fmt.Fprintf(w, "%s of %s read in %s, %s walked", count(r.Records, "record"), sizeText(r.Bytes), secondsText(r.Seconds), count(r.Snapshots, "snapshot"))
	if r.Keyless > 0 {
		fmt.Fprintf(w, "; %d by their checksums only, as their keys are not at hand", r.Keyless)
	}
	if r.Healed > 0 {
		fmt.Fprintf(w, "; %d healed", r.Healed)
	}
	fmt.Fprintf(w, "; %d damaged or missing, %s besides\n", r.Damaged, count(r.Wrong, "other finding"))
}

// printFindings prints findings, each with what it affects.
func printFindings(w io.Writer, list []findingJSON) {
	for _, f := range list {
		fmt.Fprintf(w, "%d  %s\n", f.Invariant, f.What)
		for _, a := range f.Affects {
			ranges := make([]blockmap.Range, len(a.Blocks))
			for i, b := range a.Blocks {
				ranges[i] = blockmap.Range{First: block.Index(b[0]), Last: block.Index(b[1])}
			}
			fmt.Fprintf(w, "     %s needs it: blocks %s\n", a.Snapshot, scrub.RangesText(ranges))
		}
	}
}

// advice says what to do about damage.
func (c *scrubCmd) advice(r *scrubResult) string {
	text := ""
	if r.Damaged > 0 {
		text = fmt.Sprintf(`What is damaged cannot be read; all else can. To heal it: upload the same content
again (shale upload), or copy it from another store with the server stopped:
    shale scrub --data-dir %s --from DIR
`, shellQuote(c.DataDir))
		if c.From != "" {
			text = "What is left is not in the other store either. Upload the same content again, or delete\nthe snapshots that need it.\n"
		}
	}
	return text + "The disk may be failing: look at its health, and at the newest backup.\n"
}

// registerScrub exports the figures of the background scrub.
func registerScrub(registry *prometheus.Registry, b *scrub.Background) {
	stats := b.Stats()
	for _, m := range []struct {
		name, help string
		value      func() int64
	}{
		{"shale_scrub_bytes_total", "Bytes read by the background scrub.", stats.Bytes.Load},
		{"shale_scrub_records_total", "Records proved by the background scrub.", stats.Records.Load},
		{"shale_scrub_damaged_total", "Records that the background scrub found damaged or missing.", stats.Found.Load},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.value()) }))
	}
	for _, m := range []struct {
		name, help string
		value      func() int64
	}{
		{"shale_damaged_records", "Records that are marked as damaged: reads of them fail.", stats.Damaged.Load},
		{"shale_scrub_last_begin_seconds", "When the last whole scrub began, since 1970: everything older has been proved since. 0 for none yet.", stats.LastBegan.Load},
		{"shale_scrub_last_end_seconds", "When the last whole scrub ended, since 1970; 0 for none yet.", stats.LastEnded.Load},
	} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.value()) }))
	}
}
