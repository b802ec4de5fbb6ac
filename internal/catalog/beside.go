package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"shale/internal/vfs"
)

// OpenBeside opens the database of a server that may be running in another
// process, to look at what that reads anew each time, or to change it:
// SQLite's locks keep the two apart. Unlike Open it neither makes a database
// nor changes its format: the server would be surprised.
func OpenBeside(ctx context.Context, path string, now func() time.Time) (*Catalog, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, fmt.Errorf("%s does not exist; start the server once, it makes what is needed", path)
	}
	if err != nil {
		return nil, err
	}
	register()
	c := &Catalog{now: now, free: vfs.Dir(filepath.Dir(path)).Free}
	if c.writer, err = open(system, path, writerConn, 1); err != nil {
		return nil, err
	}
	if err := c.checkVersion(ctx, path); err != nil {
		return nil, errors.Join(err, c.writer.Close())
	}
	if c.reader, err = open(system, path, readerConn, 1); err != nil {
		return nil, errors.Join(err, c.writer.Close())
	}
	if err := c.stmt.prepare(ctx, c.writer, c.reader); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// checkVersion refuses a database of another version than this program's.
func (c *Catalog) checkVersion(ctx context.Context, path string) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, c.writer, dir)
	if err != nil {
		return fmt.Errorf("open catalog %s: %w", path, err)
	}
	pending, err := p.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("open catalog %s: %w", path, err)
	}
	if pending {
		return fmt.Errorf("%s was last used by an older shale; start the server with this one first", path)
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("open catalog %s: %w", path, err)
	}
	sources := p.ListSources()
	if supports := sources[len(sources)-1].Version; version > supports {
		return &NewerError{path, version, supports}
	}
	return nil
}
