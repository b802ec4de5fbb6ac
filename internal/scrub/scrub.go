// Package scrub looks for damage: it reads what is stored, in the order in which
// it lies on the disk, and proves it; it walks all block maps and finds what does
// not resolve; and it names for whatever is damaged the snapshots and indexes
// that it concerns. The background work of a server, `shale scrub` and `shale
// check` are the same walk. What it looks for are the invariants of
// docs/formats.md, by their numbers.
//
// A walk may run beside a server that writes, deletes and moves records: what
// looks wrong is looked at again in the catalog before it is believed. It needs
// no keys; with them it proves more.
package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/domain"
)

// A Catalog is what a walk asks, and tells, the catalog.
type Catalog interface {
	// Integrity has the database check itself. The error is that of ctx.
	Integrity(ctx context.Context) ([]Finding, error)
	// Containers gives the committed length of every container, in bytes.
	Containers(ctx context.Context) (map[blockstore.ContainerID]int64, error)
	// CountRecords counts the records in each container that has some. It goes
	// through the rows of all records, some at a time, and calls pause with the
	// number of these; its error is CountRecords' own.
	CountRecords(ctx context.Context, pause func(ctx context.Context, records int64) error) (map[blockstore.ContainerID]int64, error)
	// Record finds a record. It fails if its row makes no sense.
	Record(ctx context.Context, id block.ID) (r blockstore.Stored, found bool, err error)
	// RecordsIn gives records of a container, by id, from after the id on. It
	// goes through the rows of all records. Rows that make no sense are left out.
	RecordsIn(ctx context.Context, c blockstore.ContainerID, after block.ID, limit int) ([]blockstore.Stored, error)
	// DamagedRecords gives records that are marked as damaged, by id, from after
	// the id on.
	DamagedRecords(ctx context.Context, after block.ID, limit int) ([]blockstore.Stored, error)
	MarkDamaged(ctx context.Context, id block.ID, loc blockstore.Location) error
	MarkSound(ctx context.Context, id block.ID, loc blockstore.Location) error
	// Roots gives all that holds blocks, those of one lineage one after the
	// other: completed snapshots, those in the recycle bin, and the pending ones.
	Roots(ctx context.Context) ([]Root, error)
	// Holds reports whether the root is still that of the snapshot.
	Holds(ctx context.Context, r Root) (bool, error)
	// Written gives blocks written to a pending snapshot, by index.
	Written(ctx context.Context, key int64, from block.Index, limit int) ([]blockmap.Entry, error)
}

// A Medium is a blockstore.Medium that can be looked at.
type Medium interface {
	ReadAt(ctx context.Context, c blockstore.ContainerID, p []byte, off int64) error
	First(ctx context.Context, c blockstore.ContainerID) (blockstore.Place, error)
	// ReadAtSource is ReadAt past every cache, and keeps nothing in memory.
	ReadAtSource(ctx context.Context, c blockstore.ContainerID, p []byte, off int64) error
	// Inspect says what is wrong with a container as a whole.
	Inspect(c blockstore.ContainerID, committed int64) error
}

// A Root is a snapshot that holds blocks.
type Root struct {
	Key     int64
	ID      string
	Pending bool // what was written to it is held as well
	// Root is that of its map, or of the map that a pending one starts from, and
	// Blocks how many it is said to have.
	Root      block.ID
	Blocks    int64
	Domain    domain.Number
	VolumeGiB int64 // 0 while that of a copy is not known
}

// The invariants that a walk proves. docs/formats.md, Invariants, has all.
const (
	Readable   = 1
	Container  = 4
	Described  = 6
	RecordRow  = 7
	Overlap    = 8
	Sound      = 9
	Resolves   = 10
	BlockCount = 11
)

// A Finding is one thing that is not as it has to be.
type Finding struct {
	Invariant int
	// Kind and ID are those of a record, if it is one that is damaged or missing.
	Kind blockstore.Kind
	ID   block.ID
	// Missing says that there is no record of the id, though a map refers to it.
	Missing bool
	// Container and Offset are where it is, if Container is not 0; Length is that
	// of a record, in bytes.
	Container blockstore.ContainerID
	Offset    int64
	Length    uint32
	Why       string
	// Affects are the snapshots that need a record, as far as is known.
	Affects []Affected
}

// Record reports whether the finding is a record that is damaged or missing, as
// opposed to something that no snapshot needs to be read.
func (f *Finding) Record() bool { return f.Kind != 0 }

// String says what is wrong, without whom it affects.
func (f *Finding) String() string {
	text := f.Why
	if f.Record() {
		text = fmt.Sprintf("%v %v: %s", f.Kind, f.ID, f.Why)
	}
	if f.Container != 0 {
		text += fmt.Sprintf(" (segment %d, offset %d)", f.Container, f.Offset)
	}
	return text
}

// Affected is a snapshot that damage concerns, and where.
type Affected struct {
	Snapshot string
	// Ranges ascend. Where a map node is damaged it is not known which indexes of
	// its range have blocks.
	Ranges []blockmap.Range
}

