package ebs

import (
	"slices"
	"strconv"
	"time"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// Answers are written by appending: compact JSON, members in alphabetical
// order, null for what has no value. Spec: ebs-direct §2.2.

var blockSize = strconv.Itoa(block.Size)

// appendStarted appends the answer to StartSnapshot. Its Status is always
// pending: a repeated request gets the original answer, whatever has become of
// the snapshot since. Spec: ebs-direct §3.
func appendStarted(b []byte, s *snapshot.Snapshot) []byte {
	b = append(b, `{"BlockSize":`...)
	b = append(b, blockSize...)
	b = append(b, `,"Description":`...)
	if s.Description != nil {
		b = rest.AppendString(b, *s.Description)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"KmsKeyArn":`...)
	b = appendOptional(b, s.KMSKeyARN)
	b = append(b, `,"OwnerId":`...)
	b = rest.AppendString(b, s.Account)
	b = append(b, `,"ParentSnapshotId":`...)
	b = appendOptional(b, s.ParentID)
	b = append(b, `,"SnapshotId":`...)
	b = rest.AppendString(b, s.ID)
	b = append(b, `,"SseType":null,"StartTime":`...)
	b = appendTime(b, s.StartTime)
	b = append(b, `,"Status":"pending","Tags":`...)
	b = appendTags(b, s.Tags)
	b = append(b, `,"VolumeSize":`...)
	b = strconv.AppendInt(b, s.VolumeSize, 10)
	return append(b, '}')
}

func appendTags(b []byte, tags []snapshot.Tag) []byte {
	if len(tags) == 0 {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, t := range tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"Key":`...)
		b = rest.AppendString(b, t.Key)
		b = append(b, `,"Value":`...)
		b = rest.AppendString(b, t.Value)
		b = append(b, '}')
	}
	return append(b, ']')
}

// pageOverhead and entryOverhead are the most bytes that a page and an entry
// of it take apart from their tokens.
const (
	pageOverhead  = 256
	entryOverhead = 80
)

// appendBlockPage appends the answer to ListSnapshotBlocks.
// Spec: ebs-direct §8.1.
func appendBlockPage(b []byte, p *snapshot.BlockPage) []byte {
	if len(p.Blocks) > 0 {
		b = slices.Grow(b, pageOverhead+len(p.Blocks)*(entryOverhead+len(p.Blocks[0].Token)))
	}
	b = append(b, `{"BlockSize":`...)
	b = append(b, blockSize...)
	b = append(b, `,"Blocks":[`...)
	for i := range p.Blocks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"BlockIndex":`...)
		b = strconv.AppendUint(b, uint64(p.Blocks[i].Index), 10)
		b = append(b, `,"BlockToken":`...)
		b = rest.AppendToken(b, p.Blocks[i].Token)
		b = append(b, '}')
	}
	b = append(b, `],"ExpiryTime":`...)
	b = appendTime(b, p.Expiry)
	return appendPageEnd(b, p.NextToken, p.VolumeSize)
}

// appendChangedPage appends the answer to ListChangedBlocks, with the member
// LastEvaluatedBlockIndex that AWS sends and no model has.
// Spec: ebs-direct §8.2.
func appendChangedPage(b []byte, p *snapshot.ChangedPage) []byte {
	if len(p.Blocks) > 0 {
		tokens := 2 * max(len(p.Blocks[0].FirstToken), len(p.Blocks[0].SecondToken))
		b = slices.Grow(b, pageOverhead+len(p.Blocks)*(entryOverhead+tokens))
	}
	b = append(b, `{"BlockSize":`...)
	b = append(b, blockSize...)
	b = append(b, `,"ChangedBlocks":[`...)
	for i := range p.Blocks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"BlockIndex":`...)
		b = strconv.AppendUint(b, uint64(p.Blocks[i].Index), 10)
		b = append(b, `,"FirstBlockToken":`...)
		b = appendOptionalToken(b, p.Blocks[i].FirstToken)
		b = append(b, `,"SecondBlockToken":`...)
		b = appendOptionalToken(b, p.Blocks[i].SecondToken)
		b = append(b, '}')
	}
	b = append(b, `],"ExpiryTime":`...)
	b = appendTime(b, p.Expiry)
	b = append(b, `,"LastEvaluatedBlockIndex":null`...)
	return appendPageEnd(b, p.NextToken, p.VolumeSize)
}

func appendPageEnd(b []byte, nextToken string, volumeGiB int64) []byte {
	b = append(b, `,"NextToken":`...)
	b = appendOptional(b, nextToken)
	b = append(b, `,"VolumeSize":`...)
	b = strconv.AppendInt(b, volumeGiB, 10)
	return append(b, '}')
}

// appendOptional appends s, or null in place of an empty one.
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return rest.AppendString(b, s)
}

// appendOptionalToken does the same with a token.
func appendOptionalToken(b []byte, t string) []byte {
	if t == "" {
		return append(b, "null"...)
	}
	return rest.AppendToken(b, t)
}

// appendTime appends t as seconds since 1970 with milliseconds, in plain
// decimal: AWS prints an exponent, which reads the same. Spec: ebs-direct §2.2.
func appendTime(b []byte, t time.Time) []byte {
	return strconv.AppendFloat(b, float64(t.UnixMilli())/1000, 'f', 3, 64)
}
