package scrub

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/pace"
)

const (
	// minRate and maxRate bound what the background reads, in bytes a second,
	// whatever the time that it has for all.
	minRate = 8 << 20
	maxRate = 128 << 20
	// lookAgain is how often it looks whether a pass is due, and retryRest how
	// long it rests after an error.
	lookAgain = time.Minute
	retryRest = time.Minute
	// spare is the part of the time for a pass that is not planned for, so that
	// it comes to its end within it.
	spare = 10 // a tenth
)

// A Pass is one that came to its end.
type Pass struct {
	Began, Ended time.Time
	Bytes        int64 // of payloads read
	Records      int64 // proved
	Damaged      int64 // records damaged or missing at its end
}

// Progress is where the background stands.
type Progress struct {
	Began     time.Time              // of the pass in progress; zero if none is
	Container blockstore.ContainerID // the last that it has been through
	Bytes     int64                  // so far
	Records   int64
	Last      Pass
}

// A Ledger keeps the Progress, so that a restart goes on.
type Ledger interface {
	Scrubbed(ctx context.Context) (Progress, error)
	SetScrubbed(ctx context.Context, p Progress) error
	// ScrubEnded records a pass of another process, unless one that began later
	// has ended.
	ScrubEnded(ctx context.Context, last Pass) error
}

// BackgroundOptions say how the background reads everything.
type BackgroundOptions struct {
	Catalog interface {
		Catalog
		Ledger
		CountDamaged(ctx context.Context) (int64, error)
	}
	Medium Medium
	Key    func(context.Context, domain.Number) *domain.Key
	// Every is the time in which everything is read once.
	Every  time.Duration
	Now    func() time.Time // the clock by which passes are due
	Logger *slog.Logger
}

// A Background reads everything in a server, slowly, again and again.
type Background struct {
	BackgroundOptions
	stats Stats
}

// Stats are figures of the background.
type Stats struct {
	Bytes   atomic.Int64 // read since the start
	Records atomic.Int64 // proved since the start
	Found   atomic.Int64 // records found damaged or missing since the start
	// Damaged is how many records are marked as damaged, as of the last look.
	Damaged atomic.Int64
	// LastBegan and LastEnded are those of the last pass that came to its end, in
	// seconds since 1970; 0 if there is none.
	LastBegan, LastEnded atomic.Int64
}

// NewBackground makes a Background. Run it.
func NewBackground(o BackgroundOptions) *Background { return &Background{BackgroundOptions: o} }

// Stats gives the figures, which go on changing.
func (b *Background) Stats() *Stats { return &b.stats }

// Run scrubs until ctx ends. An error is logged, and the work goes on later.
func (b *Background) Run(ctx context.Context) {
	for ctx.Err() == nil {
		rest := lookAgain
		if err := b.Step(ctx); err != nil && ctx.Err() == nil {
			b.Logger.ErrorContext(ctx, "scrub was interrupted, and goes on later", "err", err)
			rest = retryRest
		}
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// Step is what Run does at a time: it goes on with the pass in progress, to its
// end, or begins one if it is due.
func (b *Background) Step(ctx context.Context) error {
	p, err := b.Catalog.Scrubbed(ctx)
	if err != nil {
		return err
	}
	if err := b.look(ctx, &p); err != nil {
		return err
	}
	if p.Began.IsZero() {
		if !p.Last.Began.IsZero() && b.Now().Before(p.Last.Began.Add(b.Every)) {
			return nil
		}
		p = Progress{Began: b.Now(), Last: p.Last}
		if err := b.Catalog.SetScrubbed(ctx, p); err != nil {
			return err
		}
	}
	return b.pass(ctx, &p)
}

// look brings the figures up to date.
func (b *Background) look(ctx context.Context, p *Progress) error {
	n, err := b.Catalog.CountDamaged(ctx)
	if err != nil {
		return err
	}
	b.stats.Damaged.Store(n)
	if !p.Last.Ended.IsZero() {
		b.stats.LastBegan.Store(p.Last.Began.Unix())
		b.stats.LastEnded.Store(p.Last.Ended.Unix())
	}
	return nil
}

// pass goes through the containers from the cursor on, and then through the
// maps.
func (b *Background) pass(ctx context.Context, p *Progress) error {
	containers, err := b.Catalog.Containers(ctx)
	if err != nil {
		return err
	}
	var total int64
	for _, length := range containers {
		total += length
	}
	rate := pace.NewRate(rateFor(total, b.Every))
	w := New(Options{
		Catalog: b.Catalog, Medium: b.Medium, Key: b.Key, Read: true, Mark: true, Now: b.Now,
		Pace: func(ctx context.Context, n int64) error {
			b.stats.Bytes.Add(n)
			return rate.Wait(ctx, n)
		},
		Found: func(f *Finding) {
			if f.Record() {
				b.stats.Found.Add(1)
			}
			b.Logger.ErrorContext(ctx, "scrub found damage", "what", f.String())
		},
	})
	for _, c := range sorted(containers) {
		if c <= p.Container {
			continue
		}
		before := w.Report
		if err := w.WalkContainer(ctx, c, containers[c]); err != nil {
			return err
		}
		p.Container = c
		p.Bytes += w.Report.Bytes - before.Bytes
		p.Records += w.Report.Records - before.Records
		b.stats.Records.Add(w.Report.Records - before.Records)
		if err := errors.Join(b.Catalog.SetScrubbed(ctx, *p), b.look(ctx, p)); err != nil {
			return err
		}
	}
	if err := w.WalkMaps(ctx); err != nil {
		return err
	}
	for _, f := range w.Report.Findings {
		for _, a := range f.Affects {
			b.Logger.ErrorContext(ctx, "a snapshot needs what is damaged", "snapshot", a.Snapshot, "blocks", RangesText(a.Ranges), "what", f.String())
		}
	}
	last := Pass{Began: p.Began, Ended: b.Now(), Bytes: p.Bytes, Records: p.Records, Damaged: w.Report.Damaged}
	*p = Progress{Last: last}
	if err := errors.Join(b.Catalog.SetScrubbed(ctx, *p), b.look(ctx, p)); err != nil {
		return err
	}
	b.Logger.InfoContext(ctx, "scrub has read everything", "bytes", last.Bytes, "records", last.Records, "damaged", last.Damaged,
		"snapshots", w.Report.Snapshots, "took", last.Ended.Sub(last.Began).Round(time.Second))
	return nil
}

// rateFor is the rate, in bytes a second, at which so many bytes are read in the
// time, with some of it to spare.
func rateFor(total int64, every time.Duration) int64 {
	seconds := int64((every - every/spare) / time.Second)
	if seconds <= 0 {
		return maxRate
	}
	return min(max(total/seconds, minRate), maxRate)
}
