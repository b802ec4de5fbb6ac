package blockstore

import (
	"context"
	"maps"
	"slices"
)

// findLost marks the records of containers that are gone, or end before what
// was committed to them: a hit on one would be acknowledged, and a record stored
// anew would give way to it. So whatever relies on what is stored, each commit
// and each renewal, waits for this, and reading does not: asking for the length
// of each container takes time in proportion to the store, and the more while
// their inodes are not in memory.
func (s *Store) findLost(ctx context.Context) error {
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
		s.log.ErrorContext(ctx, "segment is missing or cut: records of a segment are lost unless it is put back",
			"segment", int64(c), "size", short[c], "committed", length, "records", lost)
	}
	return nil
}

// waitForLost waits until findLost is done. The error is that of ctx, or a
// *StoppedError.
func (s *Store) waitForLost(ctx context.Context) error {
	select {
	case <-s.lostFound:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
