package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/snapshot"
)

type statsCmd struct {
	dataDirFlag
	Accounts  bool `help:"Print a line for each account and region, too."`
	Snapshots bool `help:"Print a line for each snapshot, too."`
	JSON      bool `name:"json" help:"Print one JSON object; it has accounts and snapshots."`
}

// Help is shown by --help.
func (statsCmd) Help() string {
	return `The server may be running. Only the catalog is read; with ten million blocks that
takes some twenty seconds.

  volumes      what the disks are long, as whoever restores them sees it
  referenced   the blocks of all snapshots, each snapshot's in full
  stored       what of that is kept: equal blocks once, zeros not at all, and
               compressed where it pays
  segments     the files in which it is kept
  reclaimable  what in them nothing needs, as of the last round of the collector;
               it is freed from segments that are at most 60 % in use

Of each snapshot: FULL is what its blocks are long, UNIQUE what deleting it would
free, SHARED what others need as well, both before compression. The server counts
them in the background after changes; "-" is not counted yet, or no figure of a
snapshot that is pending or in the recycle bin.

Of each account in each region: how many snapshots it has, in which states, how
long their VOLUMES are, and their blocks in FULL, those written to pending ones
and those in the recycle bin included. UNIQUE is the sum of what deleting each
completed snapshot alone would free, "-" until all of them are counted.

Exit codes: 0 done, 1 failed, 2 wrong usage.

Examples:

    shale stats --data-dir ./data
    shale stats --data-dir ./data --snapshots
    shale stats --data-dir ./data --accounts
    shale stats --data-dir ./data --json | jq '.snapshots[] | select(.unique_bytes > 1e9)'`
}

// statsResult is the outcome in the form of --json. Bytes of blocks are plain
// ones, unless they are stored.
type statsResult struct {
	Completed  snapshotsJSON `json:"completed"`
	Pending    snapshotsJSON `json:"pending"`
	Bin        snapshotsJSON `json:"recycle_bin"`
	Volumes    int64         `json:"volume_bytes"`
	Referenced int64         `json:"referenced_bytes"`

	Blocks     recordsJSON `json:"blocks"`
	Zeros      int64       `json:"zero_blocks"`
	Compressed recordsJSON `json:"compressed_blocks"` // some of blocks
	Nodes      recordsJSON `json:"map_nodes"`
	Manifests  recordsJSON `json:"manifests"`
	Condemned  recordsJSON `json:"condemned"` // of all kinds, and none of the above
	Damaged    int64       `json:"damaged_records"`
	Stored     int64       `json:"stored_bytes"`
	Segments   recordsJSON `json:"segments"`
	Leftover   int64       `json:"segments_to_remove"`
	Catalog    int64       `json:"catalog_bytes,omitempty"` // not of one in PostgreSQL

	Deduplication int64 `json:"saved_by_deduplication_bytes"`
	Compression   int64 `json:"saved_by_compression_bytes"`

	Reclaimable int64      `json:"reclaimable_bytes"`
	AsOf        *time.Time `json:"reclaimable_as_of"` // null: there was no round yet

	Accounts  []accountJSON `json:"accounts"`
	Snapshots []sizeJSON    `json:"snapshots"`
}

type snapshotsJSON struct {
	Count  int64 `json:"count"`
	Volume int64 `json:"volume_bytes"`
	Blocks int64 `json:"block_bytes"`
}

type recordsJSON struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

func (r *recordsJSON) add(s *catalog.RecordStats) {
	r.Count += s.Count
	r.Bytes += s.Bytes
}

type sizeJSON struct {
	ID      string     `json:"snapshot_id"`
	Account string     `json:"account"`
	Region  string     `json:"region"`
	State   string     `json:"state"`
	Volume  int64      `json:"volume_bytes"`
	Full    int64      `json:"full_bytes"`
	Unique  *int64     `json:"unique_bytes"` // null: not counted
	Shared  *int64     `json:"shared_bytes"`
	Counted *time.Time `json:"usage_at"`
}

// Run prints the figures.
func (c *statsCmd) Run(ctx context.Context, std streams) (failed error) {
	cat, err := openBeside(ctx, c.DataDir, string(c.Catalog))
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, cat.Close()) }()
	stats, err := cat.Stats(ctx)
	if err != nil {
		return err
	}
	var r statsResult
	r.fill(&stats)
	if c.Catalog == "" {
		r.Catalog = catalogBytes(datadir.CatalogOf(c.DataDir))
	}
	if c.Accounts || c.JSON {
		accounts, err := cat.AccountStats(ctx)
		if err != nil {
			return err
		}
		r.Accounts = []accountJSON{}
		for i := range accounts {
			r.Accounts = append(r.Accounts, newAccount(&accounts[i]))
		}
	}
	if c.Snapshots || c.JSON {
		r.Snapshots = []sizeJSON{}
		if err := cat.Sizes(ctx, func(s catalog.Size) error {
			r.Snapshots = append(r.Snapshots, newSize(&s))
			return nil
		}); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(std, &r)
	}
	return r.print(std.out, c)
}

