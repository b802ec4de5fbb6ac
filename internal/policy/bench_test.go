package policy_test

import (
	"fmt"
	"testing"

	"shale/internal/policy"
)

// BenchmarkAuthorize decides a PutSnapshotBlock by ten policies of ten statements
// each, none of which is out of the question by its first element alone.
func BenchmarkAuthorize(b *testing.B) {
	var policies []*policy.Policy
	for i := range 10 {
		all := []string{
			allow("ebs:List*", `"Resource":"arn:aws:ec2:*::snapshot/*"`),
			allow("ebs:GetSnapshotBlock", `"Resource":"arn:aws:ec2:us-east-1::snapshot/*"`),
			allow("ec2:Describe*"),
			deny("ebs:*", condition("StringEquals", "aws:ResourceTag/Team", fmt.Sprintf(`["team-%d","others"]`, i))),
			deny("*", condition("NotIpAddress", "aws:SourceIp", `["203.0.113.0/24","2001:db8::/32"]`)),
			deny("ebs:Put*", `"Resource":"arn:aws:ec2:*::snapshot/snap-9*"`),
			allow("ebs:PutSnapshotBlock", condition("StringLike", "aws:ResourceTag/Project", fmt.Sprintf(`"project-%d-*"`, i))),
			deny("ebs:*", condition("DateGreaterThan", "aws:CurrentTime", `"2030-01-01T00:00:00Z"`)),
			allow("kms:Decrypt", condition("Bool", "aws:SecureTransport", "true")),
			deny("iam:*"),
		}
		policies = append(policies, identity(b, all...))
	}
	s := alice(policies...)
	blue, project := []string{"blue"}, []string{"project-9-a"}
	r := policy.Request{Action: "ebs:PutSnapshotBlock", Resource: snapOne, Keys: func(key string) ([]string, bool, error) {
		if key == "aws:resourcetag/Team" {
			return blue, true, nil
		}
		return project, true, nil
	}}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Authorize(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := statements(allow("ebs:*", condition("StringEquals", "aws:ResourceTag/Team", `["a","b"]`)), deny("ec2:*"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Parse(text, policy.Identity); err != nil {
			b.Fatal(err)
		}
	}
}
