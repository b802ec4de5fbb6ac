package policy

import (
	"errors"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What a policy may measure. Whatever its number of statements and values, the
// time that a decision takes is bounded by it. The quotas of AWS, which are lower
// and depend on what the policy is attached to, are for the caller.
const (
	maxText   = 128 << 10 // bytes: AWS's bound on a PolicyDocument
	maxKey    = 32 << 10  // bytes: AWS's quota on a key policy
	maxLength = 20 << 10  // characters that are not white space
)

// The members of a policy and of a statement. Whatever else one has is refused,
// never ignored: an element that is not looked at would allow what it was written
// to prevent.
type policyDocument struct {
	Version   jsontext.Value
	ID        jsontext.Value `json:"Id"`
	Statement jsontext.Value
}

type statementDocument struct {
	Sid          jsontext.Value
	Effect       jsontext.Value
	Principal    jsontext.Value
	NotPrincipal jsontext.Value
	Action       jsontext.Value
	NotAction    jsontext.Value
	Resource     jsontext.Value
	NotResource  jsontext.Value
	Condition    jsontext.Value
}

type parser struct {
	form      Form
	variables bool // ${…} stands for something
	statement int  // that is being read, from 1; 0 before the first
	sids      map[string]bool
}

// Parse reads a policy in IAM's JSON. All of it is understood, or it is a
// *MalformedError. Spec: IAM User Guide, Grammar of the IAM JSON policy language.
func Parse(text string, f Form) (*Policy, error) {
	p := &parser{form: f, sids: map[string]bool{}}
	if tooLong(text, f) {
		return nil, p.malformed("The policy is too long.", "")
	}
	var d policyDocument
	if err := p.object([]byte(text), &d, "Version, Id and Statement"); err != nil {
		return nil, err
	}
	if err := p.version(d.Version); err != nil {
		return nil, err
	}
	if _, ok := textOf(d.ID); d.ID != nil && !ok {
		return nil, p.malformed(syntaxErrors, "Id must be a string")
	}
	all, ok := oneOrMany(d.Statement)
	if !ok {
		return nil, p.malformed(syntaxErrors, "it must have a Statement, which is an object or a list of objects, at least one")
	}
	policy := &Policy{statements: make([]statement, len(all))}
	for i, v := range all {
		p.statement = i + 1
		if err := p.parseStatement(v, &policy.statements[i]); err != nil {
			return nil, err
		}
	}
	return policy, nil
}

func tooLong(text string, f Form) bool {
	if f == Key {
		return len(text) > maxKey
	}
	if len(text) > maxText {
		return true
	}
	length := 0
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			length++
		}
	}
	return length > maxLength
}

func (p *parser) version(v jsontext.Value) error {
	if v == nil {
		return nil // 2008-10-17
	}
	switch version, _ := textOf(v); version {
	case "2012-10-17":
		p.variables = true
	case "2008-10-17":
	default:
		return p.malformed(badVersion, "Version must be 2012-10-17 or 2008-10-17")
	}
	return nil
}

func (p *parser) parseStatement(v jsontext.Value, s *statement) error {
	var d statementDocument
	const members = "Sid, Effect, Principal, NotPrincipal, Action, NotAction, Resource, NotResource and Condition"
	if err := p.object(v, &d, members); err != nil {
		return err
	}
	if err := p.parseSID(d.Sid); err != nil {
		return err
	}
	switch effect, _ := textOf(d.Effect); effect {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		return p.malformed(syntaxErrors, "Effect must be Allow or Deny")
	}
	if err := p.parsePrincipals(&d, s); err != nil {
		return err
	}
	if err := p.parseActions(&d, s); err != nil {
		return err
	}
	if err := p.parseResources(&d, s); err != nil {
		return err
	}
	return p.parseConditions(d.Condition, s)
}

var identitySID = regexp.MustCompile(`^[A-Za-z0-9]*$`)

func (p *parser) parseSID(v jsontext.Value) error {
	if v == nil {
		return nil
	}
	sid, ok := textOf(v)
	switch {
	case !ok:
		return p.malformed(syntaxErrors, "Sid must be a string")
	case p.form == Key || sid == "":
		return nil
	case !identitySID.MatchString(sid):
		return p.malformed(syntaxErrors, "a Sid has letters of ASCII and digits only")
	case p.sids[sid]:
		return p.malformed(sameSID, "its Sid is that of another")
	}
	p.sids[sid] = true
	return nil
}

func (p *parser) parseActions(d *statementDocument, s *statement) error {
	v, not := d.Action, false
	if v == nil {
		v, not = d.NotAction, true
	}
	if v == nil {
		return p.malformed(noActions, "it must have an Action or a NotAction")
	}
	if !not && d.NotAction != nil {
		return p.malformed(syntaxErrors, "it cannot have both Action and NotAction")
	}
	names, err := p.texts(v, "Action")
	if err != nil {
		return err
	}
	s.actions = patterns{not, make([]pattern, len(names))}
	for i, name := range names {
		if err := p.checkAction(name); err != nil {
			return err
		}
		s.actions.list[i] = wildcards(strings.ToLower(name))
	}
	return nil
}

