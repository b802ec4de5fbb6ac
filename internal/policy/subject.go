// Package policy decides who may do what, in the language of AWS's Identity and
// Access Management: it reads policies and judges requests by them. It knows no
// users and no snapshots; whoever has those describes them to it.
//
// Source: IAM User Guide, Policy evaluation logic; IAM JSON policy elements
// reference. Spec: ebs-direct §11.
package policy

import (
	"fmt"
	"net/netip"
	"time"
)

// A Principal is who may ask: an account itself (its root user), a user of it,
// or a session of a role. It is immutable, and safe for concurrent use.
type Principal struct {
	Account string // 12 digits
	ARN     string // arn:aws:iam::123456789012:user/alice
	// ID is AWS's aws:userid: the account of a root user, AIDA… of a user,
	// AROA…:session of a session.
	ID   string
	Kind Kind
	Name string // of a user, aws:username; empty for others
	// Role is the ARN of the role of a session, which is its aws:PrincipalArn;
	// empty for others.
	Role string
	// Issued is when the temporary credentials in use were made,
	// aws:TokenIssueTime; zero if they are lasting ones.
	Issued time.Time
	// Policies are those attached to a user or role. An account needs none.
	Policies []*Policy
	// Session are the policies that were passed when a session was begun, by
	// which it is bound besides; nil if there were none.
	Session []*Policy
}

// A Kind is what sort of principal one is, as in aws:PrincipalType.
type Kind string

// The kinds of principals.
const (
	Account     Kind = "Account"
	User        Kind = "User"
	AssumedRole Kind = "AssumedRole"
)

// An Environment is what policies ask about of a request whatever its action.
type Environment struct {
	Time      time.Time  // aws:CurrentTime, aws:EpochTime, by the service's clock
	SourceIP  netip.Addr // aws:SourceIp; the zero Addr if there is none
	Secure    bool       // aws:SecureTransport
	UserAgent string     // aws:UserAgent
	Region    string     // aws:RequestedRegion
}

// A Subject is a Principal at one moment. The nil Subject is the server itself
// at work: nothing restrains it.
type Subject struct {
	*Principal
	Environment
}

// A Request is one action on one resource, to be judged.
type Request struct {
	Action   string // ebs:PutSnapshotBlock
	Resource string // an ARN
	// Keys gives the values of a condition key that belongs to this action or
	// resource, and whether the request has it at all; no values are no key.
	// Names are in lower case up to a slash: ebs:volumesize. After it stands what
	// the policy says, aws:resourcetag/Team; in IAM, this is the tag of that key
	// in whatever case, team too, and its own spelling if there are several. It is
	// only asked for keys that a policy names, and once for each. An error means
	// that it cannot be known now, and decides nothing. nil if there are none.
	Keys func(key string) (values []string, ok bool, err error)
}

// A Denied says that a principal may not do something, in AWS's words.
type Denied struct {
	Principal string // ARN
	Action    string
	Resource  string
	Why       string // because …, with …
}

func (d *Denied) Error() string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", d.Principal, d.Action, d.Resource, d.Why)
}
