package blockstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"shale/internal/block"
)

// A DamagedError reports a record whose stored bytes are not those written.
type DamagedError struct {
	ID       block.ID
	Location Location
	Why      string
	// Err is why the bytes could not be read; nil if they could, and are
	// wrong.
	Err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("record %v in container %d at offset %d is damaged: %s", e.ID, e.Location.Container, e.Location.Offset, e.Why)
}

// Unwrap returns why the bytes could not be read.
func (e *DamagedError) Unwrap() error { return e.Err }

// Read fills buf, of block.Size bytes, with the block. The bytes have been
// checked against what was written; if they differ the error is a
// *DamagedError, the damage is recorded, and the next write of the same block
// stores it anew. ErrNotFound if there is no such block.
func (s *Store) Read(ctx context.Context, id block.ID, buf []byte) error {
	s.stats.BlocksRead.Add(1)
	return s.at(ctx, id, func(loc Location) error {
		if loc.Codec == CodecRaw && loc.Length != block.Size || loc.Codec == CodecZero && loc.Length != 0 || loc.Codec > CodecZero {
			return s.damaged(ctx, id, loc, fmt.Sprintf("codec %d, stored length %d", loc.Codec, loc.Length), nil)
		}
		if err := s.read(ctx, id, loc, buf[:loc.Length]); err != nil {
			return err
		}
		if loc.Codec == CodecZero {
			clear(buf)
		}
		return nil
	})
}

// ReadNode reads a map node. The bytes are shared and must not be changed.
// Errors as for Read.
func (s *Store) ReadNode(ctx context.Context, id block.ID) (node []byte, err error) {
	if node, found := s.nodes.GetIfPresent(id); found {
		return node, nil
	}
	err = s.at(ctx, id, func(loc Location) error {
		if loc.Length > block.Size {
			return s.damaged(ctx, id, loc, "stored length is beyond any record's", nil)
		}
		node = make([]byte, loc.Length)
		return s.read(ctx, id, loc, node)
	})
	if err != nil {
		return nil, err
	}
	s.nodes.Set(id, node)
	return node, nil
}

// at calls read with the record's location. A location that was kept in memory
// may be out of date: if read fails there, the index has the last word.
func (s *Store) at(ctx context.Context, id block.ID, read func(Location) error) error {
	kept, found := s.located.GetIfPresent(id)
	if found {
		err := read(kept)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.located.Invalidate(id)
	}
	loc, found, err := s.locate(ctx, id)
	switch {
	case err != nil:
		return err
	case !found:
		return ErrNotFound
	}
	return read(loc)
}

// locate asks the index, and keeps what it says of a sound record.
func (s *Store) locate(ctx context.Context, id block.ID) (Location, bool, error) {
	loc, found, err := s.index.Locate(ctx, id)
	if err == nil && found && !loc.Damaged {
		s.located.Set(id, loc)
	}
	return loc, found, err
}

// read fills payload from the location and checks it. What looks damaged is
// read once more past every cache before it is believed to be.
func (s *Store) read(ctx context.Context, id block.ID, loc Location, payload []byte) error {
	err := s.medium.ReadAt(ctx, loc.Container, payload, loc.Offset)
	if err == nil && checksum(id, payload) == loc.CRC {
		return s.sound(ctx, id, loc)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = s.medium.ReadAtSource(ctx, loc.Container, payload, loc.Offset)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EIO), errors.Is(err, fs.ErrNotExist):
		return s.damaged(ctx, id, loc, err.Error(), err)
	case err != nil: // not the record's fault
		return fmt.Errorf("read record %v: %w", id, err)
	case checksum(id, payload) != loc.CRC:
		return s.damaged(ctx, id, loc, "checksum mismatch", nil)
	}
	return s.sound(ctx, id, loc)
}

// sound takes back that a record is damaged, if that was said of it: its
// segment was away, or the disk failed to read it, and does not any more.
func (s *Store) sound(ctx context.Context, id block.ID, loc Location) error {
	if !loc.Damaged {
		return nil
	}
	s.log.InfoContext(ctx, "record is sound again", "block_id", id.String(), "segment", int64(loc.Container), "offset", loc.Offset)
	if err := s.index.MarkSound(context.WithoutCancel(ctx), id, loc); err != nil {
		s.log.ErrorContext(ctx, "that a record is sound again could not be recorded", "block_id", id.String(), "err", err)
	}
	return nil
}

// damaged records damage and gives its error.
func (s *Store) damaged(ctx context.Context, id block.ID, loc Location, why string, cause error) error {
	s.stats.DamagedReads.Add(1)
	e := &DamagedError{id, loc, why, cause}
	if loc.Damaged {
		return e // known
	}
	s.log.ErrorContext(ctx, "damaged record", "block_id", id.String(), "segment", int64(loc.Container), "offset", loc.Offset, "err", why)
	defer s.located.Invalidate(id)
	if err := s.index.MarkDamaged(context.WithoutCancel(ctx), id, loc); err != nil {
		s.log.ErrorContext(ctx, "damage could not be recorded", "block_id", id.String(), "err", err)
	}
	return e
}
