package simulation_test

import (
	"context"
	"strings"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/domain"
	"shale/internal/kms"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
)

// stops is a catalog whose transactions are points: one stands before, where it
// is not certain yet who comes first, and one behind each that changes
// something, where it has happened and nobody knows.
type stops struct {
	*catalog.Catalog
	s *scheduler
}

var (
	_ snapshot.Catalog = stops{}
	_ blockstore.Index = stops{}
	_ reclaim.Catalog  = stops{}
)

// around is a point before, and gives the one behind.
func (c stops) around(ctx context.Context, what string, args ...any) func() {
	c.s.point(ctx, what, args...)
	return func() { c.s.point(ctx, what+" done", args...) }
}

func (c stops) Locate(ctx context.Context, id block.ID) (blockstore.Location, bool, error) {
	c.s.point(ctx, "locate %.4v", id)
	return c.Catalog.Locate(ctx, id)
}

func (c stops) Commit(ctx context.Context, b *blockstore.Commit) ([]error, error) {
	defer c.around(ctx, "commit %d records, %d refs", len(b.Stored), len(b.Refs))()
	return c.Catalog.Commit(ctx, b)
}

func (c stops) MarkDamaged(ctx context.Context, id block.ID, loc blockstore.Location) error {
	c.s.point(ctx, "mark %.4v as damaged", id)
	return c.Catalog.MarkDamaged(ctx, id, loc)
}

func (c stops) Snapshot(ctx context.Context, id string) (snapshot.Snapshot, bool, error) {
	c.s.point(ctx, "look up")
	return c.Catalog.Snapshot(ctx, id)
}

func (c stops) SnapshotToWrite(ctx context.Context, id string) (snapshot.Snapshot, bool, error) {
	c.s.point(ctx, "look up to write")
	return c.Catalog.SnapshotToWrite(ctx, id)
}

func (c stops) Create(ctx context.Context, n snapshot.NewSnapshot) (snapshot.Snapshot, error) {
	defer c.around(ctx, "create")()
	return c.Catalog.Create(ctx, n)
}

func (c stops) Seal(ctx context.Context, key int64, claim snapshot.Claim) (bool, error) {
	defer c.around(ctx, "seal %d", key)()
	return c.Catalog.Seal(ctx, key, claim)
}

func (c stops) Pending(ctx context.Context, s *snapshot.Snapshot, from block.Index, limit int) ([]snapshot.PendingBlock, error) {
	c.s.point(ctx, "pending of %d from %d", s.Key, from)
	return c.Catalog.Pending(ctx, s, from, limit)
}

func (c stops) Finish(ctx context.Context, key int64, m snapshot.Map) (bool, error) {
	defer c.around(ctx, "finish %d", key)()
	return c.Catalog.Finish(ctx, key, m)
}

func (c stops) Fail(ctx context.Context, key int64, message string) (bool, error) {
	defer c.around(ctx, "fail %d", key)()
	return c.Catalog.Fail(ctx, key, message)
}

func (c stops) Expire(ctx context.Context, message string) (int64, error) {
	c.s.point(ctx, "expire")
	return c.Catalog.Expire(ctx, message)
}

func (c stops) Delete(ctx context.Context, account, region, id string, keep time.Duration) (bool, error) {
	defer c.around(ctx, "delete")()
	return c.Catalog.Delete(ctx, account, region, id, keep)
}

func (c stops) Restore(ctx context.Context, account, region, id string) (snapshot.Snapshot, bool, error) {
	defer c.around(ctx, "restore")()
	return c.Catalog.Restore(ctx, account, region, id)
}

func (c stops) Purge(ctx context.Context) (int64, error) {
	c.s.point(ctx, "purge")
	return c.Catalog.Purge(ctx)
}

func (c stops) Sweep(ctx context.Context, deletedBefore time.Time, limit int) (bool, error) {
	c.s.point(ctx, "sweep")
	return c.Catalog.Sweep(ctx, deletedBefore, limit)
}

