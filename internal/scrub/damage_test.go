package scrub_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
	"shale/internal/token"
	"shale/internal/vfs"
)

// A piece is a stretch of a file that a structure takes, and the ids that may
// suffer if it is spoiled.
type piece struct {
	file   string // below the store's folder
	offset int64
	length int64
	ids    []block.ID
}

// A structure is a kind of pieces.
type structure struct {
	name   string
	pieces []piece
}

// A fault spoils a piece; other is another piece of the same structure, or the
// same one if there is only one. It reports whether anything changed.
type fault struct {
	name  string
	spoil func(rng *rand.Rand, b map[string][]byte, p, other piece)
}

var faults = []fault{
	{"flipped bit", func(rng *rand.Rand, b map[string][]byte, p, _ piece) {
		b[p.file][p.offset+rng.Int64N(p.length)] ^= 1 << rng.IntN(8)
	}},
	{"zeroed 4 KiB", func(rng *rand.Rand, b map[string][]byte, p, _ piece) {
		at := (p.offset + rng.Int64N(p.length)) &^ 4095
		clear(b[p.file][at:min(at+4096, int64(len(b[p.file])))])
	}},
	{"two swapped", func(_ *rand.Rand, b map[string][]byte, p, other piece) {
		n := min(p.length, other.length)
		one, two := b[p.file][p.offset:][:n], b[other.file][other.offset:][:n]
		for i := range one {
			one[i], two[i] = two[i], one[i]
		}
	}},
	{"an old one repeated", func(_ *rand.Rand, b map[string][]byte, p, other piece) {
		n := min(p.length, other.length)
		copy(b[p.file][p.offset:][:n], b[other.file][other.offset:][:n])
	}},
	{"truncation", func(rng *rand.Rand, b map[string][]byte, p, _ piece) {
		b[p.file] = b[p.file][:p.offset+rng.Int64N(p.length)]
	}},
}

// An image is a stopped store in memory, and what is in it.
type image struct {
	*mixed
	files      map[string][]byte
	records    map[block.ID]blockstore.Stored
	payloads   map[block.ID][]byte // of nodes
	seeds      map[block.ID]uint64 // of blocks
	arns       map[number]string
	held       []held
	structures []structure
}

// A held is an index of a completed snapshot: the content, and the records that
// it takes to read it.
type held struct {
	snapshot string
	index    block.Index
	id       block.ID
	digest   block.Digest
	sealed   bool
	path     []block.ID // nodes
}

func newImage(t testing.TB) *image {
	t.Helper()
	m := newMixed(t)
	img := &image{
		mixed: m, files: map[string][]byte{}, records: map[block.ID]blockstore.Stored{},
		payloads: map[block.ID][]byte{}, seeds: map[block.ID]uint64{}, arns: map[number]string{0: ""},
	}
	// Another segment and another domain, so that there is something to swap.
	s, err := img.start(m.Dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(1)
	for i, arn := range []string{m.arn, m.KMS.Create(snapshottest.Account, snapshottest.Region)} {
		snap, err := s.service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: &size, Encrypted: ptr(true), KMSKeyARN: &arn})
		if err != nil {
			t.Fatal(err)
		}
		if err := putSeed(t.Context(), s.service, snap.ID, 0, uint64(10+i)); err != nil {
			t.Fatal(err)
		}
		img.arns[snap.Domain] = arn
	}
	for seed := range uint64(12) {
		digest := block.Digest(sha256.Sum256(data(seed)))
		for n := range img.arns {
			img.seeds[s.key(t.Context(), n).ID(digest)] = seed
		}
	}
	roots, err := s.catalog.Roots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roots {
		if r.Pending || r.ID == m.binned {
			continue
		}
		v := &pathFinder{t: t, store: s.store}
		if err := blockmap.Visit(t.Context(), v, block.ID{}, r.Root, v); err != nil {
			t.Fatal(err)
		}
		for _, h := range v.found {
			key := s.key(t.Context(), r.Domain)
			digest, err := s.store.Digest(t.Context(), key, h.id)
			if err != nil {
				t.Fatal(err)
			}
			h.snapshot, h.digest, h.sealed = r.ID, digest, key != nil
			img.held = append(img.held, h)
		}
	}
	img.survey(t, s)
	s.close(t)
	err = filepath.WalkDir(m.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(m.Dir, path)
		img.files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages := structure{name: "SQLite page"}
	for at := range len(img.files["catalog.db"]) / 4096 {
		pages.pieces = append(pages.pieces, piece{file: "catalog.db", offset: int64(at) * 4096, length: 4096})
	}
	domains := structure{name: "domain file"}
	for name, b := range img.files {
		if strings.HasPrefix(name, "keys/") {
			domains.pieces = append(domains.pieces, piece{file: name, length: int64(len(b))})
		}
	}
	slices.SortFunc(domains.pieces, func(a, b piece) int { return strings.Compare(a.file, b.file) })
	img.structures = append(img.structures, pages, domains)
	return img
}

