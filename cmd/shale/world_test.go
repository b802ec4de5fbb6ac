package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/blockstore/segment"
	"shale/internal/datadir"
	"shale/internal/domain"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/reclaim"
	"shale/internal/scrub"
	"shale/internal/snapshot"
	"shale/internal/vfs/crashfs"
)

// A world is a node on a disk that can fail, and what is remembered of it from
// one step of the script to the next.
type world struct {
	dir   *datadir.Dir // for paths: the files are on the disk
	disk  *crashfs.Disk
	node  *node
	log   *bytes.Buffer
	clock time.Time
	ids   map[string]string // of snapshots and keys, by the script's names
	freed reclaim.Report    // sums of what the script's cycles have given back
}

// newWorld is a world before its first start.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return &world{
		dir: dir, disk: crashfs.New(), log: &bytes.Buffer{}, ids: map[string]string{},
		clock: time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC),
	}
}

// on is the world as it is on another disk: nothing runs.
func (w *world) on(d *crashfs.Disk) *world {
	return &world{dir: w.dir, disk: d, log: &bytes.Buffer{}, clock: w.clock, ids: maps.Clone(w.ids)}
}

// open starts the node, without background work.
func (w *world) open(ctx context.Context) error {
	n, err := openIdle(ctx, w.dir, nodeOptions{
		disk: w.disk, now: func() time.Time { return w.clock }, maxSegment: 3 << 20, binTime: 24 * time.Hour, scrubEvery: time.Second, // at the highest rate
		log: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	w.node = n
	return err
}

// close stops it, whatever becomes of that: a disk that fails is left alone.
func (w *world) close() error {
	if w.node == nil {
		return nil
	}
	err := w.node.close()
	w.node = nil
	return err
}

// discard ends the world with its disk.
func (w *world) discard() {
	w.disk.PowerOff()
	_ = w.close()
	_ = w.disk.Close()
}

func (w *world) caller() snapshot.Caller {
	return snapshot.Caller{Account: w.node.account, Region: "us-east-1"}
}

// content is block number n of all that the script writes; 0 is zeros.
func content(n int) []byte {
	b := make([]byte, block.Size)
	if n > 0 {
		rng := rand.NewChaCha8([32]byte{byte(n)})
		_, _ = rng.Read(b)
	}
	return b
}

// A step is one thing that a client or the background work does. Only the
// last of what it does changes what can be seen of the node, so that a crash
// finds all of it or nothing.
type step struct {
	name string
	do   func(context.Context, *world) error
}

func starts(name, parent string, encrypted bool) step {
	return step{"start " + name, func(ctx context.Context, w *world) error {
		size, token := int64(1), "token-of-"+name
		r := snapshot.StartRequest{
			VolumeSize: &size, ClientToken: &token, Encrypted: &encrypted, Tags: []snapshot.Tag{{Key: "name", Value: name}},
		}
		if parent != "" {
			id := w.ids[parent]
			r.ParentSnapshotID, r.Encrypted = &id, nil
		}
		snap, err := w.node.service.Start(ctx, w.caller(), r)
		if err == nil {
			w.ids[name] = snap.ID
		}
		return err
	}}
}

func puts(name string, index int64, number int) step {
	return step{fmt.Sprintf("put %s %d %d", name, index, number), func(ctx context.Context, w *world) error {
		b := content(number)
		sum := sha256.Sum256(b)
		text, algorithm, length := base64.StdEncoding.EncodeToString(sum[:]), "SHA256", int64(block.Size)
		_, err := w.node.service.PutBlock(ctx, w.caller(), snapshot.PutBlockRequest{
			SnapshotID: w.ids[name], Index: index, DataLength: &length, Checksum: &text, Algorithm: &algorithm, Body: bytes.NewReader(b),
		})
		return err
	}}
}

func seals(name string, changed int64) step {
	return step{"complete " + name, func(ctx context.Context, w *world) error {
		_, err := w.node.service.Complete(ctx, w.caller(), snapshot.CompleteRequest{SnapshotID: w.ids[name], ChangedBlocks: &changed})
		return err
	}}
}

func settles(why string) step {
	return step{"settle: " + why, func(ctx context.Context, w *world) error { return w.node.service.Settle(ctx) }}
}

func passes(d time.Duration) step {
	return step{"the clock goes on " + d.String(), func(_ context.Context, w *world) error {
		w.clock = w.clock.Add(d)
		return nil
	}}
}

func asks(what string, do func(context.Context, *snapshot.Service, snapshot.Caller, *world) error) step {
	return step{what, func(ctx context.Context, w *world) error { return do(ctx, w.node.service, w.caller(), w) }}
}

func copies(name, from string, encrypted bool) step {
	return asks("copy "+from, func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
		r := snapshot.CopyRequest{SourceRegion: c.Region, SourceID: w.ids[from]}
		if encrypted {
			r.Encrypted = &encrypted
		}
		snap, err := s.Copy(ctx, c, r)
		if err == nil {
			w.ids[name] = snap.ID
		}
		return err
	})
}

func locks(name string, days int64) step {
	return asks("lock "+name, func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
		_, err := s.Lock(ctx, c, snapshot.LockRequest{SnapshotID: w.ids[name], Days: &days})
		return err
	})
}

