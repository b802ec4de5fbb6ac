package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"shale/internal/block"
)

// A run is what came of a number of requests sent over some connections.
type run struct {
	elapsed   time.Duration
	cpu       time.Duration   // that the server used
	latencies []time.Duration // of each request
}

// add makes r the sum of two runs that did not overlap.
func (r *run) add(other run) {
	r.elapsed += other.elapsed
	r.cpu += other.cpu
	r.latencies = append(r.latencies, other.latencies...)
}

// bytesPerSecond is the rate of a run in which every request moved one block.
func (r run) bytesPerSecond() float64 {
	return float64(len(r.latencies)) * block.Size / r.elapsed.Seconds()
}

// cpuPerGiB is the processor time in seconds for each GiB of blocks.
func (r run) cpuPerGiB() float64 {
	return r.cpu.Seconds() / float64(len(r.latencies)) * block.PerGiB
}

// percentile returns the latency that p percent of the requests kept.
func (r run) percentile(p int) time.Duration {
	sorted := slices.Sorted(slices.Values(r.latencies))
	return sorted[(len(sorted)-1)*p/100]
}

// drive calls request for the numbers of the span, spread over connections that
// are opened before the clock starts. It ends early when ctx does.
func (s *server) drive(ctx context.Context, conns int, over span, request func(c *conn, i int) error) (run, error) {
	pool := make([]*conn, 0, conns)
	defer func() {
		for _, c := range pool {
			c.close()
		}
	}()
	for range conns {
		c, err := dial(&s.signer)
		if err != nil {
			return run{}, err
		}
		pool = append(pool, c)
	}
	latencies := make([]time.Duration, over.to-over.from)
	cpuBefore, err := s.cpu()
	if err != nil {
		return run{}, err
	}
	var (
		next       atomic.Int64
		group, sub = errgroup.WithContext(ctx)
		began      = time.Now()
	)
	for _, c := range pool {
		group.Go(func() error {
			for sub.Err() == nil {
				i := over.from + int(next.Add(1)) - 1
				if i >= over.to {
					return nil
				}
				sent := time.Now()
				if err := request(c, i); err != nil {
					return err
				}
				latencies[i-over.from] = time.Since(sent)
			}
			return sub.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return run{}, fmt.Errorf("%s: %w", s.name, err)
	}
	r := run{elapsed: time.Since(began), latencies: latencies}
	cpuAfter, err := s.cpu()
	if err != nil {
		return run{}, err
	}
	r.cpu = cpuAfter - cpuBefore
	return r, nil
}

// once runs f over one connection.
func (s *server) once(f func(c *conn) error) error {
	c, err := dial(&s.signer)
	if err != nil {
		return err
	}
	defer c.close()
	return f(c)
}

// A span is the numbers from from up to but not including to.
type span struct{ from, to int }

// A dataset is a snapshot whose block i is the source's block first+i, or the
// block of zeros throughout, or a file system's.
type dataset struct {
	snapshot string
	blocks   int
	first    uint64
	zero     bool
	contents []testBlock    // of a file system, in place of the source's blocks; or nil
	tokens   map[int]string // to read its blocks with, once they are known
}

// all is the span of the whole of d.
func (d *dataset) all() span { return span{0, d.blocks} }

func (d *dataset) number(i int) uint64 {
	if d.zero {
		return zeros
	}
	return d.first + uint64(i)
}

// block gives block i.
func (d *dataset) block(source *blockSource, i int) testBlock {
	if d.contents != nil {
		return d.contents[i]
	}
	return source.block(d.number(i))
}

// write puts some blocks of d over the given number of connections.
func (s *server) write(ctx context.Context, source *blockSource, d *dataset, over span, conns int) (run, error) {
	return s.drive(ctx, conns, over, func(c *conn, i int) error {
		b := d.block(source, i)
		return c.put(d.snapshot, i, &b)
	})
}

// read gets blocks of d by their place in the given order and compares some of
// them whole.
func (s *server) read(ctx context.Context, source *blockSource, d *dataset, order []int, over span, conns int) (run, error) {
	return s.drive(ctx, conns, over, func(c *conn, i int) error {
		at := order[i]
		b := d.block(source, at)
		return c.get(d.snapshot, at, d.tokens[at], &b, i%verifyEvery == 0)
	})
}

// seal completes the dataset's snapshot on shale and takes the tokens to read
// its blocks with. When it returns the server has done what a completion leaves
// to be done, the count of usage above all, which goes through a million blocks.
func (s *server) seal(ctx context.Context, d *dataset) error {
	err := s.once(func(c *conn) (err error) {
		if err := c.complete(d.snapshot, d.blocks); err != nil {
			return err
		}
		d.tokens, err = c.blockTokens(d.snapshot)
		return err
	})
	if err == nil && len(d.tokens) != d.blocks {
		err = fmt.Errorf("%s lists %d blocks, %d were written", d.snapshot, len(d.tokens), d.blocks)
	}
	if err != nil {
		return err
	}
	return s.waitIdle(ctx)
}

// newSnapshot starts a snapshot on shale that is large enough for n blocks.
func (s *server) newSnapshot(n int, parent string) (id string, err error) {
	err = s.once(func(c *conn) error {
		id, err = c.start(gib(n), parent)
		return err
	})
	return id, err
}

// gib is the size in GiB of a volume that has room for n blocks.
func gib(n int) int { return (n + block.PerGiB - 1) / block.PerGiB }
