package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3/driver"

	"shale/internal/blockstore"
	"shale/internal/vfs"
)

// copyPages is how many pages are copied at a time.
const copyPages = 2048

// CopyTo makes a copy of the database as it is at one moment, durably, under a
// path where there is none, and gives the committed lengths of the containers
// that it has records in. Writers are not held up. progress, if not nil, is told how many
// bytes of how many are copied.
func (c *Catalog) CopyTo(
	ctx context.Context, path string, progress func(done, total int64),
) (lengths map[blockstore.ContainerID]int64, err error) {
	from, ok := c.db.(*sqlite)
	if !ok {
		return nil, fmt.Errorf("copy catalog: it is in %s, whose own tools make copies", c.db)
	}
	if err := create(from.disk.Folder(filepath.Dir(path)), filepath.Base(path)); err != nil {
		return nil, fmt.Errorf("copy catalog: %w", err)
	}
	conn, err := c.reader.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("copy catalog: %w", err)
	}
	defer conn.Close()
	err = conn.Raw(func(d any) error {
		lengths, err = copyFrom(ctx, d.(driver.Conn), from.vfs, path, progress)
		return err
	})
	if err == nil {
		err = syncFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("copy catalog: %w", err)
	}
	return lengths, nil
}

func copyFrom(
	ctx context.Context, d driver.Conn, system, path string, progress func(done, total int64),
) (_ map[blockstore.ContainerID]int64, err error) {
	source := d.Raw()
	if err := source.Exec(`BEGIN`); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Exec(`ROLLBACK`)) }() // nothing was changed
	// The first read fixes the moment; a copy that others write beside goes on.
	containers, _, err := source.Prepare(`SELECT id, length FROM containers WHERE dropped = 0`)
	if err != nil {
		return nil, err
	}
	lengths := make(map[blockstore.ContainerID]int64)
	for containers.Step() {
		lengths[blockstore.ContainerID(containers.ColumnInt64(0))] = containers.ColumnInt64(1)
	}
	if err := containers.Close(); err != nil {
		return nil, err
	}
	to := (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: url.Values{"vfs": {system}}.Encode()}).String()
	b, err := source.BackupInit("main", to)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for done := false; !done; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if done, err = b.Step(copyPages); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(int64(b.PageCount()-b.Remaining())*4096, int64(b.PageCount())*4096)
		}
	}
	return lengths, nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), vfs.Dir(filepath.Dir(path)).SyncDir())
}
