package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ProfileKey gives the access key of a profile in the folder's credentials.
func ProfileKey(dir, name string) (accessKey, secret string, found bool, err error) {
	text, err := readText(FilesOf(dir).Credentials)
	if err != nil {
		return "", "", false, err
	}
	s := parseSections(text).find(profile(name).inCredentials())
	if s == nil {
		return "", "", false, nil
	}
	accessKey, secret = s.get("aws_access_key_id"), s.get("aws_secret_access_key")
	return accessKey, secret, accessKey != "" && secret != "", nil
}

// NewCatalog is the path under which a catalog is rebuilt, until it takes its
// place.
func (d *Dir) NewCatalog() string { return d.Catalog() + ".rebuild" }

// catalogFiles are the endings of the files that a database consists of.
var catalogFiles = []string{"", "-wal", "-journal", "-shm"}

// DropNewCatalog removes what an interrupted rebuild has left.
func (d *Dir) DropNewCatalog() error {
	for _, end := range catalogFiles {
		if err := os.Remove(d.NewCatalog() + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// HasCatalog reports whether the folder has a catalog, or the log of one.
func (d *Dir) HasCatalog() (bool, error) {
	for _, end := range catalogFiles[:3] {
		info, err := os.Stat(d.Catalog() + end)
		if err == nil && (end == "" || info.Size() > 0) {
			return true, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// AdoptCatalog puts the catalog that was rebuilt, and is closed and synced, in
// its place. An old one is moved aside, to the name that is given back; empty
// if there was none. A crash leaves the old one, or none and the rebuilt one
// under its own name.
func (d *Dir) AdoptCatalog() (aside string, err error) {
	// Closing the new one brings its log into it, unless the disk is full or fails.
	switch _, err := os.Stat(d.NewCatalog() + "-wal"); {
	case err == nil:
		return "", fmt.Errorf("%s is not whole without its log, which could not be brought into it: look at the disk and its free space, and do it once more", d.NewCatalog())
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	had, err := d.HasCatalog()
	if err != nil {
		return "", err
	}
	if had {
		for n := 1; ; n++ {
			aside = fmt.Sprintf("%s.old-%d", d.Catalog(), n)
			if taken, err := filepath.Glob(aside + "*"); err != nil || len(taken) == 0 {
				break
			}
		}
		for _, end := range catalogFiles {
			if err := os.Rename(d.Catalog()+end, aside+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		if err := syncDir(d.path); err != nil {
			return "", err
		}
	}
	if err := os.Rename(d.NewCatalog(), d.Catalog()); err != nil {
		return aside, err
	}
	return aside, syncDir(d.path)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
