package snapshot

import (
	"context"
	"encoding/binary"
	"fmt"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/pace"
)

// A counter counts, for each holder, its blocks and those that are its alone.
//
// It goes once from one holder to the next by what differs between their maps,
// and notes each difference in a log that is kept in parts, by the first bytes
// of the blocks' ids. That costs the first map, and then the changes: a year of
// daily snapshots is hardly more work than one. Then it goes through the parts.
// Of each block it keeps how often the holder at hand has it and since which
// holder. A block is a holder's alone if it was there for just that one.
type counter struct {
	service          *Service
	holders          []Holder
	zeros            map[block.ID]bool // blocks without a payload, one in each domain
	limit            int               // blocks in memory
	log              countLog
	share            *pace.Share // nil to hold nothing back
	steps            int
	distinct, unique []int64 // by holder
}

// A held is what is known about a block. The zero value is one that no holder
// had so far.
type held struct {
	count int32 // how often the holder at hand has it
	// since is the holder with which that began, from 1, or the only one that
	// had it if it is gone; many once it is no one holder's alone.
	since int32
}

const many = -1

func (c *counter) run(ctx context.Context) error {
	if err := c.note(ctx); err != nil {
		return err
	}
	const end = 1 << 32 // of the first four bytes
	const whole = end / countParts
	for from, width := uint64(0), uint64(whole); from < end; {
		done, err := c.pass(ctx, from, from+width)
		if err != nil {
			return err
		}
		if !done && width > 1 {
			width /= 2
			continue
		}
		if from += width; from%whole == 0 {
			width = whole
		}
	}
	return nil
}

// step is called with each block or event.
func (c *counter) step(ctx context.Context) error {
	if c.steps++; c.steps%64 != 1 { // the clock costs as much as a step
		return nil
	}
	return c.share.Step(ctx)
}

// note logs what each holder has that the one before had not, and the other way
// round, and then what has been written to pending snapshots.
func (c *counter) note(ctx context.Context) error {
	log := func(id block.ID, e event) error {
		if id.IsZero() || c.zeros[id] {
			return nil
		}
		return c.log.add(id, e)
	}
	var last block.ID // the root before
	for i, holder := range c.holders {
		for change, err := range blockmap.Diff(ctx, c.service.store.Scan(), last, holder.Root, 0) {
			if err == nil {
				err = log(change.First, event{i, eventGone})
			}
			if err == nil {
				err = log(change.Second, event{i, eventCame})
			}
			if err == nil {
				err = c.step(ctx)
			}
			if err != nil {
				return fmt.Errorf("count the blocks of snapshot %d: %w", holder.Key, err)
			}
		}
		last = holder.Root
		if err := c.step(ctx); err != nil {
			return err
		}
	}
	for i, holder := range c.holders {
		for from := block.Index(0); holder.Pending && from <= block.MaxIndex; {
			rows, err := c.service.catalog.Pending(ctx, &Snapshot{Key: holder.Key}, from, pendingPage)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := log(row.ID, event{i, eventWritten}); err != nil {
					return err
				}
			}
			if len(rows) < pendingPage {
				break
			}
			from = rows[len(rows)-1].Index + 1
		}
	}
	return nil
}

// pass counts the blocks of a range of one part. It reports false, and has
// counted nothing, if they were too many.
func (c *counter) pass(ctx context.Context, from, to uint64) (done bool, err error) {
	blocks := make(map[countedID]held)
	// present is how many of them the holder at hand has, distinct that of each.
	distinct, present, at := make([]int64, len(c.holders)), int64(0), 0
	for logged, err := range c.log.part(int(from >> 24)) {
		if err == nil {
			err = c.step(ctx)
		}
		if err != nil {
			return false, err
		}
		id, e := logged.id, logged.event
		if p := uint64(binary.BigEndian.Uint32(id[:])); p < from || p >= to {
			continue
		}
		b, found := blocks[id]
		if e.kind == eventWritten {
			if found {
				b.since = many // what is written to a pending snapshot is nobody's alone
				blocks[id] = b
			}
			continue
		}
		for ; at < e.holder; at++ {
			distinct[at] = present
		}
		number := int32(e.holder + 1)
		if e.kind == eventGone {
			if b.count--; b.count == 0 {
				present--
				if b.since != number-1 {
					b.since = many
				}
			}
		} else if b.count++; b.count == 1 {
			present++
			if b.since == 0 {
				b.since = number
			} else {
				b.since = many
			}
		}
		blocks[id] = b
		if len(blocks) > c.limit && to-from > 1 {
			return false, nil
		}
	}
	for ; at < len(distinct); at++ {
		distinct[at] = present
	}
	for i := range distinct {
		c.distinct[i] += distinct[i]
	}
	for _, b := range blocks {
		if b.since != many && (b.count == 0 || int(b.since) == len(c.holders)) {
			c.unique[b.since-1]++
		}
	}
	return true, nil
}
