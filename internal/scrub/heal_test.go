package scrub_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/scrub"
	"shale/internal/vfs"
)

// other opens a copy of a store, as another one to heal from.
func (f *fixture) other(dir string) (scrub.Catalog, scrub.Medium) {
	f.Helper()
	c, err := catalog.OpenBeside(f.Context(), filepath.Join(dir, "catalog.db"), f.Clock.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	m, err := segment.OpenReadOnly(vfs.Dir(filepath.Join(dir, "segments")), [16]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { m.Close() })
	return c, m
}

// What is damaged or missing is copied from another store by its id: plain
// blocks, sealed ones without a key, map nodes and what they lead to. What the
// other does not have, or has damaged, is refused and stays.
func TestHealFromAnother(t *testing.T) {
	f := newFixture(t)
	arn := f.KMS.Create("111122223333", "us-east-1")
	parent := f.make("", "", map[int64]uint64{0: 1, 1: 2, 5000: 3})
	f.make("", arn, map[int64]uint64{0: 1, 5: 0})
	f.Stop(t)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(f.Dir)); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	f.look()
	late := f.make("", "", map[int64]uint64{0: 9})
	from, medium := f.other(copied)

	var sealed []block.ID
	roots, err := f.Catalog.Roots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone := f.leafOf(parent, 5000)
	f.exec(`DELETE FROM records WHERE id IN (?, ?)`, gone[:], idBytes(3))
	spoiled := []block.ID{roots[0].Root, idOf(1), idOf(2), idOf(9)}
	for id, r := range f.all() {
		if r.Location.Sealing != nil && r.Location.Length > 0 {
			sealed = append(sealed, id)
		}
	}
	for _, id := range append(spoiled, sealed...) {
		r := f.record(id)
		f.spoil(r.Location.Container, r.Location.Offset+7)
	}
	two, _, err := from.Record(t.Context(), idOf(2))
	if err != nil {
		t.Fatal(err)
	}
	spoilFile(t, filepath.Join(copied, "segments", segment.FileName(two.Location.Container)), two.Location.Offset+9)

	report := f.scrub()
	refused := map[block.ID]error{}
	h := scrub.Healer{
		Store: f.Store, From: from, Medium: medium, Key: func(context.Context, number) *nokey { return nil },
		Refused: func(what *scrub.Finding, why error) { refused[what.ID] = why },
	}
	healed, err := h.Heal(t.Context(), scrub.Options{Catalog: f.Catalog, Medium: f.medium}, report)
	if err != nil {
		t.Fatal(err)
	}
	// The root, block 1, what is sealed; then the leaf, and block 3 below it.
	if want := int64(2 + len(sealed) + 2); healed != want || len(refused) != 2 || refused[idOf(2)] == nil || refused[idOf(9)] == nil {
		t.Errorf("healed %d, want %d; refused %v", healed, want, refused)
	}
	again := f.scrub()
	if again.Damaged != 2 {
		t.Errorf("%d are damaged still, want 2: %v", again.Damaged, again.Findings)
	}
	for _, finding := range again.Findings {
		if finding.ID == idOf(9) && (len(finding.Affects) != 1 || finding.Affects[0].Snapshot != late) {
			t.Errorf("%v affects %v", finding, finding.Affects)
		}
	}
}

// all gives all records.
func (f *fixture) all() map[block.ID]blockstore.Stored {
	f.Helper()
	all := map[block.ID]blockstore.Stored{}
	containers, err := f.Catalog.Containers(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	for c := range containers {
		list, err := f.Catalog.RecordsIn(f.Context(), c, block.ID{}, 1000)
		if err != nil {
			f.Fatal(err)
		}
		for _, r := range list {
			all[r.ID] = r
		}
	}
	return all
}

// exec changes the catalog of the fixture, past all rules.
func (f *fixture) exec(query string, args ...any) {
	f.Helper()
	exec(f, f.Dir, query, args...)
}

// A segment that is gone costs what is in it and no more, and nothing once it is
// back.
func TestSegmentGone(t *testing.T) {
	f := newFixture(t)
	f.make("", "", map[int64]uint64{0: 1})
	f.Stop(t)
	path := filepath.Join(f.Dir, "segments", segment.FileName(1))
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	f.look()
	after := f.make("", "", map[int64]uint64{0: 2})
	report := f.scrub()
	if report.Damaged == 0 || report.Wrong == 0 {
		t.Errorf("%d damaged, %d other findings", report.Damaged, report.Wrong)
	}
	for _, finding := range report.Findings {
		for _, a := range finding.Affects {
			if a.Snapshot == after {
				t.Errorf("%v affects what is in another segment", finding)
			}
		}
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	f.look()
	if report := f.scrub(); len(report.Findings) > 0 {
		t.Errorf("after it was put back: %v", report.Findings[0])
	}
}

// The background goes on after a restart where it was, records its passes, and
// begins the next one when it is due.
func TestBackground(t *testing.T) {
	f := newFixture(t)
	f.make("", "", map[int64]uint64{0: 1, 1: 2, 2: 0})
	interrupted := errors.New("interrupted")
	medium := &fussyMedium{Store: f.medium}
	run := func(until func(scrub.Progress) bool) scrub.Progress {
		t.Helper()
		b := scrub.NewBackground(scrub.BackgroundOptions{
			Catalog: f.Catalog, Medium: medium, Key: f.key, Every: 30 * 24 * time.Hour, Now: f.Clock.Now, Logger: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx)
		}()
		for {
			p, err := f.Catalog.Scrubbed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if until(p) {
				cancel()
				<-done
				return p
			}
			time.Sleep(time.Millisecond)
		}
	}
	medium.fail = interrupted
	p := run(func(p scrub.Progress) bool { return !p.Began.IsZero() })
	if p.Container != 0 || !p.Last.Began.IsZero() {
		t.Errorf("while segments cannot be read: %+v", p)
	}
	medium.fail = nil
	began := f.Clock.Now()
	f.Clock.Advance(time.Hour)
	p = run(func(p scrub.Progress) bool { return !p.Last.Ended.IsZero() })
	if !p.Last.Began.Equal(began) || p.Last.Records == 0 || p.Last.Damaged != 0 || !p.Began.IsZero() {
		t.Errorf("the first pass: %+v, begun %v", p, began)
	}
	bad := f.record(idOf(2)).Location
	f.spoil(bad.Container, bad.Offset+5)
	f.Clock.Advance(30 * 24 * time.Hour)
	p = run(func(p scrub.Progress) bool { return p.Last.Began.After(began) })
	if p.Last.Damaged != 1 || !f.record(idOf(2)).Location.Damaged {
		t.Errorf("the second pass: %+v", p)
	}
}

// A fussyMedium fails if it is told to.
type fussyMedium struct {
	*segment.Store
	fail error
}

func (m *fussyMedium) Inspect(c blockstore.ContainerID, committed int64) error {
	if m.fail != nil {
		return m.fail
	}
	return m.Store.Inspect(c, committed)
}
