package reclaim

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"shale/internal/blockstore"
	"shale/internal/pace"
)

// Compact copies what is in use out of containers that hold little of it, those
// first that hold the least. On a full disk it copies what there is room for.
func (y *cycle) Compact(ctx context.Context) error {
	y.full = false
	lengths, err := y.catalog.Containers(ctx)
	if err != nil {
		return err
	}
	// Records of batches on their way are only ever in the newest container, or
	// in one behind it.
	last := newest(lengths)
	if last == y.last && y.left[last].sparse(lengths[last]) {
		switch err := y.store.Rotate(ctx); {
		case errors.Is(err, blockstore.ErrFull):
			y.full = true
			delete(lengths, last)
		case err != nil:
			return err
		}
	} else {
		delete(lengths, last)
	}
	maps.DeleteFunc(lengths, func(id blockstore.ContainerID, length int64) bool {
		left := y.left[id]
		return left.records == 0 || !left.sparse(length)
	})
	for _, id := range slices.SortedFunc(maps.Keys(lengths), func(a, b blockstore.ContainerID) int {
		return cmp.Or(cmp.Compare(y.left[a].bytes, y.left[b].bytes), cmp.Compare(a, b))
	}) {
		switch err := y.relocate(ctx, id, lengths[id]); {
		case errors.Is(err, blockstore.ErrFull):
			y.full = true
			return nil // the others need even more
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, new(*unreadableError)):
			// Others are not to wait until somebody puts it back.
			y.log.WarnContext(ctx, "segment cannot be compacted", "segment", int64(id), "err", err)
		case err != nil:
			return err
		}
	}
	return nil
}

func newest(lengths map[blockstore.ContainerID]int64) (last blockstore.ContainerID) {
	for id := range lengths {
		last = max(last, id)
	}
	return last
}

// An unreadableError says that the frames of a container cannot be read.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string { return e.err.Error() }

func (e *unreadableError) Unwrap() error { return e.err }

// relocate copies the records of a container that are in use.
func (y *cycle) relocate(ctx context.Context, id blockstore.ContainerID, length int64) error {
	var list []blockstore.Stored
	size, more := int64(0), y.left[id].bytes
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		// Half a container's copy gives back nothing: all of it has to have room.
		err := y.store.Relocate(ctx, list, max(0, more-size))
		if errors.As(err, new(*blockstore.DamagedError)) {
			// It is marked, and its container stays.
			y.Damaged++
			err = nil
		}
		if err == nil {
			y.Relocated += int64(len(list))
			err = y.pause(ctx, size)
		}
		list, size, more = list[:0], 0, more-size
		return err
	}
	for f, err := range y.store.Frames(ctx, id, length) {
		if errors.As(err, new(*blockstore.CorruptError)) {
			continue // what it describes stays where it is
		}
		if err != nil {
			return &unreadableError{err}
		}
		if err := y.rest(ctx); err != nil {
			return err
		}
		for i := range f.Entries {
			e := &f.Entries[i]
			r, found, err := y.catalog.Record(ctx, e.ID)
			if err != nil {
				return err
			}
			if !found || r.Location.Damaged || !e.Describes(id, &r) {
				continue
			}
			// Of one kind, as batches are.
			takes := int64(e.Length) + frameOverhead
			if len(list) > 0 && (list[0].Kind != r.Kind || size+takes > maxRelocated) {
				if err := flush(); err != nil {
					return err
				}
			}
			list, size = append(list, r), size+takes
		}
	}
	return flush()
}

// pause waits as long as the rate asks for after so many bytes.
func (y *cycle) pause(ctx context.Context, size int64) error {
	if y.rate == 0 {
		return ctx.Err()
	}
	err := pace.NewRate(y.rate).Wait(ctx, size)
	y.rest = y.newRest() // this was one
	return err
}

// Drop removes the containers that have no record. It needs no cycle before it.
func (y *cycle) Drop(ctx context.Context) error {
	lengths, err := y.catalog.Containers(ctx)
	if err != nil {
		return err
	}
	// No record comes into a container once a batch in a later one is recorded,
	// so one that is found empty after that stays empty.
	delete(lengths, newest(lengths))
	records, err := y.catalog.CountRecords(ctx, func(ctx context.Context, _ int64) error { return y.rest(ctx) })
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(lengths)) {
		length := lengths[id]
		if records[id] > 0 {
			continue
		}
		done, err := y.catalog.DropContainer(ctx, id)
		if err != nil {
			return err
		}
		if done {
			y.Dropped++
			y.FreedBytes += length
			y.DeadBytes -= length
		}
	}
	return y.removeDropped(ctx)
}

// removeDropped removes the files of dropped containers, unless somebody copies
// the store, who may need them: then a later cycle does.
func (y *cycle) removeDropped(ctx context.Context) (err error) {
	if y.alone != nil {
		release, alone, err := y.alone()
		if err != nil || !alone {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	dropped, err := y.catalog.Dropped(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range dropped {
		if err := y.store.Drop(ctx, id); err != nil {
			errs = append(errs, err) // the others are not to wait for it
			continue
		}
		if err := y.catalog.ForgetContainer(ctx, id); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(errs...)
}
