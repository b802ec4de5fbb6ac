// Package backup makes and refreshes a copy of a data folder while its server
// runs. The copy is a data folder: to restore is to start a server on it.
//
// The catalog is copied first, as it is at one moment, and then the segments
// that this copy names, up to the lengths that it has for them. That is enough:
// segments are only appended to, what is below a committed length was synced
// before the catalog named it and never changes, so nothing has to be closed or
// stopped. A segment can only disappear as a whole, and a hold on the folder
// keeps it from that. In the other order the catalog would name what the copied
// segments do not have yet.
//
// The new catalog takes the place of the old one last. Until then the folder may
// have segments, or more of them, that its catalog does not know; the file
// DIR/backup says that they are to be cut, which Adopt does at the first start.
// So a copy that was interrupted is the one of before.
package backup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/datadir"
)

const (
	markerName    = "backup"
	markerVersion = 1
	part          = ".part" // of a segment that is being copied
	// compared is how much of the end of a segment is compared with the copy
	// that is there, beside its length and its header. A store that went on
	// from an older state of itself may have another segment of that name.
	compared = 1 << 20
	piece    = 1 << 20
	page     = 4096 // of what the disk cannot read
)

// A marker is the file DIR/backup.
type marker struct {
	Version int    `json:"version"`
	StoreID string `json:"store_id"` // hex
}

// Options are what a backup needs.
type Options struct {
	Source   string           // the data folder
	Catalog  *catalog.Catalog // its catalog, open beside the server
	Dest     *datadir.Dir
	WithKeys bool // copy DIR/keys, too
	// Progress, if not nil, is told how many bytes of how many are dealt with.
	Progress func(done, total int64)
}

// A Report says what was done.
type Report struct {
	Segments     int   `json:"segments"`
	Copied       int   `json:"segments_copied"` // new, or longer than before
	CopiedBytes  int64 `json:"segment_bytes_copied"`
	TotalBytes   int64 `json:"segment_bytes"`
	CatalogBytes int64 `json:"catalog_bytes"`
	Keys         bool  `json:"with_keys"`
	// OldKeys says that the copy has keys that an earlier run copied, though
	// this one did not.
	OldKeys bool `json:"has_old_keys"`
	// Unreadable is what the disk could not read of segments. The copy has what an
	// earlier copy had there, or else zeros.
	Unreadable []Gap `json:"unreadable,omitempty"`
}

// A Gap is bytes of a segment that the disk cannot read.
type Gap struct {
	Segment blockstore.ContainerID `json:"segment"`
	Offset  int64                  `json:"offset"`
	Bytes   int64                  `json:"bytes"`
}

// A NotOursError says that a folder is something else than a backup of this
// store.
type NotOursError struct{ Path, Why string }

func (e *NotOursError) Error() string {
	return fmt.Sprintf("%s %s: give an empty folder, or one with a backup of this store; nothing was changed", e.Path, e.Why)
}

// Run makes the copy, or brings it up to date. It is durable on return. After an
// error the destination is the copy that it was before. What the disk cannot read
// of segments is no error: the rest is the more worth copying.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	id, found, err := o.Catalog.Setting(ctx, catalog.SettingStoreID, nil)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errors.New("the store has no id yet: start the server on it first")
	}
	if err := claim(o.Dest, hex.EncodeToString(id)); err != nil {
		return nil, err
	}
	release, err := datadir.Hold(o.Source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := o.Dest.DropNewCatalog(); err != nil {
		return nil, err
	}
	lengths, err := o.Catalog.CopyTo(ctx, o.Dest.NewCatalog(), nil)
	if err != nil {
		return nil, err
	}
	report = &Report{Segments: len(lengths), Keys: o.WithKeys}
	if info, err := os.Stat(o.Dest.NewCatalog()); err == nil {
		report.CatalogBytes = info.Size()
	}
	for _, length := range lengths {
		report.TotalBytes += length
	}
	done := int64(0)
	for _, c := range slices.Sorted(maps.Keys(lengths)) {
		copied, err := copySegment(ctx, o, c, lengths[c], report)
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", c, err)
		}
		if copied {
			report.Copied++
			report.CopiedBytes += lengths[c]
		}
		if done += lengths[c]; o.Progress != nil {
			o.Progress(done, report.TotalBytes)
		}
	}
	if o.WithKeys {
		if err := copyKeys(o.Source, o.Dest); err != nil {
			return nil, fmt.Errorf("copy keys: %w", err)
		}
	} else if report.OldKeys, err = hasFiles(o.Dest.Keys()); err != nil {
		return nil, err
	}
	if err := syncDir(o.Dest.Segments()); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Rename(o.Dest.NewCatalog(), o.Dest.Catalog()), syncDir(o.Dest.Path())); err != nil {
		return nil, err
	}
	return report, trim(o.Dest.Segments(), lengths)
}

