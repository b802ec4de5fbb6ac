package kms

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxPolicy is AWS's quota on a key policy, in bytes.
const maxPolicy = 32 << 10

// PolicyName is the only name that a key policy can have.
const PolicyName = "default"

// A decision is what a policy says of a request.
type decision int

const (
	notAllowed decision = iota // no statement matches
	allowed
	refused // by a statement that says so, whatever others say
)

// A policy decides who may use a key. It knows accounts only: users come with
// a package of their own.
type policy struct {
	statements []statement
}

type statement struct {
	allow      bool
	anyone     bool
	principals map[string]bool // accounts
	actions    []string        // patterns in lower case
	resources  []string        // patterns
}

// decide says whether the account may do the action with the key of the ARN.
func (p *policy) decide(account string, a Action, arn string) decision {
	found := notAllowed
	for i := range p.statements {
		s := &p.statements[i]
		if !s.anyone && !s.principals[account] ||
			!anyMatches(s.actions, strings.ToLower(string(a))) || !anyMatches(s.resources, arn) {
			continue
		}
		if !s.allow {
			return refused
		}
		found = allowed
	}
	return found
}

// The members of a policy. Whatever else one has is refused, never ignored: a
// condition that is not looked at would allow what it was written to prevent.
type policyDocument struct {
	Version   *string        `json:"Version"`
	ID        *string        `json:"Id"`
	Statement jsontext.Value `json:"Statement"`
}

type statementDocument struct {
	Sid       *string        `json:"Sid"`
	Effect    string         `json:"Effect"`
	Principal jsontext.Value `json:"Principal"`
	Action    jsontext.Value `json:"Action"`
	Resource  jsontext.Value `json:"Resource"`
}

// parsePolicy reads a policy in IAM's JSON. It understands Effect, Principal
// (of the types AWS, with accounts, and Service, which nobody here is), Action
// and Resource; an error is an *Error of code MalformedPolicy.
func parsePolicy(text string) (*policy, error) {
	if len(text) > maxPolicy {
		return nil, refuse(LimitExceeded, "The key policy has more than %d bytes.", maxPolicy)
	}
	var d policyDocument
	if err := strictly([]byte(text), &d); err != nil {
		return nil, err
	}
	if d.Version != nil && *d.Version != "2012-10-17" && *d.Version != "2008-10-17" {
		return nil, malformed("its version is neither 2012-10-17 nor 2008-10-17")
	}
	values, err := oneOrMany(d.Statement)
	if err != nil || len(values) == 0 {
		return nil, malformed("it has no statement")
	}
	p := &policy{}
	for _, v := range values {
		s, err := parseStatement(v)
		if err != nil {
			return nil, err
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

func parseStatement(v jsontext.Value) (statement, error) {
	var d statementDocument
	if err := strictly(v, &d); err != nil {
		return statement{}, err
	}
	s := statement{allow: d.Effect == "Allow", principals: map[string]bool{}}
	if !s.allow && d.Effect != "Deny" {
		return s, malformed("the Effect of a statement must be Allow or Deny")
	}
	if err := s.parsePrincipal(d.Principal); err != nil {
		return s, err
	}
	actions, err := texts("Action", d.Action)
	if err != nil {
		return s, err
	}
	for _, a := range actions {
		a = strings.ToLower(a)
		if a != "*" && !strings.HasPrefix(a, "kms:") {
			return s, malformed("a statement has an action that is not one of KMS")
		}
		s.actions = append(s.actions, a)
	}
	s.resources, err = texts("Resource", d.Resource)
	return s, err
}

// accountPrincipal is what names an account: its number, or its root user.
var accountPrincipal = regexp.MustCompile(`^(?:arn:aws[a-z-]*:iam::)?([0-9]{12})(:root)?$`)

func (s *statement) parsePrincipal(v jsontext.Value) error {
	var name string
	if json.Unmarshal(v, &name) == nil {
		if name != "*" {
			return malformed("a Principal must be \"*\" or an object")
		}
		s.anyone = true
		return nil
	}
	var byType map[string]jsontext.Value
	if err := json.Unmarshal(v, &byType); err != nil || len(byType) == 0 {
		return malformed("each statement must have a Principal")
	}
	for kind, v := range byType {
		names, err := texts("Principal", v)
		if err != nil {
			return err
		}
		switch kind {
		case "Service": // never calls here
		case "AWS":
			for _, name := range names {
				found := accountPrincipal.FindStringSubmatch(name)
				switch {
				case name == "*":
					s.anyone = true
				case found == nil || strings.HasPrefix(name, "arn:") != (found[2] != ""):
					return malformed("Policy contains a statement with one or more invalid principals: " +
						"only accounts and their root users are known here")
				default:
					s.principals[found[1]] = true
				}
			}
		default:
			return malformed("principals of types other than AWS and Service are not supported")
		}
	}
	return nil
}

// strictly decodes an object that may have only the members that v has.
func strictly(b []byte, v any) error {
	if b := bytes.TrimLeft(b, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return malformed("it, and each of its statements, must be a JSON object")
	}
	if err := json.Unmarshal(b, v, json.RejectUnknownMembers(true)); err != nil {
		return malformed("it is not valid JSON, or has a member other than Version, Id and Statement, or a statement has one other than " +
			"Sid, Effect, Principal, Action and Resource: conditions and exceptions are not supported")
	}
	return nil
}

// texts decodes a string or a list of strings, at least one and none of them
// empty.
func texts(member string, v jsontext.Value) ([]string, error) {
	values, err := oneOrMany(v)
	if err != nil || len(values) == 0 {
		return nil, malformed("each statement must have a %s", member)
	}
	all := make([]string, len(values))
	for i, v := range values {
		if err := json.Unmarshal(v, &all[i]); err != nil || all[i] == "" {
			return nil, malformed("a %s must be a string or a list of strings", member)
		}
	}
	return all, nil
}

func oneOrMany(v jsontext.Value) ([]jsontext.Value, error) {
	if len(v) > 0 && v[0] == '[' {
		var all []jsontext.Value
		err := json.Unmarshal(v, &all)
		return all, err
	}
	if len(v) == 0 || v.Kind() == 'n' {
		return nil, nil
	}
	return []jsontext.Value{v}, nil
}

// malformed says why a policy is refused, and nothing of what is in it: the text
// goes to the log, too.
func malformed(format string, args ...any) error {
	e := refuse(MalformedPolicy, format, args...)
	e.Text = "The key policy cannot be used: " + e.Text + "."
	return e
}

func anyMatches(patterns []string, s string) bool {
	for _, p := range patterns {
		if matches(p, s) {
			return true
		}
	}
	return false
}

// matches reports whether s fits a pattern in which * stands for any run of
// characters and ? for one. It takes at most len(pattern) * len(s) steps.
func matches(pattern, s string) bool {
	star, resume := -1, 0
	p := 0
	for i := 0; i < len(s); {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// defaultPolicy gives the account all rights: what a key has that was made
// without one. It is AWS's text.
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// managedPolicy is that of a key managed by AWS: its account, and nobody else,
// may use it and look at it.
func managedPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "auto-ebs-2",
  "Statement" : [ {
    "Sid" : "Allow the use of the key in its account",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*", "kms:Get*", "kms:List*" ],
    "Resource" : "*"
  } ]
}`
}
