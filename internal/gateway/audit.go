package gateway

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"shale/internal/audit"
	"shale/internal/policy"
)

// asked is what is known of who sent a request, for the audit.
type asked struct {
	key string // the access key, as the request names it
	// account and region are those that the request claims, as far as they exist.
	account, region string
	proved          bool // the claims are true
	anonymous       bool
	principal       *policy.Principal // if they are
}

// by notes that the request is who's.
func (a *asked) by(who *policy.Principal, region string) {
	a.proved, a.account, a.region, a.principal = true, who.Account, region, who
}

func (a *asked) identity() audit.Identity {
	switch {
	case !a.proved:
		return audit.Unproved(a.account, a.key)
	case a.anonymous:
		return audit.Anonymous()
	}
	return audit.IdentityOf(a.principal, a.key)
}

// beginAudit puts a record for the doors into the request's context.
func (x *exchange) beginAudit() {
	if x.o.Audit == nil {
		return
	}
	x.record = x.o.Audit.NewRecord()
	x.r = x.r.WithContext(x.record.With(x.r.Context()))
}

// audit leaves the request's line.
func (x *exchange) audit() {
	if x.record == nil {
		return
	}
	call, ok := audit.CallOf(x.calledFor())
	if !ok || !x.o.Audit.Wants(call) {
		return
	}
	if x.err != nil && x.w.status < http.StatusBadRequest { // it failed in the middle
		audit.Refused(x.r.Context(), "InternalFailure", "The answer was cut off.")
	}
	if x.asked.proved && x.asked.key == "" && !x.asked.anonymous {
		x.record.Add("authenticationMethod", "BearerToken")
	}
	region := x.asked.region
	if region == "" {
		region = x.o.Regions[0]
	}
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		host = x.r.RemoteAddr
	}
	x.o.Audit.Write(&audit.Event{
		Call: call, Identity: x.asked.identity(), Account: x.asked.account, Region: region, Time: x.o.Now(),
		SourceIP: host, UserAgent: x.r.UserAgent(), RequestID: x.id, ID: newRequestID(),
		TLS: x.r.TLS, Host: x.r.Host, Record: x.record,
	})
}

// calledFor is the operation of the request. Of one that was refused before its
// sender was known it is what the request says.
func (x *exchange) calledFor() string {
	service, _ := strings.CutSuffix(x.op, ":"+opUnknown)
	switch service {
	case "ec2", "iam", "sts":
		return queryOperation(service, x.action())
	case "kms":
		if name := strings.TrimPrefix(x.r.Header.Get("X-Amz-Target"), "TrentService."); slices.Contains(kmsOperations, name) {
			return "kms:" + name
		}
	}
	return x.op
}
