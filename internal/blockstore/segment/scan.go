package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"shale/internal/blockstore"
	"shale/internal/vfs"
)

// A Scan reads the segments of a folder without a catalog that says where they
// end. It implements blockstore.Medium but for Append, and changes nothing.
type Scan struct{ files handles }

var _ blockstore.Reader = (*Scan)(nil)

// NewScan gives a Scan of the folder.
func NewScan(folder vfs.FS) *Scan {
	s := &Scan{}
	s.files.init(folder)
	return s
}

// A Found is a segment that a Scan has found.
type Found struct {
	Container blockstore.ContainerID
	Size      int64 // of the file, bytes
	// First is where its batches begin, and Store whose it is, unless Damaged
	// says why its header cannot be believed.
	First   blockstore.Place
	Store   [16]byte
	Damaged error
}

// Segments gives the segments there are, by ascending number, and the names of
// files that are none. A *VersionError says that a segment has a format that
// this program does not know.
func (s *Scan) Segments() (found []Found, others []string, err error) {
	names, err := s.files.fs.List()
	if err != nil {
		return nil, nil, fmt.Errorf("list segments: %w", err)
	}
	for _, name := range names { // in the order of their numbers
		c, ok := ParseName(name)
		if !ok {
			others = append(others, name)
			continue
		}
		v, err := formatOf(s.files.fs, name)
		if err != nil {
			return nil, nil, fmt.Errorf("segment %s: %w", name, err)
		}
		if !known(v) {
			return nil, nil, &VersionError{name, v}
		}
		f := Found{Container: c, First: blockstore.Place{Container: c, Offset: headerSize}}
		err = s.files.use(c, func(file vfs.File) error {
			if f.Size, err = file.Size(); err != nil {
				return err
			}
			h, err := readHeader(c, file)
			var corrupt *blockstore.CorruptError
			if errors.As(err, &corrupt) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				f.Damaged = err
				return nil
			}
			f.First.Salt, f.Store = h.salt, h.store
			return err
		})
		if err != nil {
			return nil, nil, fmt.Errorf("segment %s: %w", name, err)
		}
		found = append(found, f)
	}
	return found, others, nil
}

// FindFirst finds the first batch of a segment whose header is damaged: its
// frame says which segment it is of, and has the salt. found is false if there
// is none.
func (s *Scan) FindFirst(ctx context.Context, f Found) (first blockstore.Place, found bool, err error) {
	page := make([]byte, headerSize)
	for off := int64(headerSize); off+headerSize <= f.Size; off += headerSize {
		if err := errors.Join(ctx.Err(), s.ReadAt(ctx, f.Container, page, off)); err != nil {
			return blockstore.Place{}, false, err
		}
		at := blockstore.Place{Container: f.Container, Offset: off, Salt: [16]byte(page[40:56])}
		if _, err := blockstore.FrameLength(at, page); err != nil ||
			binary.LittleEndian.Uint64(page[24:]) != uint64(f.Container) || binary.LittleEndian.Uint64(page[32:]) != uint64(off) {
			continue
		}
		for _, err := range blockstore.Frames(ctx, s, at, f.Size) {
			if err == nil {
				return at, true, nil
			}
			break // only the first: others may have another salt
		}
	}
	return blockstore.Place{}, false, nil
}

// ReadAt implements blockstore.Reader.
func (s *Scan) ReadAt(_ context.Context, c blockstore.ContainerID, p []byte, off int64) error {
	return readAt(&s.files, c, p, off)
}

// First implements blockstore.Reader.
func (s *Scan) First(_ context.Context, c blockstore.ContainerID) (blockstore.Place, error) {
	return firstOf(&s.files, c)
}

// Close closes the segments.
func (s *Scan) Close() error { return s.files.close() }
