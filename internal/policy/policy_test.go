package policy_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
)

const (
	here    = "111122223333"
	there   = "444455556666"
	snapOne = "arn:aws:ec2:us-east-1::snapshot/snap-1"
	keyOne  = "arn:aws:kms:us-east-1:111122223333:key/1"
)

var noon = time.Date(2026, 5, 29, 12, 0, 0, 0, time.UTC)

// statements makes the text of a policy of statements.
func statements(all ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(all, ",") + `]}`
}

// allow and deny are statements about an action on everything, with further
// elements if there are any.
func allow(action string, elements ...string) string {
	return statement("Allow", action, elements)
}

func deny(action string, elements ...string) string {
	return statement("Deny", action, elements)
}

func statement(effect, action string, elements []string) string {
	all := []string{`"Effect":"` + effect + `"`, `"Action":"` + action + `"`}
	if !slices.ContainsFunc(elements, func(e string) bool { return strings.Contains(e, `Resource":`) }) {
		all = append(all, `"Resource":"*"`)
	}
	return "{" + strings.Join(append(all, elements...), ",") + "}"
}

func condition(operator, key, value string) string {
	return `"Condition":{"` + operator + `":{"` + key + `":` + value + `}}`
}

func parse(t testing.TB, f policy.Form, all ...string) *policy.Policy {
	t.Helper()
	text := statements(all...)
	p, err := policy.Parse(text, f)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return p
}

func identity(t testing.TB, all ...string) *policy.Policy {
	t.Helper()
	return parse(t, policy.Identity, all...)
}

var environment = policy.Environment{
	Time: noon, SourceIP: netip.MustParseAddr("203.0.113.7"), Secure: true, UserAgent: "aws-cli/2.0", Region: "us-east-1",
}

func root(account string) *policy.Subject {
	return &policy.Subject{Principal: &policy.Principal{
		Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account, Kind: policy.Account,
	}, Environment: environment}
}

func alice(policies ...*policy.Policy) *policy.Subject {
	return &policy.Subject{Principal: &policy.Principal{
		Account: here, ARN: "arn:aws:iam::" + here + ":user/team/alice", ID: "AIDAALICE", Kind: policy.User, Name: "alice", Policies: policies,
	}, Environment: environment}
}

const (
	roleARN    = "arn:aws:iam::" + here + ":role/backup/nightly"
	sessionARN = "arn:aws:sts::" + here + ":assumed-role/nightly/s1"
)

func session(policies ...*policy.Policy) *policy.Subject {
	return &policy.Subject{Principal: &policy.Principal{
		Account: here, ARN: sessionARN, ID: "AROANIGHTLY:s1", Kind: policy.AssumedRole, Role: roleARN, Policies: policies,
		Issued: noon.Add(-time.Hour),
	}, Environment: environment}
}

// within gives the session policies of its own.
func within(s *policy.Subject, policies ...*policy.Policy) *policy.Subject {
	s.Session = policies
	return s
}

// keys makes Request.Keys of a map.
func keys(m map[string][]string) func(string) ([]string, bool, error) {
	return func(key string) ([]string, bool, error) {
		values, ok := m[key]
		return values, ok, nil
	}
}

// why gives the reason of a denial, empty if there was none.
func why(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var denied *policy.Denied
	if !errors.As(err, &denied) {
		t.Fatalf("got %v, want a Denied", err)
	}
	return denied.Why
}
