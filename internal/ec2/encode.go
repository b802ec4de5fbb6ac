package ec2

import (
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"shale/internal/snapshot"
)

const (
	xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"
)

// openResponse returns the beginning of an action's answer: the root element
// and, in it, the request ID that w's header has. Spec: ec2-snapshots §1.2.
func openResponse(w http.ResponseWriter, action string) []byte {
	b := append([]byte(xmlHeader), "<"+action+`Response xmlns="`+namespace+`">`...)
	return appendElement(b, "requestId", requestID(w))
}

func closeResponse(b []byte, action string) []byte {
	return append(b, "</"+action+"Response>"...)
}

func requestID(w http.ResponseWriter) string { return w.Header().Get("X-Amzn-Requestid") }

// appendSnapshots appends the members of a DescribeSnapshots answer. The last
// page has no nextToken. Spec: ec2-snapshots §2.
func appendSnapshots(b []byte, p *snapshot.DescribePage) []byte {
	b = append(b, "<snapshotSet>"...)
	for i := range p.Snapshots {
		b = appendSnapshot(b, &p.Snapshots[i])
	}
	b = append(b, "</snapshotSet>"...)
	if p.NextToken != "" {
		b = appendElement(b, "nextToken", p.NextToken)
	}
	return b
}

// appendSnapshot appends one item. A snapshot written through the EBS direct
// APIs shows a volume that does not exist, and progress only when it is
// completed. Spec: ebs-direct §5.3, ec2-snapshots §2.
func appendSnapshot(b []byte, s *snapshot.Snapshot) []byte {
	b = append(b, "<item>"...)
	b = appendElement(b, "snapshotId", s.ID)
	b = appendElement(b, "volumeId", snapshot.VolumeID)
	b = appendElement(b, "status", s.State.String())
	if s.Message != "" {
		b = appendElement(b, "statusMessage", s.Message)
	}
	b = appendElement(b, "startTime", formatTime(s.StartTime))
	b = appendElement(b, "progress", s.Progress())
	b = appendElement(b, "ownerId", s.Account)
	b = appendElement(b, "volumeSize", strconv.FormatInt(s.VolumeSize, 10))
	b = appendElement(b, "description", describe(s))
	b = appendElement(b, "encrypted", strconv.FormatBool(s.Encrypted()))
	if s.Encrypted() {
		b = appendElement(b, "kmsKeyId", s.KMSKeyARN)
	}
	if len(s.Tags) > 0 {
		b = appendTags(b, s.Tags)
	}
	b = appendElement(b, "storageTier", "standard")
	b = appendElement(b, "transferType", s.TransferType())
	if s.CompletionMinutes > 0 {
		b = appendElement(b, "completionDurationMinutes", strconv.FormatInt(s.CompletionMinutes, 10))
	}
	if s.State == snapshot.Completed {
		b = appendElement(b, "completionTime", formatTime(s.CompletedAt))
		b = appendElement(b, "fullSnapshotSizeInBytes", strconv.FormatInt(s.FullBytes(), 10))
	}
	return append(b, "</item>"...)
}

// describe gives a snapshot's description. EC2 shows an empty one for none.
func describe(s *snapshot.Snapshot) string {
	if s.Description == nil {
		return ""
	}
	return *s.Description
}

func appendTags(b []byte, tags []snapshot.Tag) []byte {
	b = append(b, "<tagSet>"...)
	for _, t := range tags {
		b = append(b, "<item>"...)
		b = appendElement(b, "key", t.Key)
		b = appendElement(b, "value", t.Value)
		b = append(b, "</item>"...)
	}
	return append(b, "</tagSet>"...)
}

// appendElement appends an element with text.
func appendElement(b []byte, name, text string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendText(b, text)
	return append(append(append(b, '<', '/'), name...), '>')
}

// appendText appends s as character data. It escapes no more than it has to,
// as EC2 does: quotes stay, which xml.EscapeText would replace. A carriage
// return would come out of a parser as a line feed, if it stayed. What XML 1.0
// cannot carry becomes U+FFFD.
func appendText(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '\r':
			b = append(b, "&#xD;"...)
		case r < ' ' && r != '\t' && r != '\n', r == 0xFFFE, r == 0xFFFF:
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// formatTime prints t as EC2 does: UTC, with milliseconds.
func formatTime(t time.Time) string { return t.UTC().Format(snapshot.TimeFormat) }
