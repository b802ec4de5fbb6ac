package segment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

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
func (s *Store) inspect(names []string, committed int64) (remains, error) {
	var r remains
	var err error
	if r.leftover, err = s.findLeftover(names); err != nil {
		return r, err
	}
	beyond, name := int64(0), r.leftover
	if r.leftover != "" {
		if beyond, err = s.fs.Size(r.leftover); err != nil {
			return r, err
		}
	}
	if s.last == 0 {
		return r, refuseBeyond(name, beyond)
	}
	size, err := vfs.SizeOf(s.fs, FileName(s.last))
	if err != nil {
		return r, err
	}
	if size > committed {
		name, beyond = FileName(s.last), beyond+size-committed
		r.tail = true
	}
	if err := refuseBeyond(name, beyond); err != nil {
		return r, err
	}
	if size < committed {
		return r, s.checkNewest(names)
	}
	return s.inspectLast(r, committed)
}

// checkNewest is for a last segment that is cut or away, without which there is a
// start: not so if it is because the segments are another store's. The newest
// whose header can be read tells.
func (s *Store) checkNewest(names []string) error {
	var there []blockstore.ContainerID
	for _, name := range names {
		if c, ok := ParseName(name); ok && c <= s.last {
			there = append(there, c)
		}
	}
	slices.Sort(there)
	for _, c := range slices.Backward(there) {
		// Of one that cannot be read the first look at all of them tells.
		if h, err := s.readHeader(c, FileName(c)); err == nil {
			return s.checkOwner(FileName(c), h)
		}
	}
	return nil
}

// refuseBeyond refuses more bytes beyond what the catalog knows than a crash can
// leave there.
func refuseBeyond(name string, bytes int64) error {
	if bytes > headerSize+blockstore.MaxUncommitted {
		return &StaleError{name, bytes}
	}
	return nil
}

// findLeftover finds the segment with a higher number than the catalog knows.
// There may be one, with the next number.
func (s *Store) findLeftover(names []string) (string, error) {
	var beyond []string
	for _, name := range names {
		if c, ok := ParseName(name); !ok {
			s.log.Warn("file among the segments is not one of them", "file", name)
		} else if c > s.last {
			beyond = append(beyond, name)
		}
	}
	switch {
	case len(beyond) == 0:
		return "", nil
	case len(beyond) > 1 || beyond[0] != FileName(s.last+1):
		return "", fmt.Errorf("%d segments are not in the catalog, the first is %s: the catalog is older than the segments, "+
			"or they are another store's; put the right catalog back; nothing was changed", len(beyond), beyond[0])
	}
	size, err := s.fs.Size(beyond[0])
	if err != nil || size <= headerSize { // not begun in earnest; the header need not have been synced
		return beyond[0], err
	}
	h, err := s.readHeader(s.last+1, beyond[0])
	if err != nil {
		return "", fmt.Errorf("segment %s is not in the catalog, and not of this store as far as can be seen; nothing was changed: %w", beyond[0], err)
	}
	return beyond[0], s.checkOwner(beyond[0], h)
}

// inspectLast finds out whether the last segment, which is not short, can be
// gone on with.
func (s *Store) inspectLast(r remains, length int64) (remains, error) {
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

// Short implements blockstore.Medium.
func (s *Store) Short(_ context.Context, committed map[blockstore.ContainerID]int64) (map[blockstore.ContainerID]int64, error) {
	ids := slices.Collect(maps.Keys(committed))
	names := make([]string, len(ids))
	for i, c := range ids {
		names[i] = FileName(c)
	}
	sizes, err := s.fs.Sizes(names)
	if err != nil {
		return nil, fmt.Errorf("lengths of the segments: %w", err)
	}
	short := make(map[blockstore.ContainerID]int64)
	for i, c := range ids {
		if sizes[i] < committed[c] {
			short[c] = max(sizes[i], 0)
		}
	}
	return short, nil
}

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
	if _, err := f.ReadAt(b, 0); errors.Is(err, syscall.EIO) {
		return header{}, &blockstore.CorruptError{Container: c, Why: "the disk cannot read its header"}
	} else if err != nil {
		return header{}, err
	}
	return decodeHeader(c, b)
}
