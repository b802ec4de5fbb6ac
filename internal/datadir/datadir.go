// Package datadir is the folder in which one server keeps everything: which
// files are in it, that only one process uses it, and the two files that let
// AWS's clients find the server.
//
//	DIR/lock          held by the running server; holds its process id
//	DIR/catalog.db    the catalog (with -wal and -shm beside it)
//	DIR/catalog.id    instead of it, if the catalog is elsewhere: which it is
//	DIR/segments/     blocks and map nodes
//	DIR/keys/root     the root key, unless it is kept elsewhere
//	DIR/keys/kms/     KMS keys, wrapped by it
//	DIR/keys/domains/ the data keys of encryption domains, wrapped
//	DIR/acme/         TLS certificates that an authority gave, and their keys
//	DIR/credentials   AWS shared credentials format: a profile for each account
//	DIR/config        AWS config format: their region and endpoint_url
package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"shale/internal/vfs"
)

// A Dir is a data folder that this process holds.
type Dir struct {
	path string
	lock *os.File
}

// A BusyError says that another process uses the folder.
type BusyError struct {
	Path string
	PID  string // as found in the lock file; may be empty
}

func (e *BusyError) Error() string {
	who := "another process"
	if e.PID != "" {
		who = "process " + e.PID
	}
	return fmt.Sprintf("%s is in use by %s; stop it, or choose another folder", e.Path, who)
}

// Open makes the folder if it does not exist, checks that it can be written
// to, and takes it for this process until Close. A second process gets a
// *BusyError.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"segments", "keys/kms", "keys/domains"} {
		if err := makeDir(filepath.Join(path, folder)); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	d := &Dir{path: path, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(lock, 20)) // only to say who it is
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &BusyError{path, strings.TrimSpace(string(pid))}
		}
		return nil, fmt.Errorf("lock data folder %s: %w", path, err)
	}
	if err := d.writePID(); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder: %w", err), d.Close())
	}
	return d, nil
}

// makeDir makes a folder and those above it, all of them durable.
func makeDir(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
		}
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// CheckCatalog refuses a folder whose catalog is missing though there was one.
// To begin a new one would make SQLite throw away the log of the old, which
// after a crash holds the newest commits. folder gives the folder of a path.
func (d *Dir) CheckCatalog(folder func(path string) vfs.FS) error {
	if _, tied, err := TieOf(d.path); err != nil || tied {
		return errors.Join(err, fmt.Errorf("%s: %w; nothing was changed", d.path, ErrElsewhere))
	}
	root := folder(d.path)
	size, err := vfs.SizeOf(root, filepath.Base(d.Catalog()))
	if err != nil || size > 0 {
		return err
	}
	segments, err := folder(d.Segments()).List()
	if err != nil {
		return err
	}
	begun := slices.ContainsFunc(segments, func(name string) bool { return filepath.Ext(name) == ".seg" })
	log, err := vfs.SizeOf(root, filepath.Base(d.Catalog())+"-wal")
	if err != nil {
		return err
	}
	if begun || log > 0 {
		return fmt.Errorf("%s is missing or empty, and there was one: put the right catalog back, or make it anew with shale rebuild; nothing was changed", d.Catalog())
	}
	return nil
}

func (d *Dir) writePID() error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(d.lock, "%d\n", os.Getpid())
	return err
}

// Close gives the folder back.
func (d *Dir) Close() error { return d.lock.Close() }

// Path is the folder's absolute path.
func (d *Dir) Path() string { return d.path }

// Catalog is the path of the catalog's database.
func (d *Dir) Catalog() string { return CatalogOf(d.path) }

// CatalogOf is the path of the database in the folder, whoever holds it.
func CatalogOf(dir string) string { return filepath.Join(dir, "catalog.db") }

// Segments is the path of the folder of segments.
func (d *Dir) Segments() string { return filepath.Join(d.path, "segments") }

// Domains is the path of the folder of encryption domains.
func (d *Dir) Domains() string { return filepath.Join(d.path, "keys", "domains") }

// Keys is the path of the folder of everything that is a key.
func (d *Dir) Keys() string { return filepath.Join(d.path, "keys") }

// KMS is the path of the folder of KMS keys.
func (d *Dir) KMS() string { return filepath.Join(d.path, "keys", "kms") }

// replace replaces a file as a whole, unless it has the text already.
func replace(path, text string) error {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, []byte(text)) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
