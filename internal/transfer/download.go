package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"shale/internal/block"
)

// A DownloadRequest asks for a snapshot to become a file.
type DownloadRequest struct {
	Snapshot string
	Path     string
	// Replace admits an existing file at Path, which stays as it is until the
	// new one is whole.
	Replace bool
	Meter   *Meter // may be nil
}

// A DownloadResult says what a download did. Its JSON form is that of
// `shale download --json`.
type DownloadResult struct {
	SnapshotID string `json:"snapshot_id"`
	Path       string `json:"path"`
	VolumeSize int64  `json:"volume_size"` // GiB
	Bytes      int64  `json:"bytes"`       // length of the file
	// Exact says that Bytes is the length of the image that was uploaded, and
	// not that of the whole volume.
	Exact         bool    `json:"exact_length"`
	Received      int64   `json:"blocks_received"`
	BytesReceived int64   `json:"bytes_received"`
	Seconds       float64 `json:"seconds"`
}

// Download writes a snapshot into a sparse file. The file appears at
// DownloadRequest.Path once every block of it is verified and synced; on
// failure nothing is left. Errors: *fs.PathError, *StateError, *ServiceError,
// *UnreachableError, *DamagedBlockError.
func (c *Client) Download(ctx context.Context, r DownloadRequest) (DownloadResult, error) {
	began := time.Now()
	if err := checkTarget(r.Path, r.Replace); err != nil {
		return DownloadResult{}, err
	}
	s, err := c.Describe(ctx, r.Snapshot)
	if err != nil {
		return DownloadResult{}, err
	}
	if err := usable(s); err != nil {
		return DownloadResult{}, err
	}
	length, exact := s.ImageBytes()
	if !exact {
		length = s.VolumeSize << 30
	}
	t, err := newTarget(r.Path, length)
	if err != nil {
		return DownloadResult{}, err
	}
	defer t.discard() // of no effect once it is published
	n, err := c.receive(ctx, s, t, r.Meter)
	if err != nil {
		return DownloadResult{}, fmt.Errorf("download to %s: %w", r.Path, err)
	}
	r.Meter.begin(PhaseSync, 0)
	if err := t.publish(r.Replace); err != nil {
		return DownloadResult{}, err
	}
	return DownloadResult{
		SnapshotID:    s.ID,
		Path:          r.Path,
		VolumeSize:    s.VolumeSize,
		Bytes:         length,
		Exact:         exact,
		Received:      n,
		BytesReceived: n * block.Size,
		Seconds:       time.Since(began).Seconds(),
	}, nil
}

// receive writes the snapshot's blocks into t and returns how many came.
func (c *Client) receive(ctx context.Context, s Snapshot, t *target, m *Meter) (int64, error) {
	var total int64
	if s.FullBytes != nil {
		total = *s.FullBytes
	}
	m.begin(PhaseDownload, total)
	var n atomic.Int64
	r := blockRange{
		snapshot: s.ID,
		end:      block.Index((t.length + block.Size - 1) / block.Size),
		settled:  s.settled(),
	}
	err := c.readBlocks(ctx, r, func(b blockRead) error {
		n.Add(1)
		defer m.advance(block.Size)
		if b.digest == block.ZeroDigest {
			return nil
		}
		return t.writeBlock(b.index, b.data)
	})
	return n.Load(), err
}

// A target is the file that a download fills, under a temporary name in the
// folder of its final one.
type target struct {
	f      *os.File
	path   string // the final one
	length int64
}

// checkTarget refuses early what publish would refuse at the end.
func checkTarget(path string, replace bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is there and is not a regular file", path)
	case !replace:
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return nil
}

func newTarget(path string, length int64) (*target, error) {
	// Not os.CreateTemp, whose mode 0600 would stay with the image.
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.part", filepath.Base(path), time.Now().UnixNano()))
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	t := &target{f: f, path: path, length: length}
	if err := f.Truncate(length); err != nil {
		t.discard()
		return nil, fmt.Errorf("a file of %d bytes: %w", length, err)
	}
	return t, nil
}

// writeBlock writes block i, cut at the end of the file. Safe for concurrent
// use.
func (t *target) writeBlock(i block.Index, p []byte) error {
	at := int64(i) * block.Size
	_, err := t.f.WriteAt(p[:min(block.Size, t.length-at)], at)
	return err
}

// publish makes the file durable and gives it its final name. Without replace
// it does not take the name of a file that came to be meanwhile.
func (t *target) publish(replace bool) error {
	if err := t.f.Sync(); err != nil {
		return err
	}
	if err := t.f.Close(); err != nil {
		return err
	}
	if err := t.rename(replace); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func (t *target) rename(replace bool) error {
	if !replace {
		// A link, unlike a rename, never replaces.
		err := os.Link(t.f.Name(), t.path)
		if err == nil {
			return os.Remove(t.f.Name())
		}
		if errors.Is(err, fs.ErrExist) {
			return &fs.PathError{Op: "create", Path: t.path, Err: fs.ErrExist}
		}
		// A file system without links has no better way.
		if err := checkTarget(t.path, false); err != nil {
			return err
		}
	}
	return os.Rename(t.f.Name(), t.path)
}

func (t *target) discard() {
	t.f.Close()
	os.Remove(t.f.Name())
}
