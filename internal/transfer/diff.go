package transfer

import (
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"shale/internal/block"
)

// A Difference is an index at which two snapshots differ. One that is in
// neither does not occur.
type Difference struct {
	Index    block.Index
	InFirst  bool // the first snapshot has a block there
	InSecond bool
}

// Diff gives the blocks in which two snapshots of one lineage differ, by
// ascending index. shale compares contents; AWS also lists a block that was
// written again with the same bytes. Spec: ebs-direct §8.2.
func (c *Client) Diff(ctx context.Context, first, second string) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		in := &ebs.ListChangedBlocksInput{
			FirstSnapshotId:  &first,
			SecondSnapshotId: &second,
			MaxResults:       aws.Int32(listPage),
		}
		next := int32(0)
		for {
			var out *ebs.ListChangedBlocksOutput
			err := c.toEBS.do(ctx, func(ctx context.Context) (err error) {
				out, err = c.ebs.ListChangedBlocks(ctx, in)
				return err
			})
			if in.NextToken != nil && hasReason(err, types.ValidationExceptionReasonInvalidPageToken) {
				in.NextToken, in.StartingBlockIndex = nil, aws.Int32(next)
				continue
			}
			if err != nil {
				yield(Difference{}, fmt.Errorf("compare %s with %s: %w", first, second, err))
				return
			}
			for _, b := range out.ChangedBlocks {
				d := Difference{
					Index:    block.Index(aws.ToInt32(b.BlockIndex)),
					InFirst:  aws.ToString(b.FirstBlockToken) != "",
					InSecond: aws.ToString(b.SecondBlockToken) != "",
				}
				if !yield(d, nil) {
					return
				}
				next = aws.ToInt32(b.BlockIndex) + 1
			}
			if aws.ToString(out.NextToken) == "" {
				return
			}
			in.NextToken = out.NextToken
		}
	}
}
