package blockstore

import (
	"context"
	"fmt"
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
			if err := s.markLost(ctx); err != nil {
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

func (s *Store) markLost(ctx context.Context) error {
	committed, err := s.index.Containers(ctx)
	if err != nil {
		return err
	}
	short, err := s.medium.Short(ctx, committed)
	if err != nil || len(short) == 0 {
		return err
	}
	if committed, err = s.index.Containers(ctx); err != nil { // one may have been dropped meanwhile
		return err
	}
	for _, c := range slices.Sorted(maps.Keys(short)) {
		length, there := committed[c]
		if !there {
			continue
		}
		lost, err := s.index.MarkLost(ctx, c, short[c])
		if err != nil {
			return err
		}
		s.log.ErrorContext(ctx, "records of a segment that is missing or cut are lost unless it is put back",
			"segment", int64(c), "size", short[c], "committed", length, "records", lost)
	}
	return nil
}
