package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"shale/internal/block"
)

// A crowd is connections of clients that do nothing, or next to it. It is closed
// by its context.
type crowd struct {
	server   *server
	snapshot string // that slow blocks are for
	clients  sync.WaitGroup
}

const (
	// drip is how often a slow client sends something.
	drip = time.Second
	// dripBlock is how much of a block that is, in bytes.
	dripBlock = 1 << 10
	// back is when one that was refused comes again.
	back = 5 * time.Second
	// burst is how much some of them send at first, in bytes, so that their
	// block has begun in earnest.
	burst = 64 << 10
)

// crowds is how often a crowd comes and goes while its cost is measured.
const crowds = 3

// measureConnections writes unique blocks, others beside idle and slow
// connections, twice as many, and others without them, and that several times
// over: a disk that gets slower or faster meanwhile does so for both.
func (b *bench) measureConnections(ctx context.Context) error {
	var alone, beside run
	var before, after int64
	write := func(into *run, memory *int64) error {
		d, err := b.newDataset(b.shale, b.size.blocks/2/crowds)
		if err != nil {
			return err
		}
		r, err := b.shale.write(ctx, b.source, &d, d.all(), connections)
		if err != nil {
			return err
		}
		into.add(r)
		rss, err := b.shale.memory("VmRSS:")
		*memory = max(*memory, rss)
		return err
	}
	for range 3 { // until memory and caches are what they will be
		if err := write(new(run), new(int64)); err != nil {
			return err
		}
	}
	for range crowds {
		if err := write(&alone, &before); err != nil {
			return err
		}
		leave, err := b.crowdIn(ctx)
		if err != nil {
			return err
		}
		for range 2 {
			if err == nil {
				err = write(&beside, &after)
			}
		}
		leave()
		if err == nil {
			err = write(&alone, new(int64))
		}
		if err != nil {
			return err
		}
	}
	b.crowd.add(beside.bytesPerSecond()/mega, alone.bytesPerSecond()/mega)
	b.crowdMemory.add(float64(after-before) / (1 << 20))
	return nil
}

// crowdIn opens the connections, and leave closes them all.
func (b *bench) crowdIn(ctx context.Context) (leave func(), err error) {
	snapshot, err := b.shale.newSnapshot(1, "")
	if err != nil {
		return nil, err
	}
	crowded, stop := context.WithCancel(ctx)
	c := &crowd{server: b.shale, snapshot: snapshot}
	leave = func() {
		stop()
		c.clients.Wait()
		pause(ctx, 3*drip) // until the server has seen that they are gone
	}
	if err := c.open(crowded, b.size.idle, b.size.slow); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// open opens the connections: idle ones, on which one request was answered, and
// slow ones, a half of which send a header and the other a block. Half of the
// blocks begin with a burst.
func (c *crowd) open(ctx context.Context, idle, slow int) error {
	var group errgroup.Group
	group.SetLimit(64)
	for range idle {
		group.Go(func() error { return c.idle(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range slow {
		c.clients.Go(func() {
			for ctx.Err() == nil {
				_ = c.slow(ctx, i) // whatever the server did to it
				pause(ctx, back)
			}
		})
	}
	pause(ctx, 3*drip)
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// dialFor opens a connection that is reset when ctx ends, so that its port is free
// at once.
func (c *crowd) dialFor(ctx context.Context, from net.IP) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := d.DialContext(ctx, "tcp", c.server.signer.host)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	if err := tcp.SetLinger(0); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	context.AfterFunc(ctx, func() { tcp.Close() })
	return tcp, nil
}

func (c *crowd) idle(ctx context.Context) error {
	tcp, err := c.dialFor(ctx, net.IPv4(127, 0, 0, 2))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(tcp, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", c.server.signer.host); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(tcp), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// slow sends one request, bit by bit, until the server has had enough.
func (c *crowd) slow(ctx context.Context, i int) error {
	tcp, err := c.dialFor(ctx, net.IPv4(127, 0, 0, 3))
	if err != nil {
		return err
	}
	defer tcp.Close()
	head := c.server.signer.head(requestHead{
		method: "PUT", path: blockPath(c.snapshot, i),
		headers: []header{
			{"x-amz-checksum", emptyHash[:44]},
			{"x-amz-checksum-algorithm", "SHA256"},
			{"x-amz-content-sha256", unsignedPayload},
			{"x-amz-data-length", strconv.Itoa(block.Size)},
		},
		payloadHash: unsignedPayload, contentLength: block.Size,
	})
	part := make([]byte, dripBlock)
	switch i % 4 {
	case 0:
		head = append(head, make([]byte, burst)...)
	case 1, 3: // does not get as far as a block
		head, part = nil, []byte("x")
	}
	if _, err := tcp.Write(head); err != nil {
		return err
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		tcp.Read(make([]byte, 1)) //nolint:errcheck // an answer or an end, it is over
	}()
	for {
		select {
		case <-answered:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(drip):
		}
		if _, err := tcp.Write(part); err != nil {
			return err
		}
	}
}
