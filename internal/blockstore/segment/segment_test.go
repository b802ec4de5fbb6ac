package segment_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/vfs"
	"shale/internal/vfs/crashfs"
	"shale/internal/vfs/errorfs"
)

// folder is a folder of segments and what a catalog would say of it.
type folder struct {
	testing.TB
	dir       string
	committed map[blockstore.ContainerID]int64
	max       int64
	id        [16]byte
}

func newFolder(t testing.TB) *folder {
	return &folder{TB: t, dir: t.TempDir(), committed: make(map[blockstore.ContainerID]int64)}
}

func (f *folder) open() (*segment.Store, error) {
	last := blockstore.ContainerID(0)
	for c := range f.committed {
		last = max(last, c)
	}
	return segment.Open(segment.Options{FS: vfs.Dir(f.dir), ID: f.id, Last: last, Committed: f.committed[last], MaxSize: f.max})
}

func (f *folder) mustOpen() *segment.Store {
	f.Helper()
	s, err := f.open()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	return s
}

// short is what Short gives for all that was committed.
func (f *folder) short(s *segment.Store) map[blockstore.ContainerID]int64 {
	f.Helper()
	short, err := s.Short(f.Context(), f.committed)
	if err != nil {
		f.Fatal(err)
	}
	return short
}

// page is a page of the byte.
func page(b byte) []byte { return bytes.Repeat([]byte{b}, 4096) }

// append appends a batch of two pages and, if told to, commits it.
func (f *folder) append(s *segment.Store, b byte, commit bool) blockstore.Place {
	f.Helper()
	p, err := s.Append(f.Context(), 2*4096, 0, func(blockstore.Place) [][]byte { return [][]byte{page(b), page(b)} })
	if err != nil {
		f.Fatalf("Append: %v", err)
	}
	if commit {
		f.committed[p.Container] = p.Offset + 2*4096
	}
	return p
}

// check reads the batch back.
func (f *folder) check(s *segment.Store, p blockstore.Place, b byte) {
	f.Helper()
	got := make([]byte, 2*4096)
	if err := s.ReadAt(f.Context(), p.Container, got, p.Offset); err != nil || !bytes.Equal(got, append(page(b), page(b)...)) {
		f.Errorf("batch %q at %+v does not read back: %v", b, p, err)
	}
}

func (f *folder) size(c blockstore.ContainerID) int64 {
	f.Helper()
	info, err := os.Stat(f.file(c))
	if err != nil {
		f.Fatal(err)
	}
	return info.Size()
}

func (f *folder) file(c blockstore.ContainerID) string {
	files, _ := filepath.Glob(filepath.Join(f.dir, "*.seg"))
	return files[c-1]
}

// What was not committed is cut, and what was is never touched.
func TestTornTail(t *testing.T) {
	f := newFolder(t)
	s := f.mustOpen()
	a := f.append(s, 'a', true)
	f.append(s, 'b', false) // the crash is here
	before := f.size(1)
	s = f.mustOpen()
	if got, want := f.size(1), f.committed[1]; got != want || got >= before {
		t.Errorf("after the cut the segment has %d bytes, want %d (it had %d)", got, want, before)
	}
	c := f.append(s, 'c', true)
	if c.Container != a.Container || c.Offset != a.Offset+2*4096 {
		t.Errorf("the next batch is at %+v, want right after the first, at %+v", c, a)
	}
	f.check(s, a, 'a')
	f.check(s, c, 'c')
}

// A segment whose first batch was never committed goes, with its name.
func TestUncommittedSegment(t *testing.T) {
	f := newFolder(t)
	f.append(f.mustOpen(), 'a', false)
	s := f.mustOpen()
	if names, _ := vfs.Dir(f.dir).List(); len(names) != 0 {
		t.Errorf("files left: %v", names)
	}
	f.check(s, f.append(s, 'b', true), 'b')
}

