package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/domain"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/transfer"
	"shale/internal/vfs"
)

// A folder is a data folder that a command looks into, without the service.
type folder struct {
	path    string
	catalog *catalog.Catalog
	medium  *segment.Store // to read only
	id      [16]byte       // of the store
	dir     *datadir.Dir   // nil if a server has the folder
	ring    *keyring.Keyring
	keys    map[domain.Number]*domain.Key // nil for one that cannot be had
}

// openFolder opens a data folder, whose catalog is at the URL if there is one,
// and holds it if no server does. Nothing in it is changed by that.
func openFolder(ctx context.Context, path, catalogURL string) (_ *folder, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	unix.Umask(0o077) // for the files that SQLite makes
	f := &folder{path: path, keys: make(map[domain.Number]*domain.Key)}
	if f.catalog, err = openBeside(ctx, path, catalogURL); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	id, _, err := f.catalog.Setting(ctx, catalog.SettingStoreID, nil)
	if err != nil {
		return nil, err
	}
	if len(id) != 16 {
		return nil, fmt.Errorf("catalog %s: the setting %s has %d bytes, not 16", datadir.CatalogOf(path), catalog.SettingStoreID, len(id))
	}
	f.id = [16]byte(id)
	if f.medium, err = segment.OpenReadOnly(vfs.Dir(filepath.Join(path, "segments")), f.id); err != nil {
		return nil, err
	}
	f.dir, err = datadir.Open(path)
	if errors.As(err, new(*datadir.BusyError)) {
		return f, nil
	}
	return f, err
}

// close gives the folder back.
func (f *folder) close() error {
	errs := []error{f.catalog.Close()}
	if f.medium != nil {
		errs = append(errs, f.medium.Close())
	}
	if f.dir != nil {
		errs = append(errs, f.dir.Close())
	}
	return errors.Join(errs...)
}

// openStore opens the segments for writing. No server has the folder.
func (f *folder) openStore(ctx context.Context) (*blockstore.Store, error) {
	last, committed, err := f.catalog.LastContainer(ctx)
	if err != nil {
		return nil, err
	}
	medium, err := segment.Open(segment.Options{FS: vfs.Dir(f.dir.Segments()), ID: f.id, Last: last, Committed: committed})
	if err != nil {
		return nil, err
	}
	return blockstore.New(blockstore.Options{Medium: medium, Index: f.catalog, NodeLength: blockmap.Length}), nil
}

// openKeys makes the keys of encryption domains available that can be had here:
// of a folder that no server has, and not those of a KMS elsewhere. keyless says
// why there are none, and is not the end of anything. A root key that was named
// and is not there, or not the folder's, is an error.
func (f *folder) openKeys(rootKeyFile string) (keyless, err error) {
	root, err := namedRoot(rootKeyFile)
	if err != nil {
		return nil, err
	}
	if f.dir == nil {
		return errors.New("a server has the folder"), nil
	}
	if begun, err := kms.Begun(vfs.Dir(f.dir.KMS())); err != nil || !begun {
		return errors.Join(errors.New("there are no KMS keys in the folder"), err), nil
	}
	local, err := openKMS(f.dir, catalog.LocalDisk{}, root, time.Now, slog.New(slog.DiscardHandler))
	if root != nil && errors.Is(err, kms.ErrOtherRoot) {
		return nil, err
	}
	if err != nil {
		return err, nil
	}
	f.ring, keyless = keyring.Open(vfs.Dir(f.dir.Domains()), local, nil)
	return keyless, nil
}

// key gives the key of a domain, nil if it cannot be had.
func (f *folder) key(ctx context.Context, n domain.Number) *domain.Key {
	if f.ring == nil {
		return nil
	}
	key, asked := f.keys[n]
	if !asked {
		key, _ = f.ring.OwnersKey(ctx, n)
		f.keys[n] = key
	}
	return key
}

// A meter tells how far a command is, to a progress.
type meter struct {
	phase       atomic.Pointer[string]
	total, done atomic.Int64
}

// begin begins a phase of so many bytes; 0 if that cannot be known.
func (m *meter) begin(phase string, total int64) {
	m.done.Store(0)
	m.total.Store(total)
	m.phase.Store(&phase)
}

// Read implements reader.
func (m *meter) Read() transfer.Reading {
	r := transfer.Reading{Done: m.done.Load(), Total: m.total.Load()}
	if p := m.phase.Load(); p != nil {
		r.Phase = *p
	}
	return r
}
