package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"shale/internal/blockstore"
	"shale/internal/vfs"
)

// A StaleError says that the segments hold more bytes beyond what the catalog
// knows than a crash can leave there: the catalog is an old one.
type StaleError struct {
	Name  string // of the first segment with such bytes
	Bytes int64  // of all of them
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("segment %s and what follows it have %d bytes that the catalog does not know: the catalog is older than the segments; "+
		"put the right one back; nothing was changed", e.Name, e.Bytes)
}

// remains is what a crash has left.
type remains struct {
	// leftover is a segment that was begun just before the crash and never
	// committed to; empty for none.
	leftover string
	// resume says that the last segment is sound, of this version, and has room;
	// it ends at
	// committed, and is longer if tail is true.
	resume    bool
	committed int64
	tail      bool
	salt      [16]byte
}

// inspect finds out what is to be done, and refuses what a crash of this store
// cannot have left. It changes nothing. names are those of the files.
func (s *Store) inspect(names []string, committed map[blockstore.ContainerID]int64, dropped []blockstore.ContainerID) (remains, error) {
	var r remains
	var err error
	if r.leftover, err = s.findLeftover(names, committed, dropped); err != nil {
		return r, err
	}
	s.short = make(map[blockstore.ContainerID]int64)
	for c, length := range committed {
		size, err := s.fs.Size(FileName(c))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("segment %d: %w", c, err)
		}
		if size < length {
			// The rest of the store stays readable.
			s.log.Error("segment is shorter than what was committed to it", "segment", int64(c), "size", size, "committed", length, "err", err)
			s.short[c] = size
		}
	}
	beyond, name := int64(0), r.leftover
	if r.leftover != "" {
		if beyond, err = s.fs.Size(r.leftover); err != nil {
			return r, err
		}
	}
	if length := committed[s.last]; s.last > 0 && s.short[s.last] == 0 {
		size, err := s.fs.Size(FileName(s.last))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		if size > length {
			name, beyond = FileName(s.last), beyond+size-length
			r.tail = true
		}
	}
	if beyond > headerSize+blockstore.MaxUncommitted {
		return r, &StaleError{name, beyond}
	}
	return s.inspectLast(r, committed[s.last])
}

// findLeftover finds the segment that the catalog does not know. There may be
// one, with the next number.
func (s *Store) findLeftover(names []string, committed map[blockstore.ContainerID]int64, dropped []blockstore.ContainerID) (string, error) {
	var unknown []string
	for _, name := range names {
		c, ok := ParseName(name)
		if !ok {
			s.log.Warn("file among the segments is not one of them", "file", name)
		} else if _, known := committed[c]; !known && !slices.Contains(dropped, c) {
			unknown = append(unknown, name)
		}
	}
	switch {
	case len(unknown) == 0:
		return "", nil
	case len(unknown) > 1 || unknown[0] != FileName(s.last+1):
		return "", fmt.Errorf("%d segments are not in the catalog, the first is %s: the catalog is older than the segments, "+
			"or they are another store's; put the right catalog back; nothing was changed", len(unknown), unknown[0])
	}
	size, err := s.fs.Size(unknown[0])
	if err != nil || size <= headerSize { // not begun in earnest; the header need not have been synced
		return unknown[0], err
	}
	h, err := s.readHeader(s.last+1, unknown[0])
	if err != nil {
		return "", fmt.Errorf("segment %s is not in the catalog, and not of this store as far as can be seen; nothing was changed: %w", unknown[0], err)
	}
	return unknown[0], s.checkOwner(unknown[0], h)
}

// inspectLast finds out whether the last segment can be gone on with.
func (s *Store) inspectLast(r remains, length int64) (remains, error) {
	if _, short := s.short[s.last]; s.last == 0 || short {
		return r, nil
	}
	name := FileName(s.last)
	h, err := s.readHeader(s.last, name)
	var corrupt *blockstore.CorruptError
	switch {
	case errors.As(err, &corrupt):
		s.log.Error("segment is not appended to any more", "segment", int64(s.last), "err", err)
		return r, nil
	case err != nil:
		return r, err
	}
	if err := s.checkOwner(name, h); err != nil {
		return r, err
	}
	r.resume, r.committed, r.salt = h.version == version && length+headerSize <= s.maxSize, length, h.salt
	return r, nil
}

func (s *Store) checkOwner(name string, h header) error {
	if h.store != s.id {
		return fmt.Errorf("segment %s belongs to another catalog than the one in this folder: put the right catalog back; nothing was changed", name)
	}
	return nil
}

// recover does what inspect found.
func (s *Store) recover(r remains) error {
	if r.leftover != "" {
		if err := errors.Join(s.fs.Remove(r.leftover), s.fs.SyncDir()); err != nil {
			return fmt.Errorf("remove uncommitted segment: %w", err)
		}
	}
	if !r.resume {
		return nil
	}
	f, err := s.fs.OpenWrite(FileName(s.last))
	if err != nil {
		return err
	}
	if r.tail {
		if err := errors.Join(f.Truncate(r.committed), f.Sync()); err != nil {
			return errors.Join(fmt.Errorf("cut torn tail of segment %d: %w", s.last, err), f.Close())
		}
	}
	s.active = &active{id: s.last, salt: r.salt, file: f, end: r.committed}
	return nil
}

// Short gives the length of each segment that is missing or ends before what
// was committed to it, as Open found them.
func (s *Store) Short() map[blockstore.ContainerID]int64 { return s.short }

func (s *Store) readHeader(c blockstore.ContainerID, name string) (header, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	return readHeader(c, f)
}

func readHeader(c blockstore.ContainerID, f vfs.File) (header, error) {
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return header{}, err
	}
	return decodeHeader(c, b)
}