// A catalog that is older than the segments must not make them go.
func TestOlderCatalogIsRefused(t *testing.T) {
	f := newFolder(t)
	f.max = 3 * 4096 // one batch each
	s := f.mustOpen()
	for _, b := range []byte("abc") {
		f.append(s, b, true)
	}
	old := map[blockstore.ContainerID]int64{1: f.committed[1]}
	f.committed = old
	if _, err := f.open(); err == nil {
		t.Fatal("opened with a catalog that knows one segment of three")
	}
	if names, _ := vfs.Dir(f.dir).List(); len(names) != 3 {
		t.Errorf("%d segments left, want 3", len(names))
	}
}

// A catalog that was lost and made anew must not make the segments go either,
// nor be appended to by another's.
func TestAnotherCatalogIsRefused(t *testing.T) {
	for _, committed := range []bool{false, true} {
		f := newFolder(t)
		p := f.append(f.mustOpen(), 'a', committed)
		f.id[0]++
		if _, err := f.open(); err == nil {
			t.Errorf("committed %v: opened another store's segments", committed)
		}
		f.id[0]--
		f.committed[1] = p.Offset + 2*4096
		f.check(f.mustOpen(), p, 'a')
	}
}

// Not even if it knows of more than there is, which a store may have lost: one
// of its own is opened.
func TestAnotherCatalogThatKnowsOfMore(t *testing.T) {
	for name, c := range map[string]struct {
		knows blockstore.ContainerID
		more  int64
		spoil func(path string) error
	}{
		"more bytes":    {1, 4096, nil},
		"more segments": {3, 4096, nil},
		"more segments, and a header that cannot be read": {3, 4096, func(path string) error {
			return os.WriteFile(path, make([]byte, 3*4096), 0o600)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			f.max = 3 * 4096 // one batch each
			s := f.mustOpen()
			f.append(s, 'a', true)
			if c.spoil != nil {
				f.append(s, 'b', true)
				if err := c.spoil(f.file(2)); err != nil {
					t.Fatal(err)
				}
			}
			f.committed[c.knows] += c.more
			f.id[0]++
			_, err := f.open()
			if want := segment.FileName(1) + " belongs to another catalog"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			f.id[0]--
			f.mustOpen()
		})
	}
}

// Nor must what a crash cannot have left there be taken for a torn tail.
func TestTooLongATailIsRefused(t *testing.T) {
	for _, committed := range []int64{0, segment.HeaderSize} {
		f := newFolder(t)
		f.append(f.mustOpen(), 'a', false)
		if committed > 0 {
			f.committed[1] = committed
		}
		length := committed + segment.HeaderSize + blockstore.MaxUncommitted + 1
		if err := os.Truncate(f.file(1), length); err != nil {
			t.Fatal(err)
		}
		var stale *segment.StaleError
		if _, err := f.open(); !errors.As(err, &stale) {
			t.Errorf("committed %d: got %v, want a *StaleError", committed, err)
		}
		if got := f.size(1); got != length {
			t.Errorf("committed %d: the segment has %d bytes, want all %d still", committed, got, length)
		}
	}
}

// What is refused for the tail of the last known segment has not lost the one
// after it.
func TestRefusalChangesNothing(t *testing.T) {
	f := newFolder(t)
	f.max = 3 * 4096
	s := f.mustOpen()
	f.append(s, 'a', true)
	p := f.append(s, 'b', true)
	old := map[blockstore.ContainerID]int64{1: f.committed[1]}
	f.committed, old = old, f.committed
	length := f.size(1)
	if err := os.Truncate(f.file(1), length+blockstore.MaxUncommitted); err != nil {
		t.Fatal(err)
	}
	var stale *segment.StaleError
	if _, err := f.open(); !errors.As(err, &stale) {
		t.Errorf("got %v, want a *StaleError", err)
	}
	if err := os.Truncate(f.file(1), length); err != nil {
		t.Fatal(err)
	}
	f.committed = old
	f.check(f.mustOpen(), p, 'b')
}