func (c stops) CreateCopy(ctx context.Context, n snapshot.Copy, l snapshot.Limits) (snapshot.Copy, error) {
	defer c.around(ctx, "create copy")()
	return c.Catalog.CreateCopy(ctx, n, l)
}

func (c stops) FinishCopy(ctx context.Context, key int64, r snapshot.CopyResult) (bool, error) {
	defer c.around(ctx, "finish copy %d", key)()
	return c.Catalog.FinishCopy(ctx, key, r)
}

func (c stops) Holders(ctx context.Context) ([]snapshot.Holder, error) {
	c.s.point(ctx, "holders")
	return c.Catalog.Holders(ctx)
}

func (c stops) Completing(ctx context.Context) ([]snapshot.Snapshot, error) {
	c.s.point(ctx, "completing")
	return c.Catalog.Completing(ctx)
}

func (c stops) Copies(ctx context.Context) ([]snapshot.Copy, error) {
	c.s.point(ctx, "copies")
	return c.Catalog.Copies(ctx)
}

func (c stops) KeepLockTime(ctx context.Context) error {
	c.s.point(ctx, "keep the time of locks")
	return c.Catalog.KeepLockTime(ctx)
}

func (c stops) Lock(ctx context.Context, key int64) (snapshot.Lock, bool, time.Time, error) {
	c.s.point(ctx, "lock of %d", key)
	return c.Catalog.Lock(ctx, key)
}

func (c stops) AccountSetting(ctx context.Context, caller snapshot.Caller, name string) (string, error) {
	c.s.point(ctx, "setting %s", name)
	return c.Catalog.AccountSetting(ctx, caller, name)
}

func (c stops) Snapshots(ctx context.Context, account, region string, after snapshot.Cursor, limit int) ([]snapshot.Snapshot, error) {
	c.s.point(ctx, "snapshots")
	return c.Catalog.Snapshots(ctx, account, region, after, limit)
}

func (c stops) Tags(ctx context.Context, account string, list []snapshot.Snapshot) error {
	c.s.point(ctx, "tags")
	return c.Catalog.Tags(ctx, account, list)
}

func (c stops) Usage(ctx context.Context, list []snapshot.Snapshot) error {
	c.s.point(ctx, "usage")
	return c.Catalog.Usage(ctx, list)
}

func (c stops) ZeroBlocks(ctx context.Context) (map[block.ID]bool, error) {
	c.s.point(ctx, "zero blocks")
	return c.Catalog.ZeroBlocks(ctx)
}

func (c stops) SetUsage(ctx context.Context, usage map[int64]snapshot.Usage, of snapshot.HoldersDigest) error {
	c.s.point(ctx, "set usage of %d", len(usage))
	return c.Catalog.SetUsage(ctx, usage, of)
}

func (c stops) OpenGeneration(ctx context.Context) (reclaim.Generation, error) {
	defer c.around(ctx, "open generation")()
	return c.Catalog.OpenGeneration(ctx)
}

func (c stops) Held(ctx context.Context, mark func(block.ID)) ([]block.ID, error) {
	defer c.around(ctx, "held")()
	return c.Catalog.Held(ctx, mark)
}

func (c stops) Candidates(ctx context.Context, after block.ID, limit int) ([]reclaim.Candidate, error) {
	defer c.around(ctx, "candidates")()
	return c.Catalog.Candidates(ctx, after, limit)
}

func (c stops) CarryOut(ctx context.Context, g reclaim.Generation, v *reclaim.Sentence) error {
	defer c.around(ctx, "condemn %d, remove %d, pardon %d", len(v.Condemn), len(v.Remove), len(v.Pardon))()
	return c.Catalog.CarryOut(ctx, g, v)
}

func (c stops) Renew(ctx context.Context, ids []block.ID) ([]bool, error) {
	defer c.around(ctx, "renew %d", len(ids))()
	return c.Catalog.Renew(ctx, ids)
}

