package snapshot_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/catalog"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
)

// usageOf gives what was counted last, or nil.
func usageOf(t *testing.T, e *snapshottest.Env, id string) *snapshot.Usage {
	t.Helper()
	page, err := e.Service.Describe(t.Context(), snapshottest.Caller, snapshot.DescribeRequest{IDs: []string{id}})
	if err == nil {
		err = e.Service.FillUsage(t.Context(), snapshottest.Caller, page.Snapshots)
	}
	if err != nil {
		t.Fatal(err)
	}
	return page.Snapshots[0].Usage
}

// The figures agree with sets of blocks, one for each snapshot, however many
// passes they take, through completions, deletions and writes.
func TestUsageModel(t *testing.T) {
	t.Parallel()
	e := snapshottest.New(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	type model struct {
		id   string
		has  map[int64]byte // index → content
		open bool
	}
	var all []*model
	random := func() map[int64]byte {
		m := map[int64]byte{}
		for range 1 + rnd.IntN(12) {
			m[rnd.Int64N(300)] = byte(rnd.IntN(30)) // 0 is zeros
		}
		return m
	}
	check := func() {
		t.Helper()
		e.Service.SetMaxCounted(1+rnd.IntN(20), 20+rnd.IntN(100))
		if err := e.Service.CountUsage(t.Context()); err != nil {
			t.Fatal(err)
		}
		holders := map[byte]int{} // content → how many have it
		for _, m := range all {
			seen := map[byte]bool{0: true}
			for _, c := range m.has {
				if !seen[c] {
					seen[c] = true
					holders[c]++
				}
			}
		}
		for _, m := range all {
			if m.open {
				continue
			}
			var unique, shared int64
			seen := map[byte]bool{0: true}
			for _, c := range m.has {
				if seen[c] {
					continue
				}
				seen[c] = true
				if holders[c] == 1 {
					unique += block.Size
				} else {
					shared += block.Size
				}
			}
			if u := usageOf(t, e, m.id); u == nil || u.Unique != unique || u.Shared != shared || !u.CountedAt.Equal(e.Clock.Now()) {
				t.Fatalf("%s: got %+v, want unique %d, shared %d", m.id, u, unique, shared)
			}
		}
	}
	for range 40 {
		switch n := rnd.IntN(10); {
		case n < 6 || len(all) == 0:
			m := &model{has: map[int64]byte{}}
			parent := ""
			if len(all) > 0 && n < 4 {
				if p := all[rnd.IntN(len(all))]; !p.open {
					parent = p.id
					for k, v := range p.has {
						m.has[k] = v
					}
				}
			}
			blocks := random()
			m.id = makeSnapshot(t, e, 1, parent, blocks)
			for k, v := range blocks {
				m.has[k] = v
			}
			all = append(all, m)
		case n < 8: // one that stays open holds its parent's blocks and its own
			req := snapshot.StartRequest{VolumeSize: new(int64(1))}
			m := &model{open: true, has: map[int64]byte{}}
			next := int64(1000) // written blocks do not hide the parent's
			if p := all[rnd.IntN(len(all))]; !p.open {
				req.ParentSnapshotID = &p.id
				for k, v := range p.has {
					m.has[k] = v
				}
			}
			s, err := e.Service.Start(t.Context(), snapshottest.Caller, req)
			if err != nil {
				t.Fatal(err)
			}
			m.id = s.ID
			for _, seed := range random() {
				if _, err := e.Service.PutBlock(t.Context(), snapshottest.Caller, snapshot.PutBlockRequest{
					SnapshotID: s.ID, Index: next, ChecksumOptional: true, Body: bytes.NewReader(filled(seed)),
				}); err != nil {
					t.Fatal(err)
				}
				m.has[next] = seed
				next++
			}
			all = append(all, m)
		default:
			i := rnd.IntN(len(all))
			if err := e.Service.Delete(t.Context(), snapshottest.Caller, all[i].id); err != nil {
				t.Fatal(err)
			}
			all = append(all[:i], all[i+1:]...)
		}
		check()
	}
}

// With one map that cannot be read there are no new figures at all.
func TestUsageDamaged(t *testing.T) {
	e := snapshottest.New(t)
	a := makeSnapshot(t, e, 1, "", map[int64]byte{0: 1, 1: 2})
	if err := e.Service.CountUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := *usageOf(t, e, a)
	b := makeSnapshot(t, e, 1, "", map[int64]byte{0: 1, 1: 3, 2: 4})
	img, err := e.Service.OpenImage(t.Context(), snapshottest.Caller, b)
	if err != nil {
		t.Fatal(err)
	}
	e.Stop(t)
	segments, err := filepath.Glob(filepath.Join(e.Dir, "segments", "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	// The root's payload is found by its place in the file: a node begins with
	// its version and level.
	at := bytes.LastIndex(data, []byte{1, 3, 1, 0, 0, 0, 0, 0})
	data[at+30] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	if err := e.Service.CountUsage(t.Context()); err == nil {
		t.Fatalf("the map with the root %v was counted", img.Root)
	}
	if u := usageOf(t, e, a); u == nil || *u != before {
		t.Errorf("got %+v, want %+v", u, before)
	}
	if u := usageOf(t, e, b); u != nil {
		t.Errorf("got %+v of a snapshot that was never counted", u)
	}
}

// What was counted need not be counted again after a restart; what has changed is.
func TestUsageIsKept(t *testing.T) {
	e := snapshottest.New(t)
	count := func(want bool) {
		t.Helper()
		if counted, err := snapshot.CountIfChanged(t.Context(), e.Service); err != nil || counted != want {
			t.Errorf("counted: %t, %v; want %t", counted, err, want)
		}
	}
	count(true) // nothing, for the first time
	makeSnapshot(t, e, 1, "", map[int64]byte{0: 1, 1: 2})
	count(true)
	count(false)
	e.Stop(t)
	e.Restart(t)
	count(false)
	child := makeSnapshot(t, e, 1, "", map[int64]byte{0: 1})
	e.Stop(t)
	e.Restart(t)
	count(true)
	if err := e.Service.Delete(t.Context(), snapshottest.Caller, child); err != nil {
		t.Fatal(err)
	}
	count(true)
	count(false)
}

// A snapshot that was counted in the recycle bin alone has its usage when it is
// restored, after which there is nothing else to count.
func TestUsageOfRestored(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	id := f.stored("", map[int64][]byte{0: data(1)})
	f.remove(id)
	if err := f.Service.CountUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Service.Restore(t.Context(), caller, snapshot.RestoreRequest{SnapshotID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.CountIfChanged(t.Context(), f.Service); err != nil {
		t.Fatal(err)
	}
	if u := usageOf(t, f.Env, id); u == nil || u.Unique != block.Size {
		t.Errorf("got %+v, want a block of its own", u)
	}
}

// A deleting catalog has something done between the listing of what is to be
// counted and the count, once.
type deleting struct {
	*catalog.Catalog
	before func()
}

func (d *deleting) ZeroBlocks(ctx context.Context) (map[block.ID]bool, error) {
	if before := d.before; before != nil {
		d.before = nil
		before()
	}
	return d.Catalog.ZeroBlocks(ctx)
}

// A snapshot that is deleted and reclaimed while it is being counted does not
// keep the others from being counted.
func TestUsageOfDeleted(t *testing.T) {
	f := newFixture(t)
	kept := f.stored("", map[int64][]byte{0: data(1), 1: data(2)})
	gone := f.stored("", map[int64][]byte{0: data(2), 1000: data(3)})
	f.Restart(t) // so that no map is in memory
	hooked := &deleting{Catalog: f.Catalog, before: func() {
		f.remove(gone)
		f.cycle()
		f.cycle()
		f.cycle()
	}}
	s := snapshot.New(snapshot.Options{
		Catalog: hooked, Store: f.Store, Keyring: f.Keyring, Now: f.Clock.Now, Scratch: vfs.Dir(f.Dir),
	})
	if err := s.CountUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if hooked.before != nil {
		t.Fatal("nothing was deleted")
	}
	if u := usageOf(t, f.Env, kept); u == nil || u.Unique != 2*block.Size || u.Shared != 0 {
		t.Errorf("got %+v, want two blocks of its own", u)
	}
}