// inSegments are the names of the structures in the segments.
var inSegments = []string{"segment header", "frame", "plain block", "sealed block", "map node", "manifest"}

// survey finds the structures in the segments.
func (img *image) survey(t testing.TB, s *started) {
	t.Helper()
	ctx := t.Context()
	kinds := map[string]*structure{}
	for _, name := range inSegments {
		kinds[name] = &structure{name: name}
	}
	containers, err := s.catalog.Containers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for c, length := range containers {
		file := filepath.Join("segments", segment.FileName(c))
		add := func(name string, offset, length int64, ids ...block.ID) {
			kinds[name].pieces = append(kinds[name].pieces, piece{file, offset, length, ids})
		}
		add("segment header", 0, 4096)
		first, err := s.medium.First(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		for f, err := range blockstore.Frames(ctx, s.medium, first, length) {
			if err != nil {
				t.Fatal(err)
			}
			add("frame", f.Place.Offset, 4096)
			for _, e := range f.Entries {
				r, found, err := s.catalog.Record(ctx, e.ID)
				if err != nil || !found || r.Location.Offset != e.Offset || r.Location.Container != c {
					t.Fatalf("record %v: %v, %v", e.ID, found, err)
				}
				img.records[e.ID] = r
				if e.Kind == blockstore.KindNode {
					b, err := s.store.ReadNode(ctx, e.ID)
					if err != nil {
						t.Fatal(err)
					}
					img.payloads[e.ID] = b
				}
				switch {
				case e.Length == 0:
				case e.Kind == blockstore.KindNode:
					add("map node", e.Offset, int64(e.Length), e.ID)
				case e.Kind == blockstore.KindManifest:
					add("manifest", e.Offset, int64(e.Length), e.ID)
				case e.Sealing != nil:
					add("sealed block", e.Offset, int64(e.Length), e.ID)
				default:
					add("plain block", e.Offset, int64(e.Length), e.ID)
				}
			}
		}
	}
	for _, name := range inSegments {
		slices.SortFunc(kinds[name].pieces, func(a, b piece) int {
			return strings.Compare(fmt.Sprintf("%s %016x", a.file, a.offset), fmt.Sprintf("%s %016x", b.file, b.offset))
		})
		img.structures = append(img.structures, *kinds[name])
	}
}

// pathFinder finds what it takes to read each block of a map.
type pathFinder struct {
	t     testing.TB
	store *blockstore.Store
	path  []block.ID // the nodes read last, by level
	found []held
}

func (v *pathFinder) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	b, err := v.store.ReadNode(ctx, id)
	if err == nil {
		depth := 3 - int(b[1])
		v.path = append(v.path[:depth:depth], id)
	}
	return b, err
}
func (v *pathFinder) Same(blockmap.Range) {}
func (v *pathFinder) Node(id block.ID, _ blockmap.Range, err error) {
	v.t.Fatalf("node %v: %v", id, err)
}

func (v *pathFinder) Block(e blockmap.Entry) {
	v.found = append(v.found, held{index: e.Index, id: e.ID, path: slices.Clone(v.path)})
}

// A started is the service on a store, without background work.
type started struct {
	catalog *catalog.Catalog
	medium  *segment.Store
	store   *blockstore.Store
	ring    *keyring.Keyring
	service *snapshot.Service
	key     func(context.Context, number) *domain.Key
	tokens  *token.Codec
}

