package main

import (
	"shale/internal/block"
	"shale/internal/vfs"
)

// hole stands for the payload of a block that is never read: where it is
// written, the file keeps a hole.
var hole = make([]byte, block.Size)

// sparse is a folder that stores no payloads of blocks, and syncs nothing: what
// is loaded is thrown away. All else is the segment store's own work, so that
// the shale to be measured finds segments of the right names and lengths.
type sparse struct{ vfs.FS }

// Create implements vfs.FS.
func (s sparse) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	return sparseFile{f}, err
}

// OpenWrite implements vfs.FS.
func (s sparse) OpenWrite(name string) (vfs.File, error) {
	f, err := s.FS.OpenWrite(name)
	return sparseFile{f}, err
}

// SyncDir implements vfs.FS.
func (sparse) SyncDir() error { return nil }

type sparseFile struct{ vfs.File }

// Sync implements vfs.File.
func (sparseFile) Sync() error { return nil }

// WriteAt implements vfs.File.
func (f sparseFile) WriteAt(pieces [][]byte, off int64) error {
	if len(pieces) == 0 || &pieces[0][0] != &hole[0] {
		return f.File.WriteAt(pieces, off)
	}
	for _, p := range pieces {
		off += int64(len(p))
	}
	return f.Truncate(off)
}
