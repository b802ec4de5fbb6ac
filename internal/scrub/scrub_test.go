package scrub_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/domain"
	"shale/internal/keyring"
	"shale/internal/scrub"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
)

// data is a block of the seed; 0 is zeros.
func data(seed uint64) []byte {
	b := make([]byte, block.Size)
	for i := 0; seed > 0 && i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], (seed+uint64(i))*0x9e3779b97f4a7c15)
	}
	return b
}

// A fixture is a store with snapshots.
type fixture struct {
	testing.TB
	*snapshottest.Env
	medium *segment.Store // to read only
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t, Env: snapshottest.New(t)}
	f.look()
	return f
}

// look opens the segments to read only, anew.
func (f *fixture) look() {
	f.Helper()
	var err error
	if f.medium, err = segment.OpenReadOnly(vfs.Dir(filepath.Join(f.Dir, "segments")), [16]byte{}); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { f.medium.Close() })
}

// open starts a snapshot with the parent, if it is not empty, under the key, if
// that is not empty, and writes the blocks: seeds by index.
func (f *fixture) open(parent, arn string, blocks map[int64]uint64) string {
	f.Helper()
	size := int64(64)
	r := snapshot.StartRequest{VolumeSize: &size}
	if parent != "" {
		r.ParentSnapshotID = &parent
	} else if arn != "" {
		yes := true
		r.Encrypted, r.KMSKeyARN = &yes, &arn
	}
	s, err := f.Service.Start(f.Context(), snapshottest.Caller, r)
	if err != nil {
		f.Fatal(err)
	}
	for i, seed := range blocks {
		f.put(s.ID, i, seed)
	}
	return s.ID
}

func (f *fixture) put(id string, index int64, seed uint64) {
	f.Helper()
	if err := putSeed(f.Context(), f.Service, id, index, seed); err != nil {
		f.Fatal(err)
	}
}

// putSeed writes the block of the seed.
func putSeed(ctx context.Context, s *snapshot.Service, id string, index int64, seed uint64) error {
	b := data(seed)
	sum := sha256.Sum256(b)
	checksum := base64.StdEncoding.EncodeToString(sum[:])
	length, algorithm := int64(block.Size), "SHA256"
	_, err := s.PutBlock(ctx, snapshottest.Caller, snapshot.PutBlockRequest{
		SnapshotID: id, Index: index, DataLength: &length, Checksum: &checksum, Algorithm: &algorithm, Body: bytes.NewReader(b),
	})
	return err
}

// complete completes a snapshot with so many blocks written.
func (f *fixture) complete(id string, written int) string {
	f.Helper()
	n := int64(written)
	if _, err := f.Service.Complete(f.Context(), snapshottest.Caller, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: &n}); err != nil {
		f.Fatal(err)
	}
	if err := f.Service.Settle(f.Context()); err != nil {
		f.Fatal(err)
	}
	return id
}

func (f *fixture) make(parent, arn string, blocks map[int64]uint64) string {
	f.Helper()
	return f.complete(f.open(parent, arn, blocks), len(blocks))
}

// key gives the keys that are in memory.
func (f *fixture) key(_ context.Context, n domain.Number) *domain.Key { return f.Keyring.Cached(n) }

// scrub walks everything.
func (f *fixture) scrub() *scrub.Report {
	f.Helper()
	w := scrub.New(scrub.Options{Catalog: f.Catalog, Medium: f.medium, Key: f.key, Read: true, Mark: true, Count: true})
	if err := w.All(f.Context()); err != nil {
		f.Fatal(err)
	}
	return &w.Report
}

// record finds where a block of the seed, or another record, is.
func (f *fixture) record(id block.ID) blockstore.Stored {
	f.Helper()
	r, found, err := f.Catalog.Record(f.Context(), id)
	if err != nil || !found {
		f.Fatalf("record %v: %v, %v", id, found, err)
	}
	return r
}

func idOf(seed uint64) block.ID { return block.ID(sha256.Sum256(data(seed))) }

// spoil flips a bit of the segment.
func (f *fixture) spoil(c blockstore.ContainerID, offset int64) {
	f.Helper()
	spoilFile(f, filepath.Join(f.Dir, "segments", segment.FileName(c)), offset)
}

