package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// A Manifest is an encoded manifest: what brings a snapshot back when the
// catalog is lost.
type Manifest struct {
	Snapshot string // its ID
	Version  int64
	Record   block.ID // of Data
	Data     []byte
	// Dropped counts the tags of others and grants for which there was no room.
	Dropped int
}

// ManifestCatalog is the part of a Catalog that knows which snapshots need a
// manifest. Each transaction that changes a completed snapshot says so itself,
// and gives the manifest to come the next version of the snapshot.
type ManifestCatalog interface {
	// DescribeCompletion gives the map of a result with the time of completion
	// and the manifest of the snapshot as Finish or FinishCopy will leave it.
	// Of a snapshot that is not about to be completed there is none. A Lineage
	// of 0 leaves volume and lineage as they are.
	DescribeCompletion(ctx context.Context, key int64, r CopyResult) (Map, error)
	// DueManifests gives the manifests that are due of the snapshots, or with
	// nil of up to limit of all.
	DueManifests(ctx context.Context, ids []string, limit int) ([]Manifest, error)
	// RecordManifests records that manifests are durable, unless newer ones
	// have been.
	RecordManifests(ctx context.Context, list []Manifest) error
}

// manifestPage is how many manifests are written at a time.
const manifestPage = 256

// manifests writes what is due, for all who wait for it at once.
type manifests struct {
	lead chan struct{} // has the value of the one that writes

	mu   sync.Mutex
	next *manifestRound // what the next one writes; nil before anybody waits for it
}

// A manifestRound is what is written for all who came while others were.
type manifestRound struct {
	ids  []string
	done bool // guarded by lead, as is err
	err  error
}

// describe returns once the manifests of the snapshots, as they have been
// changed, are durable: before that a change is not acknowledged. That there is
// no room for them is no error; they stay due, and are written when there is.
func (s *Service) describe(ctx context.Context, ids ...string) error {
	ctx = context.WithoutCancel(ctx) // the change is made
	w := &s.manifests
	w.mu.Lock()
	if w.next == nil {
		w.next = &manifestRound{}
	}
	round := w.next
	round.ids = append(round.ids, ids...)
	w.mu.Unlock()
	w.lead <- struct{}{}
	defer func() { <-w.lead }()
	if !round.done {
		w.mu.Lock()
		w.next = nil
		w.mu.Unlock()
		for ids := round.ids; len(ids) > 0 && round.err == nil; {
			n := min(len(ids), manifestPage)
			_, round.err = s.writeManifests(ctx, ids[:n])
			ids = ids[n:]
		}
		round.done = true
	}
	if errors.Is(round.err, blockstore.ErrFull) {
		return nil
	}
	return round.err
}

// writeManifests writes the manifests that are due of the snapshots, or with
// nil some of all, and reports whether there were any.
func (s *Service) writeManifests(ctx context.Context, ids []string) (some bool, err error) {
	hold := s.store.Hold()
	defer hold.Release()
	due, err := s.catalog.DueManifests(ctx, ids, manifestPage)
	if err != nil || len(due) == 0 {
		return false, err
	}
	if err := s.storeManifests(ctx, due...); err != nil {
		if errors.Is(err, blockstore.ErrFull) {
			s.log.WarnContext(ctx, "no room to write manifests, which would be needed if the catalog were lost; they are written when there is",
				"due", len(due))
		}
		return false, err
	}
	if err := s.catalog.RecordManifests(ctx, due); err != nil {
		return false, err // or a full disk would be tried again and again
	}
	return true, nil
}

// storeManifests makes manifests durable.
func (s *Service) storeManifests(ctx context.Context, list ...Manifest) error {
	records := make([]blockstore.Manifest, len(list))
	for i := range list {
		m := &list[i]
		records[i] = blockstore.Manifest{ID: m.Record, Data: m.Data}
		if m.Dropped > 0 {
			s.log.WarnContext(ctx, "a manifest has no room for all tags of other accounts, and grants", "snapshot", m.Snapshot, "left_out", m.Dropped)
		}
	}
	if err := s.store.WriteManifests(ctx, records); err != nil {
		return fmt.Errorf("store manifests: %w", err)
	}
	return nil
}

// describeDue writes the manifests that nobody waits for, a little at a time:
// of snapshots that came to their end by themselves, of changes before a crash
// or when there was no room, and those that a store of an earlier version has
// not.
func (s *Service) describeDue(ctx context.Context) error {
	for some := true; some && ctx.Err() == nil; {
		select {
		case s.manifests.lead <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		some, err = s.writeManifests(ctx, nil)
		<-s.manifests.lead
		if errors.Is(err, blockstore.ErrFull) {
			return nil // of the segments or of the catalog: they stay due
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// describeCompletion makes the manifest of a completion durable, before the
// completion is. It gives the map to complete the snapshot with.
func (s *Service) describeCompletion(ctx context.Context, key int64, r CopyResult) (Map, error) {
	m, err := s.catalog.DescribeCompletion(ctx, key, r)
	if err != nil || m.Manifest.Version == 0 {
		return m, err
	}
	return m, s.storeManifests(ctx, m.Manifest)
}
