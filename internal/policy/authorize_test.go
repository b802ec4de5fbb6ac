package policy_test

import (
	"errors"
	"testing"

	"shale/internal/policy"
)

const (
	here    = "111122223333"
	there   = "444455556666"
	snapOne = "arn:aws:ec2:us-east-1::snapshot/snap-1"
)

// parse reads a policy, or one of a statement.
func parse(t testing.TB, f policy.Form, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(text, f)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return p
}

func user(policies ...*policy.Policy) *policy.Subject {
	return &policy.Subject{Principal: &policy.Principal{
		Account: here, ARN: "arn:aws:iam::" + here + ":user/alice", ID: "AIDAALICE", Kind: policy.User, Name: "alice", Policies: policies,
	}}
}

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

func TestSmoke(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ebs:List*","Resource":"arn:aws:ec2:*::snapshot/*","Condition":{"StringEquals":{"aws:username":"alice"}}}]}`)
	if got := why(t, user(p).Authorize(policy.Request{Action: "ebs:ListSnapshotBlocks", Resource: snapOne})); got != "" {
		t.Error(got)
	}
	if got := why(t, user(p).Authorize(policy.Request{Action: "ebs:PutSnapshotBlock", Resource: snapOne})); got != "because no identity-based policy allows the ebs:PutSnapshotBlock action" {
		t.Error(got)
	}
	k := parse(t, policy.Key, `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`)
	if got := why(t, user(p).AuthorizeOn(k, here, policy.Request{Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:111122223333:key/1"})); got != "because no identity-based policy allows the kms:Decrypt action" {
		t.Error(got)
	}
}
