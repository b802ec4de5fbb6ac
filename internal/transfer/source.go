package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"shale/internal/block"
)

// A source is the image that is uploaded: a regular file or a block device.
// readBlock is safe for concurrent use; dataBlocks is not.
type source struct {
	f       *os.File
	path    string
	length  int64 // bytes
	regular bool
	modTime time.Time
}

// An ImageChangedError reports an image that was written to while it was
// read, so that what was sent is no state that it ever had.
type ImageChangedError struct {
	Path string
	What string // "its size went from … to …"
}

func (e *ImageChangedError) Error() string {
	return fmt.Sprintf("%s changed while it was read: %s", e.Path, e.What)
}

// openSource opens an image. It refuses what has no length or no positions to
// read at: pipes, terminals, folders.
func openSource(path string) (*source, error) {
	// A named pipe without a writer would block in Open.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	device := info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
	if !info.Mode().IsRegular() && !device {
		return nil, fmt.Errorf("%s is neither a regular file nor a block device", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &source{f: f, path: path, regular: info.Mode().IsRegular()}
	if err := s.measure(); err != nil {
		f.Close()
		return nil, err
	}
	if s.length > block.MaxVolumeGiB<<30 {
		f.Close()
		return nil, fmt.Errorf("%s has %d bytes, more than the largest volume of %d GiB", path, s.length, block.MaxVolumeGiB)
	}
	return s, nil
}

func (s *source) measure() error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	s.length, s.modTime = info.Size(), info.ModTime()
	if !s.regular {
		s.length, err = s.f.Seek(0, io.SeekEnd)
	}
	return err
}

// blocks is the number of blocks that the image reaches into.
func (s *source) blocks() int64 { return (s.length + block.Size - 1) / block.Size }

// volumeGiB is the size of the smallest volume that holds the image.
func (s *source) volumeGiB() int64 { return max(1, (s.length+1<<30-1)>>30) }

// checkUnchanged returns an *ImageChangedError if the image is not as it was
// when it was opened. A block device does not tell.
func (s *source) checkUnchanged() error {
	if !s.regular {
		return nil
	}
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &ImageChangedError{Path: s.path, What: "it is gone"}
	case err != nil:
		return err
	case info.Size() != s.length:
		return &ImageChangedError{Path: s.path, What: fmt.Sprintf("its size went from %d to %d bytes", s.length, info.Size())}
	case !info.ModTime().Equal(s.modTime):
		return &ImageChangedError{Path: s.path, What: fmt.Sprintf("it was written to at %s", info.ModTime().Format(time.RFC3339))}
	}
	return nil
}

// readBlock fills p, block.Size bytes, with block i; what lies past the end of
// the image is zeros.
func (s *source) readBlock(i block.Index, p []byte) error {
	at := int64(i) * block.Size
	want := min(block.Size, s.length-at)
	n, err := s.f.ReadAt(p[:want], at)
	if int64(n) == want {
		clear(p[want:])
		return nil
	}
	if errors.Is(err, io.EOF) {
		return &ImageChangedError{Path: s.path, What: fmt.Sprintf("it ends at byte %d", at+int64(n))}
	}
	return fmt.Errorf("read block %d: %w", i, err) // err names the path
}

// dataBlocks gives the blocks of the image that are not wholly in a hole, by
// ascending index. Where the file system does not tell holes, that is every
// block.
func (s *source) dataBlocks() iter.Seq2[block.Index, error] {
	return func(yield func(block.Index, error) bool) {
		next := int64(0) // block
		for at := int64(0); at < s.length; {
			start, end, err := nextData(s.f, at)
			switch {
			case errors.Is(err, io.EOF):
				return
			case errors.Is(err, errors.ErrUnsupported):
				start, end = at, s.length
			case err != nil:
				yield(0, fmt.Errorf("look for holes in %s: %w", s.path, err))
				return
			}
			end = min(end, s.length)
			last := (end - 1) / block.Size
			for next = max(next, start/block.Size); next <= last; next++ {
				if !yield(block.Index(next), nil) {
					return
				}
			}
			// Further extents of the last block need no look.
			at = max(end, next*block.Size)
		}
	}
}

// countData returns the number of blocks that dataBlocks will give.
func (s *source) countData() (n int64, err error) {
	for _, err := range s.dataBlocks() {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Close closes the image.
func (s *source) Close() error { return s.f.Close() }
