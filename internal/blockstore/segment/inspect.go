package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"shale/internal/blockstore"
	"shale/internal/vfs"
)

// OpenReadOnly opens a folder of segments of the store with the id for those
// who only look: nothing is cut, removed or appended, so a server may be using
// it. Append must not be called.
func OpenReadOnly(folder vfs.FS, id [16]byte) (*Store, error) {
	if err := CheckFormat(folder); err != nil {
		return nil, err
	}
	s := &Store{fs: folder, id: id, log: slog.New(slog.DiscardHandler), maxSize: MaxSize}
	s.files.init(folder)
	return s, nil
}

// Inspect checks that the segment is there, at least as long as what was
// committed to it, and that its header is sound and this store's. The error is
// a *blockstore.ContainerError, or why nothing can be said.
func (s *Store) Inspect(c blockstore.ContainerID, committed int64) error {
	size, err := s.fs.Size(FileName(c))
	if errors.Is(err, fs.ErrNotExist) {
		return &blockstore.ContainerError{Container: c, Missing: true, Why: "there is no such file"}
	}
	if err != nil {
		return err
	}
	wrong := func(why string) error { return &blockstore.ContainerError{Container: c, Size: size, Why: why} }
	h, err := s.readHeader(c, FileName(c))
	var corrupt *blockstore.CorruptError
	switch {
	case err == nil && h.store != s.id:
		return wrong("it belongs to another store") // whatever its length
	case size < committed:
		return wrong(fmt.Sprintf("it has %d bytes, and %d were committed to it", size, committed))
	case errors.As(err, &corrupt):
		return wrong("its header: " + corrupt.Why)
	}
	return err
}

// Unknown names the segments among those of the folder that are not known, in the order of their numbers. Other files are left out.
func (s *Store) Unknown(known map[blockstore.ContainerID]int64) ([]string, error) {
	names, err := s.fs.List()
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		c, ok := ParseName(name)
		_, found := known[c]
		return !ok || found
	}), nil
}
