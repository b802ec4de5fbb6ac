package main

import (
	"context"
	"math/rand/v2"
)

// measureEncrypted writes unique blocks to an encrypted snapshot and to one
// that is not, both on shale, in turns, and reads both in random order.
func (b *bench) measureEncrypted(ctx context.Context) error {
	n := b.size.blocks
	sealed, plain := dataset{blocks: n, first: b.fresh(n)}, dataset{blocks: n, first: b.fresh(n)}
	err := b.shale.once(func(c *conn) (err error) {
		if sealed.snapshot, err = c.startEncrypted(gib(n)); err != nil {
			return err
		}
		plain.snapshot, err = c.start(gib(n), "")
		return err
	})
	if err != nil {
		return err
	}
	onSealed, onPlain, err := takeTurns(n, &sealed, &plain, func(d *dataset, over span) (run, error) {
		return b.shale.write(ctx, b.source, d, over, connections)
	})
	if err != nil {
		return err
	}
	b.encryptedPut.add(onSealed.bytesPerSecond()/mega, onPlain.bytesPerSecond()/mega)

	order := rand.Perm(n)
	for _, d := range []*dataset{&sealed, &plain} {
		if err := b.shale.seal(ctx, d); err != nil {
			return err
		}
	}
	if err := b.bringIn(); err != nil {
		return err
	}
	onSealed, onPlain, err = takeTurns(n, &sealed, &plain, func(d *dataset, over span) (run, error) {
		return b.shale.read(ctx, b.source, d, order, over, connections)
	})
	if err != nil {
		return err
	}
	b.encryptedGet.add(onSealed.bytesPerSecond()/mega, onPlain.bytesPerSecond()/mega)
	return nil
}

// takeTurns calls f for two datasets alternately, each time with the next part
// of n requests, and returns the sum of each one's runs.
func takeTurns(n int, first, second *dataset, f func(d *dataset, over span) (run, error)) (onFirst, onSecond run, err error) {
	for turn := range turns {
		over := span{n * turn / turns, n * (turn + 1) / turns}
		order := []*dataset{first, second}
		if turn%2 == 1 {
			order[0], order[1] = second, first
		}
		for _, d := range order {
			r, err := f(d, over)
			if err != nil {
				return run{}, run{}, err
			}
			if d == first {
				onFirst.add(r)
			} else {
				onSecond.add(r)
			}
		}
	}
	return onFirst, onSecond, nil
}
