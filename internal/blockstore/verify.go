package blockstore

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"shale/internal/block"
	"shale/internal/buffer"
	"shale/internal/domain"
)

// Verify proves what can be proved of a record's stored bytes: that they have
// its checksum; where the content can be had, that it is the one that the id
// names. For a block of an encryption domain that takes the domain's key; a nil
// key leaves it at the checksum. The error says what is wrong. What stored holds
// afterwards is of no use: it may have been opened in place.
func Verify(r *Stored, key *domain.Key, stored []byte) error {
	loc := &r.Location
	if checksum(r.ID, stored) != loc.CRC {
		return errChecksum
	}
	if r.Kind != KindBlock {
		if block.ID(sha256.Sum256(stored)) != r.ID {
			return errContent
		}
		return nil
	}
	digest := block.Digest(r.ID)
	if s := loc.Sealing; s != nil {
		if key == nil {
			return nil
		}
		var err error
		if digest, err = key.OpenDigest(r.ID, &s.Digest); err != nil {
			return fmt.Errorf("digest: %w", err)
		}
		if key.ID(digest) != r.ID {
			return errContent
		}
		if s.Cipher != CipherNone {
			if stored, err = key.OpenPayload(r.ID, byte(loc.Codec), &s.Nonce, stored); err != nil {
				return fmt.Errorf("payload: %w", err)
			}
		}
	}
	content := block.ZeroDigest
	switch loc.Codec {
	case CodecZero:
	case CodecRaw:
		content = sha256.Sum256(stored)
	case CodecS2:
		tmp := buffer.Get()
		defer buffer.Put(tmp)
		if !decompress(tmp[:block.Size], stored) {
			return errUnpack
		}
		content = sha256.Sum256(tmp[:block.Size])
	default:
		return fmt.Errorf("codec %d is unknown", loc.Codec)
	}
	if content != digest {
		return errContent
	}
	return nil
}

var (
	errChecksum = errors.New("checksum mismatch")
	errUnpack   = errors.New("payload does not unpack")
	errContent  = errors.New("its content is not the one that its id names")
)

// Describes reports whether the entry of a frame says the same of a record as
// the index does.
func (e *Entry) Describes(c ContainerID, r *Stored) bool {
	l := &r.Location
	same := e.Kind == r.Kind && e.ID == r.ID && c == l.Container && e.Offset == l.Offset && e.Length == l.Length &&
		e.CRC == l.CRC && e.Codec == l.Codec && (e.Sealing == nil) == (l.Sealing == nil)
	return same && (e.Sealing == nil || *e.Sealing == *l.Sealing)
}

// A ContainerError says what is wrong with a container as a whole.
type ContainerError struct {
	Container ContainerID
	// Missing says that it is not there, Size how long it is if it is, in bytes.
	Missing bool
	Size    int64
	Why     string
}

func (e *ContainerError) Error() string { return fmt.Sprintf("container %d: %s", e.Container, e.Why) }

// Domain is the number of the record's encryption domain.
func (l *Location) Domain() domain.Number { return l.Sealing.domain() }
