package ec2

import (
	"net/http"
	"strconv"
	"time"

	"shale/internal/query"
	"shale/internal/snapshot"
)

const namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"

// openResponse returns the beginning of an action's answer: the root element
// and, in it, the request ID that w's header has. Spec: ec2-snapshots §1.2.
func openResponse(w http.ResponseWriter, action string) []byte {
	b := append([]byte(query.Header), "<"+action+`Response xmlns="`+namespace+`">`...)
	return query.AppendElement(b, "requestId", requestID(w))
}

func closeResponse(b []byte, action string) []byte {
	return append(b, "</"+action+"Response>"...)
}

func requestID(w http.ResponseWriter) string { return w.Header().Get("X-Amzn-Requestid") }

// appendSnapshot appends one item. A snapshot written through the EBS direct
// APIs shows a volume that does not exist, and progress only when it is
// completed. Spec: ebs-direct §5.3, ec2-snapshots §2.
func appendSnapshot(b []byte, s *snapshot.Snapshot) []byte {
	b = append(b, "<item>"...)
	b = query.AppendElement(b, "snapshotId", s.ID)
	b = query.AppendElement(b, "volumeId", snapshot.VolumeID)
	b = query.AppendElement(b, "status", s.State.String())
	if s.Message != "" {
		b = query.AppendElement(b, "statusMessage", s.Message)
	}
	b = query.AppendElement(b, "startTime", formatTime(s.StartTime))
	b = query.AppendElement(b, "progress", s.Progress())
	b = query.AppendElement(b, "ownerId", s.Account)
	b = query.AppendElement(b, "volumeSize", strconv.FormatInt(s.VolumeSize, 10))
	b = query.AppendElement(b, "description", describe(s))
	b = query.AppendElement(b, "encrypted", strconv.FormatBool(s.Encrypted()))
	if s.Encrypted() {
		b = query.AppendElement(b, "kmsKeyId", s.KMSKeyARN)
	}
	if len(s.Tags) > 0 {
		b = appendTags(b, s.Tags)
	}
	b = query.AppendElement(b, "storageTier", "standard")
	b = query.AppendElement(b, "transferType", s.TransferType())
	if s.CompletionMinutes > 0 {
		b = query.AppendElement(b, "completionDurationMinutes", strconv.FormatInt(s.CompletionMinutes, 10))
	}
	if s.State == snapshot.Completed {
		b = query.AppendElement(b, "completionTime", formatTime(s.CompletedAt))
		b = query.AppendElement(b, "fullSnapshotSizeInBytes", strconv.FormatInt(s.FullBytes(), 10))
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
		b = query.AppendElement(b, "key", t.Key)
		b = query.AppendElement(b, "value", t.Value)
		b = append(b, "</item>"...)
	}
	return append(b, "</tagSet>"...)
}

// formatTime prints t as EC2 does: UTC, with milliseconds.
func formatTime(t time.Time) string { return t.UTC().Format(snapshot.TimeFormat) }