func deletes(name string) step {
	return asks("delete "+name, func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
		return s.Delete(ctx, c, w.ids[name])
	})
}

func restarts() step {
	return step{"restart", func(ctx context.Context, w *world) error {
		err := w.close()
		return errors.Join(err, w.open(ctx))
	}}
}

// reclaims runs a cycle of the collector.
func reclaims(why string) step {
	return step{"reclaim: " + why, func(ctx context.Context, w *world) error {
		r, err := w.node.collector.Cycle(ctx)
		w.freed.Removed += r.Removed
		w.freed.Relocated += r.Relocated
		w.freed.Dropped += r.Dropped
		return err
	}}
}

// scrubs reads everything.
func scrubs() step {
	return step{"scrub", func(ctx context.Context, w *world) error {
		err := w.node.scrub.Step(ctx)
		if n := w.node.scrub.Stats().Found.Load(); err == nil && n > 0 {
			err = fmt.Errorf("%d records are damaged", n)
		}
		return err
	}}
}

// script is everything that a store goes through. The first step is the first
// start.
func script() []step {
	return []step{
		{"first start", func(ctx context.Context, w *world) error { return w.open(ctx) }},
		starts("a", "", false),
		puts("a", 0, 1), puts("a", 7, 2), puts("a", 2047, 3), puts("a", 8, 0), puts("a", 9, 0),
		puts("a", 1, 1), // a hit
		puts("a", 7, 4), // another content
		seals("a", 6), settles("a is completed"),
		starts("e", "", true), // the first under its KMS key
		puts("e", 3, 1), puts("e", 4, 5), puts("e", 5, 0), puts("e", 6, 5),
		seals("e", 4), settles("e is completed"),
		starts("b", "a", false),
		puts("b", 7, 6), puts("b", 100, 7), puts("b", 101, 3),
		asks("tag", func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
			return s.CreateTags(ctx, c, snapshot.TagRequest{
				IDs: []string{w.ids["a"], w.ids["b"]}, Tags: []snapshot.Tag{{Key: "k", Value: "v"}, {Key: "name", Value: "new"}},
			})
		}),
		locks("b", 1),
		restarts(),
		puts("b", 7, 8),
		seals("b", 3), settles("b is completed"),
		asks("untag", func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
			return s.DeleteTags(ctx, c, snapshot.UntagRequest{IDs: []string{w.ids["b"]}, Matches: []snapshot.TagMatch{{Key: "k"}}})
		}),
		asks("share", func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
			return s.Share(ctx, c, snapshot.ShareRequest{SnapshotID: w.ids["b"], Accounts: []string{"444455556666"}})
		}),
		copies("c", "e", false), settles("c takes over a map"),
		starts("one", "", false), puts("one", 5, 9), seals("one", 1), settles("one is completed"),
		copies("d", "one", true), settles("d is written anew"),
		deletes("a"),
		asks("restore", func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, w *world) error {
			_, err := s.Restore(ctx, c, snapshot.RestoreRequest{SnapshotID: w.ids["a"]})
			return err
		}),
		deletes("e"),
		starts("late", "", false), puts("late", 0, 10),
		starts("gone", "b", false), puts("gone", 0, 11), deletes("gone"),
		starts("big", "", false), puts("big", 0, 14), puts("big", 1, 15), puts("big", 2, 16), puts("big", 3, 17), puts("big", 4, 18),
		seals("big", 5), settles("big is completed"), deletes("big"),
		passes(25 * time.Hour), settles("late has failed, the lock has ended, the bin is purged"),
		reclaims("what is not needed is condemned"),
		starts("again", "b", false), puts("again", 2, 15), // condemned
		reclaims("that is removed"),
		puts("again", 3, 16), puts("again", 4, 19), // removed, and new
		seals("again", 3), settles("again is completed"),
		scrubs(),
		restarts(),
		reclaims("nothing but old manifests"),
		{"make a key", func(ctx context.Context, w *world) error {
			_, err := w.node.kms.CreateKey(ctx, kms.Caller{Account: w.node.account, Region: "us-east-1"}, kms.CreateRequest{Description: "a key"})
			return err
		}},
		{"name a key", func(ctx context.Context, w *world) error {
			c := kms.Caller{Account: w.node.account, Region: "us-east-1"}
			all, err := w.node.kms.Keys(ctx, c)
			if err != nil {
				return err
			}
			for _, k := range all {
				if k.Manager == kms.Customer {
					w.ids["key"] = k.ID
				}
			}
			return w.node.kms.CreateAlias(ctx, c, "alias/mine", w.ids["key"])
		}},
		asks("a key by default", func(ctx context.Context, s *snapshot.Service, c snapshot.Caller, _ *world) error {
			_, err := s.SetDefaultKey(ctx, c, "alias/mine")
			return err
		}),
		starts("f", "", true), puts("f", 0, 5), puts("f", 1, 12),
		{"schedule the key's deletion", func(ctx context.Context, w *world) error {
			days := int64(7)
			_, err := w.node.kms.ScheduleDeletion(ctx, kms.Caller{Account: w.node.account, Region: "us-east-1"}, w.ids["key"], &days)
			return err
		}},
		{"cancel that", func(ctx context.Context, w *world) error {
			_, err := w.node.kms.CancelDeletion(ctx, kms.Caller{Account: w.node.account, Region: "us-east-1"}, w.ids["key"])
			return err
		}},
		{"enable the key", func(ctx context.Context, w *world) error {
			return w.node.kms.EnableKey(ctx, kms.Caller{Account: w.node.account, Region: "us-east-1"}, w.ids["key"])
		}},
		starts("last", "b", false), puts("last", 1, 13), puts("last", 50, 1),
		asks("count usage", func(ctx context.Context, s *snapshot.Service, _ snapshot.Caller, _ *world) error {
			return s.CountUsage(ctx)
		}),
		seals("last", 2),
		restarts(),
		settles("last is completed"),
	}
}

