package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"shale/internal/block"
)

// usable returns a *StateError unless the snapshot can be read and be a
// parent.
func usable(s Snapshot) error {
	if s.State != "completed" {
		return &StateError{Snapshot: s.ID, State: s.State, Message: s.Message}
	}
	return nil
}

// parentDigests returns what the snapshot holds: from the list that its upload
// left here, else by reading its blocks, which leaves a list for the next
// time.
func (c *Client) parentDigests(ctx context.Context, s Snapshot, m *Meter) (*digestList, error) {
	list, err := c.digests.open(s)
	if err == nil {
		return list, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.log.WarnContext(ctx, "digest list ignored", "snapshot", s.ID, "err", err)
	}
	c.log.InfoContext(ctx, "no digest list of the parent here, reading its blocks", "snapshot", s.ID)
	draft, err := c.digests.draftAnywhere()
	if err != nil {
		return nil, fmt.Errorf("keep the digests of parent %s: %w", s.ID, err)
	}
	var total int64
	if s.FullBytes != nil {
		total = *s.FullBytes
	}
	m.begin(PhaseParent, total)
	l := newLedger(draft)
	r := blockRange{snapshot: s.ID, end: s.blocks(), settled: s.settled()}
	err = c.readBlocks(ctx, r, func(b blockRead) error {
		l.book(outcome{seq: b.seq, known: known{b.index, b.digest}, stored: true})
		m.advance(block.Size)
		return nil
	})
	if err != nil {
		draft.discard()
		return nil, fmt.Errorf("parent: %w", err)
	}
	if got := l.stats.stored * block.Size; s.FullBytes != nil && got != *s.FullBytes {
		draft.discard()
		return nil, fmt.Errorf("parent %s: %d bytes of blocks were listed, and it has %d", s.ID, got, *s.FullBytes)
	}
	return draft.finish(&c.digests, s)
}
