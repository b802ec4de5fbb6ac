// Package segment is the block store's medium on a local disk: append-only
// files in one folder, each up to a GiB, written by one batch after another.
//
// What the catalog has committed is the truth: a segment ends at its committed
// length. What lies beyond is the torn tail of a batch that nobody was told
// about, and is cut when the folder is opened. What is wrong below it is
// damage, found by the checksum of each read, and never cut.
package segment

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"shale/internal/blockstore"
	"shale/internal/vfs"
)

const (
	// MaxSize is where a segment is closed, in bytes.
	MaxSize = 1 << 30

	suffix       = ".seg"
	headerSize   = 4096
	headerMagic  = "shaleseg"
	version      = 3
	oldest       = 2  // version that is read, without the codec S2; it is not appended to
	headerLength = 60 // of the header that is not zero
)

// The header of a segment (docs/formats.md, Segment): one page of 4,096 bytes.
// Integers are little-endian.
//
//	offset  size  field
//	     0     8  magic "shaleseg"
//	     8     2  version, 3; 2 is read
//	    10     6  reserved, zero
//	    16     8  number of the segment
//	    24    16  salt, random
//	    40    16  id of the store, which its catalog has too
//	    56     4  CRC-32C of bytes 0 to 55
//	    60  4036  zero
type header struct {
	version   uint16
	container blockstore.ContainerID
	salt      [16]byte
	store     [16]byte
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint16(b[8:], h.version)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.container))
	copy(b[24:], h.salt[:])
	copy(b[40:], h.store[:])
	binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// decodeHeader decodes the header of the segment, and checks all that encode
// guarantees.
func decodeHeader(c blockstore.ContainerID, b []byte) (header, error) {
	corrupt := func(why string) (header, error) {
		return header{}, &blockstore.CorruptError{Container: c, Why: why}
	}
	switch {
	case len(b) != headerSize:
		return corrupt(fmt.Sprintf("segment header of %d bytes", len(b)))
	case string(b[:8]) != headerMagic:
		return corrupt("no segment header")
	case !known(binary.LittleEndian.Uint16(b[8:])):
		return corrupt(fmt.Sprintf("unknown segment version %d", binary.LittleEndian.Uint16(b[8:])))
	case binary.LittleEndian.Uint32(b[56:]) != crc32.Checksum(b[:56], crc32.MakeTable(crc32.Castagnoli)):
		return corrupt("segment header checksum mismatch")
	case binary.LittleEndian.Uint64(b[16:]) != uint64(c):
		return corrupt("header of another segment")
	}
	for _, z := range [][]byte{b[10:16], b[headerLength:]} {
		for _, x := range z {
			if x != 0 {
				return corrupt("reserved bytes are set")
			}
		}
	}
	return header{version: binary.LittleEndian.Uint16(b[8:]), container: c, salt: [16]byte(b[24:40]), store: [16]byte(b[40:56])}, nil
}

// known reports whether this program reads the version.
func known(v uint16) bool { return oldest <= v && v <= version }

// FileName is the name of the segment's file.
func FileName(c blockstore.ContainerID) string { return fmt.Sprintf("%016x%s", int64(c), suffix) }

// ParseName gives the segment whose file has the name, if there can be such a
// segment.
func ParseName(name string) (blockstore.ContainerID, bool) {
	n, err := strconv.ParseInt(strings.TrimSuffix(name, suffix), 16, 64)
	if err != nil || FileName(blockstore.ContainerID(n)) != name || n <= 0 {
		return 0, false
	}
	return blockstore.ContainerID(n), true
}

// Options are what a Store is opened with.
type Options struct {
	FS vfs.FS
	// ID is the store's, in every segment and in the catalog, so that no
	// other store's segments are taken for this one's.
	ID [16]byte
	// Last is the segment with the highest number that the catalog names, 0 if it
	// names none, and Committed how many bytes of it.
	Last      blockstore.ContainerID
	Committed int64
	Logger    *slog.Logger // nil discards
	// MaxSize closes a segment; 0 means the constant of that name. Tests make
	// it small.
	MaxSize int64
}