// look gives everything that can be seen of the node through its API, as text:
// each snapshot in each state, with the digest of every block that it has, read
// and verified.
func (w *world) look(ctx context.Context) (string, error) {
	c, s := w.caller(), w.node.service
	var out strings.Builder
	page, err := s.Describe(ctx, c, snapshot.DescribeRequest{Owners: []string{"self"}})
	if err != nil {
		return "", err
	}
	for _, snap := range page.Snapshots {
		fmt.Fprintf(&out, "%s %v %q parent %q %d GiB %v encrypted %v key %q tags %v\n", snap.ID, snap.State, snap.Message, snap.ParentID,
			snap.VolumeSize, snap.StartTime.UTC(), snap.Encrypted(), snap.KMSKeyARN, snap.Tags)
		if err := w.lookInto(ctx, &out, &snap); waits(err) {
			fmt.Fprintf(&out, "  its key cannot be used\n")
		} else if err != nil {
			return "", fmt.Errorf("%s: %w", snap.ID, err)
		}
		accounts, err := s.Grantees(ctx, c, snapshot.AttributeRequest{SnapshotID: snap.ID})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "  shared with %v\n", accounts)
	}
	locks, err := s.Locks(ctx, c, snapshot.LocksRequest{})
	if err != nil {
		return "", err
	}
	for _, l := range locks.Snapshots {
		fmt.Fprintf(&out, "lock on %s: %+v\n", l.ID, l.Lock)
	}
	bin, err := s.Bin(ctx, c, snapshot.BinRequest{})
	if err != nil {
		return "", err
	}
	for _, b := range bin.Snapshots {
		fmt.Fprintf(&out, "bin: %s until %v\n", b.Snapshot.ID, b.ExitsAt)
	}
	byDefault, err := s.DefaultKey(ctx, c)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&out, "default key %s\n", byDefault)
	keys := kms.Caller{Account: c.Account, Region: c.Region}
	all, err := w.node.kms.Keys(ctx, keys)
	if err != nil {
		return "", err
	}
	for _, k := range all {
		if k.Manager != kms.Customer {
			continue // made by whoever needs it first, before he does anything that can be seen
		}
		m, err := w.node.kms.Describe(ctx, keys, k.ID)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "key %+v\n", m)
	}
	aliases, err := w.node.kms.Aliases(ctx, keys, "")
	for _, a := range aliases {
		if a.Name != kms.DefaultKeyAlias { // of a key that is left out, too
			fmt.Fprintf(&out, "alias %+v\n", a)
		}
	}
	return out.String(), err
}

