package reclaim

import (
	"context"
	"encoding/binary"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// container is a store with one frame and an index of what it describes.
type container struct {
	Store
	Catalog
	frame     blockstore.Frame
	relocated []int // the lengths of the lists
}

func (c *container) Frames(context.Context, blockstore.ContainerID, int64) func(func(blockstore.Frame, error) bool) {
	return func(yield func(blockstore.Frame, error) bool) { yield(c.frame, nil) }
}

func (c *container) Record(_ context.Context, id block.ID) (blockstore.Stored, bool, error) {
	e := c.frame.Entries[binary.BigEndian.Uint64(id[:])]
	return blockstore.Stored{Kind: e.Kind, ID: id, Location: e.Location(1)}, true, nil
}

func (c *container) Relocate(_ context.Context, list []blockstore.Stored, _ int64) error {
	c.relocated = append(c.relocated, len(list))
	return nil
}

// However small they are, no more records are copied at a time than a frame has
// entries for.
func TestSmallRecordsFitIntoFrames(t *testing.T) {
	const nodes = 200_000
	c := &container{frame: blockstore.Frame{Entries: make([]blockstore.Entry, nodes)}}
	for i := range c.frame.Entries {
		e := &c.frame.Entries[i]
		e.Kind, e.Length, e.Offset = blockstore.KindNode, 56, int64(56*i)
		binary.BigEndian.PutUint64(e.ID[:], uint64(i))
	}
	y := &cycle{
		Collector: New(Options{Catalog: c, Store: c}), rest: context.Context.Err,
		left: map[blockstore.ContainerID]remainder{1: {nodes, nodes * (56 + frameOverhead)}},
	}
	if err := y.relocate(t.Context(), 1, 1<<30); err != nil {
		t.Fatal(err)
	}
	all := 0
	for _, n := range c.relocated {
		if all += n; n > blockstore.MaxEntries {
			t.Errorf("%d records at a time, where a frame holds %d", n, blockstore.MaxEntries)
		}
	}
	if all != nodes {
		t.Errorf("%d records were copied, want %d", all, nodes)
	}
}