// setVersion makes the segment one of the version.
func (f *folder) setVersion(c blockstore.ContainerID, version byte) {
	f.Helper()
	file, err := os.OpenFile(f.file(c), os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	header := make([]byte, 60)
	if _, err := file.ReadAt(header, 0); err != nil {
		f.Fatal(err)
	}
	header[8] = version
	binary.LittleEndian.PutUint32(header[56:], crc32.Checksum(header[:56], crc32.MakeTable(crc32.Castagnoli)))
	if _, err := file.WriteAt(header, 0); err != nil {
		f.Fatal(err)
	}
}

// What a version wrote that is not known is refused, and not taken for damage:
// nothing of it is wrong.
func TestAnotherVersionIsRefused(t *testing.T) {
	for _, version := range []byte{1, 4} {
		for _, c := range []blockstore.ContainerID{1, 2} {
			f := newFolder(t)
			f.max = 2 * 4096
			s := f.mustOpen()
			f.append(s, 'a', true)
			f.append(s, 'b', true)
			f.setVersion(c, version)
			var other *segment.VersionError
			if _, err := f.open(); !errors.As(err, &other) || other.Version != uint16(version) {
				t.Errorf("segment %d of version %d: got %v, want a *VersionError", c, version, err)
			}
		}
	}
}

// A segment of the version before is read, and not appended to: who knows only
// that version does not know what would be put there.
func TestVersionBefore(t *testing.T) {
	f := newFolder(t)
	a := f.append(f.mustOpen(), 'a', true)
	f.setVersion(1, 2)
	s := f.mustOpen()
	f.check(s, a, 'a')
	if first, err := s.First(t.Context(), 1); err != nil || first.Salt != a.Salt {
		t.Errorf("First: %+v, %v", first, err)
	}
	b := f.append(s, 'b', true)
	if b.Container != 2 {
		t.Errorf("appended to segment %d, want a new one", b.Container)
	}
	s = f.mustOpen()
	f.check(s, a, 'a')
	f.check(s, b, 'b')
}

func TestSegmentsAreClosedAtTheirSize(t *testing.T) {
	f := newFolder(t)
	f.max = 6 * 4096 // two batches
	s := f.mustOpen()
	var places []blockstore.Place
	for _, b := range []byte("abcde") {
		places = append(places, f.append(s, b, true))
	}
	s = f.mustOpen()
	places = append(places, f.append(s, 'f', true))
	containers := make([]blockstore.ContainerID, len(places))
	for i, p := range places {
		containers[i] = p.Container
		f.check(s, p, "abcdef"[i])
	}
	if want := []blockstore.ContainerID{1, 1, 2, 2, 3, 3}; !slices.Equal(containers, want) {
		t.Errorf("batches went to segments %v, want %v", containers, want)
	}
	if places[0].Salt == places[2].Salt {
		t.Error("two segments have one salt")
	}
}

// A segment with a damaged header, or shorter than committed, is not appended
// to, is not cut, and the rest of the store works.
func TestDamagedSegment(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"header": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[30] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
		"too short": func(path string) error { return os.Truncate(path, 2*4096) },
		"gone":      os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			p := f.append(f.mustOpen(), 'a', true)
			if err := damage(f.file(1)); err != nil {
				t.Fatal(err)
			}
			s := f.mustOpen()
			if short := f.short(s); (len(short) == 1) == (name == "header") {
				t.Errorf("Short: got %v", short)
			}
			b := f.append(s, 'b', true)
			if b.Container != 2 {
				t.Errorf("appended to segment %d, want a new one", b.Container)
			}
			f.check(s, b, 'b')
			err := s.ReadAt(t.Context(), p.Container, make([]byte, 2*4096), p.Offset)
			switch name {
			case "header":
				f.check(s, p, 'a')
			case "too short":
				if !errors.Is(err, io.EOF) {
					t.Errorf("ReadAt: got %v, want EOF", err)
				}
			case "gone":
				if !errors.Is(err, os.ErrNotExist) {
					t.Errorf("ReadAt: got %v, want that it does not exist", err)
				}
			}
		})
	}
}

