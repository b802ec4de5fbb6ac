package ec2

import (
	"context"
	"strconv"
	"time"

	"shale/internal/query"
	"shale/internal/snapshot"
)

// lockSnapshot answers LockSnapshot. Spec: ec2-snapshots §8.1.
func (h *Handler) lockSnapshot(ctx context.Context, q *call) ([]byte, error) {
	req, err := decodeLock(q.form)
	if err != nil {
		return nil, err
	}
	req.DryRun = q.dryRun
	l, err := h.service.Lock(ctx, q.caller, req)
	if err != nil {
		return nil, err
	}
	if q.dryRun {
		return nil, errDryRun
	}
	return appendLock(query.AppendElement(nil, "snapshotId", req.SnapshotID), &l), nil
}

func decodeLock(f form) (req snapshot.LockRequest, err error) {
	if req.SnapshotID, err = f.snapshotID(); err != nil {
		return req, err
	}
	mode, err := f.required("LockMode")
	if err != nil {
		return req, err
	}
	switch mode {
	case "governance":
	case "compliance":
		req.Compliance = true
	default:
		return req, refuse(invalidValue, "Value ( %s ) for parameter lockMode is invalid. Expecting governance or compliance.", mode)
	}
	if f.Has("LockDuration") == f.Has("ExpirationDate") {
		return req, refuse(invalidCombination, "Exactly one of the parameters LockDuration and ExpirationDate must be specified.")
	}
	if f.Has("CoolOffPeriod") && !req.Compliance {
		return req, refuse(invalidCombination, "The parameter CoolOffPeriod cannot be used with the lock mode governance.")
	}
	if req.Days, err = f.integer("LockDuration"); err != nil {
		return req, err
	}
	if req.Until, err = f.time("ExpirationDate"); err != nil {
		return req, err
	}
	req.CoolOffHours, err = f.integer("CoolOffPeriod")
	return req, err
}

// unlockSnapshot answers UnlockSnapshot. Spec: ec2-snapshots §8.2.
func (h *Handler) unlockSnapshot(ctx context.Context, q *call) ([]byte, error) {
	id, err := q.snapshotID()
	if err != nil {
		return nil, err
	}
	if err := h.service.Unlock(ctx, q.caller, snapshot.UnlockRequest{SnapshotID: id, DryRun: q.dryRun}); err != nil {
		return nil, err
	}
	if q.dryRun {
		return nil, errDryRun
	}
	return query.AppendElement(nil, "snapshotId", id), nil
}

// describeLockedSnapshots answers DescribeLockedSnapshots.
// Spec: ec2-snapshots §8.3.
func (h *Handler) describeLockedSnapshots(ctx context.Context, q *call) ([]byte, error) {
	var req snapshot.LocksRequest
	var err error
	if req.MaxResults, req.NextToken, err = q.page(); err != nil {
		return nil, err
	}
	if req.Filters, err = q.filters(); err != nil {
		return nil, err
	}
	if req.IDs, err = q.snapshotIDs(); err != nil {
		return nil, err
	}
	l := list{element: "snapshotSet", size: req.MaxResults, token: req.NextToken, named: len(req.IDs) > 0}
	return h.list(ctx, q, l, func(b []byte, size *int64, token *string) ([]byte, string, error) {
		req.MaxResults, req.NextToken = size, token
		page, err := h.service.Locks(ctx, q.caller, req)
		for i := range page.Snapshots {
			s := &page.Snapshots[i]
			b = append(b, "<item>"...)
			b = query.AppendElement(b, "ownerId", s.Account)
			b = query.AppendElement(b, "snapshotId", s.ID)
			b = appendLock(b, &s.Lock)
			b = append(b, "</item>"...)
		}
		return b, page.NextToken, err
	})
}

// appendLock appends what there is to tell of a lock.
func appendLock(b []byte, l *snapshot.Lock) []byte {
	b = query.AppendElement(b, "lockState", l.State.String())
	b = query.AppendElement(b, "lockDuration", strconv.FormatInt(l.Days, 10))
	if l.CoolOffHours > 0 {
		b = query.AppendElement(b, "coolOffPeriod", strconv.FormatInt(l.CoolOffHours, 10))
		b = query.AppendElement(b, "coolOffPeriodExpiresOn", formatTime(l.CoolOffEnds))
	}
	b = query.AppendElement(b, "lockCreatedOn", formatTime(l.CreatedAt))
	if !l.ExpiresAt.IsZero() {
		b = query.AppendElement(b, "lockExpiresOn", formatTime(l.ExpiresAt))
	}
	if !l.StartedAt.IsZero() {
		b = query.AppendElement(b, "lockDurationStartTime", formatTime(l.StartedAt))
	}
	return b
}

// integer returns the value of a parameter, nil if it is absent.
func (f form) integer(name string) (*int64, error) {
	s, err := f.Optional(name)
	if err != nil || s == nil {
		return nil, err
	}
	n, err := strconv.ParseInt(*s, 10, 64)
	if err != nil {
		return nil, refuse(invalidValue, "Value ( %s ) for parameter %s is invalid. Expecting an integer.", *s, lowerFirst(name))
	}
	return &n, nil
}

// time returns the value of a parameter, nil if it is absent. Milliseconds are
// optional. Spec: ec2-snapshots §1.1.
func (f form) time(name string) (*time.Time, error) {
	s, err := f.Optional(name)
	if err != nil || s == nil {
		return nil, err
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		return nil, refuse(invalidValue, "Value ( %s ) for parameter %s is invalid. Expecting a time like 2030-01-02T03:04:05Z.", *s, lowerFirst(name))
	}
	return &t, nil
}

// snapshotIDs returns SnapshotId.N, each well formed.
func (f form) snapshotIDs() ([]string, error) {
	ids, err := f.List("SnapshotId")
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
