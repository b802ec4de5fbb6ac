package policy_test

import (
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
)

func TestElements(t *testing.T) {
	const arn = "arn:aws:ec2:us-east-1::snapshot/snap-1"
	for _, tt := range []struct {
		statement string
		want      bool
	}{
		{allow("*"), true},
		{allow("*:*"), true},
		{allow("ebs:*"), true},
		{allow("ebs:ListSnapshotBlocks"), true},
		{allow("EBS:listsnapshotBLOCKS"), true},
		{allow("ebs:List*Blocks"), true},
		{allow("ebs:ListSnapshotBlock?"), true},
		{allow("ebs:ListSnapshotBlocks?"), false},
		{allow("ebs:ListSnapshot"), false},
		{allow("ec2:*"), false},
		{allow("eb:*"), false},
		{`{"Effect":"Allow","Action":["ec2:*","ebs:*"],"Resource":"*"}`, true},
		{`{"Effect":"Allow","NotAction":["ec2:*","iam:*"],"Resource":"*"}`, true},
		{`{"Effect":"Allow","NotAction":["ec2:*","EBS:List*"],"Resource":"*"}`, false},
		{allow("ebs:*", `"Resource":"`+arn+`"`), true},
		{allow("ebs:*", `"Resource":["arn:aws:ec2:*::snapshot/snap-2","`+arn+`"]`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::snapshot/*"`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:*::snapshot/*"`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:*::snapshot/snap-?"`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:*"`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::snapshot/SNAP-1"`), false},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::volume/*"`), false},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:eu-*::snapshot/*"`), false},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1:111122223333:snapshot/*"`), false},
		{allow("ebs:*", `"Resource":"arn:aws:ebs:us-east-1::snapshot/*"`), false},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::snapshot/snap-${x:number}"`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::snapshot/snap-${x:star}"`), false},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::snapshot/${x:missing, 'snap-1'}"`), true},
		{allow("ebs:*", `"Resource":"arn:aws:ec2:us-east-1::snapshot/${x:missing}*"`), false},
		{`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:ec2:*::snapshot/snap-2"}`, true},
		{`{"Effect":"Allow","Action":"*","NotResource":["arn:aws:ec2:*::volume/*","arn:aws:ec2:*::snapshot/*"]}`, false},
	} {
		err := alice(identity(t, tt.statement)).Authorize(policy.Request{
			Action: "ebs:ListSnapshotBlocks", Resource: arn,
			Keys: keys(map[string][]string{"x:number": {"1"}, "x:star": {"*"}}),
		})
		if got := why(t, err) == ""; got != tt.want {
			t.Errorf("%s: got %v", tt.statement, got)
		}
	}
}

// In a policy of 2008 a variable is what it is written as.
func TestNoVariablesIn2008(t *testing.T) {
	for version, want := range map[string]bool{`"Version":"2008-10-17",`: true, ``: true, `"Version":"2012-10-17",`: false} {
		p, err := policy.Parse(`{`+version+`"Statement":`+allow("*", condition("StringEquals", "x:y", `"${aws:username}"`))+`}`, policy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		r := policy.Request{Action: "ebs:StartSnapshot", Resource: snapOne, Keys: keys(map[string][]string{"x:y": {"${aws:username}"}})}
		if got := alice(p).Authorize(r) == nil; got != want {
			t.Errorf("%s: got %v", version, got)
		}
	}
}

// The worst pattern for the longest text takes a moment, not for ever.
func TestMatchingIsBounded(t *testing.T) {
	p := identity(t, allow("*", condition("StringLike", "aws:UserAgent", `"`+strings.Repeat("a*", 9000)+`b"`)))
	q := identity(t, allow("*", condition("StringLike", "aws:UserAgent", `"*`+strings.Repeat("a", 900)+`b"`)))
	s := alice(p, q)
	s.UserAgent = strings.Repeat("a", 64<<10)
	began := time.Now()
	if s.Authorize(policy.Request{Action: "ebs:StartSnapshot", Resource: snapOne}) == nil {
		t.Error("allowed")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
}