// start starts as a server does, or says why not.
func (img *image) start(dir string, maxSize int64) (_ *started, err error) {
	ctx := context.Background()
	s := &started{tokens: token.New(make([]byte, token.KeySize))}
	if s.catalog, err = catalog.Open(ctx, filepath.Join(dir, "catalog.db"), img.Clock.Now); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.catalog.Close()
		}
	}()
	last, committed, err := s.catalog.LastContainer(ctx)
	if err != nil {
		return nil, err
	}
	if s.medium, err = segment.Open(segment.Options{
		FS: vfs.Dir(filepath.Join(dir, "segments")), Last: last, Committed: committed, MaxSize: maxSize,
	}); err != nil {
		return nil, err
	}
	if s.ring, err = keyring.Open(vfs.Dir(filepath.Join(dir, "keys")), img.KMS, nil); err != nil {
		return nil, errors.Join(err, s.medium.Close())
	}
	s.store = blockstore.New(blockstore.Options{Medium: s.medium, Index: s.catalog, NodeLength: blockmap.Length})
	s.key = ownersKeys(s.ring)
	s.service = snapshot.New(snapshot.Options{Catalog: s.catalog, Store: s.store, Keyring: s.ring, Tokens: s.tokens, Now: img.Clock.Now})
	return s, nil
}

func (s *started) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(s.store.Close(), s.catalog.Close()); err != nil {
		t.Error(err)
	}
}

// An outcome is what became of a spoiled store.
type outcome struct {
	refused string // why it did not start
	lost    int    // indexes that cannot be read
	scrub   []int  // the invariants that each named
	check   []int
	damaged bool // there were damaged records
	healed  bool // by writing their content again
	noticed bool
}

// suffer spoils a copy of the store, and holds what is left of it to all that
// there is to hold it to.
func (img *image) suffer(t testing.TB, strict bool, spoil func(map[string][]byte)) (o outcome) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	defer os.RemoveAll(dir)
	files := make(map[string][]byte, len(img.files))
	for name, b := range img.files {
		files[name] = slices.Clone(b)
	}
	spoil(files)
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	hit := img.hit(files)
	keyless := false
	for name, b := range files {
		keyless = keyless || strings.HasPrefix(name, "keys/") && !slices.Equal(b, img.files[name])
	}
	s, err := img.start(dir, 0)
	if err != nil {
		if strict {
			t.Errorf("it did not start: %v", err)
		}
		return outcome{refused: err.Error(), noticed: true}
	}
	defer s.close(t)
	o.lost = img.read(t, s, strict, hit, keyless)
	medium, err := segment.OpenReadOnly(vfs.Dir(filepath.Join(dir, "segments")), [16]byte{})
	if err != nil {
		t.Fatal(err)
	}
	defer medium.Close()
	report := func(mark bool) (*scrub.Report, []int) {
		w := scrub.New(scrub.Options{Catalog: s.catalog, Medium: medium, Key: s.key, Read: true, Mark: mark, Count: !mark})
		if err := w.All(ctx); err != nil {
			if strict {
				t.Errorf("scrub: %v", err)
			}
			w.Report.Include([]scrub.Finding{{Invariant: scrub.Readable, Why: err.Error()}})
		}
		return &w.Report, numbers(w.Report.Findings)
	}
	scrubbed, numbersOfScrub := report(true)
	o.scrub = numbersOfScrub
	if strict {
		for id := range hit {
			if !slices.ContainsFunc(scrubbed.Findings, func(f *scrub.Finding) bool { return f.Record() && f.ID == id }) {
				t.Errorf("scrub does not name %v, which is spoiled", id)
			}
		}
		for _, f := range scrubbed.Findings {
			if f.Record() && !hit[f.ID] {
				t.Errorf("scrub names %v, which is as it was", f)
			}
		}
	}
	checked, _ := report(false)
	found, _, err := scrub.Check(ctx, scrub.CheckOptions{
		Catalog: s.catalog, Medium: medium, Key: s.key, FileName: segment.FileName,
		ARN: func(n number) (string, error) { return keyring.ReadARN(vfs.Dir(filepath.Join(dir, "keys")), n) },
	})
	if err != nil {
		found = append(found, scrub.Finding{Invariant: scrub.Readable, Why: err.Error()})
	}
	checked.Include(found)
	o.check = numbers(checked.Findings)
	o.noticed = len(o.scrub)+len(o.check) > 0
	if o.damaged = scrubbed.Damaged > 0; o.damaged {
		// A catalog that is damaged itself need not take what is written.
		err := img.heal(ctx, s, scrubbed)
		if err == nil {
			again, _ := report(true)
			o.healed = !slices.ContainsFunc(again.Findings, func(f *scrub.Finding) bool { return f.Record() && !img.replaced(ctx, s, f) })
		}
		if strict && !o.healed {
			t.Errorf("it is not healed after all was written again: %v, %v", scrubbed.Findings, err)
		}
	}
	return o
}

