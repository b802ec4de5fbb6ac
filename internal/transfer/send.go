package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"shale/internal/block"
)

// startSettleTime is how long AWS may deny a snapshot that it has just
// started. Spec: ebs-direct §2.5.
const startSettleTime = 10 * time.Second

var zeroBlock [block.Size]byte

// send works off the plan with several blocks in flight. Each worker reads,
// hashes and sends its own block, so that some hash while others wait for the
// network, and no more is in memory than one block for each.
func (u *upload) send(ctx context.Context) error {
	data, err := u.source.countData()
	if err != nil {
		return err
	}
	u.request.Meter.begin(PhaseUpload, data*block.Size)
	g, ctx := errgroup.WithContext(ctx)
	next, stop := iter.Pull2(plan(u.source.dataBlocks(), u.parentBlocks()))
	defer stop() // after Wait: no worker is left to call next
	var mu sync.Mutex
	take := func() (step, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		return next()
	}
	for range u.client.parallel {
		g.Go(func() error {
			buf := make([]byte, block.Size)
			for ctx.Err() == nil {
				s, err, ok := take()
				if err != nil || !ok {
					return err
				}
				if err := u.work(ctx, s, buf); err != nil {
					return err
				}
			}
			return context.Cause(ctx)
		})
	}
	return g.Wait()
}

func (u *upload) work(ctx context.Context, s step, buf []byte) error {
	data, digest := zeroBlock[:], block.ZeroDigest
	if s.read {
		if err := u.source.readBlock(s.index, buf); err != nil {
			return err
		}
		if !bytes.Equal(buf, zeroBlock[:]) {
			data, digest = buf, sha256.Sum256(buf)
		}
		defer u.request.Meter.advance(block.Size)
	}
	o := s.decide(digest)
	if o.sent {
		if err := u.put(ctx, o.known, data); err != nil {
			return fmt.Errorf("send block %d to snapshot %s: %w", s.index, u.id, err)
		}
	}
	u.ledger.book(o)
	return nil
}

func (u *upload) put(ctx context.Context, k known, data []byte) error {
	c := u.client
	return c.toEBS.doSettling(ctx, u.started.Add(startSettleTime), func(ctx context.Context) error {
		_, err := c.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId:        &u.id,
			BlockIndex:        aws.Int32(int32(k.index)),
			BlockData:         bytes.NewReader(data),
			DataLength:        aws.Int32(block.Size),
			Checksum:          aws.String(k.digest.Base64()),
			ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		return err
	})
}

func (u *upload) parentBlocks() iter.Seq2[known, error] {
	if u.parent == nil {
		return func(func(known, error) bool) {}
	}
	return u.parent.all()
}
