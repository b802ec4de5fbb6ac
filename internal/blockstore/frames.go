package blockstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"syscall"
)

// Frames gives the frames of a container in their order, from the place of its
// first batch to end, its committed length in bytes. Where there is no sound
// frame it gives a *CorruptError, once, and searches on page by page:
// container, offset and salt tell a frame from anything that a payload may
// hold, so what is behind the damage is not lost. Payloads are not read. Any
// other error is the last thing that it gives.
func Frames(ctx context.Context, m Reader, first Place, end int64) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		searching := false
		for at := first; at.Offset+pageSize <= end; {
			if err := ctx.Err(); err != nil {
				yield(Frame{}, err)
				return
			}
			f, err := readFrame(ctx, m, at, end)
			var corrupt *CorruptError
			switch {
			case err == nil:
				if !yield(f, nil) {
					return
				}
				at.Offset += f.Length
				searching = false
			case !errors.As(err, &corrupt):
				yield(Frame{}, err)
				return
			default:
				if !searching && !yield(Frame{}, err) {
					return
				}
				at.Offset += pageSize
				searching = true
			}
		}
	}
}

// readFrame reads the frame at the place, of a batch that ends at end at the
// latest.
func readFrame(ctx context.Context, m Reader, at Place, end int64) (Frame, error) {
	corrupt := func(why string) (Frame, error) { return Frame{}, &CorruptError{at.Container, at.Offset, why} }
	page := make([]byte, pageSize)
	if err := m.ReadAt(ctx, at.Container, page, at.Offset); err != nil {
		return Frame{}, lacking(err, at.Container, at.Offset)
	}
	length, err := FrameLength(at, page)
	if err != nil {
		return Frame{}, err
	}
	if at.Offset+length > end {
		return corrupt("a frame that goes on behind the end")
	}
	b := make([]byte, length)
	copy(b, page)
	if err := m.ReadAt(ctx, at.Container, b[pageSize:], at.Offset+pageSize); err != nil {
		return Frame{}, lacking(err, at.Container, at.Offset)
	}
	f, err := DecodeFrame(at, b)
	if err == nil && at.Offset+f.Length > end {
		return corrupt("a batch that goes on behind the end")
	}
	return f, err
}

// lacking makes a *CorruptError of an error that says no more than that there are
// no such bytes, or that the disk cannot read them: what lies behind them is of
// use all the same.
func lacking(err error, c ContainerID, off int64) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &CorruptError{c, off, "the container ends before it should"}
	case errors.Is(err, syscall.EIO):
		return &CorruptError{c, off, "the disk cannot read it"}
	default:
		return err
	}
}

// Verify reads the payload that an entry of a container describes and checks
// it: a *CorruptError if its bytes are not those written, or cannot be read. Of zeros there is
// none.
func (e *Entry) Verify(ctx context.Context, m Reader, c ContainerID) ([]byte, error) {
	payload := make([]byte, e.Length)
	if err := m.ReadAt(ctx, c, payload, e.Offset); err != nil {
		return nil, lacking(err, c, e.Offset)
	}
	if checksum(e.ID, payload) != e.CRC {
		return nil, &CorruptError{c, e.Offset, "payload checksum mismatch"}
	}
	return payload, nil
}

// Location is where the record that an entry of a container describes is.
func (e *Entry) Location(c ContainerID) Location {
	return Location{Container: c, Offset: e.Offset, Length: e.Length, CRC: e.CRC, Codec: e.Codec, Sealing: e.Sealing}
}
