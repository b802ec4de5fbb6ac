package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // SQLite itself
	"golang.org/x/sys/unix"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/snapshot"
	"shale/internal/vfs"
)

// A world is what has been loaded.
type world struct {
	Volumes []loaded `json:"volumes"`
	// First and Last are the ends of the long lineage.
	First string `json:"first"`
	Last  string `json:"last"`
	Days  int    `json:"days"` // snapshots in it
	// Blocks and Nodes count the records, and the sizes are those of the catalog:
	// empty, with the blocks, with the nodes as well, with the lineage.
	Blocks int64    `json:"blocks"`
	Nodes  int64    `json:"nodes"`
	Bytes  [4]int64 `json:"bytes"`
}

// A loaded volume is a completed snapshot.
type loaded struct {
	volume
	ID string `json:"id"`
}

func (w *world) volume(name string) loaded {
	for _, v := range w.Volumes {
		if v.Name == name {
			return v
		}
	}
	panic("no volume " + name)
}

func worldFile(dir string) string { return filepath.Join(dir, "scale.json") }

func readWorld(dir string) (w world, err error) {
	text, err := os.ReadFile(worldFile(dir))
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(text, &w)
}

// A loader fills a data folder below the server: segments whose blocks are
// holes, trees made by the map itself, rows as the server's commits would have
// made them.
type loader struct {
	size  size
	dir   string
	node  *node
	index *gathering
	world world

	// To be entered: the records of blocks, of the map nodes of the volumes, and
	// of those of the long lineage, and the snapshots of that.
	blocks, volumes, lineage []blockstore.Stored
	days                     []day
}

// load makes a folder that a server has made into the world to be measured.
func load(ctx context.Context, dir string, z size) (w world, err error) {
	l := &loader{size: z, dir: dir}
	l.index = &gathering{lengths: make(map[blockstore.ContainerID]int64)}
	l.node, err = openNode(ctx, dir, func(fs vfs.FS, x blockstore.Index) (vfs.FS, blockstore.Index) {
		l.index.Index = x
		return sparse{fs}, l.index
	})
	if err != nil {
		return w, err
	}
	err = l.make(ctx)
	if err = errors.Join(err, l.node.close()); err != nil {
		return w, err
	}
	if err := l.enter(ctx); err != nil {
		return w, err
	}
	text, err := json.Marshal(l.world)
	if err != nil {
		return w, err
	}
	unix.Sync() // what is still in the page cache would be written during the measurements
	return l.world, os.WriteFile(worldFile(dir), text, 0o600)
}

// make makes segments and trees, and the first snapshots.
func (l *loader) make(ctx context.Context) error {
	if err := l.makeBlocks(ctx); err != nil {
		return err
	}
	nodes := &nodeStore{NodeWriter: blockstore.NodeWriter{Store: l.node.store}}
	for _, v := range l.size.volumes {
		began := time.Now()
		folded, err := blockmap.Fold(ctx, nodes, nodes, block.ID{}, v.entries(ctx))
		if err := errors.Join(err, nodes.Flush(ctx)); err != nil {
			return err
		}
		id, err := l.completed(ctx, v.GiB, nil, snapshot.Map{Root: folded.Root, Blocks: v.Count})
		if err != nil {
			return err
		}
		l.world.Volumes = append(l.world.Volumes, loaded{v, id})
		say("%s: %d nodes in %v", v.Name, folded.Nodes, since(began))
	}
	l.volumes = l.index.take()
	if err := l.makeLineage(ctx); err != nil {
		return err
	}
	l.lineage = l.index.take()
	l.world.Nodes = int64(len(l.volumes) + len(l.lineage))
	return nil
}

// completed makes a completed snapshot with the map, by the catalog's own
// transactions.
func (l *loader) completed(ctx context.Context, gib int64, parent *string, m snapshot.Map) (string, error) {
	s, err := l.node.start(ctx, gib, parent)
	if err != nil {
		return "", err
	}
	if _, err := l.node.catalog.Seal(ctx, s.Key, snapshot.Claim{}); err != nil {
		return "", err
	}
	if done, err := l.node.catalog.Finish(ctx, s.Key, m); err != nil || !done {
		return "", errors.Join(err, fmt.Errorf("snapshot %s was not completed", s.ID))
	}
	return s.ID, nil
}

// rowsAtOnce is how many rows are sorted and entered together: far more than an
// upload would, and still each lands on another page than the one before, so
// that pages fill as they do in use.
const rowsAtOnce = 1 << 20

// makeBlocks makes segments of the distinct blocks.
func (l *loader) makeBlocks(ctx context.Context) error {
	const most = (1<<30 - 4096) / block.Size // in a segment
	l.blocks = make([]blockstore.Stored, 0, l.size.distinct)
	for n := int64(0); n < l.size.distinct; {
		count := min(most, l.size.distinct-n)
		place, err := l.node.medium.Append(ctx, count*block.Size, 0, func(blockstore.Place) [][]byte {
			return slices.Repeat([][]byte{hole}, int(count))
		})
		if err != nil {
			return err
		}
		l.index.lengths[place.Container] = place.Offset + count*block.Size
		for i := range count {
			number := uint64(n + i)
			l.blocks = append(l.blocks, blockstore.Stored{Kind: blockstore.KindBlock, ID: blockID(number), Location: blockstore.Location{
				Container: place.Container, Offset: place.Offset + i*block.Size, Length: block.Size, CRC: mix(number),
			}})
		}
		n += count
	}
	l.world.Blocks = l.size.distinct
	return nil
}

// A day is one snapshot of the long lineage.
type day struct {
	id, parent string
	base, root block.ID
	at         int64 // milliseconds since 1970
}

