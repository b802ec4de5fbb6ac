package policy

// A Policy is a policy that was understood, whole. It is immutable, and safe for
// concurrent use.
type Policy struct {
	statements []statement
}

// A statement of a policy applies if all of its elements do.
type statement struct {
	deny       bool
	principals principals // of a Trust or Key policy
	actions    patterns   // in lower case
	resources  patterns
	conditions []condition
}

// patterns are those of an element and of its opposite: Action and NotAction,
// Resource and NotResource.
type patterns struct {
	not  bool
	list []pattern
}

func (p *patterns) match(e *evaluation, s string) bool {
	for i := range p.list {
		if p.list[i].matches(e, s) {
			return !p.not
		}
	}
	return p.not
}

// A Form is where a policy stands, and so what elements it has.
type Form int

// The forms of policies.
const (
	Identity Form = iota // of a user or a role
	Session              // of a session, given when it is begun
	Trust                // of a role: who may assume it
	Key                  // of a KMS key
)

// hasPrincipals says whether policies of the form name those whom they are for.
func (f Form) hasPrincipals() bool {
	return f == Trust || f == Key
}
