package scrub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/buffer"
	"shale/internal/domain"
)

const (
	// maxRun bounds the bytes that are read at once.
	maxRun = len(buffer.Buffer{})
	// maxGap bounds what is read in between records, to no purpose.
	maxGap = 64 << 10
	// perRead is what a read counts for beyond its bytes, when it is waited for.
	perRead = 4096
	// rowPage is how many rows are compared with frames at a time, where a
	// container's frames do not account for all of its records.
	rowPage = 1 << 16
)

// A gap is a stretch of a container without a sound frame.
type gap struct{ from, to int64 }

// WalkContainer looks through a container, of which length bytes are committed.
func (w *Walk) WalkContainer(ctx context.Context, c blockstore.ContainerID, length int64) error {
	w.Report.Containers++
	if w.counts == nil {
		w.recount(ctx)
	}
	var whole *blockstore.ContainerError
	if err := w.Medium.Inspect(c, length); err != nil {
		if !errors.As(err, &whole) {
			return fmt.Errorf("segment %d: %w", c, err)
		}
		if gone, err := w.gone(ctx, c); gone || err != nil {
			return err
		}
		w.found(Finding{Invariant: Container, Container: c, Why: whole.Why})
	}
	seen, gaps, err := w.frames(ctx, c, length)
	if err != nil {
		return err
	}
	if len(gaps) == 0 && seen < w.counts[c] {
		w.recount(ctx) // some may have been removed since, and to look for them takes longer
	}
	if len(gaps) == 0 && seen >= w.counts[c] {
		return nil
	}
	return w.undescribed(ctx, c, length, gaps, whole != nil && whole.Missing)
}

// gone reports whether the catalog does not know the container any more.
func (w *Walk) gone(ctx context.Context, c blockstore.ContainerID) (bool, error) {
	now, err := w.Catalog.Containers(ctx)
	_, known := now[c]
	return err == nil && !known, err
}

// frames goes through the frames of a container and proves the records that
// they describe. It gives their number, and the stretches without a sound frame.
func (w *Walk) frames(ctx context.Context, c blockstore.ContainerID, length int64) (seen int64, gaps []gap, err error) {
	for f, err := range w.allFrames(ctx, c, length) {
		var corrupt *blockstore.CorruptError
		switch {
		case errors.As(err, &corrupt):
			if gone, err := w.gone(ctx, c); gone || err != nil {
				return seen, nil, err // it was reclaimed meanwhile
			}
			gaps = append(gaps, gap{corrupt.Offset, length})
			w.found(Finding{Invariant: Described, Container: c, Offset: corrupt.Offset, Why: "frame: " + corrupt.Why})
			continue
		case err != nil:
			return seen, gaps, fmt.Errorf("segment %d: %w", c, err)
		}
		if n := len(gaps); n > 0 && gaps[n-1].to > f.Place.Offset {
			gaps[n-1].to = f.Place.Offset
		}
		n, err := w.frame(ctx, c, &f)
		if seen += n; err != nil {
			return seen, gaps, err
		}
	}
	return seen, gaps, nil
}

// allFrames gives the frames of a container; one whose first place cannot be
// told has none.
func (w *Walk) allFrames(ctx context.Context, c blockstore.ContainerID, length int64) func(func(blockstore.Frame, error) bool) {
	return func(yield func(blockstore.Frame, error) bool) {
		first, err := w.Medium.First(ctx, c)
		var corrupt *blockstore.CorruptError
		switch {
		case errors.As(err, &corrupt), unreadable(err):
			yield(blockstore.Frame{}, &blockstore.CorruptError{Container: c, Why: "without a sound header no frame can be told"})
			return
		case err != nil:
			yield(blockstore.Frame{}, err)
			return
		}
		for f, err := range blockstore.Frames(ctx, frameReader{w.Medium, length}, first, length) {
			if !yield(f, err) {
				return
			}
		}
	}
}

// frameReader reads frames: what the disk cannot read is damaged, and what is
// behind it is looked at all the same.
type frameReader struct {
	Medium
	length int64
}

// ReadAt implements blockstore.Reader.
func (r frameReader) ReadAt(ctx context.Context, c blockstore.ContainerID, p []byte, off int64) error {
	err := r.Medium.ReadAt(ctx, c, p, off)
	if errors.Is(err, syscall.EIO) || errors.Is(err, fs.ErrNotExist) {
		return io.EOF
	}
	return err
}

// unreadable reports whether an error says that bytes are not there or cannot
// be read, as opposed to one that says nothing of them.
func unreadable(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) || errors.Is(err, fs.ErrNotExist)
}

