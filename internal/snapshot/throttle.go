package snapshot

import (
	"errors"

	"shale/internal/quota"
)

// perSnapshot has the rates that are of one snapshot, beside that of the
// account. Spec: ebs-direct §10.
var perSnapshot = map[quota.Name]quota.Name{
	quota.PutRate: quota.PutRatePerSnapshot,
	quota.GetRate: quota.GetRatePerSnapshot,
}

// throttle counts a request of the caller's and refuses it if it comes too
// soon. It is asked of a request that is allowed, before anything else is
// looked at. The snapshot's rate comes first, so that what is refused for it
// takes nothing from the account's. Spec: ebs-direct §4, §9.2, §9.4.
func (s *Service) throttle(c Caller, rate quota.Name, snapshotID string) error {
	if r, found := perSnapshot[rate]; found && !s.quotas.Take(r, c.Region, snapshotID) {
		return &Error{Code: SnapshotThrottled, Snapshot: snapshotID}
	}
	if !s.quotas.Take(rate, c.Region, c.Account) {
		return &Error{Code: AccountThrottled}
	}
	return nil
}

// limits gives how many snapshots the caller may have.
func (s *Service) limits(c Caller) Limits {
	return Limits{
		Snapshots: s.quotas.Limit(quota.Snapshots, c.Region),
		Pending:   s.quotas.Limit(quota.Pending, c.Region),
		Copies:    s.quotas.Limit(quota.Copies, c.Region),
	}
}

// atLimit reports whether an error says that the account has as many snapshots
// as it may.
func atLimit(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Code == TooManyPending || e.Code == TooManySnapshots)
}

// OverQuota reports whether a quota is why the request was refused.
func (e *Error) OverQuota() bool {
	switch e.Code {
	case AccountThrottled, SnapshotThrottled, TooManyPending, TooManySnapshots, TooManyCopies:
		return true
	}
	return false
}
