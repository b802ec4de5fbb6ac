package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
)

// collector reclaims space, one cycle after another.
func (w *world) collector(ctx context.Context) {
	for {
		w.s.point(ctx, "next cycle")
		if w.stopping.Load() || ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		began := w.model.now()
		w.mu.Unlock()
		_, err := w.node.reclaimer.Cycle(ctx)
		w.s.point(ctx, "cycle ended, failed: %v", err != nil)
		w.mu.Lock()
		switch {
		case ctx.Err() != nil || w.dying.Load():
		case err == nil:
			w.totals.cycles.Add(1)
		case errors.Is(err, reclaim.ErrSuperseded), w.model.faults >= began, w.model.rotten:
		case w.rivals() && errors.Is(err, fs.ErrNotExist): // the other one was done with the segment
		case w.violated == nil:
			w.violated = fmt.Errorf("reclaiming failed: %w", err)
		}
		w.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

// rivals reports whether two collectors run at once, as in every third history.
func (w *world) rivals() bool { return w.seed%3 == 2 }

// reclaimAll reclaims all that there is: what one cycle condemns the next
// destroys, and the one after that has only to look.
func (w *world) reclaimAll(ctx context.Context) error {
	for range 4 {
		if _, err := w.node.reclaimer.Cycle(ctx); err != nil {
			return fmt.Errorf("reclaim at the end: %w", err)
		}
	}
	return nil
}

// reader notes the nodes that it reads.
type reader struct {
	blockmap.Reader
	ids map[block.ID]bool
}

func (r reader) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	r.ids[id] = true
	return r.Reader.ReadNode(ctx, id)
}

// empty looks at what is kept when nothing goes on any more: what is referred to,
// and nothing else. Then it deletes everything, after which nothing is.
func (w *world) empty() error {
	if w.model.rotten { // what is damaged may refer to anything, and stays
		return nil
	}
	ctx := context.Background()
	time.Sleep(2 * day) // locks have ended, the recycle bin is empty, deleted rows are gone
	if err := w.node.service.Settle(ctx); err != nil {
		return err
	}
	if err := w.reclaimAll(ctx); err != nil {
		return err
	}
	if err := w.live(ctx); err != nil {
		return err
	}
	for _, s := range w.model.snaps {
		if s.deleted.began != ever {
			continue
		}
		if err := w.node.service.Delete(ctx, caller, s.id); err != nil {
			return fmt.Errorf("delete %s at the end: %w", s.name, err)
		}
	}
	time.Sleep(2 * day)
	if err := w.node.service.Settle(ctx); err != nil {
		return err
	}
	if err := w.reclaimAll(ctx); err != nil {
		return err
	}
	manifests := map[block.ID]bool{} // what says that it is deleted stays
	if _, err := w.node.catalog.Held(ctx, func(id block.ID) { manifests[id] = true }); err != nil {
		return err
	}
	if left, err := w.node.catalog.Candidates(ctx, block.ID{}, 1<<20); err != nil || len(left) != len(manifests) {
		return fmt.Errorf("all is deleted, and %d records are left besides %d manifests: %w", len(left)-len(manifests), len(manifests), err)
	}
	return w.floor(len(manifests))
}

// live compares what is stored with what is referred to, and with the model.
func (w *world) live(ctx context.Context) error {
	manifests := map[block.ID]bool{} // nothing else is held by itself now
	roots, err := w.node.catalog.Held(ctx, func(id block.ID) { manifests[id] = true })
	if err != nil {
		return err
	}
	r := reader{w.node.store, map[block.ID]bool{}}
	blocks := map[block.ID]bool{}
	for _, root := range roots {
		for e, err := range blockmap.Walk(ctx, r, root, 0) {
			if err != nil {
				return err
			}
			blocks[e.ID] = true
		}
	}
	records, err := w.node.catalog.Candidates(ctx, block.ID{}, 1<<20)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if !blocks[rec.ID] && !r.ids[rec.ID] && !manifests[rec.ID] {
			return fmt.Errorf("record %v is kept for nothing", rec.ID)
		}
	}
	if want := len(blocks) + len(r.ids) + len(manifests); len(records) != want {
		return fmt.Errorf("there are %d records, want %d", len(records), want)
	}
	type held struct {
		arn string
		c   content
	}
	want := map[held]bool{}
	for _, s := range w.model.snaps {
		if s.deleted.began == ever && s.outcome == snapshot.Completed {
			for _, c := range s.fixed {
				want[held{s.arn, c}] = true
			}
		}
	}
	if len(blocks) != len(want) {
		return fmt.Errorf("%d blocks are referred to, want %d", len(blocks), len(want))
	}
	return nil
}

// floorBytes is what the segments may take when nothing is stored, and
// manifestBytes what each manifest that stays adds: itself, and the two pages
// that compaction does not count as waste.
const (
	floorBytes    = 64 << 10
	manifestBytes = 3 * 4096
)

// floor looks at what the segments take when nothing but manifests is stored.
func (w *world) floor(manifests int) error {
	folder := w.disk.Folder("segments")
	names, err := folder.List()
	if err != nil {
		return err
	}
	total := int64(0)
	for _, name := range names {
		f, err := folder.Open(name)
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		total += size
	}
	if total > floorBytes+int64(manifests)*manifestBytes {
		return fmt.Errorf("nothing is stored but %d manifests, and segments %v have %d bytes", manifests, slices.Sorted(slices.Values(names)), total)
	}
	return nil
}