var vendor = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

func (p *parser) checkAction(name string) error {
	service, action, ok := strings.Cut(name, ":")
	switch {
	case p.form == Trust && !strings.EqualFold(service, "sts"):
		return p.malformed(onlyAssumeRole, "its actions must be those of sts")
	case p.form == Key && name != "*" && !strings.EqualFold(service, "kms"):
		return p.malformed(syntaxErrors, "its actions must be those of kms, or *")
	case name == "*":
		return nil
	case !ok || service == "" || action == "":
		return p.malformed(noVendor, "an action is a service, a colon and a name: ebs:StartSnapshot, ebs:*, *")
	case service != "*" && !vendor.MatchString(service):
		return p.malformed(badVendor, "the service of an action is one name without wildcards: ebs:List*")
	case strings.Contains(action, ":"):
		return p.malformed(manyColons, "an action is a service, a colon and a name")
	}
	return nil
}

func (p *parser) parseResources(d *statementDocument, s *statement) error {
	v, not := d.Resource, false
	if v == nil {
		v, not = d.NotResource, true
	}
	if p.form == Trust {
		if v != nil {
			return p.malformed(hasResource, "the policy is about the role that has it")
		}
		s.resources = patterns{not: true} // whatever is not in an empty list
		return nil
	}
	if v == nil {
		return p.malformed(noResources, "it must have a Resource or a NotResource")
	}
	if !not && d.NotResource != nil {
		return p.malformed(syntaxErrors, "it cannot have both Resource and NotResource")
	}
	names, err := p.texts(v, "Resource")
	if err != nil {
		return err
	}
	s.resources = patterns{not, make([]pattern, len(names))}
	for i, name := range names {
		if p.form != Key && !isResource(name) {
			return p.malformed(badResource, "a Resource is * or an ARN of six parts, arn:aws:ec2:*::snapshot/*")
		}
		s.resources.list[i], err = p.pattern(name, wild)
		if err != nil {
			return err
		}
	}
	return nil
}

var partition = regexp.MustCompile(`^(aws[a-z-]*|\*)$`)

// isResource reports whether a pattern can match an ARN: it has its six parts, or
// ends in a wildcard, which spans the colons.
func isResource(name string) bool {
	if name == "*" {
		return true
	}
	parts := strings.SplitN(name, ":", 6)
	if len(parts) < 3 || parts[0] != "arn" || !partition.MatchString(parts[1]) || parts[2] == "" {
		return false
	}
	if len(parts) < 6 {
		return strings.HasSuffix(name, "*")
	}
	// IAM knows variables after the fifth colon only.
	return parts[5] != "" && !strings.Contains(strings.Join(parts[:5], ":"), "${")
}

// object decodes an object that may have only the members that v has.
func (p *parser) object(b []byte, v any, members string) error {
	if b := strings.TrimLeft(string(b), " \t\r\n"); b == "" || b[0] != '{' {
		return p.malformed(syntaxErrors, "it must be a JSON object")
	}
	err := json.Unmarshal(b, v, json.RejectUnknownMembers(true))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jsontext.ErrDuplicateName):
		return p.malformed(syntaxErrors, "a member stands in it twice")
	case errors.Is(err, json.ErrUnknownName):
		return p.malformed(syntaxErrors, "its members can only be "+members)
	default:
		return p.malformed(syntaxErrors, "it is not valid JSON")
	}
}

// texts decodes a string or a list of strings, at least one and none of them
// empty.
func (p *parser) texts(v jsontext.Value, member string) ([]string, error) {
	values, ok := oneOrMany(v)
	all := make([]string, len(values))
	for i, v := range values {
		all[i], ok = textOf(v)
		if !ok || all[i] == "" {
			ok = false
			break
		}
	}
	if !ok {
		return nil, p.malformed(syntaxErrors, member+" must be a string or a list of strings, at least one and none of them empty")
	}
	return all, nil
}

// oneOrMany gives the elements of a list, or the value itself if it is none. It
// reports false if there is nothing.
func oneOrMany(v jsontext.Value) ([]jsontext.Value, bool) {
	if v == nil || v.Kind() == 'n' {
		return nil, false
	}
	if v.Kind() != '[' {
		return []jsontext.Value{v}, true
	}
	var all []jsontext.Value
	err := json.Unmarshal(v, &all)
	return all, err == nil && len(all) > 0
}

func textOf(v jsontext.Value) (string, bool) {
	var s string
	ok := v.Kind() == '"' && json.Unmarshal(v, &s) == nil
	return s, ok
}
