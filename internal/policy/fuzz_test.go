package policy_test

import (
	"errors"
	"strings"
	"testing"

	"shale/internal/policy"
)

// seeds are policies that have everything in them.
var seeds = []string{
	statements(allow("ebs:*")),
	statements(allow("ebs:List*", `"Resource":["arn:aws:ec2:*::snapshot/*"]`), deny("*", condition("StringNotEquals", "aws:ResourceTag/Team", `["a","${aws:username, 'b'}"]`))),
	statements(deny("*", `"Condition":{"NotIpAddressIfExists":{"aws:SourceIp":["10.0.0.0/8","::/0"]},"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`)),
	statements(allow("ebs:*", `"Condition":{"ForAllValues:StringLike":{"aws:TagKeys":["T*","?"]},"NumericLessThanEquals":{"ebs:VolumeSize":16},"Null":{"x:y":true}}`)),
	statements(allow("ebs:*", `"Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/${*}"},"Bool":{"aws:SecureTransport":"true"},"BinaryEquals":{"x:y":"AAEC"}}`)),
	statements(allow("kms:*", `"Principal":{"AWS":["111122223333","`+roleARN+`"],"Service":"x"}`), deny("kms:*", `"NotPrincipal":"*"`)),
	`{"Version":"2008-10-17","Id":"i","Statement":{"Sid":"s","Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}`,
	`{"Statement":{"Effect":"Deny","NotAction":["ebs:*"],"NotResource":"arn:aws:ec2:*"}}`,
}

func FuzzParse(f *testing.F) {
	for _, text := range seeds {
		for form := range uint8(4) {
			f.Add(text, form)
		}
	}
	f.Fuzz(func(t *testing.T, text string, form uint8) {
		p, err := policy.Parse(text, policy.Form(form%4))
		var malformed *policy.MalformedError
		if (p == nil) != (err != nil) || err != nil && (!errors.As(err, &malformed) || malformed.Text == "") {
			t.Fatalf("got %v, %v", p, err)
		}
	})
}

// FuzzAuthorize judges requests by whatever can be parsed, and knows the answers
// that follow from one another.
func FuzzAuthorize(f *testing.F) {
	for _, text := range seeds {
		f.Add(text, seeds[1], "ebs:StartSnapshot", snapOne, "Team", "alice")
		f.Add(text, seeds[2], "kms:Decrypt", keyOne, "x", "10.0.0.1")
	}
	denyAll, err := policy.Parse(statements(deny("*")), policy.Identity)
	if err != nil {
		f.Fatal(err)
	}
	allowAll, err := policy.Parse(statements(allow("*")), policy.Identity)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second, action, resource, key, value string) {
		r := policy.Request{Action: action, Resource: resource, Keys: func(name string) ([]string, bool, error) {
			switch {
			case name == "aws:tagkeys":
				return []string{key, value}, true, nil
			case len(name)%2 == 0:
				return []string{value}, true, nil
			}
			return nil, false, nil
		}}
		p, err := policy.Parse(first, policy.Identity)
		if err != nil {
			p, err = policy.Parse(first, policy.Key)
			if err != nil {
				return
			}
			checkOn(t, p, r)
			return
		}
		once := alice(p).Authorize(r)
		if again := alice(p, p).Authorize(r); (again == nil) != (once == nil) {
			t.Error("a policy twice is not that policy")
		}
		if alice(p, denyAll).Authorize(r) == nil || alice(denyAll, p).Authorize(r) == nil {
			t.Error("something is allowed against an explicit deny")
		}
		if within(alice(allowAll), p).Authorize(r) == nil != (once == nil) {
			t.Error("within everything, a session policy is not what it is as a user's")
		}
		q, err := policy.Parse(second, policy.Identity)
		if err != nil {
			return
		}
		other, both := alice(q).Authorize(r), alice(p, q).Authorize(r)
		if both == nil && once != nil && other != nil {
			t.Error("allowed by two policies neither of which allows")
		}
		if (alice(q, p).Authorize(r) == nil) != (both == nil) {
			t.Error("the order of policies counts")
		}
		if within(alice(p), q).Authorize(r) == nil && (once != nil || other != nil) {
			t.Error("a session policy gave what is not in both")
		}
		denies, err := policy.Parse(strings.ReplaceAll(second, `"Allow"`, `"Deny"`), policy.Identity)
		if err == nil && once != nil && (alice(p, denies).Authorize(r) == nil || alice(denies, p).Authorize(r) == nil) {
			t.Error("a Deny turned a denial into an allow")
		}
	})
}

// checkOn judges by a policy of a key.
func checkOn(t *testing.T, key *policy.Policy, r policy.Request) {
	if alice().AuthorizeOn(key, there, r) == nil {
		t.Error("a key in another account allows what the user's account does not")
	}
	denied, err := policy.Parse(statements(deny("*")), policy.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if alice(denied).AuthorizeOn(key, here, r) == nil || within(root(here), denied).AuthorizeOn(key, here, r) == nil {
		t.Error("a key allows against an explicit deny")
	}
}
