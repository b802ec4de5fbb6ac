package gateway

import (
	"errors"
	"net/http"

	"shale/internal/quota"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// throttle counts a request of the caller's and refuses it if it comes too
// soon. Spec: ec2-snapshots §1.3, ebs-direct §9.4.
func (x *exchange) throttle(c snapshot.Caller, rate quota.Name) error {
	if x.o.Quotas == nil || x.o.Quotas.Take(rate, c.Region, c.Account) {
		return nil
	}
	return &rest.Error{Kind: rest.RateExceeded}
}

// ofEBS reports whether a request of the plain dialect is for one of the six
// operations. The rest is what AWS offers through EC2, or not at all.
func ofEBS(r *http.Request) bool {
	_, err := rest.AWS.Match(r)
	return err == nil
}

// overQuota reports whether a quota is why a request was refused.
func overQuota(err error) bool {
	if e, ok := errors.AsType[*snapshot.Error](err); ok {
		return e.OverQuota()
	}
	e, ok := errors.AsType[*rest.Error](err)
	return ok && e.Kind == rest.RateExceeded
}