func (w *world) lookInto(ctx context.Context, out *strings.Builder, snap *snapshot.Snapshot) error {
	c, s := w.caller(), w.node.service
	switch snap.State {
	case snapshot.Open, snapshot.Completing: // what a copy has received nobody sees
		pending, err := s.ListPending(ctx, c, snapshot.ListBlocksRequest{SnapshotID: snap.ID})
		for _, b := range pending.Blocks {
			fmt.Fprintf(out, "  pending %d %x\n", b.Index, b.Digest[:8])
		}
		return err
	case snapshot.Completed:
		list, err := s.ListBlocks(ctx, c, snapshot.ListBlocksRequest{SnapshotID: snap.ID})
		if err != nil {
			return err
		}
		for _, b := range list.Blocks {
			data, err := s.GetBlock(ctx, c, snapshot.GetBlockRequest{SnapshotID: snap.ID, Index: int64(b.Index), Token: &b.Token})
			if err != nil {
				return fmt.Errorf("block %d: %w", b.Index, err)
			}
			sum := sha256.Sum256(data.Bytes)
			data.Release()
			if sum != data.Digest {
				return fmt.Errorf("block %d: wrong bytes", b.Index)
			}
			fmt.Fprintf(out, "  block %d %x\n", b.Index, sum[:8])
		}
	}
	return nil
}

// waits reports whether an error says that a KMS key cannot be used.
func waits(err error) bool {
	e, ok := errors.AsType[*snapshot.Error](err)
	return ok && e.Code == snapshot.KeyRefused
}