// catalogBytes is how long the catalog's file is, with SQLite's log.
func catalogBytes(path string) (total int64) {
	for _, p := range []string{path, path + "-wal"} {
		if info, err := os.Stat(p); err == nil {
			total += info.Size()
		}
	}
	return total
}

const gib = 1 << 30

func (r *statsResult) fill(s *catalog.Stats) {
	for _, x := range s.Snapshots {
		to := &r.Pending
		switch x.State {
		case snapshot.Completed:
			to = &r.Completed
		case catalog.Binned:
			to = &r.Bin
		}
		to.Count += x.Count
		to.Volume += x.VolumeGiB * gib
		to.Blocks += x.Blocks * block.Size
	}
	r.Pending.Blocks = s.Pending * block.Size
	for _, x := range []snapshotsJSON{r.Completed, r.Pending, r.Bin} {
		r.Volumes += x.Volume
		r.Referenced += x.Blocks
	}
	for i := range s.Records {
		x := &s.Records[i]
		switch x.Kind {
		case blockstore.KindNode:
			r.Nodes.add(x)
		case blockstore.KindManifest:
			r.Manifests.add(x)
		default:
			r.Blocks.add(x)
			if x.Codec == blockstore.CodecZero {
				r.Zeros += x.Count
			} else if x.Codec != blockstore.CodecRaw {
				r.Compressed.add(x)
			}
		}
	}
	r.Condemned.add(&s.Condemned)
	r.Damaged = s.Damaged
	r.Stored = r.Blocks.Bytes + r.Nodes.Bytes + r.Manifests.Bytes
	r.Segments, r.Leftover = recordsJSON{s.Containers, s.Bytes}, s.Dropped
	// What is not condemned yet, and needed by nothing, counts as if it were.
	r.Deduplication = max(0, r.Referenced-(r.Blocks.Count-r.Zeros)*block.Size)
	r.Compression = max(0, r.Compressed.Count*block.Size-r.Compressed.Bytes)
	if !s.Reclaim.Began.IsZero() {
		at := s.Reclaim.Began.UTC()
		r.Reclaimable, r.AsOf = s.Reclaim.DeadBytes, &at
	}
}

func newSize(s *catalog.Size) sizeJSON {
	x := sizeJSON{ID: s.ID, Account: s.Account, Region: s.Region, State: s.State.String(), Volume: s.VolumeGiB * gib, Full: s.Blocks * block.Size}
	if s.State == catalog.Binned {
		x.State = "recycle-bin"
	}
	if u := s.Usage; u != nil && s.State == snapshot.Completed {
		at := u.CountedAt.UTC()
		x.Unique, x.Shared, x.Counted = &u.Unique, &u.Shared, &at
	}
	return x
}

// print prints tables.
func (r *statsResult) print(w io.Writer, c *statsCmd) error {
	line := func(name, size, note string) {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-22s%12s  %s", name, size, note), " "))
	}
	row := func(name string, bytes int64, note string) { line(name, sizeText(bytes), note) }
	row("volumes", r.Volumes, fmt.Sprintf("%s, %d pending, %d in the recycle bin",
		count(r.Completed.Count, "completed snapshot"), r.Pending.Count, r.Bin.Count))
	row("referenced", r.Referenced, "")
	row("saved by deduplication", r.Deduplication, "equal blocks, and blocks of zeros")
	row("saved by compression", r.Compression, fmt.Sprintf("%s of %d", count(r.Compressed.Count, "block"), r.Blocks.Count))
	row("stored blocks", r.Blocks.Bytes, count(r.Blocks.Count, "record"))
	row("stored map nodes", r.Nodes.Bytes, count(r.Nodes.Count, "record"))
	row("stored manifests", r.Manifests.Bytes, count(r.Manifests.Count, "record"))
	if r.Condemned.Count > 0 {
		row("condemned", r.Condemned.Bytes, count(r.Condemned.Count, "record")+", removed by the next round")
	}
	row("segments", r.Segments.Bytes, count(r.Segments.Count, "file"))
	if r.AsOf == nil {
		line("reclaimable", "?", "no round of the collector yet: shale reclaim --dry-run")
	} else {
		row("reclaimable", r.Reclaimable, "as of "+r.AsOf.Local().Format("2006-01-02 15:04:05"))
	}
	if r.Catalog > 0 {
		row("catalog", r.Catalog, "")
	}
	if r.Leftover > 0 {
		fmt.Fprintf(w, "%s more are to be removed, once nobody copies them.\n", count(r.Leftover, "file"))
	}
	if r.Damaged > 0 {
		fmt.Fprintf(w, "%s marked as damaged: shale scrub names what they affect.\n", count(r.Damaged, "record"))
	}
	if c.Accounts {
		fmt.Fprintln(w)
		if err := printAccounts(w, r.Accounts); err != nil {
			return err
		}
	}
	if !c.Snapshots {
		return nil
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SNAPSHOT\tSTATE\tVOLUME\tFULL\tUNIQUE\tSHARED")
	for i := range r.Snapshots {
		s := &r.Snapshots[i]
		unique, shared := "-", "-"
		if s.Unique != nil {
			unique, shared = sizeText(*s.Unique), sizeText(*s.Shared)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.State, sizeText(s.Volume), sizeText(s.Full), unique, shared)
	}
	return t.Flush()
}