// So is one whose header the disk cannot read.
func TestUnreadableHeader(t *testing.T) {
	f := newFolder(t)
	p := f.append(f.mustOpen(), 'a', true)
	disk := errorfs.Wrap(vfs.Dir(f.dir))
	disk.BadSector(segment.FileName(1), 0)
	s, err := segment.Open(segment.Options{FS: disk, ID: f.id, Last: 1, Committed: f.committed[1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if b := f.append(s, 'b', true); b.Container != 2 {
		t.Errorf("appended to segment %d, want a new one", b.Container)
	}
	f.check(s, p, 'a')
}

// Segments before the last one that are short or gone are found, too.
func TestShort(t *testing.T) {
	f := newFolder(t)
	f.max = 3 * 4096 // one batch each
	s := f.mustOpen()
	for _, b := range []byte("abcd") {
		f.append(s, b, true)
	}
	if err := errors.Join(os.Truncate(f.file(2), 2*4096), os.Remove(f.file(3))); err != nil {
		t.Fatal(err)
	}
	want := map[blockstore.ContainerID]int64{2: 2 * 4096, 3: 0}
	if got := f.short(f.mustOpen()); !maps.Equal(got, want) {
		t.Errorf("Short: got %v, want %v", got, want)
	}
}

// More segments than may be open at a time can be read, all of them.
func TestManySegments(t *testing.T) {
	f := newFolder(t)
	f.max = 3 * 4096
	s := f.mustOpen()
	var places []blockstore.Place
	for i := range segment.MaxHandles + 20 {
		places = append(places, f.append(s, byte(i), true))
	}
	for range 2 {
		for i, p := range places {
			f.check(s, p, byte(i))
		}
	}
}

func TestHeaderFlippedBit(t *testing.T) {
	h := segment.NewHeader(5, [16]byte{1, 2, 3}, [16]byte{4, 5})
	good := h.Encode()
	if got, err := segment.DecodeHeader(5, good); err != nil || got != h {
		t.Fatalf("DecodeHeader: %v, %v", got, err)
	}
	for bit := range len(good) * 8 {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		var corrupt *blockstore.CorruptError
		if _, err := segment.DecodeHeader(5, bad); !errors.As(err, &corrupt) || corrupt.Container != 5 {
			t.Errorf("bit %d flipped: got %v, want a *CorruptError for segment 5", bit, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(segment.NewHeader(5, [16]byte{9}, [16]byte{8}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := segment.DecodeHeader(5, b)
		if err == nil && !bytes.Equal(h.Encode(), b) {
			t.Error("decoded header encodes differently")
		}
	})
}

// A segment that is dropped without an error stays away, whatever became of an
// earlier try.
func TestDropAfterFailedSync(t *testing.T) {
	disk := crashfs.New()
	f := newFolder(t)
	f.max = 4096 // a segment for each batch
	s, err := segment.Open(segment.Options{FS: disk.Folder("segments"), ID: f.id, MaxSize: f.max})
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		f.append(s, 'a', true)
	}
	for c := range blockstore.ContainerID(8) {
		disk.Before(func(op crashfs.Op) error {
			if op.Kind == crashfs.SyncDir {
				return syscall.EIO
			}
			return nil
		})
		if err := s.Drop(t.Context(), c+1); !errors.Is(err, syscall.EIO) {
			t.Errorf("Drop with a failing sync: %v", err)
		}
		disk.Before(nil)
		if err := s.Drop(t.Context(), c+1); err != nil {
			t.Errorf("Drop again: %v", err)
		}
	}
	left, err := disk.Crash(crashfs.Survivors{Mode: crashfs.Nothing}).Folder("segments").List()
	if want := []string{segment.FileName(9)}; err != nil || !slices.Equal(left, want) {
		t.Errorf("after a power failure there are %v, want %v: %v", left, want, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A removing folder has something done before a file is removed.
type removing struct {
	vfs.FS
	before func()
}

func (r removing) Remove(name string) error {
	r.before()
	return r.FS.Remove(name)
}

// Who still reads a segment when it is dropped does not keep it open, and with it
// its space.
func TestDropBesideReader(t *testing.T) {
	f := newFolder(t)
	f.max = 4096 // a segment for each batch
	var s *segment.Store
	read := func() error { return s.ReadAt(t.Context(), 1, make([]byte, 1), 0) }
	s, err := segment.Open(segment.Options{ID: f.id, MaxSize: f.max, FS: removing{vfs.Dir(f.dir), func() {
		if err := read(); err != nil {
			t.Error(err)
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f.append(s, 'a', true)
	f.append(s, 'b', true)
	if err := s.Drop(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := read(); err == nil {
		t.Error("the segment is still open")
	}
}
