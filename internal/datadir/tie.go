package datadir

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tieName is the file that says which catalog elsewhere is that of the folder.
const tieName = "catalog.id"

// A Tie is the id of the store whose catalog is not in its folder.
type Tie [16]byte

// ErrElsewhere says that the folder's catalog is in another place.
var ErrElsewhere = errors.New("its catalog is in PostgreSQL; say where with --catalog or SHALE_CATALOG")

// ErrNotHere says that a command has no use for a catalog in another place.
var ErrNotHere = errors.New("its catalog is in PostgreSQL, and this is for folders that have theirs in themselves; " +
	"to copy such a store, stop its server, and copy the database with PostgreSQL's own tools and the folder together; nothing was changed")

// CheckHere refuses a folder whose catalog is in another place.
func CheckHere(dir string) error {
	_, tied, err := TieOf(dir)
	if err == nil && tied {
		err = fmt.Errorf("%s: %w", dir, ErrNotHere)
	}
	return err
}

// TieOf reads the tie of the folder; found is false if it has its catalog in
// itself, or none yet.
func TieOf(dir string) (t Tie, found bool, err error) {
	path := filepath.Join(dir, tieName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err != nil {
		return t, false, err
	}
	text = bytes.TrimSpace(text)
	if len(text) != 2*len(t) {
		text = nil
	}
	if n, err := hex.Decode(t[:], text); err != nil || n != len(t) {
		return t, false, fmt.Errorf("%s is damaged: it should hold %d hex digits", path, 2*len(t))
	}
	return t, true, nil
}

// CheckElsewhere refuses a folder that has its catalog in itself, or segments
// of one that nobody knows.
func (d *Dir) CheckElsewhere() error {
	for _, name := range []string{d.Catalog(), d.Catalog() + "-wal"} {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			return fmt.Errorf("%s has its catalog in itself, in %s: start it without --catalog; nothing was changed", d.path, filepath.Base(d.Catalog()))
		}
	}
	_, tied, err := TieOf(d.path)
	if err != nil || tied {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(d.Segments(), "*.seg"))
	if err == nil && len(segments) > 0 {
		err = fmt.Errorf("%s has segments, and nothing says that they belong to a catalog in PostgreSQL: put back its %s; nothing was changed",
			d.path, tieName)
	}
	return err
}

// Tie ties the folder to the catalog elsewhere that has the id, durably. Once
// tied it goes with no other. One that has recorded segments belongs to another
// folder.
func (d *Dir) Tie(id Tie, recorded bool) error {
	have, tied, err := TieOf(d.path)
	switch {
	case err != nil:
		return err
	case tied && have != id:
		return fmt.Errorf("the catalog is not that of %s: give the right one with --catalog; nothing was changed", d.path)
	case tied:
		return nil
	case recorded:
		return fmt.Errorf("the catalog is that of another folder than %s: give the right one with --data-dir; nothing was changed", d.path)
	}
	if err := replace(filepath.Join(d.path, tieName), hex.EncodeToString(id[:])+"\n"); err != nil {
		return err
	}
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
