package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"shale/internal/backup"
	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/reclaim"
)

type reclaimCmd struct {
	dataDirFlag
	DryRun bool `help:"Say what could be freed, and change nothing; the server may be running."`
	JSON   bool `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (reclaimCmd) Help() string {
	return `Frees the space of what no snapshot needs any more: blocks and maps of deleted
snapshots, of uploads that failed, of blocks that were written over. A running
server does this by itself, within a few minutes of a deletion and at a bounded
rate. This command does it at once and as fast as the disk is, on a stopped server.

Snapshots in the recycle bin, and pending ones, keep what they have. What is not
needed is first condemned, and removed only if a second look finds the same. So
there are two rounds, and it may be interrupted and repeated at any time. If one
block map cannot be read, nothing is removed: shale scrub says what is damaged.

With --dry-run it reads the maps of all snapshots and says what would be freed.
What a running server stores meanwhile may be counted, too. For the figures of the
last round, without waiting: shale stats.

Exit codes: 0 done, 1 failed, 2 wrong usage.

Examples:

    shale reclaim --data-dir ./data --dry-run
    shale reclaim --data-dir ./data`
}

// reclaimResult is the outcome in the form of --json.
type reclaimResult struct {
	DryRun   bool    `json:"dry_run"`
	Records  int64   `json:"records"`  // removed, or to be removed
	Segments int64   `json:"segments"` // likewise
	Freed    int64   `json:"freed_bytes"`
	Before   int64   `json:"segment_bytes_before"`
	After    int64   `json:"segment_bytes_after"`
	InUse    int64   `json:"records_in_use"`
	Dead     int64   `json:"dead_bytes"` // that stay, in segments that hold little of it
	Kept     int64   `json:"segments_kept"`
	Damaged  int64   `json:"damaged"`
	Seconds  float64 `json:"seconds"`
}

// Run reclaims.
func (c *reclaimCmd) Run(ctx context.Context, std streams) (failed error) {
	f, err := openFolder(ctx, c.DataDir, string(c.Catalog))
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, f.close()) }()
	var m meter
	o := reclaim.Options{Catalog: f.catalog, Now: time.Now, Step: func(what string) { m.begin(what, 0) }}
	result := reclaimResult{DryRun: c.DryRun}
	if result.Before, err = segmentBytes(ctx, f.catalog); err != nil {
		return err
	}
	began, p := time.Now(), newProgress(std.err)
	p.start(&m)
	if c.DryRun {
		err = f.survey(ctx, o, &result)
	} else {
		err = f.reclaim(ctx, o, &result)
	}
	p.stop()
	if err != nil {
		return err
	}
	result.Seconds = time.Since(began).Seconds()
	if c.JSON {
		return printJSON(std, result)
	}
	result.print(std.out)
	if result.Kept > 0 {
		fmt.Fprintf(std.err, "shale: %s stay until the backup that copies them is done; then reclaim again, or start the server.\n", count(result.Kept, "segment"))
	}
	if result.Damaged > 0 {
		fmt.Fprintf(std.err, "shale: what is damaged stays where it is, and keeps its segment; shale scrub names it.\n")
	}
	return nil
}

// survey finds out what could be freed. A server may have the folder: what it
// stores in the catalog is only read.
func (f *folder) survey(ctx context.Context, o reclaim.Options, result *reclaimResult) error {
	store := blockstore.New(blockstore.Options{Medium: f.medium, Index: readIndex{f.catalog}, NodeLength: blockmap.Length})
	f.medium = nil // the store closes it
	o.Store = store
	report, err := reclaim.New(o).Survey(ctx)
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	result.Records, result.Segments = report.Removed+report.Condemned, report.Dropped
	result.InUse, result.Freed = report.Marked, report.FreedBytes
	result.After, result.Dead = result.Before-report.FreedBytes, report.DeadBytes-report.FreedBytes
	return nil
}

// readIndex is the catalog for who changes nothing in it.
type readIndex struct{ *catalog.Catalog }

// MarkDamaged implements blockstore.Index.
func (readIndex) MarkDamaged(context.Context, block.ID, blockstore.Location) error { return nil }

// MarkSound implements blockstore.Index.
func (readIndex) MarkSound(context.Context, block.ID, blockstore.Location) error { return nil }

// reclaim runs cycles until nothing is left.
func (f *folder) reclaim(ctx context.Context, o reclaim.Options, result *reclaimResult) error {
	if f.dir == nil {
		return fmt.Errorf("a server has %s: it reclaims by itself, soon after a deletion; "+
			"--dry-run says what it has left to free, and so does shale_store_dead_bytes on its /metrics", f.path)
	}
	if is, err := backup.Is(f.dir); err != nil {
		return err
	} else if is {
		return fmt.Errorf("%s is a backup: reclaim in the folder that it was made of, or start a server here first, "+
			"which makes it a store of its own", f.path)
	}
	store, err := f.openStore(ctx)
	if err != nil {
		return err
	}
	o.Store = store
	o.Alone = func() (func() error, bool, error) { return datadir.Alone(f.path) }
	collector := reclaim.New(o)
	for {
		report, err := collector.Cycle(ctx)
		if err != nil {
			return errors.Join(err, store.Close())
		}
		result.Records += report.Removed
		result.Segments += report.Dropped
		result.Damaged += report.Damaged
		result.InUse, result.Dead = report.Marked, report.DeadBytes
		if report.Condemned == 0 { // the next would remove nothing
			break
		}
	}
	if err := store.Close(); err != nil {
		return err
	}
	kept, err := f.catalog.Dropped(ctx)
	if err != nil {
		return err
	}
	result.Kept = int64(len(kept))
	result.After, err = segmentBytes(ctx, f.catalog)
	result.Freed = result.Before - result.After
	return err
}

// segmentBytes is how long all segments are together.
func segmentBytes(ctx context.Context, c *catalog.Catalog) (total int64, err error) {
	lengths, err := c.Containers(ctx)
	for _, length := range lengths {
		total += length
	}
	return total, err
}

func (r *reclaimResult) print(w io.Writer) {
	did, what := "Removed", "freed"
	if r.DryRun {
		did, what = "Would remove", "would be freed"
	}
	// Bringing little together may take a page more than it gives.
	fmt.Fprintf(w, "%s %s and %s: %s %s, of %s in segments.\n", did, count(r.Records, "record"), count(r.Segments, "segment"),
		sizeText(max(0, r.Freed)), what, sizeText(r.Before))
	fmt.Fprintf(w, "In use: %s. Not in use, in segments that are mostly in use: %s.\n", count(r.InUse, "record"), sizeText(max(0, r.Dead)))
}