// A Store is a folder of segments; it implements blockstore.Medium.
type Store struct {
	fs      vfs.FS
	id      [16]byte
	log     *slog.Logger
	maxSize int64

	// active is the segment that is appended to, nil until the first append
	// after a start that found none to go on with. Only Append touches it.
	active *active
	last   blockstore.ContainerID // highest number in use; Append's

	files handles
}

type active struct {
	id   blockstore.ContainerID
	salt [16]byte
	file vfs.File
	end  int64 // where the next batch goes
}

var _ blockstore.Medium = (*Store)(nil)

// A VersionError says that a segment has a format that this program does not
// know.
type VersionError struct {
	Segment string // the name of its file
	Version uint16
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("segment %s has format version %d, this program's are %d to %d: use the shale that wrote it; nothing was changed",
		e.Segment, e.Version, oldest, version)
}

// CheckFormat refuses a folder whose first or last segment has a format that is not known:
// a *VersionError. It is called before the catalog is brought up to date, which
// cannot be undone, and changes nothing. Of a header that is damaged nothing is
// known.
func CheckFormat(folder vfs.FS) error {
	_, err := list(folder)
	return err
}

// list gives the names of a folder's files, unless CheckFormat refuses it.
func list(folder vfs.FS) ([]string, error) {
	names, err := folder.List()
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	// They are in the order of their numbers.
	first := slices.IndexFunc(names, isSegment)
	if first < 0 {
		return names, nil
	}
	last := len(names) - 1
	for !isSegment(names[last]) {
		last--
	}
	for _, name := range []string{names[first], names[last]} {
		found, err := formatOf(folder, name)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", name, err)
		}
		if !known(found) {
			return nil, &VersionError{name, found}
		}
	}
	return names, nil
}

func isSegment(name string) bool {
	_, ok := ParseName(name)
	return ok
}

// formatOf gives the version in a segment's header, this program's if it has
// none that is sound, or none that the disk can read.
func formatOf(folder vfs.FS, name string) (uint16, error) {
	f, err := folder.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size < headerSize {
		return version, err
	}
	b := make([]byte, headerLength)
	if _, err := f.ReadAt(b, 0); errors.Is(err, syscall.EIO) {
		return version, nil
	} else if err != nil {
		return 0, err
	}
	if string(b[:8]) != headerMagic || binary.LittleEndian.Uint32(b[56:]) != crc32.Checksum(b[:56], crc32.MakeTable(crc32.Castagnoli)) {
		return version, nil
	}
	return binary.LittleEndian.Uint16(b[8:]), nil
}

// Open opens the folder: it cuts the torn tail of the last segment, removes a
// segment that was begun and never committed to, and refuses a folder that
// holds more than a crash can leave there, which means that the catalog is
// older than the segments. What it refuses it has not changed. Of segments with
// a lower number than the last it looks at nothing but the name: see Short.
func Open(o Options) (*Store, error) {
	s := &Store{fs: o.FS, id: o.ID, log: o.Logger, maxSize: o.MaxSize, last: o.Last}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.maxSize == 0 {
		s.maxSize = MaxSize
	}
	names, err := list(o.FS)
	if err != nil {
		return nil, err
	}
	s.files.init(o.FS)
	left, err := s.inspect(names, o.Committed)
	if err != nil {
		return nil, err
	}
	if err := s.recover(left); err != nil {
		return nil, err
	}
	return s, nil
}

