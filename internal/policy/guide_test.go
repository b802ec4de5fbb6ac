package policy_test

import (
	"testing"

	"shale/internal/policy"
)

// The policies that the EBS User Guide gives as examples. Spec: ebs-direct §11.3.
func TestPatternsOfTheGuide(t *testing.T) {
	const (
		anySnapshot = `"Resource":"arn:aws:ec2:us-east-1::snapshot/*"`
		read        = `{"Effect":"Allow","Action":["ebs:ListSnapshotBlocks","ebs:ListChangedBlocks","ebs:GetSnapshotBlock"],` + anySnapshot + `}`
		write       = `{"Effect":"Allow","Action":["ebs:StartSnapshot","ebs:PutSnapshotBlock","ebs:CompleteSnapshot"],` + anySnapshot + `}`
		tagged      = `{"Effect":"Allow","Action":["ebs:ListSnapshotBlocks","ebs:ListChangedBlocks","ebs:GetSnapshotBlock"],"Resource":"arn:aws:ec2:*::snapshot/*",` +
			`"Condition":{"StringEqualsIgnoreCase":{"aws:ResourceTag/Team":"blue"}}}`
		window = `{"Effect":"Allow","Action":"ebs:*","Resource":"*","Condition":{` +
			`"DateGreaterThan":{"aws:CurrentTime":"2026-05-29T00:00:00Z"},"DateLessThan":{"aws:CurrentTime":"2026-05-29T23:59:59Z"}}}`
		closed = `{"Effect":"Allow","Action":"ebs:*","Resource":"*","Condition":{` +
			`"DateGreaterThan":{"aws:CurrentTime":"2020-05-29T00:00:00Z"},"DateLessThan":{"aws:CurrentTime":"2020-05-29T23:59:59Z"}}}`
		parent = `{"Effect":"Allow","Action":"ebs:StartSnapshot","Resource":"*",` +
			`"Condition":{"StringLike":{"ebs:ParentSnapshot":"arn:aws:ec2:*::snapshot/*"}}}`
		oneParent = `{"Effect":"Allow","Action":"ebs:StartSnapshot","Resource":"*",` +
			`"Condition":{"StringEquals":{"ebs:ParentSnapshot":"arn:aws:ec2:us-east-1::snapshot/snap-0"}}}`
		tagKeys = `{"Effect":"Allow","Action":"ebs:StartSnapshot","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["Team","Cost"]}}},` +
			`{"Effect":"Allow","Action":"ec2:CreateTags","Resource":"*"}`
		size = `{"Effect":"Allow","Action":"ebs:StartSnapshot","Resource":"*","Condition":{"NumericLessThanEquals":{"ebs:VolumeSize":"100"},` +
			`"StringLike":{"ebs:Description":"nightly*"}}}`
		all = `{"Effect":"Allow","Action":"ebs:*","Resource":"*"}`
	)
	tags := func(names ...string) map[string][]string { return map[string][]string{"aws:tagkeys": names} }
	team := func(name string) map[string][]string {
		return map[string][]string{"aws:resourcetag/Team": {name}}
	}
	of := func(arn string) map[string][]string { return map[string][]string{"ebs:parentsnapshot": {arn}} }
	volume := func(size, description string) map[string][]string {
		return map[string][]string{"ebs:volumesize": {size}, "ebs:description": {description}}
	}
	const null = "arn:aws:ec2:us-east-1::snapshot/null"
	for _, tt := range []struct {
		name, statement, action, resource string
		keys                              map[string][]string
		want                              bool
	}{
		{"read", read, "ebs:ListSnapshotBlocks", snapOne, nil, true},
		{"read", read, "ebs:ListChangedBlocks", snapOne, nil, true},
		{"read", read, "ebs:GetSnapshotBlock", snapOne, nil, true},
		{"read", read, "ebs:PutSnapshotBlock", snapOne, nil, false},
		{"read, another region", read, "ebs:ListSnapshotBlocks", "arn:aws:ec2:eu-west-1::snapshot/snap-1", nil, false},
		{"write", write, "ebs:StartSnapshot", null, nil, true},
		{"write", write, "ebs:PutSnapshotBlock", snapOne, nil, true},
		{"write", write, "ebs:CompleteSnapshot", snapOne, nil, true},
		{"write", write, "ebs:GetSnapshotBlock", snapOne, nil, false},
		{"tag", tagged, "ebs:GetSnapshotBlock", snapOne, team("BLUE"), true},
		{"another tag", tagged, "ebs:GetSnapshotBlock", snapOne, team("red"), false},
		{"no tag", tagged, "ebs:GetSnapshotBlock", snapOne, nil, false},
		{"window", window, "ebs:GetSnapshotBlock", snapOne, nil, true},
		{"window closed", closed, "ebs:GetSnapshotBlock", snapOne, nil, false},
		{"with a parent", parent, "ebs:StartSnapshot", snapOne, of(snapOne), true},
		{"without a parent", parent, "ebs:StartSnapshot", null, nil, false},
		{"with the parent", oneParent, "ebs:StartSnapshot", snapOne, of("arn:aws:ec2:us-east-1::snapshot/snap-0"), true},
		{"with another parent", oneParent, "ebs:StartSnapshot", snapOne, of(snapOne), false},
		{"tag keys", tagKeys, "ebs:StartSnapshot", null, tags("Team"), true},
		{"all tag keys", tagKeys, "ebs:StartSnapshot", null, tags("Cost", "Team"), true},
		{"no tag keys", tagKeys, "ebs:StartSnapshot", null, tags(), true},
		{"other tag keys", tagKeys, "ebs:StartSnapshot", null, tags("Team", "Env"), false},
		{"tags are created", tagKeys, "ec2:CreateTags", "arn:aws:ec2:us-east-1::snapshot/*", nil, true},
		{"size and description", size, "ebs:StartSnapshot", null, volume("100", "nightly 1"), true},
		{"too great", size, "ebs:StartSnapshot", null, volume("101", "nightly 1"), false},
		{"another description", size, "ebs:StartSnapshot", null, volume("100", "weekly 1"), false},
		{"all", all, "ebs:StartSnapshot", null, nil, true},
		{"all", all, "ebs:GetSnapshotBlock", snapOne, nil, true},
		{"all of ebs", all, "ec2:DeleteSnapshot", snapOne, nil, false},
	} {
		p := identity(t, tt.statement)
		err := alice(p).Authorize(policy.Request{Action: tt.action, Resource: tt.resource, Keys: keys(tt.keys)})
		if got := why(t, err) == ""; got != tt.want {
			t.Errorf("%s: %s: got %v", tt.name, tt.action, got)
		}
	}
}