const (
	// maxFindings bounds the findings that are kept; all are counted.
	maxFindings = 10_000
	// maxAffected bounds the snapshots that are named for one finding.
	maxAffected = 1000
	// maxRanges bounds the ranges that are named for one snapshot.
	maxRanges = 1000
)

// A Report is what a walk has found.
type Report struct {
	Began, Ended time.Time
	Containers   int64
	Bytes        int64 // of payloads read
	Records      int64 // whose payloads were proved
	Keyless      int64 // of these, by their checksum only, for want of a key
	Nodes        int64 // of maps
	Snapshots    int64 // whose maps were walked
	// Damaged counts the records that are damaged or missing, Wrong all other
	// findings.
	Damaged, Wrong int64
	Findings       []*Finding // up to 10,000

	byID map[block.ID]*Finding
}

// add takes a finding in, and gives the one that stands for its record.
func (r *Report) add(f Finding) *Finding {
	if f.Record() {
		if known := r.byID[f.ID]; known != nil {
			return known
		}
		r.Damaged++
	} else {
		r.Wrong++
	}
	if len(r.Findings) >= maxFindings {
		return &f
	}
	r.Findings = append(r.Findings, &f)
	if f.Record() {
		if r.byID == nil {
			r.byID = make(map[block.ID]*Finding)
		}
		r.byID[f.ID] = &f
	}
	return &f
}

// Options say how to walk.
type Options struct {
	Catalog Catalog
	Medium  Medium
	// Key gives the key of a domain if it is at hand, else nil.
	Key func(context.Context, domain.Number) *domain.Key
	// Read says that payloads are read and proved; without it frames and maps
	// only are.
	Read bool
	// Mark says that what is found damaged is marked so in the catalog, and what
	// is found sound again is not any more.
	Mark bool
	// Count says that the blocks of each map are counted.
	Count bool
	// Pace is called with the bytes that have been read, of containers and of
	// rows of records, and waits; nil for as fast as the disk is.
	Pace func(context.Context, int64) error
	// Found is called with each finding about containers and records when it is
	// met; nil for nobody.
	Found func(*Finding)
	Now   func() time.Time // nil for time.Now
}

// A Walk looks through a store. One goroutine uses it.
type Walk struct {
	Options
	Report Report
	// counts is how many records each container had when they were counted last;
	// nil if they have not been.
	counts map[blockstore.ContainerID]int64
}

// New makes a walk. Run it with All, or step by step.
func New(o Options) *Walk {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Key == nil {
		o.Key = func(context.Context, domain.Number) *domain.Key { return nil }
	}
	return &Walk{Options: o, Report: Report{Began: o.Now()}}
}

// All walks all containers, then all maps. An error means that it could not go
// on; what is damaged is in the report.
func (w *Walk) All(ctx context.Context) error {
	containers, err := w.Catalog.Containers(ctx)
	if err != nil {
		return err
	}
	for _, c := range sorted(containers) {
		if err := w.WalkContainer(ctx, c, containers[c]); err != nil {
			return err
		}
	}
	if err := w.WalkMaps(ctx); err != nil {
		return err
	}
	w.Report.Ended = w.Now()
	return nil
}

// rowSize is what a record takes in the catalog, in bytes, more or less.
const rowSize = 80

// recount counts the records in each container, as far as that can be told.
func (w *Walk) recount(ctx context.Context) {
	counts, err := w.Catalog.CountRecords(ctx, func(ctx context.Context, records int64) error { return w.wait(ctx, records*rowSize) })
	if err != nil {
		counts = make(map[blockstore.ContainerID]int64)
		w.untold(err)
	}
	w.counts = counts
}

// wait waits for what so many bytes that were read may take.
func (w *Walk) wait(ctx context.Context, n int64) error {
	if w.Pace == nil {
		return nil
	}
	return w.Pace(ctx, n)
}

// untold takes in that the catalog cannot tell something: a page of it is
// damaged, or the time is over.
func (w *Walk) untold(err error) {
	if !errors.Is(err, context.Canceled) {
		w.found(Finding{Invariant: Readable, Why: "catalog: " + err.Error()})
	}
}

func sorted(m map[blockstore.ContainerID]int64) []blockstore.ContainerID {
	list := make([]blockstore.ContainerID, 0, len(m))
	for c := range m {
		list = append(list, c)
	}
	slices.Sort(list)
	return list
}

// found takes a finding in.
func (w *Walk) found(f Finding) *Finding {
	before := w.Report.Damaged + w.Report.Wrong
	kept := w.Report.add(f)
	if w.Found != nil && w.Report.Damaged+w.Report.Wrong > before {
		w.Found(kept)
	}
	return kept
}

// RangesText gives the ranges as a person writes them: "0-63, 70". Of many it
// gives the first ones.
func RangesText(ranges []blockmap.Range) string {
	const most = 8
	var b strings.Builder
	for i, r := range ranges {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(ranges)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		if r.First == r.Last {
			fmt.Fprintf(&b, "%d", r.First)
		} else {
			fmt.Fprintf(&b, "%d-%d", r.First, r.Last)
		}
	}
	return b.String()
}
