package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/catalog"
	"shale/internal/datadir"
)

// A stretch is where a block lies in shale's segments.
type stretch struct {
	file   *os.File
	offset int64
}

// measureCold reads blocks through shale, and, in turns with that, the very
// same bytes of its segments with nothing but pread, each time without a page
// of them in memory.
func (b *bench) measureCold(ctx context.Context) error {
	n := b.size.blocks
	d, err := b.newDataset(b.shale, n)
	if err != nil {
		return err
	}
	if _, err := b.shale.write(ctx, b.source, &d, d.all(), connections); err != nil {
		return err
	}
	if err := errors.Join(b.shale.seal(ctx, &d), b.shale.stop()); err != nil {
		return err
	}
	places, files, err := b.locate(ctx, &d)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	if b.shale, err = launchShale(b.shaleProgram, b.shaleDir(), b.log("shale")); err != nil {
		return err
	}
	// Each turn has a part of the snapshot of its own, in random order: a restore
	// of many blocks at a time.
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for turn := range turns {
		part := order[n*turn/turns : n*(turn+1)/turns]
		rand.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	var served run
	var plain time.Duration
	for turn := range turns {
		over := span{n * turn / turns, n * (turn + 1) / turns}
		measures := []func() error{
			func() error {
				r, err := b.shale.read(ctx, b.source, &d, order, over, connections)
				served.add(r)
				return err
			},
			func() error {
				began := time.Now()
				defer func() { plain += time.Since(began) }()
				return preadAll(ctx, places, order, over)
			},
		}
		if turn%2 == 1 {
			slices.Reverse(measures)
		}
		for _, measure := range measures {
			if err := b.forget(); err != nil {
				return err
			}
			if err := measure(); err != nil {
				return err
			}
		}
	}
	b.cold.add(served.bytesPerSecond()/mega, float64(n)*block.Size/plain.Seconds()/mega)
	return nil
}

// locate finds where the blocks of d are, in a folder that no server uses, and
// opens the segments.
func (b *bench) locate(ctx context.Context, d *dataset) (places []stretch, files map[blockstore.ContainerID]*os.File, err error) {
	files = make(map[blockstore.ContainerID]*os.File)
	folder, err := datadir.Open(b.shaleDir())
	if err != nil {
		return nil, files, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	c, err := catalog.Open(ctx, folder.Catalog(), time.Now)
	if err != nil {
		return nil, files, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for i := range d.blocks {
		blk := b.source.block(d.number(i))
		at, found, err := c.Locate(ctx, block.ID(blk.digest))
		if err != nil || !found {
			return nil, files, errors.Join(err, fmt.Errorf("block %d of %s: found %t", i, d.snapshot, found))
		}
		if files[at.Container] == nil {
			f, err := os.Open(filepath.Join(b.segmentsDir(), fmt.Sprintf("%016x.seg", int64(at.Container))))
			if err != nil {
				return nil, files, err
			}
			files[at.Container] = f
		}
		places = append(places, stretch{files[at.Container], at.Offset})
	}
	return places, files, nil
}

// preadAll reads blocks by their place in the order, as many at a time as there
// are connections to a server.
func preadAll(ctx context.Context, places []stretch, order []int, over span) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() error {
			data := make([]byte, block.Size)
			for ctx.Err() == nil {
				i := over.from + int(next.Add(1)) - 1
				if i >= over.to {
					return nil
				}
				at := places[order[i]]
				if _, err := at.file.ReadAt(data, at.offset); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}