func spoilFile(t testing.TB, path string, offset int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x20
	if _, err := file.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

// A store that is sound has no findings, whatever is in it, and everything in it
// was proved.
func TestSound(t *testing.T) {
	f := newFixture(t)
	arn := f.KMS.Create(snapshottest.Account, snapshottest.Region)
	parent := f.make("", "", map[int64]uint64{0: 1, 1: 2, 70: 3, 9000: 0})
	f.make(parent, "", map[int64]uint64{1: 4})
	secret := f.make("", arn, map[int64]uint64{0: 1, 5: 5, 6: 0})
	f.make(secret, "", map[int64]uint64{5: 6})
	f.open(parent, "", map[int64]uint64{3: 7})
	f.make("", "", nil)
	r := f.scrub()
	if len(r.Findings) > 0 {
		t.Errorf("found %v", r.Findings[0])
	}
	if r.Records == 0 || r.Snapshots != 6 || r.Keyless != 0 || r.Containers != 1 {
		t.Errorf("report %+v", r)
	}
	counts, err := f.Catalog.CountRecords(t.Context(), nil)
	if err != nil || counts[1] != r.Records {
		t.Errorf("%d records were proved, there are %d, %v", r.Records, counts[1], err)
	}
	// Without the key checksums do.
	f.KMS.Disable(arn)
	f.Keyring.Forget(t.Context())
	if r := f.scrub(); len(r.Findings) > 0 || r.Keyless != 4 {
		t.Errorf("without the key: %d findings, %d records without it, want none and 4", len(r.Findings), r.Keyless)
	}
}

// Each kind of record has a name.
func TestFindingNames(t *testing.T) {
	for kind, want := range map[blockstore.Kind]string{
		blockstore.KindBlock: "block", blockstore.KindNode: "map node", blockstore.KindManifest: "manifest", 9: "record of kind 9",
	} {
		f := scrub.Finding{Kind: kind, Why: "it is damaged"}
		if got, want := f.String(), fmt.Sprintf("%s %v: it is damaged", want, f.ID); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A damaged block is named with every snapshot and index that needs it, whether
// its map is shared or not, and is healed by the next write of its content.
func TestDamagedBlock(t *testing.T) {
	f := newFixture(t)
	parent := f.make("", "", map[int64]uint64{0: 1, 1: 2, 2: 2, 5000: 2})
	child := f.make(parent, "", map[int64]uint64{0: 3})
	other := f.make(child, "", map[int64]uint64{1: 4})
	pending := f.open("", "", map[int64]uint64{7: 2})
	bad := f.record(idOf(2))
	f.spoil(bad.Location.Container, bad.Location.Offset+1000)
	r := f.scrub()
	if len(r.Findings) != 1 || r.Damaged != 1 {
		t.Fatalf("found %d: %v", len(r.Findings), r.Findings)
	}
	got := r.Findings[0]
	want := map[string][]blockmap.Range{
		parent:  {{First: 1, Last: 2}, {First: 5000, Last: 5000}},
		child:   {{First: 1, Last: 2}, {First: 5000, Last: 5000}},
		other:   {{First: 2, Last: 2}, {First: 5000, Last: 5000}},
		pending: {{First: 7, Last: 7}},
	}
	if got.ID != bad.ID || got.Invariant != scrub.Sound || len(got.Affects) != len(want) {
		t.Errorf("got %v, %d snapshots", got, len(got.Affects))
	}
	for _, a := range got.Affects {
		if !slices.Equal(a.Ranges, want[a.Snapshot]) {
			t.Errorf("%s: got %v, want %v", a.Snapshot, a.Ranges, want[a.Snapshot])
		}
	}
	if !f.record(bad.ID).Location.Damaged {
		t.Error("the record is not marked as damaged")
	}
	f.put(pending, 9, 2)
	if r := f.scrub(); len(r.Findings) > 0 {
		t.Errorf("after its content was written again: %v", r.Findings[0])
	}
}

// A damaged node is named with the range that it covers.
func TestDamagedNode(t *testing.T) {
	f := newFixture(t)
	parent := f.make("", "", map[int64]uint64{64: 1, 5000: 2})
	child := f.make(parent, "", map[int64]uint64{64: 3})
	leaf := f.leafOf(parent, 5000)
	r := f.record(leaf)
	f.spoil(r.Location.Container, r.Location.Offset+30)
	report := f.scrub()
	if len(report.Findings) != 1 {
		t.Fatalf("found %v", report.Findings)
	}
	got := report.Findings[0]
	if got.ID != leaf || got.Kind != blockstore.KindNode || len(got.Affects) != 2 {
		t.Fatalf("got %v, %v", got, got.Affects)
	}
	for i, id := range []string{parent, child} {
		if a := got.Affects[i]; a.Snapshot != id || !slices.Equal(a.Ranges, []blockmap.Range{{First: 4992, Last: 5055}}) {
			t.Errorf("got %v, want %s from 4992 to 5055", a, id)
		}
	}
	// The same content from a snapshot without a parent makes the same node.
	f.make("", "", map[int64]uint64{64: 1, 5000: 2})
	if r := f.scrub(); len(r.Findings) > 0 {
		t.Errorf("after the same map was made again: %v", r.Findings[0])
	}
}

// leafOf gives the id of the leaf of a map in which the index is.
func (f *fixture) leafOf(id string, index block.Index) block.ID {
	f.Helper()
	roots, err := f.Catalog.Roots(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range roots {
		if r.ID != id {
			continue
		}
		v := &leafFinder{f: f, index: index}
		if err := blockmap.Visit(f.Context(), v, block.ID{}, r.Root, v); err != nil {
			f.Fatal(err)
		}
		return v.leaf
	}
	f.Fatalf("no snapshot %s", id)
	return block.ID{}
}

type leafFinder struct {
	f          *fixture
	index      block.Index
	last, leaf block.ID
}

func (v *leafFinder) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	if !id.IsZero() {
		v.last = id
	}
	return v.f.Store.ReadNode(ctx, id)
}
func (v *leafFinder) Same(blockmap.Range) {}
func (v *leafFinder) Node(id block.ID, _ blockmap.Range, err error) {
	v.f.Fatalf("node %v: %v", id, err)
}

func (v *leafFinder) Block(e blockmap.Entry) {
	if e.Index == v.index {
		v.leaf = v.last
	}
}

type (
	number = domain.Number
	nokey  = domain.Key
)

// ownersKeys gives the keys of the ring that can be had.
func ownersKeys(ring *keyring.Keyring) func(context.Context, number) *domain.Key {
	return func(ctx context.Context, n number) *domain.Key {
		key, _ := ring.OwnersKey(ctx, n)
		return key
	}
}

// A countingCatalog has more records at the first count than there are, as if
// some had been removed since.
type countingCatalog struct {
	*catalog.Catalog
	counts, looks int
}

func (c *countingCatalog) CountRecords(ctx context.Context, pause func(context.Context, int64) error) (map[blockstore.ContainerID]int64, error) {
	counts, err := c.Catalog.CountRecords(ctx, pause)
	if c.counts++; c.counts == 1 {
		for id := range counts {
			counts[id] += 3
		}
	}
	return counts, err
}

func (c *countingCatalog) RecordsIn(ctx context.Context, id blockstore.ContainerID, after block.ID, limit int) ([]blockstore.Stored, error) {
	c.looks++
	return c.Catalog.RecordsIn(ctx, id, after, limit)
}

// Where records were removed after they had been counted they are counted again:
// to look for those that no frame describes goes through the rows of all records
// for each container.
func TestRemovedSinceCounted(t *testing.T) {
	f := newFixture(t)
	f.make("", "", map[int64]uint64{0: 1, 1: 2})
	c := &countingCatalog{Catalog: f.Catalog}
	w := scrub.New(scrub.Options{Catalog: c, Medium: f.medium})
	if err := w.All(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.counts != 2 || c.looks != 0 || len(w.Report.Findings) > 0 {
		t.Errorf("counted %d times, looked %d times through all rows, want 2 and 0; found %v", c.counts, c.looks, w.Report.Findings)
	}
}

// All that is read is waited for: rows that are counted, payloads, map nodes.
func TestAllIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.make("", "", map[int64]uint64{0: 1, 9000: 2})
	waited := make(map[int64]int)
	w := scrub.New(scrub.Options{Catalog: f.Catalog, Medium: f.medium, Read: true, Pace: func(_ context.Context, n int64) error {
		waited[n]++
		return nil
	}})
	if err := w.All(t.Context()); err != nil {
		t.Fatal(err)
	}
	const leaf, above = 24 + 32, 24 + 2*32
	for what, n := range map[string]int64{"rows": w.Report.Records * 80, "a leaf": leaf + 4096, "a node above two": above + 4096} {
		if waited[n] == 0 {
			t.Errorf("%s, %d bytes, was not waited for: %v", what, n, waited)
		}
	}
	if longest := slices.Max(slices.Collect(maps.Keys(waited))); longest < block.Size {
		t.Errorf("blocks were not waited for: %v", waited)
	}
}