// claim takes a folder for backups of the store: an empty one, or one that is.
func claim(dest *datadir.Dir, id string) error {
	m, found, err := readMarker(dest.Path())
	if err != nil {
		return err
	}
	if found {
		if m.StoreID != id {
			return &NotOursError{dest.Path(), "has a backup of another store"}
		}
		return nil
	}
	segments, err := os.ReadDir(dest.Segments())
	if err != nil {
		return err
	}
	if had, err := dest.HasCatalog(); err != nil || had || len(segments) > 0 {
		return cmp.Or(err, error(&NotOursError{dest.Path(), "has a store of its own"}))
	}
	b, err := json.Marshal(marker{markerVersion, id})
	if err != nil {
		return err
	}
	return write(filepath.Join(dest.Path(), markerName), bytes.NewReader(append(b, '\n')))
}

func readMarker(dir string) (m marker, found bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, false, nil
	}
	if err != nil {
		return marker{}, false, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return marker{}, false, fmt.Errorf("%s: %w", filepath.Join(dir, markerName), err)
	}
	if m.Version != markerVersion {
		return marker{}, false, fmt.Errorf("%s has format version %d, this program's is %d: use the shale that wrote it; nothing was changed",
			filepath.Join(dir, markerName), m.Version, markerVersion)
	}
	return m, true, nil
}

