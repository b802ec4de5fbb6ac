package snapshottest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/snapshot"
)

// Block is a block of the seed, which cannot be compressed, so that a few of
// them fill a segment; seed 0 is the block of zeros.
func Block(seed uint64) []byte {
	b := make([]byte, block.Size)
	if seed > 0 {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], seed)
		_, _ = rand.NewChaCha8(key).Read(b)
	}
	return b
}

// Start begins a snapshot of 1 GiB, or of its parent's, as the request has it
// otherwise.
func (e *Env) Start(t testing.TB, c snapshot.Caller, r snapshot.StartRequest) string {
	t.Helper()
	if r.VolumeSize == nil {
		r.VolumeSize = new(int64(1))
	}
	snap, err := e.Service.Start(t.Context(), c, r)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return snap.ID
}

// Put writes blocks of the seeds, by their index.
func (e *Env) Put(t testing.TB, c snapshot.Caller, id string, seeds map[int64]uint64) {
	t.Helper()
	for index, seed := range seeds {
		b := Block(seed)
		sum, length := block.Digest(sha256.Sum256(b)).Base64(), int64(len(b))
		if _, err := e.Service.PutBlock(t.Context(), c, snapshot.PutBlockRequest{
			SnapshotID: id, Index: index, DataLength: &length, Checksum: &sum, Algorithm: new("SHA256"), Body: bytes.NewReader(b),
		}); err != nil {
			t.Fatalf("PutBlock(%s, %d): %v", id, index, err)
		}
	}
}

// Complete completes a snapshot and waits for that.
func (e *Env) Complete(t testing.TB, c snapshot.Caller, id string, count int64) {
	t.Helper()
	if _, err := e.Service.Complete(t.Context(), c, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: &count}); err != nil {
		t.Fatalf("Complete(%s): %v", id, err)
	}
	e.Settle(t)
}

// Settle waits until all that is due is done.
func (e *Env) Settle(t testing.TB) {
	t.Helper()
	if err := e.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Make makes a completed snapshot with blocks of the seeds.
func (e *Env) Make(t testing.TB, c snapshot.Caller, r snapshot.StartRequest, seeds map[int64]uint64) string {
	t.Helper()
	id := e.Start(t, c, r)
	e.Put(t, c, id, seeds)
	e.Complete(t, c, id, int64(len(seeds)))
	return id
}

// Busy does to the store a little of all that can be done to one, with a
// recycle bin. It gives the pending snapshot that it leaves.
func (e *Env) Busy(t testing.TB) (pending string) {
	t.Helper()
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	ctx := t.Context()
	bin := e.BinTime
	e.BinTime = 0
	e.Restart(t)
	s := e.Service
	deleted := e.Make(t, Caller, snapshot.StartRequest{}, map[int64]uint64{1: 1000})
	do("delete", s.Delete(ctx, Caller, deleted))
	e.BinTime = max(bin, 24*time.Hour)
	e.Restart(t)
	s = e.Service

	first := e.Make(t, Caller, snapshot.StartRequest{
		Description: new("the first, with “quotes”"), Tags: []snapshot.Tag{{Key: "Name", Value: "first"}, {Key: "empty", Value: ""}},
	}, map[int64]uint64{0: 1, 5: 2, 63: 0, 64: 3, 2047: 4})
	child := e.Make(t, Caller, snapshot.StartRequest{ParentSnapshotID: &first}, map[int64]uint64{5: 5, 6: 1})
	grandchild := e.Make(t, Caller, snapshot.StartRequest{ParentSnapshotID: &child}, map[int64]uint64{5: 2, 700: 6})
	empty := e.Make(t, Caller, snapshot.StartRequest{VolumeSize: new(int64(64 << 10))}, nil)
	key := e.KMS.Create(Caller.Account, Caller.Region)
	sealed := e.Make(t, Caller, snapshot.StartRequest{KMSKeyARN: &key}, map[int64]uint64{0: 1, 9: 0, 17: 7})
	e.Make(t, Caller, snapshot.StartRequest{ParentSnapshotID: &sealed}, map[int64]uint64{17: 8})
	theirs := e.Make(t, Other, snapshot.StartRequest{}, map[int64]uint64{3: 9})
	for _, r := range []snapshot.CopyRequest{{SourceID: first}, {SourceID: sealed}, {SourceID: first, Encrypted: new(true), KMSKey: &key}} {
		r.SourceRegion = Caller.Region
		_, err := s.Copy(ctx, Caller, r)
		do("copy", err)
	}
	e.Settle(t)

	do("share", s.Share(ctx, Caller, snapshot.ShareRequest{SnapshotID: first, Accounts: []string{Other.Account, "999900001111"}}))
	do("share", s.Share(ctx, Caller, snapshot.ShareRequest{SnapshotID: child, Accounts: []string{Other.Account}}))
	do("unshare", s.Unshare(ctx, Caller, snapshot.ShareRequest{SnapshotID: child, Accounts: []string{Other.Account}}))
	do("tag", s.CreateTags(ctx, Caller, snapshot.TagRequest{IDs: []string{first, child, sealed}, Tags: []snapshot.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}}))
	do("tag", s.CreateTags(ctx, Other, snapshot.TagRequest{IDs: []string{first, theirs}, Tags: []snapshot.Tag{{Key: "a", Value: "of theirs"}}}))
	do("untag", s.DeleteTags(ctx, Caller, snapshot.UntagRequest{IDs: []string{child}, Matches: []snapshot.TagMatch{{Key: "a"}}}))
	_, err := s.SetTags(ctx, Caller, grandchild, []snapshot.Tag{{Key: "only", Value: "one"}})
	do("set tags", err)

	_, err = s.Lock(ctx, Caller, snapshot.LockRequest{SnapshotID: first, Days: new(int64(10))})
	do("lock", err)
	_, err = s.Lock(ctx, Caller, snapshot.LockRequest{SnapshotID: sealed, Compliance: true, Days: new(int64(30)), CoolOffHours: new(int64(5))})
	do("lock", err)
	_, err = s.Lock(ctx, Caller, snapshot.LockRequest{SnapshotID: grandchild, Days: new(int64(1))})
	do("lock", err)
	do("unlock", s.Unlock(ctx, Caller, snapshot.UnlockRequest{SnapshotID: grandchild}))
	locked := e.Start(t, Caller, snapshot.StartRequest{})
	_, err = s.Lock(ctx, Caller, snapshot.LockRequest{SnapshotID: locked, Days: new(int64(2))})
	do("lock", err)
	e.Clock.Advance(time.Minute)
	e.Complete(t, Caller, locked, 0)

	do("into the bin", s.Delete(ctx, Caller, empty))
	do("into the bin", s.Delete(ctx, Caller, grandchild))
	_, err = s.Restore(ctx, Caller, snapshot.RestoreRequest{SnapshotID: grandchild})
	do("out of the bin", err)

	pending = e.Start(t, Caller, snapshot.StartRequest{ParentSnapshotID: &first})
	e.Put(t, Caller, pending, map[int64]uint64{1: 11, 2: 12})
	return pending
}

