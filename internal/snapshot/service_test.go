package snapshot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"shale/internal/block"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

var caller = snapshottest.Caller

// data is a block of the seed: seed 0 is the block of zeros.
func data(seed uint64) []byte {
	b := make([]byte, block.Size)
	if seed > 0 {
		for i := 0; i < len(b); i += 512 {
			binary.LittleEndian.PutUint64(b[i:], seed+uint64(i)<<32)
		}
	}
	return b
}

func digest(b []byte) block.Digest { return sha256.Sum256(b) }

func ptr[T any](v T) *T { return &v }

// fixture is a service and the helpers that drive it.
type fixture struct {
	*snapshottest.Env
	testing.TB
}

func newFixture(t testing.TB) *fixture { return &fixture{snapshottest.New(t), t} }

func (f *fixture) start(parent string) string {
	f.Helper()
	r := snapshot.StartRequest{VolumeSize: ptr(int64(1))}
	if parent != "" {
		r.ParentSnapshotID = &parent
	}
	snap, err := f.Service.Start(f.Context(), caller, r)
	if err != nil {
		f.Fatalf("Start: %v", err)
	}
	return snap.ID
}

func (f *fixture) put(id string, index int64, b []byte) error {
	sum := digest(b).Base64()
	d, err := f.Service.PutBlock(f.Context(), caller, snapshot.PutBlockRequest{
		SnapshotID: id, Index: index, DataLength: ptr(int64(len(b))), Checksum: &sum, Algorithm: ptr("SHA256"), Body: bytes.NewReader(b),
	})
	if err == nil && d != digest(b) {
		f.Errorf("PutBlock(%s, %d): got digest %v, want %v", id, index, d, digest(b))
	}
	return err
}

func (f *fixture) mustPut(id string, index int64, b []byte) {
	f.Helper()
	if err := f.put(id, index, b); err != nil {
		f.Fatalf("PutBlock(%s, %d): %v", id, index, err)
	}
}

// complete completes the snapshot and waits for its state.
func (f *fixture) complete(id string, count int64, aggregate *block.Digest) snapshot.Snapshot {
	f.Helper()
	r := snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: &count}
	if aggregate != nil {
		r.Checksum, r.Algorithm, r.AggregationMethod = ptr(aggregate.Base64()), ptr("SHA256"), ptr("LINEAR")
	}
	state, err := f.Service.Complete(f.Context(), caller, r)
	if err != nil || state.String() != "pending" {
		f.Fatalf("Complete(%s): got %v, %v, want pending", id, state, err)
	}
	if err := f.Service.Settle(f.Context()); err != nil {
		f.Fatal(err)
	}
	return f.describe(id)
}

func (f *fixture) describe(id string) snapshot.Snapshot {
	f.Helper()
	page, err := f.Service.Describe(f.Context(), caller, snapshot.DescribeRequest{IDs: []string{id}})
	if err != nil || len(page.Snapshots) != 1 {
		f.Fatalf("Describe(%s): got %d snapshots, %v", id, len(page.Snapshots), err)
	}
	return page.Snapshots[0]
}

// blocks lists and reads the whole snapshot.
func (f *fixture) blocks(id string) map[block.Index]block.Digest {
	f.Helper()
	got := make(map[block.Index]block.Digest)
	var next *string
	for {
		page, err := f.Service.ListBlocks(f.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id, PageToken: next, MaxResults: ptr(int64(100))})
		if err != nil {
			f.Fatalf("ListBlocks(%s): %v", id, err)
		}
		for _, b := range page.Blocks {
			d, err := f.Service.GetBlock(f.Context(), caller, snapshot.GetBlockRequest{SnapshotID: id, Index: int64(b.Index), Token: &b.Token})
			if err != nil {
				f.Fatalf("GetBlock(%s, %d): %v", id, b.Index, err)
			}
			if digest(d.Bytes) != d.Digest {
				f.Errorf("GetBlock(%s, %d): bytes do not have the digest returned with them", id, b.Index)
			}
			got[b.Index] = d.Digest
			d.Release()
		}
		if page.NextToken == "" {
			return got
		}
		next = &page.NextToken
	}
}

func code(err error) snapshot.Code {
	var e *snapshot.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return -1
}

func TestRoundTrip(t *testing.T) {
	f := newFixture(t)
	parent := f.start("")
	for _, i := range []int64{5, 0, 2047} {
		f.mustPut(parent, i, data(uint64(i)+1))
	}
	f.mustPut(parent, 7, data(0))
	if _, err := f.Service.ListBlocks(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: parent}); code(err) != snapshot.NotFound {
		t.Errorf("ListBlocks of a pending snapshot: got %v, want NotFound", err)
	}
	snap := f.complete(parent, 4, nil)
	if snap.State != snapshot.Completed || snap.FullBytes() != 4*block.Size {
		t.Fatalf("got %v with %d bytes, want completed with %d", snap.State, snap.FullBytes(), 4*block.Size)
	}
	child := f.start(parent)
	f.mustPut(child, 5, data(99))
	f.mustPut(child, 0, data(1)) // what is there already
	f.mustPut(child, 100, data(5))
	if snap := f.complete(child, 3, nil); snap.State != snapshot.Completed || snap.FullBytes() != 5*block.Size {
		t.Fatalf("child: got %v with %d bytes", snap.State, snap.FullBytes())
	}
	want := map[block.Index]block.Digest{
		0: digest(data(1)), 5: digest(data(99)), 7: block.ZeroDigest, 100: digest(data(5)), 2047: digest(data(2048)),
	}
	for range 2 {
		got := f.blocks(child)
		if len(got) != len(want) {
			t.Errorf("got %d blocks, want %d", len(got), len(want))
		}
		for i, d := range want {
			if got[i] != d {
				t.Errorf("block %d: got %v, want %v", i, got[i], d)
			}
		}
		page, err := f.Service.ListChangedBlocks(t.Context(), caller, snapshot.ListChangedRequest{FirstSnapshotID: &parent, SecondSnapshotID: child})
		if err != nil || len(page.Blocks) != 2 || page.Blocks[0].Index != 5 || page.Blocks[1].Index != 100 || page.Blocks[1].FirstToken != "" {
			t.Errorf("ListChangedBlocks: got %+v, %v, want blocks 5 and 100", page.Blocks, err)
		}
		f.Restart(t)
	}
	if err := f.Service.Delete(t.Context(), caller, parent); err != nil {
		t.Fatal(err)
	}
	if got := f.blocks(child); len(got) != len(want) {
		t.Errorf("after the parent's deletion: got %d blocks, want %d", len(got), len(want))
	}
}
