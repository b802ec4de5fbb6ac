package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/datadir"
)

// loadBases puts a completed snapshot of each size into shale's store, without
// holes and without a block that is in it twice, and returns their IDs. Over
// HTTP a million blocks would be 488 GiB, so the blocks' bytes are left out:
// their entries in the catalog are made below the server, as its own group
// commits would have made them, and everything else (the map, the listings,
// the index that every later write goes through) is the server's work.
func (b *bench) loadBases(ctx context.Context, sizes ...int) ([]string, error) {
	ids := make([]string, len(sizes))
	for i, n := range sizes {
		var err error
		if ids[i], err = b.shale.newSnapshot(n, ""); err != nil {
			return nil, err
		}
	}
	if err := b.shale.stop(); err != nil {
		return nil, err
	}
	for i, n := range sizes {
		if err := enterBlocks(ctx, b.shaleDir(), ids[i], n); err != nil {
			return nil, err
		}
	}
	var err error
	if b.shale, err = launchShale(b.shaleProgram, b.shaleDir(), b.log("shale")); err != nil {
		return nil, err
	}
	for i, n := range sizes {
		if err := b.shale.once(func(c *conn) error { return c.complete(ids[i], n) }); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// enterBlocks enters the blocks 0 to n-1 of a pending snapshot into the catalog
// of a folder that no server uses.
func enterBlocks(ctx context.Context, dir, snapshot string, n int) (err error) {
	d, err := datadir.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c, err := catalog.Open(ctx, d.Catalog(), time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	s, found, err := c.Snapshot(ctx, snapshot)
	if err != nil || !found {
		return errors.Join(err, fmt.Errorf("snapshot %s: found %t", snapshot, found))
	}
	const batch = 10_000
	for from := 0; from < n; from += batch {
		var commit blockstore.Commit
		for i := from; i < min(from+batch, n); i++ {
			id := spreadID(i, n)
			commit.Stored = append(commit.Stored, blockstore.Stored{
				Kind: blockstore.KindBlock, ID: id, Location: blockstore.Location{Container: 1, Codec: blockstore.CodecZero},
			})
			commit.Refs = append(commit.Refs, blockstore.Ref{Snapshot: s.Key, Index: block.Index(i), ID: id})
		}
		verdicts, err := c.Commit(ctx, &commit)
		if err := errors.Join(append(verdicts, err, ctx.Err())...); err != nil {
			return err
		}
	}
	return nil
}

// spreadID is the i-th of n ids that lie evenly in the space of ids, where those
// of real blocks lie at random. In ascending order the catalog takes them
// faster.
func spreadID(i, n int) block.ID {
	var id block.ID
	binary.BigEndian.PutUint64(id[:], math.MaxUint64/uint64(n)*uint64(i))
	binary.BigEndian.PutUint64(id[8:], uint64(n)) // another for each size
	return id
}
