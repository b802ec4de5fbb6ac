package blockstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"shale/internal/block"
	"shale/internal/buffer"
	"shale/internal/domain"
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

// Read fills buf with the block and gives its digest. key is that of the
// block's domain, nil in the unencrypted one; buf has block.Size bytes, and
// with a key it should have room for domain.Overhead bytes more, or the block
// is copied. The bytes have been checked against what was written; if they
// differ the error is a *DamagedError, the damage is recorded, and the next
// write of the same block stores it anew. ErrNotFound if there is no such
// block.
func (s *Store) Read(ctx context.Context, key *domain.Key, id block.ID, buf []byte) (block.Digest, error) {
	s.stats.BlocksRead.Add(1)
	var digest block.Digest
	err := s.at(ctx, id, func(loc Location) (err error) {
		if err := s.check(ctx, key, id, loc); err != nil {
			return err
		}
		if loc.Codec == CodecS2 {
			digest, err = s.readPacked(ctx, key, id, loc, buf)
		} else {
			digest, err = s.readPayload(ctx, key, id, loc, buf)
		}
		if err != nil {
			return err
		}
		if loc.Codec == CodecZero {
			clear(buf)
		}
		return s.sound(ctx, id, loc)
	})
	return digest, err
}

// readPacked fills buf with a block that was compressed, and gives its digest.
func (s *Store) readPacked(ctx context.Context, key *domain.Key, id block.ID, loc Location, buf []byte) (block.Digest, error) {
	tmp := buffer.Get()
	defer buffer.Put(tmp)
	digest, err := s.readPayload(ctx, key, id, loc, tmp[:])
	if err != nil {
		return block.Digest{}, err
	}
	packed := tmp[:loc.Length]
	if key != nil {
		packed = packed[:loc.Length-domain.Overhead]
	}
	if !decompress(buf[:block.Size], packed) {
		// Its checksum is right, or it has opened: so it was written, or was made
		// to fit.
		return block.Digest{}, s.damaged(ctx, id, loc, "payload does not unpack", nil)
	}
	return digest, nil
}

// readPayload fills the beginning of buf with the payload of a block, opened if
// it was sealed, and gives the block's digest.
func (s *Store) readPayload(ctx context.Context, key *domain.Key, id block.ID, loc Location, buf []byte) (block.Digest, error) {
	if key != nil {
		return s.readSealed(ctx, key, id, loc, buf)
	}
	return block.Digest(id), s.read(ctx, id, loc, buf[:loc.Length])
}

// readSealed fills the beginning of buf with the payload of a block of the key's
// domain, and gives the block's digest. That a payload opens proves more than its checksum,
// which is looked at only to tell why one does not.
func (s *Store) readSealed(ctx context.Context, key *domain.Key, id block.ID, loc Location, buf []byte) (block.Digest, error) {
	digest, err := s.openDigest(ctx, key, id, loc)
	if err != nil {
		return block.Digest{}, err
	}
	if loc.Codec == CodecZero {
		if err := s.read(ctx, id, loc, nil); err != nil {
			return block.Digest{}, err
		}
		if digest != block.ZeroDigest {
			return block.Digest{}, s.damaged(ctx, id, loc, "it is said to be zeros, and its digest is another", nil)
		}
		return digest, nil
	}
	stored := slices.Grow(buf[:0], int(loc.Length))[:loc.Length]
	var payload []byte
	if err = s.medium.ReadAt(ctx, loc.Container, stored, loc.Offset); err == nil {
		payload, err = key.OpenPayload(id, byte(loc.Codec), &loc.Sealing.Nonce, stored)
	}
	if err != nil {
		if err := s.readSource(ctx, id, loc, stored); err != nil {
			return block.Digest{}, err
		}
		if payload, err = key.OpenPayload(id, byte(loc.Codec), &loc.Sealing.Nonce, stored); err != nil {
			// Its checksum is right: so it was written, or was made to fit.
			return block.Digest{}, s.damaged(ctx, id, loc, "payload: "+err.Error(), nil)
		}
	}
	if &payload[0] != &buf[0] {
		copy(buf, payload)
	}
	return digest, nil
}

// openDigest opens the digest beside a location.
func (s *Store) openDigest(ctx context.Context, key *domain.Key, id block.ID, loc Location) (block.Digest, error) {
	digest, err := key.OpenDigest(id, &loc.Sealing.Digest)
	if err != nil {
		return block.Digest{}, s.damaged(ctx, id, loc, "digest: "+err.Error(), nil)
	}
	return digest, nil
}

// check refuses a location that no block of the key's domain can have.
func (s *Store) check(ctx context.Context, key *domain.Key, id block.ID, loc Location) error {
	switch number := loc.Sealing.domain(); {
	case loc.Codec > CodecS2 || !validLength(loc.Codec, block.Size, loc.Length, loc.Sealing):
		return s.damaged(ctx, id, loc, fmt.Sprintf("codec %d, stored length %d", loc.Codec, loc.Length), nil)
	case number != key.Number():
		// Not the record's fault: what names it is of another domain.
		return &DamagedError{id, loc, fmt.Sprintf("it is of domain %v, not of %v", number, key.Number()), nil}
	case loc.Sealing != nil && loc.Sealing.Cipher != cipherFor(loc.Codec):
		return s.damaged(ctx, id, loc, fmt.Sprintf("codec %d, cipher %d", loc.Codec, loc.Sealing.Cipher), nil)
	}
	return nil
}

// domain is the number of the domain.
func (s *Sealing) domain() domain.Number {
	if s == nil {
		return domain.Unencrypted
	}
	return s.Domain
}

// Digest gives the digest of a stored block without reading it. Errors as for
// Read.
func (s *Store) Digest(ctx context.Context, key *domain.Key, id block.ID) (digest block.Digest, err error) {
	if key == nil {
		return block.Digest(id), nil
	}
	err = s.at(ctx, id, func(loc Location) (err error) {
		if err := s.check(ctx, key, id, loc); err != nil {
			return err
		}
		digest, err = s.openDigest(ctx, key, id, loc)
		return err
	})
	return digest, err
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
	for {
		loc, found, err := s.locate(ctx, id)
		switch {
		case err != nil:
			return err
		case !found:
			return ErrNotFound
		}
		if err = read(loc); !errors.Is(err, errMoved) {
			return err
		}
	}
}

// errMoved says that a record is not, or not any more, where it was read.
var errMoved = errors.New("record was moved")

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
		return nil
	}
	return s.readSource(ctx, id, loc, payload)
}

// readSource fills payload from the location, past every cache, and checks it.
func (s *Store) readSource(ctx context.Context, id block.ID, loc Location, payload []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := s.medium.ReadAtSource(ctx, loc.Container, payload, loc.Offset)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EIO), errors.Is(err, fs.ErrNotExist):
		return s.damaged(ctx, id, loc, err.Error(), err)
	case err != nil: // not the record's fault
		return fmt.Errorf("read record %v: %w", id, err)
	case checksum(id, payload) != loc.CRC:
		return s.damaged(ctx, id, loc, "checksum mismatch", nil)
	}
	return nil
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

// damaged records damage and gives its error; errMoved if the record is
// somewhere else by now, or gone.
func (s *Store) damaged(ctx context.Context, id block.ID, loc Location, why string, cause error) error {
	e := &DamagedError{id, loc, why, cause}
	if now, found, err := s.index.Locate(ctx, id); err == nil && (!found || now.Container != loc.Container || now.Offset != loc.Offset) {
		s.located.Invalidate(id)
		return errMoved // what is there now is nobody's
	}
	s.stats.DamagedReads.Add(1)
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