// Inventory is all that the two accounts can find out about their snapshots but
// those pending: one line for each thing.
func (e *Env) Inventory(t testing.TB) []string {
	t.Helper()
	var lines []string
	add := func(what string, v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, what+" "+string(b))
	}
	ctx, s := t.Context(), e.Service
	for _, c := range []snapshot.Caller{Caller, Other} {
		page, err := s.Describe(ctx, c, snapshot.DescribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range page.Snapshots {
			if snap.State != snapshot.Completed {
				continue
			}
			snap.Base, snap.BaseBlocks, snap.Deadline = block.ID{}, 0, time.Time{} // of use while it was pending
			add(c.Account+" sees", snap, nil)
			if snap.Account == c.Account {
				list, err := s.Grantees(ctx, c, snapshot.AttributeRequest{SnapshotID: snap.ID})
				add(snap.ID+" is shared with", list, err)
			}
			lines = append(lines, e.Blocks(t, c, snap.ID)...)
		}
		bin, err := s.Bin(ctx, c, snapshot.BinRequest{})
		for i := range bin.Snapshots {
			b := &bin.Snapshots[i].Snapshot
			b.Base, b.BaseBlocks, b.Deadline = block.ID{}, 0, time.Time{}
		}
		add(c.Account+" has in the bin", bin, err)
		locks, err := s.Locks(ctx, c, snapshot.LocksRequest{})
		add(c.Account+" has locked", locks, err)
		tags, err := s.ListTags(ctx, c, snapshot.ListTagsRequest{})
		add(c.Account+" has tags", tags, err)
	}
	return lines
}

// Compare names what of one Inventory is not in the other.
func Compare(t testing.TB, got, want []string) {
	t.Helper()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("lost:  %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("other: %s", line)
		}
	}
}

// Blocks lists and reads a snapshot: a line for each block.
func (e *Env) Blocks(t testing.TB, c snapshot.Caller, id string) (lines []string) {
	t.Helper()
	page, err := e.Service.ListBlocks(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: id})
	if err != nil {
		t.Fatalf("ListBlocks(%s): %v", id, err)
	}
	for _, b := range page.Blocks {
		line := fmt.Sprintf("%s block %d ", id, b.Index)
		d, err := e.Service.GetBlock(t.Context(), c, snapshot.GetBlockRequest{SnapshotID: id, Index: int64(b.Index), Token: &b.Token})
		if err != nil {
			lines = append(lines, line+err.Error())
			continue
		}
		lines = append(lines, fmt.Sprintf("%s%x, %s", line, sha256.Sum256(d.Bytes), d.Digest.Base64()))
		d.Release()
	}
	return lines
}

// WithSegmentVersion gives a segment that says to be of the format version.
func WithSegmentVersion(segment []byte, version uint16) []byte {
	b := bytes.Clone(segment)
	binary.LittleEndian.PutUint16(b[8:], version)
	binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
