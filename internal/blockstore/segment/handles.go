package segment

import (
	"errors"
	"sync"

	"shale/internal/blockstore"
	"shale/internal/vfs"
)

// maxHandles bounds the segments kept open for reading.
const maxHandles = 256

// handles keeps segments open for reading.
type handles struct {
	fs vfs.FS

	mu   sync.Mutex
	open map[blockstore.ContainerID]*handle
	tick int64
}

type handle struct {
	file vfs.File
	refs int   // readers at work
	used int64 // the tick of the last use
	gone bool  // closed by its last reader
}

func (h *handles) init(fs vfs.FS) {
	h.fs = fs
	h.open = make(map[blockstore.ContainerID]*handle)
}

// use calls read with the open segment.
func (h *handles) use(c blockstore.ContainerID, read func(vfs.File) error) error {
	h.mu.Lock()
	e := h.open[c]
	if e == nil {
		f, err := h.fs.Open(FileName(c))
		if err != nil {
			h.mu.Unlock()
			return err
		}
		h.evict()
		e = &handle{file: f}
		h.open[c] = e
	}
	h.tick++
	e.used = h.tick
	e.refs++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		if e.refs--; e.refs == 0 && e.gone {
			_ = e.file.Close() // opened for reading only
		}
		h.mu.Unlock()
	}()
	return read(e.file)
}

// evict closes the least recently used segment if too many are open.
func (h *handles) evict() {
	if len(h.open) < maxHandles {
		return
	}
	oldest := blockstore.ContainerID(0)
	for c, e := range h.open {
		if e.refs == 0 && (oldest == 0 || e.used < h.open[oldest].used) {
			oldest = c
		}
	}
	if oldest != 0 {
		_ = h.open[oldest].file.Close() // opened for reading only
		delete(h.open, oldest)
	}
}

// forget closes a segment once nobody reads it any more.
func (h *handles) forget(c blockstore.ContainerID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.open[c]
	if e == nil {
		return nil
	}
	delete(h.open, c)
	if e.gone = true; e.refs > 0 {
		return nil
	}
	return e.file.Close()
}

func (h *handles) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, e := range h.open {
		errs = append(errs, e.file.Close())
	}
	clear(h.open)
	return errors.Join(errs...)
}

func readAt(h *handles, c blockstore.ContainerID, p []byte, off int64) error {
	return h.use(c, func(f vfs.File) error {
		_, err := f.ReadAt(p, off)
		return err
	})
}

// readAtSource is readAt past the page cache.
func readAtSource(h *handles, c blockstore.ContainerID, p []byte, off int64) error {
	return h.use(c, func(f vfs.File) error {
		_, err := f.ReadSource(p, off)
		return err
	})
}

// firstOf is the place of the segment's first batch.
func firstOf(h *handles, c blockstore.ContainerID) (blockstore.Place, error) {
	p := blockstore.Place{Container: c, Offset: headerSize}
	err := h.use(c, func(f vfs.File) error {
		head, err := readHeader(c, f)
		p.Salt = head.salt
		return err
	})
	return p, err
}
