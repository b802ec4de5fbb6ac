package rest

import (
	"context"

	"shale/internal/audit"
	"shale/internal/block"
	"shale/internal/snapshot"
)

// What the six operations leave in the audit, in both dialects: the members of
// the model, those that were given. Spec: ebs-direct §13.

// members are the parameters of one call.
type members map[string]any

// put adds a member that is there.
func put[T any](m members, name string, value *T) {
	if value != nil {
		m[name] = *value
	}
}

// hide adds a member that is there, without its value.
func hide(r *audit.Record, m members, name string, value *string) {
	if value != nil {
		m[name] = r.Hide(*value)
	}
}

func tell(r *audit.Record, m members, snapshots ...string) {
	r.Parameters, r.Snapshots = m, snapshots
}

func auditStart(ctx context.Context, req *snapshot.StartRequest) {
	r := audit.Management(ctx)
	if r == nil {
		return
	}
	m := members{}
	put(m, "volumeSize", req.VolumeSize)
	put(m, "parentSnapshotId", req.ParentSnapshotID)
	put(m, "description", req.Description)
	put(m, "clientToken", req.ClientToken)
	put(m, "encrypted", req.Encrypted)
	put(m, "timeout", req.Timeout)
	hide(r, m, "kmsKeyArn", req.KMSKeyARN)
	if len(req.Tags) > 0 {
		m["tags"] = AuditTags(req.Tags)
	}
	tell(r, m)
	if req.ParentSnapshotID != nil {
		r.Snapshots = []string{*req.ParentSnapshotID}
	}
}

// AuditTags are tags as CloudTrail has them.
func AuditTags(tags []snapshot.Tag) []members {
	list := make([]members, len(tags))
	for i, t := range tags {
		list[i] = members{"key": t.Key, "value": t.Value}
	}
	return list
}

func auditStarted(ctx context.Context, s *snapshot.Snapshot) {
	r := audit.Management(ctx)
	if r == nil {
		return
	}
	m := members{
		"snapshotId": s.ID, "ownerId": s.Account, "status": "pending", "startTime": audit.Date(s.StartTime),
		"volumeSize": s.VolumeSize, "blockSize": block.Size,
	}
	put(m, "description", s.Description)
	if s.ParentID != "" {
		m["parentSnapshotId"] = s.ParentID
	}
	if s.KMSKeyARN != "" {
		m["kmsKeyArn"] = audit.Hidden
	}
	if len(s.Tags) > 0 {
		m["tags"] = AuditTags(s.Tags)
	}
	r.Response = m
}

func auditComplete(ctx context.Context, req *snapshot.CompleteRequest) {
	r := audit.Management(ctx)
	if r == nil {
		return
	}
	m := members{"snapshotId": req.SnapshotID}
	put(m, "changedBlocksCount", req.ChangedBlocks)
	put(m, "checksum", req.Checksum)
	put(m, "checksumAlgorithm", req.Algorithm)
	put(m, "checksumAggregationMethod", req.AggregationMethod)
	tell(r, m)
}

func auditCompleted(ctx context.Context, s snapshot.State) {
	if r := audit.Management(ctx); r != nil {
		r.Response = members{"status": s.String()}
	}
}

func auditPut(ctx context.Context, req *snapshot.PutBlockRequest) {
	r := audit.Data(ctx)
	if r == nil {
		return
	}
	m := members{"snapshotId": req.SnapshotID, "blockIndex": req.Index}
	put(m, "dataLength", req.DataLength)
	put(m, "checksum", req.Checksum)
	put(m, "checksumAlgorithm", req.Algorithm)
	put(m, "progress", req.Progress)
	tell(r, m, req.SnapshotID)
}

func auditWritten(ctx context.Context, d block.Digest) {
	if r := audit.Data(ctx); r != nil {
		r.Response = members{"checksum": d.Base64(), "checksumAlgorithm": "SHA256"}
	}
}

// AuditListBlocks tells of a listing of blocks.
func AuditListBlocks(ctx context.Context, req *snapshot.ListBlocksRequest) {
	r := audit.Data(ctx)
	if r == nil {
		return
	}
	m := members{"snapshotId": req.SnapshotID}
	put(m, "maxResults", req.MaxResults)
	put(m, "startingBlockIndex", req.StartingIndex)
	hide(r, m, "nextToken", req.PageToken)
	tell(r, m, req.SnapshotID)
}

func auditListChanged(ctx context.Context, req *snapshot.ListChangedRequest) {
	r := audit.Data(ctx)
	if r == nil {
		return
	}
	m := members{"secondSnapshotId": req.SecondSnapshotID}
	put(m, "firstSnapshotId", req.FirstSnapshotID)
	put(m, "maxResults", req.MaxResults)
	put(m, "startingBlockIndex", req.StartingIndex)
	hide(r, m, "nextToken", req.PageToken)
	tell(r, m, req.SecondSnapshotID)
	if req.FirstSnapshotID != nil {
		r.Snapshots = []string{*req.FirstSnapshotID, req.SecondSnapshotID}
	}
}

func auditGetBlock(ctx context.Context, req *snapshot.GetBlockRequest) {
	r := audit.Data(ctx)
	if r == nil {
		return
	}
	m := members{"snapshotId": req.SnapshotID, "blockIndex": req.Index}
	hide(r, m, "blockToken", req.Token)
	tell(r, m, req.SnapshotID)
}
