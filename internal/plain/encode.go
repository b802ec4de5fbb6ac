package plain

import (
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"shale/internal/block"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// appendSnapshot appends s as an object: id and created_at first, absent values
// left out. Spec: plain-json, Bodies.
func appendSnapshot(b []byte, s *snapshot.Snapshot) []byte {
	b = append(b, `{"id":`...)
	b = rest.AppendString(b, s.ID)
	b = append(b, `,"created_at":`...)
	b = appendTime(b, s.StartTime)
	b = append(b, `,"status":`...)
	b = rest.AppendString(b, s.State.String())
	if s.Message != "" {
		b = append(b, `,"status_message":`...)
		b = rest.AppendString(b, s.Message)
	}
	b = append(b, `,"volume_size":`...)
	b = strconv.AppendInt(b, s.VolumeSize, 10)
	b = append(b, `,"block_size":`...)
	b = strconv.AppendInt(b, block.Size, 10)
	if s.Description != nil {
		b = append(b, `,"description":`...)
		b = rest.AppendString(b, *s.Description)
	}
	b = append(b, `,"owner_id":`...)
	b = rest.AppendString(b, s.Account)
	if s.ParentID != "" {
		b = append(b, `,"parent_snapshot_id":`...)
		b = rest.AppendString(b, s.ParentID)
	}
	b = append(b, `,"encrypted":`...)
	b = strconv.AppendBool(b, s.Encrypted())
	if s.Encrypted() {
		b = append(b, `,"kms_key_arn":`...)
		b = rest.AppendString(b, s.KMSKeyARN)
	}
	if len(s.Tags) > 0 {
		b = append(b, `,"tags":`...)
		b = appendTags(b, s.Tags)
	}
	if s.State != snapshot.Completed {
		return append(b, `,"progress":0}`...)
	}
	b = append(b, `,"progress":100,"completed_at":`...)
	b = appendTime(b, s.CompletedAt)
	b = append(b, `,"root":"`...)
	b = hex.AppendEncode(b, s.Root[:])
	b = append(b, `","full_bytes":`...)
	b = strconv.AppendInt(b, s.FullBytes(), 10)
	if u := s.Usage; u != nil {
		b = append(b, `,"unique_bytes":`...)
		b = strconv.AppendInt(b, u.Unique, 10)
		b = append(b, `,"shared_bytes":`...)
		b = strconv.AppendInt(b, u.Shared, 10)
		b = append(b, `,"usage_at":`...)
		b = appendTime(b, u.CountedAt)
	}
	return append(b, '}')
}

func appendTags(b []byte, tags []snapshot.Tag) []byte {
	b = append(b, '{')
	for i, t := range tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = rest.AppendString(b, t.Key)
		b = append(b, ':')
		b = rest.AppendString(b, t.Value)
	}
	return append(b, '}')
}

func appendList(b []byte, p *snapshot.DescribePage) []byte {
	b = append(b, `{"snapshots":[`...)
	for i := range p.Snapshots {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSnapshot(b, &p.Snapshots[i])
	}
	b = append(b, ']')
	if p.NextToken != "" {
		b = append(b, `,"next_cursor":`...)
		b = rest.AppendString(b, p.NextToken)
	}
	return append(b, '}')
}

// pageOverhead and entryOverhead are the most bytes that a page and an entry
// of it take apart from their tokens.
const (
	pageOverhead  = 256
	entryOverhead = 80
)

func appendBlockPage(b []byte, p *snapshot.BlockPage) []byte {
	if len(p.Blocks) > 0 {
		b = slices.Grow(b, pageOverhead+len(p.Blocks)*(entryOverhead+len(p.Blocks[0].Token)))
	}
	b = append(b, `{"blocks":[`...)
	for i := range p.Blocks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"block_index":`...)
		b = strconv.AppendUint(b, uint64(p.Blocks[i].Index), 10)
		b = append(b, `,"block_token":`...)
		b = rest.AppendToken(b, p.Blocks[i].Token)
		b = append(b, '}')
	}
	return appendPageEnd(append(b, ']'), p.Expiry, p.NextToken, p.VolumeSize)
}

func appendChangedPage(b []byte, p *snapshot.ChangedPage) []byte {
	if len(p.Blocks) > 0 {
		tokens := 2 * max(len(p.Blocks[0].FirstToken), len(p.Blocks[0].SecondToken))
		b = slices.Grow(b, pageOverhead+len(p.Blocks)*(entryOverhead+tokens))
	}
	b = append(b, `{"changed_blocks":[`...)
	for i := range p.Blocks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"block_index":`...)
		b = strconv.AppendUint(b, uint64(p.Blocks[i].Index), 10)
		if t := p.Blocks[i].FirstToken; t != "" {
			b = append(b, `,"first_block_token":`...)
			b = rest.AppendToken(b, t)
		}
		if t := p.Blocks[i].SecondToken; t != "" {
			b = append(b, `,"second_block_token":`...)
			b = rest.AppendToken(b, t)
		}
		b = append(b, '}')
	}
	return appendPageEnd(append(b, ']'), p.Expiry, p.NextToken, p.VolumeSize)
}

func appendPageEnd(b []byte, expiry time.Time, nextToken string, volumeGiB int64) []byte {
	b = append(b, `,"expiry_time":`...)
	b = appendTime(b, expiry)
	if nextToken != "" {
		b = append(b, `,"next_token":`...)
		b = rest.AppendString(b, nextToken)
	}
	b = append(b, `,"volume_size":`...)
	b = strconv.AppendInt(b, volumeGiB, 10)
	b = append(b, `,"block_size":`...)
	b = strconv.AppendInt(b, block.Size, 10)
	return append(b, '}')
}

// appendTime appends t in RFC 3339, UTC, with milliseconds.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, `"2006-01-02T15:04:05.000Z"`)
}
