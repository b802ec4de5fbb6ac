package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"shale/internal/block"
)

const (
	listPage      = 10000 // the most that one page may hold
	smallListPage = 100   // and the least
)

// A listed block is one that a snapshot holds, and the token that reads it.
type listed struct {
	index block.Index
	token string
}

// A blockRange names blocks of one snapshot to be read.
type blockRange struct {
	snapshot string
	// end is the first index not wanted any more.
	end block.Index
	// settled is the time until which the snapshot may be denied without its
	// being gone.
	settled time.Time
}

// listBlocks gives the blocks that a snapshot holds, by ascending index. A
// page token that expires while its page is worked off is replaced by a new
// listing from where it stood. Spec: ebs-direct §8.1, §8.5.
func (c *Client) listBlocks(ctx context.Context, r blockRange) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		in := &ebs.ListSnapshotBlocksInput{SnapshotId: &r.snapshot, MaxResults: aws.Int32(listPage)}
		next := block.Index(0)
		for {
			out, err := c.listPage(ctx, in, r.settled)
			if in.NextToken != nil && hasReason(err, types.ValidationExceptionReasonInvalidPageToken) {
				in.NextToken, in.StartingBlockIndex = nil, aws.Int32(int32(next))
				continue
			}
			if err != nil {
				yield(listed{}, fmt.Errorf("list blocks of snapshot %s: %w", r.snapshot, err))
				return
			}
			if out.BlockSize != nil && *out.BlockSize != block.Size {
				yield(listed{}, fmt.Errorf("list blocks of snapshot %s: blocks of %d bytes, not %d", r.snapshot, *out.BlockSize, block.Size))
				return
			}
			for _, b := range out.Blocks {
				index := block.Index(aws.ToInt32(b.BlockIndex))
				if index < next || index > block.MaxIndex {
					yield(listed{}, fmt.Errorf("list blocks of snapshot %s: block %d is out of order", r.snapshot, index))
					return
				}
				if index >= r.end || !yield(listed{index, aws.ToString(b.BlockToken)}, nil) {
					return
				}
				next = index + 1
			}
			if aws.ToString(out.NextToken) == "" {
				return
			}
			in.NextToken = out.NextToken
		}
	}
}

func (c *Client) listPage(ctx context.Context, in *ebs.ListSnapshotBlocksInput, settled time.Time) (out *ebs.ListSnapshotBlocksOutput, err error) {
	err = c.toEBS.doSettling(ctx, settled, func(ctx context.Context) (err error) {
		out, err = c.ebs.ListSnapshotBlocks(ctx, in)
		return err
	})
	return out, err
}

// A blockRead is one block that was read and verified.
type blockRead struct {
	seq    int // 0, 1, 2, … in the order of the listing
	index  block.Index
	data   []byte // block.Size bytes, only until each returns
	digest block.Digest
}

// readBlocks reads the range's blocks, several at a time, and hands them to
// each, in no order and concurrently.
func (c *Client) readBlocks(ctx context.Context, r blockRange, each func(blockRead) error) error {
	g, ctx := errgroup.WithContext(ctx)
	next, stop := iter.Pull2(c.listBlocks(ctx, r))
	defer stop() // after Wait: no worker is left to call next
	var mu sync.Mutex
	seq := 0
	take := func() (listed, int, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		l, err, ok := next()
		seq++
		return l, seq - 1, err, ok
	}
	for range c.parallel {
		g.Go(func() error {
			buf := make([]byte, block.Size)
			for {
				l, seq, err, ok := take()
				if err != nil || !ok {
					return err
				}
				digest, err := c.getBlock(ctx, r, l, buf)
				if err != nil {
					return err
				}
				if err := each(blockRead{seq: seq, index: l.index, data: buf, digest: digest}); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// getBlock reads one block into p, block.Size bytes, and returns its digest,
// which is that of the bytes in p and the one that the server announced.
func (c *Client) getBlock(ctx context.Context, r blockRange, l listed, p []byte) (block.Digest, error) {
	digest, err := c.getWithToken(ctx, r.snapshot, l, p)
	if hasReason(err, types.ValidationExceptionReasonInvalidBlockToken) {
		if l.token, err = c.freshToken(ctx, r, l.index); err == nil {
			digest, err = c.getWithToken(ctx, r.snapshot, l, p)
		}
	}
	if err != nil {
		return block.Digest{}, fmt.Errorf("read block %d of snapshot %s: %w", l.index, r.snapshot, err)
	}
	return digest, nil
}

func (c *Client) getWithToken(ctx context.Context, snapshot string, l listed, p []byte) (digest block.Digest, err error) {
	err = c.toEBS.do(ctx, func(ctx context.Context) error {
		out, err := c.ebs.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
			SnapshotId: &snapshot,
			BlockIndex: aws.Int32(int32(l.index)),
			BlockToken: &l.token,
		})
		if err != nil {
			return err
		}
		defer out.BlockData.Close()
		if n := aws.ToInt32(out.DataLength); n != block.Size {
			return fmt.Errorf("it has %d bytes, not %d", n, block.Size)
		}
		if _, err := io.ReadFull(out.BlockData, p); err != nil {
			return err
		}
		digest = sha256.Sum256(p)
		if want, err := base64.StdEncoding.DecodeString(aws.ToString(out.Checksum)); err != nil || string(want) != string(digest[:]) {
			return &DamagedBlockError{Index: l.index, Got: digest.Base64(), Want: aws.ToString(out.Checksum)}
		}
		return nil
	})
	return digest, err
}

// freshToken lists one block anew, for a transfer that has outlived its token.
func (c *Client) freshToken(ctx context.Context, r blockRange, i block.Index) (string, error) {
	out, err := c.listPage(ctx, &ebs.ListSnapshotBlocksInput{
		SnapshotId:         &r.snapshot,
		MaxResults:         aws.Int32(smallListPage),
		StartingBlockIndex: aws.Int32(int32(i)),
	}, r.settled)
	if err != nil {
		return "", err
	}
	for _, b := range out.Blocks {
		if block.Index(aws.ToInt32(b.BlockIndex)) == i {
			return aws.ToString(b.BlockToken), nil
		}
	}
	return "", fmt.Errorf("it is no longer listed")
}