// makeLineage makes a lineage in which each snapshot changes one block of its
// parent.
func (l *loader) makeLineage(ctx context.Context) error {
	began := time.Now()
	nodes := &nodeStore{NodeWriter: blockstore.NodeWriter{Store: l.node.store}, kept: make(map[block.ID][]byte)}
	one := func(index int64, n uint64) func(func(blockmap.Entry, error) bool) {
		return func(yield func(blockmap.Entry, error) bool) {
			yield(blockmap.Entry{Index: block.Index(index), ID: blockID(n % uint64(l.size.distinct))}, ctx.Err())
		}
	}
	first := volume{Name: "lineage", GiB: 1, Count: block.PerGiB, Step: 1, Distinct: l.size.distinct}
	folded, err := blockmap.Fold(ctx, nodes, nodes, block.ID{}, first.entries(ctx))
	if err != nil {
		return err
	}
	if l.world.First, err = l.completed(ctx, first.GiB, nil, snapshot.Map{Root: folded.Root, Blocks: first.Count}); err != nil {
		return err
	}
	last := day{id: l.world.First, root: folded.Root, at: time.Now().UnixMilli()}
	for n := range l.size.days - 1 {
		next := day{id: fmt.Sprintf("snap-0%016x", mix(uint64(n))), parent: last.id, base: last.root, at: last.at + 1}
		folded, err := blockmap.Fold(ctx, nodes, nodes, last.root, one(int64(n)%first.Count, uint64(first.Count)+uint64(n)))
		if err != nil {
			return err
		}
		next.root = folded.Root
		l.days = append(l.days, next)
		last = next
		if n%1000 == 999 {
			if err := nodes.prune(ctx, last.root); err != nil {
				return err
			}
		}
	}
	if err := nodes.Flush(ctx); err != nil {
		return err
	}
	l.world.Last, l.world.Days = last.id, l.size.days
	say("a lineage of %d snapshots in %v", l.size.days, since(began))
	return nil
}

// enter enters all that was made into the catalog, past its own ways: without a
// log, while nothing else uses it.
func (l *loader) enter(ctx context.Context) (err error) {
	db, err := sqlite3.OpenContext(ctx, "file:"+catalogFile(l.dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Exec(`PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA cache_size = -100000`); err != nil {
		return err
	}
	l.world.Bytes[0] = fileSize(catalogFile(l.dir))
	for i, what := range []struct {
		name string
		rows []blockstore.Stored
		days []day
	}{{"blocks", l.blocks, nil}, {"map nodes", l.volumes, nil}, {"the lineage and its map nodes", l.lineage, l.days}} {
		began := time.Now()
		if err := db.Exec(`BEGIN`); err != nil {
			return err
		}
		if err := errors.Join(l.enterRecords(db, what.rows), l.enterDays(db, what.days), db.Exec(`COMMIT`)); err != nil {
			return err
		}
		l.world.Bytes[i+1] = fileSize(catalogFile(l.dir))
		say("rows of %d records, %s, in %v", len(what.rows), what.name, since(began))
	}
	return l.enterContainers(db)
}

// enterRecords enters records.
func (l *loader) enterRecords(db *sqlite3.Conn, rows []blockstore.Stored) error {
	for part := range slices.Chunk(rows, rowsAtOnce) {
		slices.SortFunc(part, func(a, b blockstore.Stored) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		if err := insert(db, `INSERT INTO records (id, kind, container, pos, length, crc, codec) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			part, func(r *blockstore.Stored) []any {
				at := &r.Location
				return []any{r.ID[:], int64(r.Kind), int64(at.Container), at.Offset, int64(at.Length), int64(at.CRC), int64(at.Codec)}
			}); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) enterContainers(db *sqlite3.Conn) error {
	ids := slices.Sorted(maps.Keys(l.index.lengths))
	return insert(db, `INSERT INTO containers (id, length) VALUES (?, ?)`, ids,
		func(id *blockstore.ContainerID) []any { return []any{int64(*id), l.index.lengths[*id]} })
}

// enterDays enters the snapshots of the long lineage, and a tag for each.
func (l *loader) enterDays(db *sqlite3.Conn, days []day) error {
	if err := insert(db, `INSERT INTO snapshots (id, account, region, state, parent_id, lineage, volume_gib, start_ms, completed_ms,
			timeout_ms, deadline_ms, base, root, base_blocks, blocks)
		SELECT ?, account, region, 3, ?, lineage, volume_gib, ?, ?, 0, 0, ?, ?, blocks, blocks FROM snapshots WHERE id = '`+l.world.First+`'`,
		days, func(d *day) []any { return []any{d.id, d.parent, d.at, d.at, d.base[:], d.root[:]} }); err != nil {
		return err
	}
	week := -1
	return insert(db, `INSERT INTO tags (snapshot, account, position, key, value) SELECT key, account, 0, 'week', ? FROM snapshots WHERE id = ?`,
		days, func(d *day) []any {
			week++
			return []any{fmt.Sprint(week / 7), d.id}
		})
}

// insert runs the statement for each row with the row's values: int64, string,
// or []byte.
func insert[T any](db *sqlite3.Conn, query string, rows []T, values func(*T) []any) (err error) {
	statement, _, err := db.Prepare(query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, statement.Close()) }()
	for i := range rows {
		for k, v := range values(&rows[i]) {
			var err error
			switch v := v.(type) {
			case int64:
				err = statement.BindInt64(k+1, v)
			case string:
				err = statement.BindText(k+1, v)
			case []byte:
				err = statement.BindBlob(k+1, v)
			}
			if err != nil {
				return err
			}
		}
		statement.Step()
		if err := statement.Reset(); err != nil {
			return err
		}
	}
	return nil
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
