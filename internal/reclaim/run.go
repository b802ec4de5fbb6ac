package reclaim

import (
	"context"
	"time"
)

const (
	// Rate is what a server copies at most to bring sparse containers together,
	// in bytes per second: a small part of what any disk does.
	Rate = 64 << 20
	// lookEvery is how often Run looks for something to do.
	lookEvery = 15 * time.Second
	// Share says how much of a processor a server's cycle takes: one part in so
	// many.
	Share = 4
	// restFactor is how many times as long as a cycle took Run rests after it.
	restFactor = 2
	// cycleEvery is when it runs a cycle though nobody deleted anything: uploads
	// that failed and blocks that were written over leave garbage, too.
	cycleEvery = 24 * time.Hour
)

// Run runs cycles when there may be something to reclaim, until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	if last, err := c.catalog.Reclaimed(ctx); err == nil { // else the first look says why
		c.stats.note(last)
	}
	rest := time.NewTimer(lookEvery)
	defer rest.Stop()
	for {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		due, err := c.due(ctx)
		if err == nil && due {
			err = c.runCycle(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "space could not be reclaimed, will be tried again", "err", err)
		}
		rest.Reset(max(lookEvery, restFactor*time.Since(began)))
	}
}

func (c *Collector) runCycle(ctx context.Context) error {
	r, err := c.Cycle(ctx)
	if err == nil {
		c.log.InfoContext(ctx, "space reclaimed", "records", r.Removed, "segments", r.Dropped, "bytes", r.FreedBytes,
			"copied", r.Relocated, "condemned", r.Condemned, "dead_bytes", r.DeadBytes, "took", c.now().Sub(r.Began))
	}
	return err
}

// due reports whether a cycle would find something.
func (c *Collector) due(ctx context.Context) (bool, error) {
	last, err := c.catalog.Reclaimed(ctx)
	if err != nil {
		return false, err
	}
	if last.Condemned > 0 || c.now().Sub(last.Began) >= cycleEvery {
		return true, nil
	}
	if dropped, err := c.catalog.Dropped(ctx); err != nil || len(dropped) > 0 {
		return err == nil, err
	}
	return c.catalog.DeletedSince(ctx, last.Began)
}