// hit gives the records whose bytes are not as they were.
func (img *image) hit(files map[string][]byte) map[block.ID]bool {
	hit := map[block.ID]bool{}
	for id, r := range img.records {
		l := r.Location
		name := filepath.Join("segments", segment.FileName(l.Container))
		from, to := l.Offset, l.Offset+int64(l.Length)
		if now := files[name]; l.Length > 0 && (to > int64(len(now)) || !slices.Equal(now[from:to], img.files[name][from:to])) {
			hit[id] = true
		}
	}
	return hit
}

// read reads everything through the service. It gives the number of indexes that
// cannot be read, which must be those that were hit.
func (img *image) read(t testing.TB, s *started, strict bool, hit map[block.ID]bool, keyless bool) (lost int) {
	t.Helper()
	ctx := t.Context()
	reached := img.walk(ctx, s)
	for _, h := range img.held {
		broken := slices.ContainsFunc(h.path, func(id block.ID) bool { return hit[id] })
		found, walked := reached[h.snapshot]
		if strict && !walked {
			t.Errorf("the map of %s cannot be walked", h.snapshot)
		}
		if got, ok := found[h.index]; ok && got != h.id {
			t.Errorf("WRONG BLOCK: %s, block %d", h.snapshot, h.index)
		} else if !ok {
			lost++
			if strict && !broken {
				t.Errorf("%s, block %d is not found, and no node above it is spoiled", h.snapshot, h.index)
			}
			continue
		}
		number, _ := strconv.ParseUint(strings.TrimPrefix(h.snapshot, "snap-0"), 16, 64)
		text := string(s.tokens.AppendBlock(nil, token.Block{Snapshot: number, Index: h.index, ID: h.id, Expiry: img.Clock.Now().Add(time.Hour)}))
		b, err := s.service.GetBlock(ctx, snapshottest.Caller, snapshot.GetBlockRequest{SnapshotID: h.snapshot, Index: int64(h.index), Token: &text})
		if err != nil {
			lost++
			if strict && !hit[h.id] && (!keyless || !h.sealed) {
				t.Errorf("%s, block %d is as it was, and cannot be read: %v", h.snapshot, h.index, err)
			}
			continue
		}
		if sha256.Sum256(b.Bytes) != h.digest || b.Digest != h.digest {
			t.Errorf("WRONG BYTES: %s, block %d", h.snapshot, h.index)
		}
		b.Release()
	}
	return lost
}

// walk finds the blocks of all snapshots, as far as their nodes can be read: by
// the lists of the service where they are whole, else node by node.
func (img *image) walk(ctx context.Context, s *started) map[string]map[block.Index]block.ID {
	reached := map[string]map[block.Index]block.ID{}
	roots, err := s.catalog.Roots(ctx)
	if err != nil {
		return nil
	}
	for _, r := range roots {
		v := &reacher{Store: s.store, found: map[block.Index]block.ID{}}
		if blockmap.Visit(ctx, v, block.ID{}, r.Root, v) == nil {
			reached[r.ID] = v.found
		}
		page, err := s.service.ListBlocks(ctx, snapshottest.Caller, snapshot.ListBlocksRequest{SnapshotID: r.ID})
		if err == nil && len(page.Blocks) != len(v.found) {
			img.Errorf("the list of %s has %d blocks, its map %d", r.ID, len(page.Blocks), len(v.found))
		}
	}
	return reached
}

type reacher struct {
	*blockstore.Store
	found map[block.Index]block.ID
}

func (v *reacher) Same(blockmap.Range)                  {}
func (v *reacher) Node(block.ID, blockmap.Range, error) {}
func (v *reacher) Block(e blockmap.Entry)               { v.found[e.Index] = e.ID }

// heal writes the content of all that is damaged again, as a client would.
func (img *image) heal(ctx context.Context, s *started, r *scrub.Report) error {
	size := int64(1)
	for _, f := range r.Findings {
		if !f.Record() || f.Kind == blockstore.KindManifest {
			continue
		}
		if f.Kind == blockstore.KindNode {
			if err := s.store.WriteNodes(ctx, []blockstore.Node{{ID: f.ID, Data: img.payloads[f.ID]}}); err != nil {
				return err
			}
			continue
		}
		request := snapshot.StartRequest{VolumeSize: &size}
		seed, known := img.seeds[f.ID]
		if !known {
			return fmt.Errorf("%v is none of the blocks", f.ID)
		}
		if l := img.records[f.ID].Location; l.Sealing != nil {
			request.Encrypted, request.KMSKeyARN = ptr(true), ptr(img.arns[l.Domain()])
		}
		snap, err := s.service.Start(ctx, snapshottest.Caller, request)
		if err == nil {
			err = putSeed(ctx, s.service, snap.ID, 0, seed)
		}
		if err != nil {
			return err
		}
	}
	return s.service.Settle(ctx) // which writes manifests
}