// create begins a new segment. Its name and header are durable on return.
func (s *Store) create() (*active, error) {
	a := &active{id: s.last + 1, end: headerSize}
	if _, err := rand.Read(a.salt[:]); err != nil {
		return nil, err
	}
	f, err := s.fs.Create(FileName(a.id))
	if noSpace(err) {
		return nil, blockstore.ErrFull
	}
	if err != nil {
		return nil, err
	}
	if err := f.WriteAt([][]byte{header{version, a.id, a.salt, s.id}.encode()}, 0); err != nil {
		undone := errors.Join(f.Close(), s.fs.Remove(FileName(a.id)))
		if noSpace(err) && undone == nil {
			return nil, blockstore.ErrFull
		}
		return nil, errors.Join(err, undone)
	}
	if err := errors.Join(f.Sync(), s.fs.SyncDir()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a.file = f
	s.last = a.id
	return a, nil
}

// Append implements blockstore.Medium.
func (s *Store) Append(_ context.Context, size, reserve int64, build func(blockstore.Place) [][]byte) (blockstore.Place, error) {
	free, err := s.fs.Free()
	if err != nil {
		return blockstore.Place{}, fmt.Errorf("free space: %w", err)
	}
	if free < uint64(size+headerSize+reserve) {
		return blockstore.Place{}, blockstore.ErrFull
	}
	if a := s.active; a != nil && a.end > headerSize && a.end+size > s.maxSize {
		s.active = nil
		if err := a.file.Close(); err != nil {
			return blockstore.Place{}, fmt.Errorf("close segment %d: %w", a.id, err)
		}
	}
	if s.active == nil {
		a, err := s.create()
		if err != nil {
			return blockstore.Place{}, fmt.Errorf("begin segment %d: %w", s.last+1, err)
		}
		s.active = a
	}
	a := s.active
	p := blockstore.Place{Container: a.id, Offset: a.end, Salt: a.salt}
	if err := a.file.WriteAt(build(p), a.end); noSpace(err) {
		// What was written lies beyond the committed length, where the next
		// batch will be written over it.
		return blockstore.Place{}, blockstore.ErrFull
	} else if err != nil {
		return blockstore.Place{}, fmt.Errorf("write segment %d at %d: %w", a.id, a.end, err)
	}
	if err := a.file.Sync(); err != nil {
		return blockstore.Place{}, fmt.Errorf("sync segment %d: %w", a.id, err)
	}
	a.end += size
	return p, nil
}

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// ReadAt implements blockstore.Medium.
func (s *Store) ReadAt(_ context.Context, c blockstore.ContainerID, p []byte, off int64) error {
	return readAt(&s.files, c, p, off)
}

// ReadAtSource implements blockstore.Medium.
func (s *Store) ReadAtSource(_ context.Context, c blockstore.ContainerID, p []byte, off int64) error {
	return readAtSource(&s.files, c, p, off)
}

// First implements blockstore.Medium.
func (s *Store) First(_ context.Context, c blockstore.ContainerID) (blockstore.Place, error) {
	return firstOf(&s.files, c)
}

// Rotate implements blockstore.Medium.
func (s *Store) Rotate(context.Context) (blockstore.Place, error) {
	if a := s.active; a != nil {
		s.active = nil
		if err := a.file.Close(); err != nil {
			return blockstore.Place{}, fmt.Errorf("close segment %d: %w", a.id, err)
		}
	}
	a, err := s.create()
	if err != nil {
		return blockstore.Place{}, fmt.Errorf("begin segment %d: %w", s.last+1, err)
	}
	s.active = a
	return blockstore.Place{Container: a.id, Offset: a.end, Salt: a.salt}, nil
}

// Drop implements blockstore.Medium.
func (s *Store) Drop(_ context.Context, c blockstore.ContainerID) error {
	err := s.fs.Remove(FileName(c))
	if errors.Is(err, fs.ErrNotExist) {
		// It may be that the sync after its removal failed, and that a sync now
		// would not make up for it: whoever forgets the segment then finds it again
		// after a power failure. So it is removed once more.
		err = s.removeAgain(FileName(c))
	}
	if err != nil {
		return fmt.Errorf("remove segment %d: %w", c, err)
	}
	// Only now, or a reader who is late could open it anew, and keep its space.
	if err := s.files.forget(c); err != nil {
		return fmt.Errorf("close segment %d: %w", c, err)
	}
	return s.fs.SyncDir()
}

// removeAgain removes a name that is not there.
func (s *Store) removeAgain(name string) error {
	f, err := s.fs.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.fs.Remove(name))
}

// Close implements blockstore.Medium.
func (s *Store) Close() error {
	err := s.files.close()
	if s.active != nil {
		err = errors.Join(err, s.active.file.Close())
	}
	return err
}