// finish completes what is open, and gives what there is to be seen then.
func (w *world) finish(ctx context.Context) (string, error) {
	c, s := w.caller(), w.node.service
	page, err := s.Describe(ctx, c, snapshot.DescribeRequest{Owners: []string{"self"}})
	if err != nil {
		return "", err
	}
	for _, snap := range page.Snapshots {
		if snap.State != snapshot.Open {
			continue
		}
		pending, err := s.ListPending(ctx, c, snapshot.ListBlocksRequest{SnapshotID: snap.ID})
		if waits(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		n := int64(len(pending.Blocks))
		if _, err := s.Complete(ctx, c, snapshot.CompleteRequest{SnapshotID: snap.ID, ChangedBlocks: &n}); err != nil {
			return "", err
		}
	}
	if err := s.Settle(ctx); err != nil {
		return "", err
	}
	return w.look(ctx)
}

// sound proves the invariants of docs/formats.md, as shale check does, but for the
// payloads, which look has read.
func (w *world) sound(ctx context.Context) error {
	id, err := w.node.storeID(ctx)
	if err != nil {
		return err
	}
	medium, err := segment.OpenReadOnly(w.disk.Folder(w.dir.Segments()), id)
	if err != nil {
		return err
	}
	defer medium.Close()
	walk := scrub.New(scrub.Options{Catalog: w.node.catalog, Medium: medium, Count: true})
	if err := walk.All(ctx); err != nil {
		return err
	}
	more, _, err := scrub.Check(ctx, scrub.CheckOptions{
		Catalog: w.node.catalog, Medium: medium, FileName: segment.FileName,
		Key: func(context.Context, domain.Number) *domain.Key { return nil },
		ARN: func(n domain.Number) (string, error) { return keyring.ReadARN(w.disk.Folder(w.dir.Domains()), n) },
	})
	if err != nil {
		return err
	}
	walk.Report.Include(more)
	for _, f := range walk.Report.Findings {
		err = errors.Join(err, fmt.Errorf("invariant %d: %v", f.Invariant, f))
	}
	return err
}

// completes completes what is open, which leaves all as it has to be.
func (w *world) completes(ctx context.Context) error {
	if _, err := w.finish(ctx); err != nil {
		return fmt.Errorf("what was open cannot be completed: %w", err)
	}
	if err := w.sound(ctx); err != nil {
		return fmt.Errorf("not all is as it has to be: %w", err)
	}
	return nil
}

// reclaimed runs two cycles, so that what one condemns is removed, and sees that
// nothing is missing.
func (w *world) reclaimed(ctx context.Context) error {
	before, err := w.look(ctx)
	if err != nil {
		return err
	}
	if err := w.sound(ctx); err != nil {
		return fmt.Errorf("before them: %w", err)
	}
	for range 2 {
		if _, err := w.node.collector.Cycle(ctx); err != nil {
			return err
		}
	}
	if err := w.sound(ctx); err != nil {
		return err
	}
	if err := errors.Join(w.close(), w.open(ctx)); err != nil {
		return err // and what is in memory is gone
	}
	if after, err := w.look(ctx); err != nil || after != before {
		return fmt.Errorf("%w\n%s", err, cmp.Diff(before, after))
	}
	return nil
}

// digestOf is the digest of a block of the script, as look tells it.
func digestOf(number int) string {
	sum := sha256.Sum256(content(number))
	return fmt.Sprintf("%x", sum[:8])
}

// finals are the blocks that each snapshot of the script has in the end.
var finals = map[string]map[int]int{
	"a":     {0: 1, 1: 1, 7: 4, 8: 0, 9: 0, 2047: 3},
	"again": {0: 1, 1: 1, 2: 15, 3: 16, 4: 19, 7: 8, 8: 0, 9: 0, 100: 7, 101: 3, 2047: 3},
	"b":     {0: 1, 1: 1, 7: 8, 8: 0, 9: 0, 100: 7, 101: 3, 2047: 3},
	"c":     {3: 1, 4: 5, 5: 0, 6: 5},
	"d":     {5: 9},
	"f":     {0: 5, 1: 12},
	"last":  {0: 1, 1: 13, 7: 8, 8: 0, 9: 0, 50: 1, 100: 7, 101: 3, 2047: 3},
	"one":   {5: 9},
}

// checkFinals compares what is seen of the completed snapshots with what the
// script wrote.
func (w *world) checkFinals(t *testing.T, seen string) {
	t.Helper()
	byID := map[string]string{}
	id := ""
	for line := range strings.Lines(seen) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "snap-") {
			id = fields[0]
		} else if fields[0] == "block" || fields[0] == "pending" {
			byID[id] += fields[1] + " " + fields[2] + "\n"
		}
	}
	for name, blocks := range finals {
		want := ""
		for _, index := range slices.Sorted(maps.Keys(blocks)) {
			want += fmt.Sprintf("%d %s\n", index, digestOf(blocks[index]))
		}
		if got := byID[w.ids[name]]; got != want {
			t.Errorf("snapshot %s has the blocks\n%swant\n%s", name, got, want)
		}
	}
}

// seedOf mixes numbers into a seed.
func seedOf(numbers ...int64) uint64 {
	h := sha256.New()
	for _, n := range numbers {
		_ = binary.Write(h, binary.LittleEndian, n)
	}
	return binary.LittleEndian.Uint64(h.Sum(nil))
}