// frame compares the entries of a frame with the records, and proves those that
// are live. It gives their number.
func (w *Walk) frame(ctx context.Context, c blockstore.ContainerID, f *blockstore.Frame) (int64, error) {
	var live []blockstore.Stored
	for i := range f.Entries {
		e := &f.Entries[i]
		r, found, err := w.Catalog.Record(ctx, e.ID)
		switch {
		case ctx.Err() != nil:
			return int64(len(live)), ctx.Err()
		case err != nil:
			w.found(Finding{
				Invariant: RecordRow, Kind: e.Kind, ID: e.ID, Container: c, Offset: e.Offset, Length: e.Length,
				Why: "the catalog cannot tell where it is: " + err.Error(),
			})
			continue
		case !found || r.Location.Container != c || r.Location.Offset != e.Offset:
			continue // it is dead space
		}
		if !e.Describes(c, &r) {
			w.found(Finding{
				Invariant: RecordRow, Container: c, Offset: e.Offset,
				Why: fmt.Sprintf("the row of record %v says something else than its frame", r.ID),
			})
		}
		live = append(live, r)
	}
	return int64(len(live)), w.prove(ctx, live)
}

// undescribed goes through the records of a container and proves those that no
// sound frame describes: a frame is damaged, or a row is.
func (w *Walk) undescribed(ctx context.Context, c blockstore.ContainerID, length int64, gaps []gap, missing bool) error {
	hidden := int64(0) // by damaged frames
	for after := (block.ID{}); ; {
		page, err := w.Catalog.RecordsIn(ctx, c, after, rowPage)
		if err != nil {
			w.untold(err)
			return ctx.Err()
		}
		if len(page) > 0 {
			after = page[len(page)-1].ID
		}
		more := len(page) == rowPage
		rest, err := w.rest(ctx, c, length, page)
		if err != nil {
			return err
		}
		for i := range rest {
			r := &rest[i]
			end := r.Location.Offset + int64(r.Location.Length)
			wrong := func(format string, args ...any) {
				w.found(Finding{Invariant: RecordRow, Container: c, Offset: r.Location.Offset, Why: fmt.Sprintf(format, args...)})
			}
			if slices.ContainsFunc(gaps, func(g gap) bool { return r.Location.Offset >= g.from && end <= g.to }) {
				hidden++
			} else {
				wrong("the row of record %v is described by no frame", r.ID)
			}
			if end > length {
				wrong("the row of record %v goes on behind the committed length", r.ID)
			}
		}
		if err := w.overlaps(ctx, c, length, rest); err != nil {
			return err
		}
		if err := w.prove(ctx, rest); err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if hidden > 0 && !missing { // of a missing container nothing can be read
		w.found(Finding{
			Invariant: Described, Container: c,
			Why: fmt.Sprintf("%d records can be read, but not be found again without the catalog: the frames that describe them are damaged", hidden),
		})
	}
	return nil
}

// rest gives those of the records that no frame of the container describes, by
// offset.
func (w *Walk) rest(ctx context.Context, c blockstore.ContainerID, length int64, records []blockstore.Stored) ([]blockstore.Stored, error) {
	left := make(map[block.ID]blockstore.Stored, len(records))
	for _, r := range records {
		left[r.ID] = r
	}
	err := w.entries(ctx, c, length, func(e *blockstore.Entry) {
		if r, ok := left[e.ID]; ok && r.Location.Offset == e.Offset {
			delete(left, e.ID) // frame has said what there is to say
		}
	})
	if err != nil {
		return nil, err
	}
	list := make([]blockstore.Stored, 0, len(left))
	for _, r := range left {
		if moved, err := w.moved(ctx, &r); err != nil {
			return nil, err
		} else if !moved {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b blockstore.Stored) int { return cmp.Compare(a.Location.Offset, b.Location.Offset) })
	return list, nil
}

// entries calls f with each entry of the container's sound frames.
func (w *Walk) entries(ctx context.Context, c blockstore.ContainerID, length int64, f func(*blockstore.Entry)) error {
	for frame, err := range w.allFrames(ctx, c, length) {
		if errors.As(err, new(*blockstore.CorruptError)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w", c, err)
		}
		for i := range frame.Entries {
			f(&frame.Entries[i])
		}
	}
	return nil
}

// maxOverlaps bounds the records that are compared with all others of their
// container: more than a few rows that went wrong are said to have.
const maxOverlaps = 1000

// overlaps finds records that share bytes with those given, which ascend by
// offset.
func (w *Walk) overlaps(ctx context.Context, c blockstore.ContainerID, length int64, records []blockstore.Stored) error {
	if len(records) == 0 || len(records) > maxOverlaps {
		return nil
	}
	overlap := func(a, b block.ID, offset int64) {
		w.found(Finding{Invariant: Overlap, Container: c, Offset: offset, Why: fmt.Sprintf("records %v and %v overlap", a, b)})
	}
	for i := 1; i < len(records); i++ {
		if a, b := &records[i-1], &records[i]; a.Location.Offset+int64(a.Location.Length) > b.Location.Offset {
			overlap(a.ID, b.ID, b.Location.Offset)
		}
	}
	return w.entries(ctx, c, length, func(e *blockstore.Entry) {
		for i := range records {
			l := &records[i].Location
			if e.Offset >= l.Offset+int64(l.Length) || l.Offset >= e.Offset+int64(e.Length) || e.ID == records[i].ID {
				continue
			}
			if other, found, err := w.Catalog.Record(ctx, e.ID); err == nil && found && other.Location.Container == c && other.Location.Offset == e.Offset {
				overlap(records[i].ID, e.ID, l.Offset)
			}
		}
	})
}

// moved reports whether a record is not where it was any more.
func (w *Walk) moved(ctx context.Context, r *blockstore.Stored) (bool, error) {
	now, found, err := w.Catalog.Record(ctx, r.ID)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		return false, nil // what it says of it is said elsewhere
	}
	return !found || now.Location.Container != r.Location.Container || now.Location.Offset != r.Location.Offset, nil
}

