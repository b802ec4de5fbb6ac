package catalog_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
)

// Records are counted some at a time, each of them once.
func TestCountRecords(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, _ := createAt(t, place)
		want := map[blockstore.ContainerID]int64{}
		for container := range blockstore.ContainerID(3) {
			b := blockstore.Commit{Container: container + 1, Committed: 1 << 20}
			for n := range byte(6 - container) {
				b.Stored = append(b.Stored, blockstore.Stored{
					Kind: blockstore.KindBlock, ID: block.ID{n << 5, byte(container)}, Location: blockstore.Location{Container: container + 1},
				})
			}
			b.Stored = append(b.Stored, blockstore.Stored{
				Kind: blockstore.KindBlock, ID: block.ID{255, 255, byte(container)}, Location: blockstore.Location{Container: container + 1},
			})
			if _, err := c.Commit(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			want[b.Container] = int64(len(b.Stored))
		}
		for _, atOnce := range []int{1, 2, 5, 17, 18, 19, 1000} {
			c.SetCounted(atOnce)
			pauses, all := 0, int64(0)
			got, err := c.CountRecords(t.Context(), func(_ context.Context, n int64) error {
				if n > int64(atOnce) {
					t.Errorf("%d at once, not %d", n, atOnce)
				}
				pauses, all = pauses+1, all+n
				return nil
			})
			if err != nil || !maps.Equal(got, want) || all != 18 || pauses != 18/atOnce+1 {
				t.Errorf("%d at once: got %v, %v, %d in %d pauses, want %v", atOnce, got, err, all, pauses, want)
			}
		}
		stop := errors.New("stop")
		if _, err := c.CountRecords(t.Context(), func(context.Context, int64) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("got %v, want the pause's error", err)
		}
	})
}

// A disk that has put pages into each other's place keeps nobody from coming to an
// end who reads rows some at a time: their checksums are right, and their rows
// out of order.
func TestRowsOutOfOrder(t *testing.T) {
	c, path, snap := create(t)
	const blocks, atOnce = 300, 50
	commit(t, c, snap, 0, blocks)
	if err := c.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE records SET damaged = 1`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page, leaf = 4096, 0x0a // of a table without row ids, or of an index
	var leaves []int
	for at := page; at < len(good); at += page {
		if good[at] == leaf {
			leaves = append(leaves, at)
		}
	}
	leaves = leaves[len(leaves)-20:] // the records' are there, which came last
	// inParts reads until there are fewer rows than asked for, at most four
	// times as many as there are.
	inParts := func(atOnce int, next func() (int, error)) error {
		for range 4 * blocks / atOnce {
			if n, err := next(); err != nil || n < atOnce {
				return err
			}
		}
		return errEndless
	}
	stored := func(list func(after block.ID) ([]blockstore.Stored, error)) error {
		var after block.ID
		return inParts(atOnce, func() (int, error) {
			part, err := list(after)
			if len(part) > 0 {
				after = part[len(part)-1].ID
			}
			return len(part), err
		})
	}
	const pages = 140 // rows, more than there are in a page
	indexes := func(list func(from block.Index) (n int, last block.Index, err error)) error {
		from := block.Index(0)
		return inParts(pages, func() (int, error) {
			n, last, err := list(from)
			from = last + 1
			return n, err
		})
	}
	readers := map[string]func(*catalog.Catalog) error{
		"Pending": func(c *catalog.Catalog) error {
			return indexes(func(from block.Index) (n int, last block.Index, err error) {
				list, err := c.Pending(t.Context(), &snap, from, pages)
				if len(list) > 0 {
					last = list[len(list)-1].Index
				}
				return len(list), last, err
			})
		},
		"Written": func(c *catalog.Catalog) error {
			return indexes(func(from block.Index) (n int, last block.Index, err error) {
				list, err := c.Written(t.Context(), snap.Key, from, pages)
				if len(list) > 0 {
					last = list[len(list)-1].Index
				}
				return len(list), last, err
			})
		},
		"CountRecords": func(c *catalog.Catalog) error {
			pauses := 0
			_, err := c.CountRecords(t.Context(), func(context.Context, int64) error {
				if pauses++; pauses > 4*blocks/atOnce {
					return errEndless
				}
				return nil
			})
			return err
		},
		"Candidates": func(c *catalog.Catalog) error {
			var after block.ID
			return inParts(atOnce, func() (int, error) {
				list, err := c.Candidates(t.Context(), after, atOnce)
				if len(list) > 0 {
					after = list[len(list)-1].ID
				}
				return len(list), err
			})
		},
		"RecordsIn": func(c *catalog.Catalog) error {
			return stored(func(after block.ID) ([]blockstore.Stored, error) { return c.RecordsIn(t.Context(), 1, after, atOnce) })
		},
		"DamagedRecords": func(c *catalog.Catalog) error {
			return stored(func(after block.ID) ([]blockstore.Stored, error) { return c.DamagedRecords(t.Context(), after, atOnce) })
		},
	}
	refused := map[string]int{}
	for i := range leaves {
		for j := i + 1; j < len(leaves); j++ {
			bad := slices.Clone(good)
			copy(bad[leaves[i]:], good[leaves[j]:leaves[j]+page])
			copy(bad[leaves[j]:], good[leaves[i]:leaves[i]+page])
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := catalog.Open(t.Context(), path, time.Now)
			if err != nil {
				continue
			}
			c.SetCounted(atOnce)
			for name, read := range readers {
				err := read(c)
				if errors.Is(err, errEndless) {
					t.Errorf("pages %d and %d in each other's place: %s does not end", leaves[i]/page, leaves[j]/page, name)
				}
				if err != nil {
					refused[name]++
				}
			}
			_ = c.Close() // it may notice, too
		}
	}
	for name := range readers {
		if refused[name] == 0 {
			t.Errorf("%s has noticed nothing of %d pages in each other's place", name, len(leaves))
		}
	}
}

var errEndless = errors.New("it does not end")

// Who gives space back does not wait for who reads for long, and so keeps no writer
// waiting; the log is cut off the next time.
func TestShrinkBesideReader(t *testing.T) {
	c, path, snap := create(t)
	commit(t, c, snap, 0, 1)
	other, err := catalog.OpenBeside(t.Context(), path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	reads, ended, read := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := other.Held(t.Context(), func(block.ID) {
			close(reads)
			<-ended
		})
		read <- err
	}()
	<-reads
	commit(t, c, snap, 1, 1) // which the reader does not see
	shrunk := make(chan error, 1)
	go func() { shrunk <- c.Shrink(t.Context()) }()
	select {
	case err := <-shrunk:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("Shrink waits for a reader")
	}
	close(ended)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if err := c.Shrink(t.Context()); err != nil {
		t.Error(err)
	}
	if log, err := os.Stat(path + "-wal"); err != nil || log.Size() > 0 {
		t.Errorf("with nobody reading, the log has %d bytes, %v", log.Size(), err)
	}
}
