package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// filled is a block that tells its seed.
func filled(seed byte) []byte { return bytes.Repeat([]byte{seed}, block.Size) }

// makeSnapshot makes a completed snapshot of blocks that are filled with their
// values.
func makeSnapshot(t *testing.T, e *snapshottest.Env, sizeGiB int64, parent string, blocks map[int64]byte) string {
	t.Helper()
	req := snapshot.StartRequest{VolumeSize: &sizeGiB}
	if parent != "" {
		req.ParentSnapshotID = &parent
	}
	s, err := e.Service.Start(t.Context(), snapshottest.Caller, req)
	if err != nil {
		t.Fatal(err)
	}
	for index, seed := range blocks {
		if _, err := e.Service.PutBlock(t.Context(), snapshottest.Caller, snapshot.PutBlockRequest{
			SnapshotID: s.ID, Index: index, ChecksumOptional: true, Body: bytes.NewReader(filled(seed)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	count := int64(len(blocks))
	if _, err := e.Service.Complete(t.Context(), snapshottest.Caller, snapshot.CompleteRequest{SnapshotID: s.ID, ChangedBlocks: &count}); err != nil {
		t.Fatal(err)
	}
	if err := e.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.ID
}

// An image is the blocks at their places and zeros elsewhere, from any offset
// on and of any length.
func TestImage(t *testing.T) {
	e := snapshottest.New(t)
	blocks := map[int64]byte{0: 1, 1: 2, 63: 3, 64: 4, 500: 0, 2047: 5}
	for i := int64(100); i < 140; i++ {
		blocks[i] = byte(i)
	}
	id := makeSnapshot(t, e, 1, "", blocks)
	img, err := e.Service.OpenImage(t.Context(), snapshottest.Caller, id)
	if err != nil || img.Size() != 1<<30 {
		t.Fatalf("got %v, %v", img, err)
	}
	at := func(offset int64) byte { return blocks[offset/block.Size] }
	check := func(offset, length int64) {
		t.Helper()
		end := offset + length
		for piece, err := range img.Read(t.Context(), nil, offset, length) {
			if err != nil {
				t.Fatal(err)
			}
			if n := int64(len(piece)); n == 0 || n > block.Size || offset+n > end {
				t.Fatalf("a piece of %d bytes at %d, %d are left", n, offset, end-offset)
			}
			if want := at(offset); at(offset+int64(len(piece))-1) != want || bytes.Count(piece, []byte{want}) != len(piece) {
				t.Fatalf("wrong bytes from %d on", offset)
			}
			offset += int64(len(piece))
		}
		if offset != end {
			t.Fatalf("%d bytes are missing", end-offset)
		}
	}
	check(0, 1<<30)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		offset := rnd.Int64N(150 * block.Size)
		check(offset, 1+rnd.Int64N(5*block.Size))
	}
	check(1<<30-1, 1)
	if n := snapshot.Reading(e.Service); n != 0 {
		t.Errorf("%d buffers were not given back", n)
	}
}

// Whoever stops reading, for whatever reason, gives all buffers back.
func TestImageEndsEarly(t *testing.T) {
	e := snapshottest.New(t)
	blocks := map[int64]byte{}
	for i := range int64(50) {
		blocks[i] = byte(i + 1)
	}
	img, err := e.Service.OpenImage(t.Context(), snapshottest.Caller, makeSnapshot(t, e, 1, "", blocks))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		for _, err := range img.Read(t.Context(), nil, 0, 1<<30) {
			if err != nil {
				t.Fatal(err)
			}
			if n--; n < 0 {
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pieces := 0
	for _, err := range img.Read(ctx, nil, 0, 1<<30) {
		if pieces++; pieces == 5 {
			cancel()
		}
		if err != nil && !errors.Is(err, context.Canceled) || pieces > 6 {
			t.Fatalf("piece %d: %v", pieces, err)
		}
	}
	if n := snapshot.Reading(e.Service); n != 0 {
		t.Errorf("%d buffers were not given back", n)
	}
}

// Of a small range no more is read than it has.
func TestImageReadsNoMore(t *testing.T) {
	e := snapshottest.New(t)
	blocks := map[int64]byte{}
	for i := range int64(20) {
		blocks[i] = byte(i + 1)
	}
	img, err := e.Service.OpenImage(t.Context(), snapshottest.Caller, makeSnapshot(t, e, 1, "", blocks))
	if err != nil {
		t.Fatal(err)
	}
	before := e.Store.Stats().BlocksRead.Load()
	for _, err := range img.Read(t.Context(), nil, 5*block.Size-1, 2) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := e.Store.Stats().BlocksRead.Load() - before; n != 2 {
		t.Errorf("%d blocks were read for 2 bytes, want 2", n)
	}
}

// Images that nobody reads on from leave room for others: they have a buffer
// each, and half of all between them for what they read ahead.
func TestImagesLeaveRoom(t *testing.T) {
	e := snapshottest.New(t)
	blocks := map[int64]byte{}
	for i := range int64(16) {
		blocks[i] = byte(i + 1)
	}
	id := makeSnapshot(t, e, 1, "", blocks)
	img, err := e.Service.OpenImage(t.Context(), snapshottest.Caller, id)
	if err != nil {
		t.Fatal(err)
	}
	var held func(n int)
	held = func(n int) {
		if n == 0 {
			if n := snapshot.Reading(e.Service); n > 32+20 {
				t.Errorf("20 images hold %d buffers", n)
			}
			return
		}
		for _, err := range img.Read(t.Context(), nil, 0, 1<<30) {
			if err != nil {
				t.Fatal(err)
			}
			held(n - 1)
			return
		}
	}
	held(20)
}

// However many images nobody reads on from, single blocks are read. An image
// for which no buffer is left is told to come back.
func TestManyImagesLeaveRoomForBlocks(t *testing.T) {
	f := newFixture(t)
	id := makeSnapshot(t, f.Env, 1, "", map[int64]byte{0: 1, 1: 2})
	token := f.token(id)
	img, err := f.Service.OpenImage(t.Context(), snapshottest.Caller, id)
	if err != nil {
		t.Fatal(err)
	}
	f.Service.SetBufferWait(time.Millisecond)
	var held func(n int)
	held = func(n int) {
		for _, err := range img.Read(t.Context(), nil, 0, 1<<30) {
			if err == nil && n < 2*snapshot.MaxReading {
				held(n + 1)
				return
			}
			if code(err) != snapshot.Throttled {
				t.Errorf("image %d: got %v, want Throttled", n, err)
			}
			if _, err := f.get(id, token); err != nil {
				t.Errorf("GetBlock beside %d images: %v", n-1, err)
			}
			return
		}
	}
	held(1)
	if n := snapshot.Reading(f.Service); n != 0 {
		t.Errorf("%d buffers are still held", n)
	}
}

// Of damaged content not a byte is given, and all before it is right.
func TestImageDamaged(t *testing.T) {
	e := snapshottest.New(t)
	id := e.Make(t, snapshottest.Caller, snapshot.StartRequest{}, map[int64]uint64{0: 1, 1: 2, 2: 3, 9: 4, 10: 5})
	e.Stop(t)
	segments, err := filepath.Glob(filepath.Join(e.Dir, "segments", "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, snapshottest.Block(4))
	b[at+1000] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	img, err := e.Service.OpenImage(t.Context(), snapshottest.Caller, id)
	if err != nil {
		t.Fatal(err)
	}
	var got int64
	for piece, err := range img.Read(t.Context(), nil, 0, 1<<30) {
		if err == nil {
			got += int64(len(piece))
			continue
		}
		var e *snapshot.Error
		if !errors.As(err, &e) || e.Code != snapshot.Damaged || e.Index != 9 {
			t.Errorf("got %v, want damage of block 9", err)
		}
	}
	if got != 9*block.Size {
		t.Errorf("got %d bytes, want %d", got, 9*block.Size)
	}
	if n := snapshot.Reading(e.Service); n != 0 {
		t.Errorf("%d buffers were not given back", n)
	}
}

// Runs agree with what the two images have, block by block, whatever the
// snapshots have to do with each other.
func TestExtentsAndDiffModel(t *testing.T) {
	e := snapshottest.New(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	random := func(n int) map[int64]byte {
		m := map[int64]byte{}
		for range n {
			first := rnd.Int64N(200)
			for i := first; i < first+rnd.Int64N(6); i++ {
				m[i] = byte(rnd.Int64N(4)) // 0 writes zeros
			}
		}
		return m
	}
	type model struct {
		id     string
		blocks map[int64]byte
		size   int64
	}
	var all []model
	for i := range 4 {
		blocks := random(30)
		if i%2 == 1 { // a child
			parent := all[i-1]
			id := makeSnapshot(t, e, 2, parent.id, blocks)
			merged := map[int64]byte{}
			for k, v := range parent.blocks {
				merged[k] = v
			}
			for k, v := range blocks {
				merged[k] = v
			}
			all = append(all, model{id, merged, 2})
			continue
		}
		all = append(all, model{makeSnapshot(t, e, 1, "", blocks), blocks, 1})
	}
	has := func(m model, i int64) snapshot.Content {
		seed, written := m.blocks[i]
		switch {
		case !written:
			return snapshot.Hole
		case seed == 0:
			return snapshot.Zero
		}
		return snapshot.Data
	}
	merge := func(want func(i int64) (snapshot.Content, bool), size int64) (list []string) {
		var run snapshot.Extent
		for i := range size * block.PerGiB {
			content, listed := want(i)
			if listed && run.Length > 0 && run.Content == content && run.Offset+run.Length == i*block.Size {
				run.Length += block.Size
				continue
			}
			if listed {
				if run.Length > 0 {
					list = append(list, fmt.Sprint(run))
				}
				run = snapshot.Extent{Offset: i * block.Size, Length: block.Size, Content: content}
			}
		}
		if run.Length > 0 {
			list = append(list, fmt.Sprint(run))
		}
		return list
	}
	for _, m := range all {
		var got []string
		for x, err := range e.Service.Extents(t.Context(), snapshottest.Caller, m.id) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(x))
		}
		want := merge(func(i int64) (snapshot.Content, bool) { return has(m, i), has(m, i) != snapshot.Hole }, m.size)
		if !slices.Equal(got, want) {
			t.Errorf("extents: got %v, want %v", got, want)
		}
		for _, from := range all {
			got := []string(nil)
			for x, err := range e.Service.Diff(t.Context(), snapshottest.Caller, from.id, m.id) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(x))
			}
			want := merge(func(i int64) (snapshot.Content, bool) { return has(m, i), m.blocks[i] != from.blocks[i] }, m.size)
			if !slices.Equal(got, want) {
				t.Errorf("diff: got %v, want %v", got, want)
			}
		}
	}
}

// A receiver may stop at any run.
func TestExtentsEndEarly(t *testing.T) {
	e := snapshottest.New(t)
	id := makeSnapshot(t, e, 1, "", map[int64]byte{0: 1, 2: 1, 4: 1})
	for stop := 1; stop <= 3; stop++ {
		n := 0
		for _, err := range e.Service.Extents(t.Context(), snapshottest.Caller, id) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("got %d runs, want %d", n, stop)
		}
	}
}

// A stream of runs that has begun ends soon after the share was taken back, or the
// key.
func TestExtentsAreAskedForAgain(t *testing.T) {
	f, l := withKMS(t)
	root := "arn:aws:iam::" + other.Account + ":root"
	made := func() (key, id string) {
		key = makeKey(t, l, keyStatement(root, "kms:DescribeKey,kms:Decrypt"))
		id = f.encrypted(key)
		for i := range int64(1010) {
			f.mustPut(id, 2*i, data(1)) // no two are one run
		}
		f.complete(id, 1010, nil)
		f.share(id, other.Account)
		return key, id
	}
	empty := f.made(nil)
	f.share(empty, other.Account)
	for name, stream := range map[string]func(id string) iter.Seq2[snapshot.Extent, error]{
		"extents": func(id string) iter.Seq2[snapshot.Extent, error] { return f.Service.Extents(t.Context(), other, id) },
		"diff": func(id string) iter.Seq2[snapshot.Extent, error] {
			return f.Service.Diff(t.Context(), other, empty, id)
		},
	} {
		key, id := made()
		unshare := func() error {
			return f.Service.Unshare(t.Context(), caller, snapshot.ShareRequest{SnapshotID: id, Accounts: []string{other.Account}})
		}
		takeKey := func() error {
			return l.PutPolicy(t.Context(), account(caller), key, `{"Statement":`+keyStatement(caller.Account, "kms:*")+`}`, false)
		}
		run := func(then func() error) (n int, last error) {
			for _, err := range stream(id) {
				if err != nil {
					return n, err
				}
				if n++; n == 1 && then != nil {
					if err := then(); err != nil {
						t.Fatal(err)
					}
				}
			}
			return n, nil
		}
		if n, err := run(nil); err != nil || n != 1010 {
			t.Errorf("%s: got %d runs, %v", name, n, err)
		}
		_, err := run(unshare)
		wantCodes(t, name+", not shared any more", err, snapshot.NotFound)
		f.share(id, other.Account)
		_, err = run(takeKey)
		wantCodes(t, name+", the key taken back", err, snapshot.KeyNotFound)
	}
}
