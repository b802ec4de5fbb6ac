package blockstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"

	"shale/internal/block"
	"shale/internal/buffer"
)

// A Move is a record that has been copied to another place.
type Move struct {
	Stored          // as it is now
	From   Location // what the index names until then
}

// Relocate copies records of one kind to the end of the store, as they are
// stored, and has the index name the copies, where it still names the places in
// the list. Their payloads are held in memory. It is durable on return. What
// cannot be read, or is not what was written, stays where it is and is marked as
// damaged: a *DamagedError. ErrFull unless there is room for so many bytes more;
// it may take what is kept free for map nodes, as it is there to make room. Other
// errors as for Write.
func (s *Store) Relocate(ctx context.Context, list []Stored, more int64) error {
	var errs []error
	j := &job{reserve: more, done: make(chan error, 1)}
	for i := range list {
		r := &list[i]
		var payload []byte
		// Not for what needs little of a buffer: there could be hundreds of them.
		if n := int(r.Location.Length); block.Size/2 <= n && n <= len(buffer.Buffer{}) {
			b := buffer.Get()
			defer buffer.Put(b)
			payload = b[:n]
		} else {
			payload = make([]byte, n)
		}
		if err := s.payload(ctx, r, payload); err != nil {
			if errors.Is(err, errMoved) {
				continue // or removed
			}
			if !errors.As(err, new(*DamagedError)) {
				return err
			}
			errs = append(errs, err)
			continue
		}
		moved := record{kind: r.Kind, id: r.ID, codec: r.Location.Codec, raw: r.raw(), sealing: r.Location.Sealing, from: &r.Location}
		if r.Location.Codec != CodecZero {
			moved.data = payload
		}
		j.records = append(j.records, moved)
	}
	if len(j.records) > 0 {
		if err := s.enqueue(ctx, j); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// payload reads a stored payload from the disk itself, and proves what can be
// proved of it without a key.
func (s *Store) payload(ctx context.Context, r *Stored, payload []byte) error {
	err := s.medium.ReadAtSource(ctx, r.Location.Container, payload, r.Location.Offset)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EIO), errors.Is(err, fs.ErrNotExist):
		return s.damaged(ctx, r.ID, r.Location, err.Error(), err)
	case err != nil:
		return err
	}
	if err := Verify(r, nil, payload); err != nil {
		return s.damaged(ctx, r.ID, r.Location, err.Error(), nil)
	}
	return nil
}

// raw is the length of the record's plain content, in bytes.
func (r *Stored) raw() uint32 {
	if r.Kind == KindBlock {
		return block.Size
	}
	return r.Location.Length
}

// Rotate ends the container that is appended to and begins another, so that the
// first can be compacted and dropped. It is durable on return.
func (s *Store) Rotate(ctx context.Context) error {
	return s.enqueue(ctx, &job{rotate: true, done: make(chan error, 1)})
}

// Drop removes a container that no record is in. It is durable on return; one
// that is gone already is no error.
func (s *Store) Drop(ctx context.Context, c ContainerID) error { return s.medium.Drop(ctx, c) }

// Frames gives the frames of a container up to its committed length, as the
// function of this name does.
func (s *Store) Frames(ctx context.Context, c ContainerID, length int64) func(func(Frame, error) bool) {
	return func(yield func(Frame, error) bool) {
		first, err := s.medium.First(ctx, c)
		if err != nil {
			yield(Frame{}, err)
			return
		}
		Frames(ctx, s.medium, first, length)(yield)
	}
}