func (c stops) CountRecords(ctx context.Context, pause func(context.Context, int64) error) (map[blockstore.ContainerID]int64, error) {
	defer c.around(ctx, "count records")()
	return c.Catalog.CountRecords(ctx, pause)
}

func (c stops) Record(ctx context.Context, id block.ID) (blockstore.Stored, bool, error) {
	c.s.point(ctx, "record %.4v", id)
	return c.Catalog.Record(ctx, id)
}

func (c stops) Containers(ctx context.Context) (map[blockstore.ContainerID]int64, error) {
	c.s.point(ctx, "containers")
	return c.Catalog.Containers(ctx)
}

func (c stops) DropContainer(ctx context.Context, id blockstore.ContainerID) (bool, error) {
	defer c.around(ctx, "drop %v", id)()
	return c.Catalog.DropContainer(ctx, id)
}

func (c stops) ForgetContainer(ctx context.Context, id blockstore.ContainerID) error {
	defer c.around(ctx, "forget %v", id)()
	return c.Catalog.ForgetContainer(ctx, id)
}

func (c stops) DescribeCompletion(ctx context.Context, key int64, r snapshot.CopyResult) (snapshot.Map, error) {
	defer c.around(ctx, "describe the completion of %d", key)()
	return c.Catalog.DescribeCompletion(ctx, key, r)
}

func (c stops) DueManifests(ctx context.Context, ids []string, limit int) ([]snapshot.Manifest, error) {
	c.s.point(ctx, "due manifests")
	return c.Catalog.DueManifests(ctx, ids, limit)
}

func (c stops) RecordManifests(ctx context.Context, list []snapshot.Manifest) error {
	defer c.around(ctx, "record %d manifests", len(list))()
	return c.Catalog.RecordManifests(ctx, list)
}

func (c stops) Shrink(ctx context.Context) error {
	c.s.point(ctx, "shrink")
	return c.Catalog.Shrink(ctx)
}

// stopMedium is a medium whose calls are points.
type stopMedium struct {
	blockstore.Medium
	s *scheduler
}

func (m stopMedium) Append(
	ctx context.Context, size, reserve int64, build func(blockstore.Place) [][]byte,
) (blockstore.Place, error) {
	m.s.point(ctx, "append %d", size)
	defer m.s.point(ctx, "append %d done", size)
	return m.Medium.Append(ctx, size, reserve, build)
}

func (m stopMedium) ReadAt(ctx context.Context, c blockstore.ContainerID, p []byte, off int64) error {
	m.s.point(ctx, "read %d at %d", c, off)
	return m.Medium.ReadAt(ctx, c, p, off)
}

func (m stopMedium) Rotate(ctx context.Context) (blockstore.Place, error) {
	m.s.point(ctx, "rotate")
	return m.Medium.Rotate(ctx)
}

func (m stopMedium) Drop(ctx context.Context, c blockstore.ContainerID) error {
	m.s.point(ctx, "drop segment %d", c)
	return m.Medium.Drop(ctx, c)
}

// stopKeys is a keyring whose calls are points, but for those of folds, which
// begin several at a time with this.
type stopKeys struct {
	snapshot.Keyring
	s *scheduler
}

func (k stopKeys) Check(ctx context.Context, c kms.Caller, name string, actions ...kms.Action) (kms.Key, error) {
	k.s.point(ctx, "check key")
	return k.Keyring.Check(ctx, c, name, actions...)
}

func (k stopKeys) Key(ctx context.Context, c kms.Caller, n domain.Number, actions ...kms.Action) (*domain.Key, error) {
	if actorOf(ctx) != background || strings.Contains(inside(), "copyKeys") {
		k.s.point(ctx, "key of %v", n)
	}
	return k.Keyring.Key(ctx, c, n, actions...)
}

func (k stopKeys) Domain(ctx context.Context, c kms.Caller, name string) (string, *domain.Key, error) {
	k.s.point(ctx, "domain")
	return k.Keyring.Domain(ctx, c, name)
}
