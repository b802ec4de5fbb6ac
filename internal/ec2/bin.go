package ec2

import (
	"context"
	"strconv"

	"shale/internal/query"
	"shale/internal/snapshot"
)

// listSnapshotsInRecycleBin answers ListSnapshotsInRecycleBin.
// Spec: ec2-snapshots §9.1.
func (h *Handler) listSnapshotsInRecycleBin(ctx context.Context, q *call) ([]byte, error) {
	var req snapshot.BinRequest
	var err error
	if req.MaxResults, req.NextToken, err = q.page(); err != nil {
		return nil, err
	}
	if req.IDs, err = q.snapshotIDs(); err != nil {
		return nil, err
	}
	l := list{element: "snapshotSet", size: req.MaxResults, token: req.NextToken, named: len(req.IDs) > 0}
	return h.list(ctx, q, l, func(b []byte, size *int64, token *string) ([]byte, string, error) {
		req.MaxResults, req.NextToken = size, token
		page, err := h.service.Bin(ctx, q.caller, req)
		for i := range page.Snapshots {
			s := &page.Snapshots[i]
			b = append(b, "<item>"...)
			b = query.AppendElement(b, "snapshotId", s.Snapshot.ID)
			b = query.AppendElement(b, "recycleBinEnterTime", formatTime(s.EnteredAt))
			b = query.AppendElement(b, "recycleBinExitTime", formatTime(s.ExitsAt))
			b = query.AppendElement(b, "description", describe(&s.Snapshot))
			b = query.AppendElement(b, "volumeId", snapshot.VolumeID)
			b = append(b, "</item>"...)
		}
		return b, page.NextToken, err
	})
}

// restoreSnapshotFromRecycleBin answers RestoreSnapshotFromRecycleBin. The
// state is AWS's; by the time of the answer the snapshot is completed again.
// Spec: ec2-snapshots §9.2.
func (h *Handler) restoreSnapshotFromRecycleBin(ctx context.Context, q *call) ([]byte, error) {
	id, err := q.snapshotID()
	if err != nil {
		return nil, err
	}
	s, err := h.service.Restore(ctx, q.caller, snapshot.RestoreRequest{SnapshotID: id, DryRun: q.dryRun})
	if err != nil {
		return nil, err
	}
	if q.dryRun {
		return nil, errDryRun
	}
	b := query.AppendElement(nil, "snapshotId", s.ID)
	b = query.AppendElement(b, "description", describe(&s))
	b = query.AppendElement(b, "encrypted", strconv.FormatBool(s.Encrypted()))
	b = query.AppendElement(b, "ownerId", s.Account)
	b = query.AppendElement(b, "progress", s.Progress())
	b = query.AppendElement(b, "startTime", formatTime(s.StartTime))
	b = query.AppendElement(b, "status", "recovering")
	b = query.AppendElement(b, "volumeId", snapshot.VolumeID)
	return query.AppendElement(b, "volumeSize", strconv.FormatInt(s.VolumeSize, 10)), nil
}