// copySegment copies a segment up to the length, unless the copy is there. It
// takes its place as a whole.
func copySegment(ctx context.Context, o Options, c blockstore.ContainerID, length int64, report *Report) (copied bool, err error) {
	name := segment.FileName(c)
	to := filepath.Join(o.Dest.Segments(), name)
	from, err := os.Open(filepath.Join(o.Source, "segments", name))
	if err != nil {
		return false, err
	}
	defer from.Close()
	if same, err := isCopy(from, to, length); err != nil || same {
		return false, err
	}
	src := source{ReaderAt: from, lost: func(off, n int64) { report.lost(c, off, n) }}
	if before, err := os.Open(to); err == nil {
		defer before.Close()
		src.before = before
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	f, err := os.OpenFile(to+part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	n := int64(0)
	buf := make([]byte, piece)
	for n < length && err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var k int
		if k, err = src.ReadAt(buf[:min(piece, length-n)], n); errors.Is(err, io.EOF) && int64(k) == length-n {
			err = nil
		}
		if err == nil {
			_, err = f.Write(buf[:k])
		}
		n += int64(k)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it ends at %d, before what was committed to it, %d: see the server's log", n, length)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, errors.Join(err, os.Remove(to+part))
	}
	return true, os.Rename(to+part, to)
}

// A source is a segment on a disk that cannot read all of it.
type source struct {
	io.ReaderAt
	before io.ReaderAt // an earlier copy; nil if there is none
	lost   func(off, n int64)
}

// ReadAt implements io.ReaderAt. Pages that the disk cannot read come from the
// earlier copy, as far as it has them, or are zeros: whoever reads them there finds
// that they are not what was written.
func (s source) ReadAt(p []byte, off int64) (n int, err error) {
	if n, err = s.ReaderAt.ReadAt(p, off); !errors.Is(err, syscall.EIO) {
		return n, err
	}
	for n = 0; n < len(p); {
		one := p[n:min(n+page, len(p))]
		k, err := s.ReaderAt.ReadAt(one, off+int64(n))
		if errors.Is(err, syscall.EIO) {
			clear(one)
			if s.before != nil {
				_, _ = s.before.ReadAt(one, off+int64(n)) // what it has
			}
			s.lost(off+int64(n), int64(len(one)))
			k, err = len(one), nil
		}
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// lost adds what could not be read of a segment.
func (r *Report) lost(c blockstore.ContainerID, off, n int64) {
	if len(r.Unreadable) > 0 {
		if last := &r.Unreadable[len(r.Unreadable)-1]; last.Segment == c && last.Offset+last.Bytes == off {
			last.Bytes += n
			return
		}
	}
	r.Unreadable = append(r.Unreadable, Gap{c, off, n})
}

// isCopy reports whether the file is a copy of the segment up to the length: by
// its length, its header, and its end.
func isCopy(from *os.File, path string, length int64) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != length {
		return false, err
	}
	for _, r := range [][2]int64{{0, min(length, 4096)}, {max(0, length-compared), min(length, compared)}} {
		a, b := make([]byte, r[1]), make([]byte, r[1])
		if _, err := from.ReadAt(a, r[0]); errors.Is(err, syscall.EIO) {
			return false, nil // nobody can tell
		} else if err != nil {
			return false, err
		}
		if _, err := f.ReadAt(b, r[0]); err != nil || !bytes.Equal(a, b) {
			return false, err
		}
	}
	return true, nil
}

// copyKeys replaces the keys in the copy, each file as a whole.
func copyKeys(source string, dest *datadir.Dir) error {
	root := filepath.Join(source, "keys")
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dest.Keys(), rel)
		if d.IsDir() {
			if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return nil
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) || filepath.Ext(path) == ".new" {
			return nil // it was being replaced
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return write(to, f)
	})
}

// hasFiles reports whether there is anything but folders below a folder.
func hasFiles(root string) (found bool, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found = true
		return fs.SkipAll
	})
	return found, err
}

// write replaces a file as a whole, durably.
func write(path string, r io.Reader) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return errors.Join(os.Rename(path+".new", path), syncDir(filepath.Dir(path)))
}

// trim removes what is beyond the lengths, durably: segments that are not named,
// tails, and what was being copied.
func trim(dir string, lengths map[blockstore.ContainerID]int64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if filepath.Ext(path) == part {
			err = os.Remove(path)
		} else if c, ok := segment.ParseName(e.Name()); ok {
			err = cut(path, lengths[c])
		}
		if err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// cut shortens a segment to the length; one of length 0 is removed.
func cut(path string, length int64) error {
	if length == 0 {
		return os.Remove(path)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() <= length {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(length), f.Sync(), f.Close())
}

// Is reports whether the folder is a backup on which no server has started.
func Is(dir *datadir.Dir) (bool, error) {
	_, found, err := readMarker(dir.Path())
	return found, err
}

// Check refuses a folder with a backup that was never finished.
func Check(dir *datadir.Dir) error {
	_, found, err := readMarker(dir.Path())
	if err != nil || !found {
		return err
	}
	if had, err := dir.HasCatalog(); err != nil || had {
		return err
	}
	return fmt.Errorf("%s has a backup that was interrupted before it was whole for the first time: "+
		"run shale backup again; nothing was changed", dir.Path())
}

// Adopt makes a backup a store of its own, before its segments are opened: what
// its catalog does not know is removed. On any other folder it does nothing.
func Adopt(ctx context.Context, dir *datadir.Dir, c *catalog.Catalog) error {
	_, found, err := readMarker(dir.Path())
	if err != nil || !found {
		return err
	}
	lengths, err := c.Containers(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(trim(dir.Segments(), lengths), dir.DropNewCatalog()); err != nil {
		return err
	}
	return errors.Join(os.Remove(filepath.Join(dir.Path(), markerName)), syncDir(dir.Path()))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
