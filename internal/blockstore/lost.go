package blockstore

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
)

// FindLost looks, once, for what containers have lost that are gone, or end
// before what was committed to them, and marks those records: a hit on one would
// be acknowledged, and a record stored anew would give way to it. So whatever
// relies on what is stored, each commit and each renewal, waits for this, and
// begins it if nobody has. Reading does not wait: asking for the length of each
// container takes time in proportion to the store, and the more while their
// inodes are not in memory. The error is that of ctx, or a *StoppedError.
func (s *Store) FindLost(ctx context.Context) error {
	s.findLost.Do(func() {
		s.done.Go(func() {
			defer close(s.lostFound)
			ctx := context.Background() // whoever comes later waits for it, too
			if err := MarkLost(ctx, s.medium, s.index, s.log); err != nil {
				_ = s.stop(ctx, fmt.Errorf("look for what segments have lost: %w", err))
			}
		})
	})
	select {
	case <-s.lostFound:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// MarkLost is what FindLost does, for who has no Store.
func MarkLost(ctx context.Context, m Medium, x Index, log *slog.Logger) error {
	committed, err := x.Containers(ctx)
	if err != nil {
		return err
	}
	short, err := m.Short(ctx, committed)
	if err != nil || len(short) == 0 {
		return err
	}
	if committed, err = x.Containers(ctx); err != nil { // one may have been dropped meanwhile
		return err
	}
	for _, c := range slices.Sorted(maps.Keys(short)) {
		length, there := committed[c]
		if !there {
			continue
		}
		lost, err := x.MarkLost(ctx, c, short[c])
		if err != nil {
			return err
		}
		log.ErrorContext(ctx, "records of a segment that is missing or cut are lost unless it is put back",
			"segment", int64(c), "size", short[c], "committed", length, "records", lost)
	}
	return nil
}