// prove reads the payloads of records of one container, which ascend by offset,
// and proves them. Those that lie close to one another are read at once.
func (w *Walk) prove(ctx context.Context, records []blockstore.Stored) error {
	if !w.Read {
		return w.known(ctx, records)
	}
	for len(records) > 0 {
		first := records[0].Location
		n, end := 0, first.Offset
		for n < len(records) {
			l := records[n].Location
			to := max(end, l.Offset+int64(l.Length))
			if n > 0 && (to-first.Offset > int64(maxRun) || l.Offset > end+maxGap) {
				break
			}
			n, end = n+1, to
		}
		if err := w.run(ctx, records[:n], first.Offset, end); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// known takes the records that are marked as damaged in, unread.
func (w *Walk) known(_ context.Context, records []blockstore.Stored) error {
	for i := range records {
		if r := &records[i]; r.Location.Damaged {
			w.damaged(r, "it is marked as damaged")
		}
	}
	return nil
}

// run proves records that lie in one stretch.
func (w *Walk) run(ctx context.Context, records []blockstore.Stored, from, to int64) error {
	length := int(to - from)
	if length < 0 || length > maxRun {
		for i := range records { // rows that make no sense
			w.damaged(&records[i], "no record is that long")
		}
		return nil
	}
	buf := buffer.Get()
	defer buffer.Put(buf)
	all := buf[:length]
	err := w.Medium.ReadAtSource(ctx, records[0].Location.Container, all, from)
	if w.Report.Bytes += int64(length); ctx.Err() != nil {
		return ctx.Err()
	}
	for i := range records {
		r := &records[i]
		l := &r.Location
		wrong := err
		if err == nil {
			wrong = w.content(ctx, r, all[l.Offset-from:][:l.Length])
		}
		if wrong == nil {
			w.sound(ctx, r)
			continue
		}
		if err := w.again(ctx, r); err != nil {
			return err
		}
	}
	return w.wait(ctx, int64(length)+perRead)
}

// content proves the stored bytes of a record, which may be of no use
// afterwards.
func (w *Walk) content(ctx context.Context, r *blockstore.Stored, stored []byte) error {
	var key *domain.Key
	if s := r.Location.Sealing; s != nil {
		key = w.Key(ctx, s.Domain)
	}
	if r.Kind == blockstore.KindNode {
		if err := blockstore.Verify(r, key, stored); err != nil {
			return err
		}
		return blockmap.Check(r.ID, stored)
	}
	return blockstore.Verify(r, key, stored)
}

// again reads a record alone, where it looked damaged, and believes it then.
func (w *Walk) again(ctx context.Context, r *blockstore.Stored) error {
	b := make([]byte, r.Location.Length)
	err := w.Medium.ReadAtSource(ctx, r.Location.Container, b, r.Location.Offset)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = w.content(ctx, r, b)
	case !unreadable(err):
		return fmt.Errorf("read record %v: %w", r.ID, err)
	}
	if err == nil {
		w.sound(ctx, r)
		return nil
	}
	if moved, lost := w.moved(ctx, r); moved || lost != nil {
		return lost
	}
	w.damaged(r, err.Error())
	w.mark(ctx, r)
	return nil
}

// mark marks a record as damaged, if that is asked for. Where it fails all reads
// of the record still do.
func (w *Walk) mark(ctx context.Context, r *blockstore.Stored) {
	if !w.Mark || r.Location.Damaged {
		return
	}
	if err := w.Catalog.MarkDamaged(ctx, r.ID, r.Location); err != nil {
		w.found(Finding{Invariant: Readable, Why: fmt.Sprintf("that record %v is damaged could not be recorded: %v", r.ID, err)})
	}
}

// damaged takes a damaged record in.
func (w *Walk) damaged(r *blockstore.Stored, why string) {
	w.found(Finding{
		Invariant: Sound, Kind: r.Kind, ID: r.ID, Container: r.Location.Container, Offset: r.Location.Offset, Length: r.Location.Length, Why: why,
	})
}

// sound takes in that a record is what it has to be.
func (w *Walk) sound(ctx context.Context, r *blockstore.Stored) {
	w.Report.Records++
	if s := r.Location.Sealing; s != nil && w.Key(ctx, s.Domain) == nil {
		w.Report.Keyless++
	}
	if r.Location.Damaged && w.Mark {
		// Its segment was put back. The next pass tries again if this fails.
		_ = w.Catalog.MarkSound(ctx, r.ID, r.Location)
	}
}
