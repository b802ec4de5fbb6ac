package catalog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
)

func TestStatsOfAnEmptyStore(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, err := catalog.Open(t.Context(), place, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Stats(t.Context())
		if err != nil || len(s.Snapshots)+len(s.Records) > 0 || s.Bytes != 0 || !s.Reclaim.Began.IsZero() {
			t.Errorf("got %+v, %v, want nothing", s, err)
		}
		if err := c.Sizes(t.Context(), func(catalog.Size) error { return nil }); err != nil {
			t.Error(err)
		}
		if roots, err := c.Held(t.Context(), func(block.ID) {}); err != nil || len(roots) > 0 {
			t.Errorf("Held: got %v, %v, want nothing", roots, err)
		}
	})
}

// Records are added up by kind and codec, those that are condemned apart.
func TestStatsOfRecords(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		c, _ := createAt(t, place)
		b := blockstore.Commit{Container: 1, Committed: 1 << 20}
		add := func(kind blockstore.Kind, codec blockstore.Codec, length uint32) blockstore.Stored {
			n := byte(len(b.Stored))
			r := blockstore.Stored{Kind: kind, ID: block.ID{255 - n, n}, Location: blockstore.Location{
				Container: 1, Offset: int64(n), Length: length, Codec: codec,
			}}
			b.Stored = append(b.Stored, r)
			return r
		}
		add(blockstore.KindNode, blockstore.CodecRaw, 1)
		add(blockstore.KindBlock, 3, 20)
		bad := add(blockstore.KindBlock, blockstore.CodecRaw, 300)
		add(blockstore.KindBlock, blockstore.CodecZero, 0)
		gone := []blockstore.Stored{
			add(blockstore.KindBlock, blockstore.CodecRaw, 4000), add(blockstore.KindNode, blockstore.CodecRaw, 50_000), add(blockstore.KindManifest, 3, 7),
		}
		add(blockstore.KindBlock, blockstore.CodecRaw, 600_000)
		add(blockstore.KindManifest, blockstore.CodecRaw, 8)
		if _, err := c.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		for _, r := range []blockstore.Stored{bad, gone[0]} {
			if err := c.MarkDamaged(t.Context(), r.ID, r.Location); err != nil {
				t.Fatal(err)
			}
		}
		g, err := c.OpenGeneration(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var sentence reclaim.Sentence
		for _, r := range gone {
			sentence.Condemn = append(sentence.Condemn, reclaim.Candidate{ID: r.ID})
		}
		if err := c.CarryOut(t.Context(), g, &sentence); err != nil {
			t.Fatal(err)
		}
		s, err := c.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []catalog.RecordStats{
			{Kind: blockstore.KindBlock, Codec: blockstore.CodecRaw, Count: 2, Bytes: 600_300},
			{Kind: blockstore.KindBlock, Codec: blockstore.CodecZero, Count: 1},
			{Kind: blockstore.KindBlock, Codec: 3, Count: 1, Bytes: 20},
			{Kind: blockstore.KindNode, Codec: blockstore.CodecRaw, Count: 1, Bytes: 1},
			{Kind: blockstore.KindManifest, Codec: blockstore.CodecRaw, Count: 1, Bytes: 8},
		}
		if d := cmp.Diff(want, s.Records); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if s.Damaged != 2 || s.Condemned != (catalog.RecordStats{Count: 3, Bytes: 54_007}) {
			t.Errorf("%d damaged, condemned %+v", s.Damaged, s.Condemned)
		}
	})
}

// What an account has is told apart by region and state.
func TestAccountStats(t *testing.T) {
	onBoth(t, func(t *testing.T, place string) {
		l := newLimited(t, place)
		none, err := l.catalog.AccountStats(t.Context())
		if err != nil || len(none) > 0 {
			t.Errorf("at first: got %+v, %v", none, err)
		}
		create := func(account, region string) snapshot.Snapshot {
			s, err := l.catalog.Create(t.Context(), snapshot.NewSnapshot{Snapshot: l.next(account, region)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		finish := func(s snapshot.Snapshot, blocks int64) {
			if done, err := l.catalog.Seal(t.Context(), s.Key, snapshot.Claim{}); err != nil || !done {
				t.Fatal(done, err)
			}
			if done, err := l.catalog.Finish(t.Context(), s.Key, snapshot.Map{Blocks: blocks}); err != nil || !done {
				t.Fatal(done, err)
			}
		}
		remove := func(s snapshot.Snapshot, keep time.Duration) {
			if done, err := l.catalog.Delete(t.Context(), s.Account, s.Region, s.ID, keep); err != nil || !done {
				t.Fatal(done, err)
			}
		}
		one, two, binned := create(account, "us-east-1"), create(account, "us-east-1"), create(account, "us-east-1")
		finish(one, 5)
		finish(two, 7)
		finish(binned, 11)
		remove(binned, time.Hour)
		remove(create(account, "us-east-1"), 0)
		pending, failed := create(account, "us-east-1"), create(account, "us-east-1")
		commit(t, l.catalog, pending, 0, 3)
		if done, err := l.catalog.Seal(t.Context(), failed.Key, snapshot.Claim{}); err != nil || !done {
			t.Fatal(done, err)
		}
		if done, err := l.catalog.Fail(t.Context(), failed.Key, "x"); err != nil || !done {
			t.Fatal(done, err)
		}
		if err := l.catalog.SetUsage(t.Context(), map[int64]snapshot.Usage{one.Key: {Unique: 4096, Shared: 1}}, snapshot.HoldersDigest{}); err != nil {
			t.Fatal(err)
		}
		create(account, "eu-west-1")
		create("444455556666", "us-east-1")
		want := []catalog.AccountStats{
			{Account: account, Name: "account0", Region: "eu-west-1", Pending: 1, VolumeGiB: 1},
			{
				Account: account, Name: "account0", Region: "us-east-1", Completed: 2, Pending: 1, Failed: 1, Binned: 1,
				VolumeGiB: 4, Blocks: 23, Written: 3, Unique: 4096, Counted: 1,
			},
			{Account: "444455556666", Name: "account1", Region: "us-east-1", Pending: 1, VolumeGiB: 1},
		}
		got, err := l.catalog.AccountStats(t.Context())
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
	})
}
