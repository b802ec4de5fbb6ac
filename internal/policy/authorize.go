package policy

import "strings"

// Authorize decides the request by the subject's own policies: nil if it may, a
// *Denied if not, or the error of what had to be known for it. An account may do
// everything, within the policies of its session if it has one.
func (s *Subject) Authorize(r Request) error {
	if s == nil {
		return nil
	}
	var room [8]answer
	e := evaluation{subject: s, request: &r, action: strings.ToLower(r.Action), answers: room[:0]}
	own := e.own()
	if e.err != nil {
		return e.err
	}
	return s.denied(&r, own.why(r.Action))
}

// AuthorizeOn decides the request by the policy of the resource, which belongs to
// the account owner, together with the subject's own. A right that the resource
// gives to the subject's account counts as far as the subject's own policies give
// it, too; one that it gives to a user or role of the owner's account counts by
// itself, within the policies of the session; one that it gives to a session by
// name, without those. In another account than the owner's both must give it.
// Source: IAM User Guide, Policy evaluation for requests within a single account;
// Cross-account policy evaluation logic.
func (s *Subject) AuthorizeOn(resource *Policy, owner string, r Request) error {
	if s == nil {
		return nil
	}
	var room [8]answer
	e := evaluation{subject: s, request: &r, action: strings.ToLower(r.Action), answers: room[:0]}
	own, given := e.own(), e.judge(resource)
	if e.err != nil {
		return e.err
	}
	return s.denied(&r, on(own, given, s.Account == owner, r.Action))
}

// on says why a request is refused, empty if it is not.
func on(own ownVerdict, given verdict, sameAccount bool, action string) string {
	switch why := own.why(action); {
	case own.explicit():
		return why
	case given.deny:
		return "with an explicit deny in a resource-based policy"
	case given.grant == noGrant:
		return "because no resource-based policy allows the " + action + " action"
	case sameAccount && given.grant == toSession:
		return ""
	case sameAccount && given.grant == toOne:
		own.identity.grant = toOne
		return own.why(action)
	default:
		return why
	}
}

func (s *Subject) denied(r *Request, why string) error {
	if why == "" {
		return nil
	}
	return &Denied{s.ARN, r.Action, r.Resource, why}
}

// An evaluation is a request that is being judged.
type evaluation struct {
	subject *Subject
	request *Request
	action  string // in lower case
	answers []answer
	// err is that of a key that could not be known. All verdicts are void then.
	err error
}

// A verdict is what policies say of a request: a denial, or else the most direct
// right that they give.
type verdict struct {
	deny  bool
	grant grant
}

// An ownVerdict is what the policies of a subject say.
type ownVerdict struct {
	identity, session verdict
}

func (e *evaluation) own() ownVerdict {
	own := ownVerdict{e.judge(e.subject.Policies...), verdict{grant: toOne}}
	if e.subject.Kind == Account && !own.identity.deny {
		own.identity.grant = toOne
	}
	if e.subject.Session != nil {
		own.session = e.judge(e.subject.Session...)
	}
	return own
}

func (v ownVerdict) explicit() bool {
	return v.identity.deny || v.session.deny
}

// why says in AWS's words why the request is refused, empty if it is not.
func (v ownVerdict) why(action string) string {
	switch {
	case v.identity.deny:
		return "with an explicit deny in an identity-based policy"
	case v.session.deny:
		return "with an explicit deny in a session policy"
	case v.identity.grant == noGrant:
		return "because no identity-based policy allows the " + action + " action"
	case v.session.grant == noGrant:
		return "because no session policy allows the " + action + " action"
	default:
		return ""
	}
}

// judge says what policies say together.
func (e *evaluation) judge(policies ...*Policy) verdict {
	var v verdict
	for _, p := range policies {
		for i := range p.statements {
			s := &p.statements[i]
			grant := e.applies(s)
			switch {
			case grant == noGrant:
			case s.deny:
				return verdict{deny: true}
			case grant > v.grant:
				v.grant = grant
			}
		}
	}
	return v
}

// applies reports how a statement applies to the request, or that it does not.
func (e *evaluation) applies(s *statement) grant {
	if !s.actions.match(e, e.action) || !s.resources.match(e, e.request.Resource) {
		return noGrant
	}
	grant := toOne
	if s.principals.named {
		grant = s.principals.to(e.subject.Principal)
	}
	for i := range s.conditions {
		if grant == noGrant || !s.conditions[i].holds(e) {
			return noGrant
		}
	}
	return grant
}
