package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"shale/internal/block"
)

// image reads blocks of a snapshot by one range of its image, unsigned, and
// calls check with each of them.
func (c *conn) image(snapshot string, over span, check func(i int, data []byte) error) error {
	if err := c.tcp.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.tcp, "GET /snapshots/%s/image HTTP/1.1\r\nHost: %s\r\nRange: bytes=%d-%d\r\n\r\n",
		snapshot, c.signer.host, int64(over.from)*block.Size, int64(over.to)*block.Size-1)
	if err != nil {
		return err
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	if len(line) < 12 || string(line[9:12]) != strconv.Itoa(206) {
		return fmt.Errorf("image of %s: status line %q", snapshot, line)
	}
	for len(line) > 0 {
		if line, err = c.line(); err != nil {
			return err
		}
	}
	if cap(c.body) < block.Size {
		c.body = make([]byte, block.Size)
	}
	c.body = c.body[:block.Size]
	for i := over.from; i < over.to; i++ {
		if _, err := io.ReadFull(c.in, c.body); err != nil {
			return fmt.Errorf("image of %s, block %d: %w", snapshot, i, err)
		}
		if err := check(i, c.body); err != nil {
			return err
		}
	}
	return nil
}

// measureImage writes unique blocks to shale and reads them as an image over
// one connection, and in turns with that block by block over 16.
func (b *bench) measureImage(ctx context.Context) error {
	d, err := b.newDataset(b.shale, b.size.blocks)
	if err != nil {
		return err
	}
	if _, err := b.shale.write(ctx, b.source, &d, d.all(), connections); err != nil {
		return err
	}
	if err := b.shale.seal(ctx, &d); err != nil {
		return err
	}
	order := rand.Perm(d.blocks)
	if err := b.bringIn(); err != nil {
		return err
	}
	var blocks run
	var image time.Duration
	for turn := range turns {
		over := span{d.blocks * turn / turns, d.blocks * (turn + 1) / turns}
		measures := []func() error{
			func() error {
				r, err := b.shale.read(ctx, b.source, &d, order, over, connections)
				blocks.add(r)
				return err
			},
			func() error {
				return b.shale.once(func(c *conn) error {
					began := time.Now()
					defer func() { image += time.Since(began) }()
					return c.image(d.snapshot, over, func(i int, data []byte) error {
						if i%verifyEvery == 0 {
							if want := b.source.block(d.number(i)); !want.equals(data) {
								return errors.New("not the bytes that were written")
							}
						}
						return ctx.Err()
					})
				})
			},
		}
		if turn%2 == 1 {
			slices.Reverse(measures)
		}
		for _, measure := range measures {
			if err := measure(); err != nil {
				return err
			}
		}
	}
	b.image.add(float64(d.blocks)*block.Size/image.Seconds()/mega, blocks.bytesPerSecond()/mega)
	return nil
}