// replaced reports whether a record is a manifest of which there is a newer one.
func (img *image) replaced(ctx context.Context, s *started, f *scrub.Finding) bool {
	held := false
	_, err := s.catalog.Held(ctx, func(id block.ID) { held = held || id == f.ID })
	return err == nil && f.Kind == blockstore.KindManifest && !held
}

// numbers gives the invariants that findings are about.
func numbers(list []*scrub.Finding) []int {
	var out []int
	for _, f := range list {
		out = append(out, f.Invariant)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestDamageTable spoils each structure in each way, and prints what became of
// it. SHALE_DAMAGE=100 for a hundred of each; the seed is printed, and
// SHALE_SEED repeats it.
func TestDamageTable(t *testing.T) {
	each := number64(t, "SHALE_DAMAGE", 1)
	seed := number64(t, "SHALE_SEED", time.Now().UnixNano())
	t.Logf("SHALE_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	img := newImage(t)
	var table strings.Builder
	fmt.Fprintf(&table, "\n| Structure | Damage | Cases | Refused | Blocks lost, of %d | Wrong | Scrub names | Check names | Healed by rewriting |\n|---|---|---|---|---|---|---|---|---|\n", len(img.held))
	for _, st := range img.structures {
		strict := st.name != "SQLite page"
		for _, ft := range faults {
			var refused, unnoticed, damaged, healed, lost int
			named, checked := map[int]bool{}, map[int]bool{}
			for range each {
				one := rng.IntN(len(st.pieces))
				p, other := st.pieces[one], st.pieces[(one+1+rng.IntN(len(st.pieces)-1))%len(st.pieces)]
				changed := false
				o := img.suffer(t, strict, func(files map[string][]byte) {
					ft.spoil(rng, files, p, other)
					changed = !slices.Equal(files[p.file], img.files[p.file])
				})
				if o.refused != "" {
					refused++
				}
				if changed && !o.noticed {
					unnoticed++
				}
				if o.damaged {
					damaged++
				}
				if o.healed {
					healed++
				}
				lost = max(lost, o.lost)
				for _, n := range o.scrub {
					named[n] = true
				}
				for _, n := range o.check {
					checked[n] = true
				}
			}
			if strict && unnoticed > 0 {
				t.Errorf("%s, %s: %d of %d not noticed", st.name, ft.name, unnoticed, each)
			}
			fmt.Fprintf(&table, "| %s | %s | %d | %d | %d | 0 | %s | %s | %s |\n",
				st.name, ft.name, each, refused, lost, list(named), list(checked), share(healed, damaged))
		}
	}
	t.Log(table.String())
}

func share(n, of int) string {
	switch {
	case of == 0:
		return "–"
	case n == 0:
		return "no"
	case n == of:
		return "yes"
	}
	return fmt.Sprintf("%d of %d", n, of)
}

func list(set map[int]bool) string {
	var out []string
	for n := range 30 {
		if set[n] {
			out = append(out, strconv.Itoa(n))
		}
	}
	if len(out) == 0 {
		return "–"
	}
	return strings.Join(out, " ")
}

// TestFlips flips bits anywhere in the segments, a few in each copy of the store.
// SHALE_FLIPS=100000 for so many.
func TestFlips(t *testing.T) {
	flips := number64(t, "SHALE_FLIPS", 20)
	seed := number64(t, "SHALE_SEED", time.Now().UnixNano())
	t.Logf("SHALE_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 2))
	img := newImage(t)
	var segments []string
	for name := range img.files {
		if strings.HasPrefix(name, "segments/") {
			segments = append(segments, name)
		}
	}
	slices.Sort(segments)
	stores := 0
	for left := flips; left > 0; stores++ {
		n := min(left, 1+rng.Int64N(8))
		left -= n
		img.suffer(t, true, func(files map[string][]byte) {
			for range n {
				b := files[segments[rng.IntN(len(segments))]]
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			}
		})
		if t.Failed() {
			t.Fatalf("after %d bits", flips-left)
		}
	}
	t.Logf("%d bits flipped in %d copies of a store of %d bytes: no wrong bytes, each damaged record named, no other lost", flips, stores, len(img.files[segments[0]]))
}

// number64 reads a number from the environment.
func number64(t testing.TB, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
