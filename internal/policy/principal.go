package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// principals are those whom a statement of a resource's policy is for.
type principals struct {
	named    bool // there are some: others' statements are for whom they are attached to
	not      bool
	anyone   bool
	accounts []string // by number or root user
	names    []string // ARNs of users, roles and sessions
}

// A grant is how directly a policy of a resource gives a right. Each does more
// than the one before.
type grant int

const (
	noGrant   grant = iota
	toAccount       // whose own policies decide on
	toOne           // user or role, or to anyone: within its session's policies
	toSession       // itself, which is beyond them
)

// to says how the statement speaks of p, or that it does not.
func (n *principals) to(p *Principal) grant {
	if n.not {
		return n.butFor(p)
	}
	found := noGrant
	for _, account := range n.accounts {
		if account == p.Account {
			found = toAccount
		}
	}
	if n.anyone {
		found = toOne
	}
	for _, name := range n.names {
		switch {
		case name == p.ARN && p.Kind == AssumedRole:
			return toSession
		case name == p.ARN, name == p.Role:
			found = toOne
		}
	}
	return found
}

// butFor is NotPrincipal: it speaks of everybody but those who are named. As in
// AWS, a user must be named together with its account, and a session together
// with its role and account; else the statement speaks of it.
func (n *principals) butFor(p *Principal) grant {
	if n.anyone || slices.Contains(n.accounts, p.Account) &&
		(p.Kind == Account || slices.Contains(n.names, p.ARN)) &&
		(p.Kind != AssumedRole || slices.Contains(n.names, p.Role)) {
		return noGrant
	}
	return toOne
}

func (p *parser) parsePrincipals(d *statementDocument, s *statement) error {
	v := d.Principal
	switch {
	case !p.form.hasPrincipals() && (d.Principal != nil || d.NotPrincipal != nil):
		return p.malformed(hasPrincipal, "the policy is for whom it is attached to")
	case !p.form.hasPrincipals():
		return nil
	case d.NotPrincipal == nil:
	case p.form == Trust:
		return p.malformed(hasNotPrincipal, "those who may assume a role are named by Principal")
	case d.Principal != nil:
		return p.malformed(syntaxErrors, "it cannot have both Principal and NotPrincipal")
	case !s.deny:
		return p.malformed(syntaxErrors, "NotPrincipal goes with the Effect Deny only")
	default:
		v = d.NotPrincipal
		s.principals.not = true
	}
	s.principals.named = true
	return p.parsePrincipal(v, &s.principals)
}

func (p *parser) parsePrincipal(v jsontext.Value, n *principals) error {
	if name, ok := textOf(v); ok && name == "*" {
		n.anyone = true
		return nil
	}
	var byType map[string]jsontext.Value
	if v.Kind() != '{' || json.Unmarshal(v, &byType) != nil || len(byType) == 0 {
		return p.malformed(syntaxErrors, `it must have a Principal, which is "*" or an object`)
	}
	for kind, v := range byType {
		names, err := p.texts(v, "a Principal")
		if err != nil {
			return err
		}
		switch {
		case kind == "AWS":
			for _, name := range names {
				if err := p.addPrincipal(name, n); err != nil {
					return err
				}
			}
		case kind == "Service": // never calls here
		case kind == "Federated" && p.form == Trust: // nor do these
		default:
			return p.malformed(syntaxErrors, "its principals can only be of the types AWS and Service, and in the policy of a role Federated")
		}
	}
	return nil
}

var (
	accountPrincipal = regexp.MustCompile(`^(?:([0-9]{12})|arn:aws[a-z-]*:iam::([0-9]{12}):root)$`)
	onePrincipal     = regexp.MustCompile(`^arn:aws[a-z-]*:(?:iam::[0-9]{12}:(?:user|role)/[\x21-\x7e]+|sts::[0-9]{12}:assumed-role/[^/]+/[^/]+)$`)
)

func (p *parser) addPrincipal(name string, n *principals) error {
	if name == "*" {
		n.anyone = true
		return nil
	}
	if found := accountPrincipal.FindStringSubmatch(name); found != nil {
		n.accounts = append(n.accounts, found[1]+found[2])
		return nil
	}
	if !onePrincipal.MatchString(name) || strings.ContainsAny(name, "*?") {
		return p.malformed(invalid, "a principal is *, the number of an account, or the ARN of its root user, "+
			"of a user, of a role or of a session of a role, without wildcards")
	}
	n.names = append(n.names, name)
	return nil
}
