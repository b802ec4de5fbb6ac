package policy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
)

var volume = map[string][]string{
	"ebs:volumesize":             {"100"},
	"ebs:description":            {"nightly Backup *"},
	"ebs:parentsnapshot":         {"arn:aws:ec2:us-east-1::snapshot/snap-0"},
	"aws:resourcetag/Team":       {"Blue"},
	"aws:resourcetag/Tälje":      {"ö"},
	"aws:requesttag/Empty":       {""},
	"aws:tagkeys":                {"Team", "Cost"},
	"x:none":                     {},
	"x:date":                     {"2026-05-29T12:00:00Z"},
	"x:euro":                     {"€xy"},
	"x:aba":                      {"aba"},
	"x:yes":                      {"true"},
	"x:bytes":                    {"AAEC"},
	"x:user":                     {"alice"},
	"x:stars":                    {"a*b?c${"},
	"x:v6":                       {"2001:db8::7"},
	"x:v4in6":                    {"::ffff:203.0.113.7"},
	"x:key":                      {"arn:aws:kms:us-east-1:111122223333:key:with:colons"},
	"x:decimal":                  {"1.50"},
	"x:words":                    {"no number"},
	"aws:resourcetag/${literal}": {"x"},
}

func TestOperators(t *testing.T) {
	for _, tt := range []struct {
		operator, key, value string
		want                 bool
	}{
		{"StringEquals", "aws:ResourceTag/Team", `"Blue"`, true},
		{"StringEquals", "AWS:RESOURCETAG/Team", `"Blue"`, true},
		{"StringEquals", "aws:ResourceTag/Team", `"blue"`, false},
		{"StringEquals", "aws:ResourceTag/Team", `["Red","Blue"]`, true},
		{"StringEquals", "aws:ResourceTag/Team", `["Red","Green"]`, false},
		{"StringEquals", "aws:ResourceTag/Team", `"Bl*"`, false},
		{"StringEquals", "aws:ResourceTag/None", `"Blue"`, false},
		{"StringEquals", "ebs:VolumeSize", `100`, true},
		{"StringEquals", "x:yes", `true`, true},
		{"StringEquals", "aws:RequestTag/Empty", `""`, true},
		{"StringNotEquals", "aws:ResourceTag/Team", `"Blue"`, false},
		{"StringNotEquals", "aws:ResourceTag/Team", `"blue"`, true},
		{"StringNotEquals", "aws:ResourceTag/Team", `["Red","Blue"]`, false},
		{"StringNotEquals", "aws:ResourceTag/Team", `["Red","Green"]`, true},
		{"StringNotEquals", "aws:ResourceTag/None", `"Blue"`, true},
		{"StringEqualsIgnoreCase", "aws:ResourceTag/Team", `"bLUE"`, true},
		{"StringEqualsIgnoreCase", "aws:ResourceTag/Tälje", `"Ö"`, true},
		{"StringEqualsIgnoreCase", "aws:ResourceTag/Team", `"red"`, false},
		{"StringEqualsIgnoreCase", "aws:ResourceTag/Team", `"bl*"`, false},
		{"StringNotEqualsIgnoreCase", "aws:ResourceTag/Team", `"bLUE"`, false},
		{"StringNotEqualsIgnoreCase", "aws:ResourceTag/Team", `"red"`, true},
		{"StringLike", "ebs:Description", `"nightly*"`, true},
		{"StringLike", "ebs:Description", `"*Backup*"`, true},
		{"StringLike", "ebs:Description", `"nightly ?ackup ?"`, true},
		{"StringLike", "ebs:Description", `"Nightly*"`, false},
		{"StringLike", "ebs:Description", `"nightly"`, false},
		{"StringLike", "ebs:Description", `["x","*"]`, true},
		{"StringLike", "ebs:Description", `"*${*}"`, true},
		{"StringLike", "aws:ResourceTag/Team", `"*${*}"`, false},
		{"StringLike", "aws:ResourceTag/Tälje", `"?"`, true},
		{"StringLike", "aws:ResourceTag/Tälje", `"??"`, false},
		{"StringLike", "aws:ResourceTag/Tälje", `"*??"`, false},
		{"StringLike", "x:euro", `"*?xy"`, true},
		{"StringLike", "x:euro", `"*??xy"`, false},
		{"StringLike", "x:aba", `"ab*ba"`, false},
		{"StringLike", "x:aba", `"a*b*a"`, true},
		{"StringLike", "x:aba", `"*b*b*"`, false},
		{"StringLike", "aws:RequestTag/Empty", `"*"`, true},
		{"StringLike", "aws:RequestTag/Empty", `"?*"`, false},
		{"StringNotLike", "ebs:Description", `"nightly*"`, false},
		{"StringNotLike", "ebs:Description", `["daily*","weekly*"]`, true},
		{"StringNotLike", "x:missing", `"*"`, true},

		{"NumericEquals", "ebs:VolumeSize", `100`, true},
		{"NumericEquals", "ebs:VolumeSize", `"100.0"`, true},
		{"NumericEquals", "ebs:VolumeSize", `"1e2"`, true},
		{"NumericEquals", "ebs:VolumeSize", `[1,2]`, false},
		{"NumericEquals", "x:decimal", `1.5`, true},
		{"NumericEquals", "x:words", `1`, false},
		{"NumericNotEquals", "ebs:VolumeSize", `100`, false},
		{"NumericNotEquals", "ebs:VolumeSize", `[99,101]`, true},
		{"NumericNotEquals", "ebs:VolumeSize", `[99,100]`, false},
		{"NumericNotEquals", "x:words", `1`, true},
		{"NumericLessThan", "ebs:VolumeSize", `100`, false},
		{"NumericLessThan", "ebs:VolumeSize", `"101"`, true},
		{"NumericLessThanEquals", "ebs:VolumeSize", `100`, true},
		{"NumericLessThanEquals", "ebs:VolumeSize", `99`, false},
		{"NumericGreaterThan", "ebs:VolumeSize", `100`, false},
		{"NumericGreaterThan", "ebs:VolumeSize", `-1`, true},
		{"NumericGreaterThanEquals", "ebs:VolumeSize", `100`, true},
		{"NumericGreaterThanEquals", "ebs:VolumeSize", `101`, false},
		{"NumericLessThan", "x:missing", `101`, false},

		{"DateEquals", "aws:CurrentTime", `"2026-05-29T12:00:00Z"`, true},
		{"DateEquals", "aws:CurrentTime", `"2026-05-29T14:00:00+02:00"`, true},
		{"DateEquals", "aws:CurrentTime", `"2026-05-29T12:00Z"`, true},
		{"DateEquals", "aws:CurrentTime", `1780056000`, true},
		{"DateEquals", "aws:EpochTime", `"2026-05-29T12:00:00.000Z"`, true},
		{"DateEquals", "x:date", `"1780056000"`, true},
		{"DateEquals", "aws:CurrentTime", `"2026-05-29"`, false},
		{"DateNotEquals", "aws:CurrentTime", `"2026-05-29"`, true},
		{"DateNotEquals", "aws:CurrentTime", `"2026-05-29T12:00:00Z"`, false},
		{"DateLessThan", "aws:CurrentTime", `"2026-05-29T12:00:00Z"`, false},
		{"DateLessThan", "aws:CurrentTime", `"2026-05-29T12:00:01Z"`, true},
		{"DateLessThanEquals", "aws:CurrentTime", `"2026-05-29T12:00:00Z"`, true},
		{"DateLessThanEquals", "aws:CurrentTime", `"2026-05"`, false},
		{"DateGreaterThan", "aws:CurrentTime", `"2026"`, true},
		{"DateGreaterThan", "aws:CurrentTime", `"2026-05-29T12:00:00Z"`, false},
		{"DateGreaterThanEquals", "aws:CurrentTime", `"2026-05-29T12:00:00Z"`, true},
		{"DateGreaterThanEquals", "aws:CurrentTime", `"2027"`, false},
		{"DateLessThan", "x:words", `"2027"`, false},
		{"NumericGreaterThan", "aws:EpochTime", `1780055999`, true},

		{"Bool", "aws:SecureTransport", `"true"`, true},
		{"Bool", "aws:SecureTransport", `true`, true},
		{"Bool", "aws:SecureTransport", `"False"`, false},
		{"Bool", "x:missing", `false`, false},
		{"Bool", "x:words", `false`, false},
		{"BinaryEquals", "x:bytes", `"AAEC"`, true},
		{"BinaryEquals", "x:bytes", `"AAED"`, false},
		{"BinaryEquals", "x:words", `"AAED"`, false},
		{"IpAddress", "aws:SourceIp", `"203.0.113.0/24"`, true},
		{"IpAddress", "aws:SourceIp", `"203.0.113.99/24"`, true},
		{"IpAddress", "aws:SourceIp", `"203.0.113.7"`, true},
		{"IpAddress", "aws:SourceIp", `"::ffff:203.0.113.7"`, true},
		{"IpAddress", "aws:SourceIp", `"::ffff:203.0.113.0/120"`, true},
		{"IpAddress", "aws:SourceIp", `["10.0.0.0/8","2001:db8::/32"]`, false},
		{"IpAddress", "aws:SourceIp", `"0.0.0.0/0"`, true},
		{"IpAddress", "aws:SourceIp", `"::/0"`, false},
		{"IpAddress", "x:v6", `"2001:db8::/32"`, true},
		{"IpAddress", "x:v6", `"2001:db9::/32"`, false},
		{"IpAddress", "x:v4in6", `"203.0.113.0/24"`, true},
		{"IpAddress", "x:words", `"0.0.0.0/0"`, false},
		{"NotIpAddress", "aws:SourceIp", `"203.0.113.0/24"`, false},
		{"NotIpAddress", "aws:SourceIp", `["203.0.113.0/24","10.0.0.0/8"]`, false},
		{"NotIpAddress", "aws:SourceIp", `"10.0.0.0/8"`, true},
		{"NotIpAddress", "x:missing", `"0.0.0.0/0"`, true},

		{"ArnEquals", "ebs:ParentSnapshot", `"arn:aws:ec2:us-east-1::snapshot/snap-0"`, true},
		{"ArnEquals", "ebs:ParentSnapshot", `"arn:aws:ec2:*::snapshot/*"`, true},
		{"ArnLike", "ebs:ParentSnapshot", `"arn:aws:ec2:*::snapshot/*"`, true},
		{"ArnLike", "ebs:ParentSnapshot", `"arn:aws:ec2:us-????-1::snapshot/*"`, true},
		{"ArnLike", "ebs:ParentSnapshot", `"arn:aws:ec2:*:111122223333:snapshot/*"`, false},
		{"ArnLike", "ebs:ParentSnapshot", `"arn:aws:ec2:*:snapshot/snap-0:"`, false},
		{"ArnLike", "ebs:ParentSnapshot", `"*"`, true},
		{"ArnLike", "x:key", `"arn:aws:kms:*:*:key:*"`, true},
		{"ArnLike", "x:key", `"arn:*:*:*:*:*"`, true},
		{"ArnLike", "x:key", `"arn:aws:*:key:with:colons"`, false},
		{"ArnLike", "x:words", `"arn:aws:ec2:*::snapshot/*"`, false},
		{"ArnLike", "aws:PrincipalArn", `"arn:aws:iam::*:user/team/${aws:username}"`, true},
		{"ArnLike", "aws:PrincipalArn", `"${aws:PrincipalArn}"`, true},
		{"ArnLike", "aws:PrincipalArn", `"${aws:username}"`, false},
		{"ArnLike", "aws:PrincipalArn", `"arn:aws:iam::*:user/${x:missing}"`, false},
		{"ArnNotEquals", "ebs:ParentSnapshot", `"arn:aws:ec2:*::snapshot/*"`, false},
		{"ArnNotLike", "ebs:ParentSnapshot", `"arn:aws:ec2:*::snapshot/*"`, false},
		{"ArnNotLike", "ebs:ParentSnapshot", `"arn:aws:ec2:eu-*::snapshot/*"`, true},
		{"ArnNotLike", "x:missing", `"arn:aws:ec2:eu-*::snapshot/*"`, true},

		{"Null", "aws:ResourceTag/Team", `"true"`, false},
		{"Null", "aws:ResourceTag/Team", `false`, true},
		{"Null", "aws:ResourceTag/None", `true`, true},
		{"Null", "aws:ResourceTag/None", `"false"`, false},
		{"Null", "x:none", `true`, true},
		{"Null", "aws:RequestTag/Empty", `true`, false},
		{"Null", "aws:Referer", `true`, true},
		{"Null", "aws:TokenIssueTime", `true`, true},
		{"Null", "aws:MultiFactorAuthPresent", `true`, true},

		{"StringEqualsIfExists", "aws:ResourceTag/None", `"x"`, true},
		{"StringEqualsIfExists", "aws:ResourceTag/Team", `"x"`, false},
		{"StringNotEqualsIfExists", "aws:ResourceTag/None", `"x"`, true},
		{"NumericLessThanIfExists", "x:missing", `1`, true},
		{"NumericLessThanIfExists", "ebs:VolumeSize", `1`, false},
		{"IpAddressIfExists", "x:missing", `"10.0.0.0/8"`, true},
		{"BoolIfExists", "aws:MultiFactorAuthPresent", `false`, true},

		{"ForAllValues:StringEquals", "aws:TagKeys", `["Team","Cost","Env"]`, true},
		{"ForAllValues:StringEquals", "aws:TagKeys", `["Team"]`, false},
		{"ForAllValues:StringEquals", "x:none", `["Team"]`, true},
		{"ForAllValues:StringEquals", "x:missing", `["Team"]`, true},
		{"ForAllValues:StringLike", "aws:TagKeys", `["T*","C*"]`, true},
		{"ForAllValues:StringNotEquals", "aws:TagKeys", `["Env"]`, true},
		{"ForAllValues:StringNotEquals", "aws:TagKeys", `["Env","Cost"]`, false},
		{"ForAllValues:StringEquals", "aws:ResourceTag/Team", `"Blue"`, true},
		{"ForAllValues:NumericLessThan", "ebs:VolumeSize", `101`, true},
		{"ForAnyValue:StringEquals", "aws:TagKeys", `["Cost","Env"]`, true},
		{"ForAnyValue:StringEquals", "aws:TagKeys", `["Env"]`, false},
		{"ForAnyValue:StringEquals", "x:missing", `["Env"]`, false},
		{"ForAnyValue:StringEqualsIfExists", "x:missing", `["Env"]`, false},
		{"ForAnyValue:StringNotEquals", "aws:TagKeys", `["Cost"]`, true},
		{"ForAnyValue:StringNotEquals", "aws:TagKeys", `["Cost","Team"]`, false},
		{"ForAnyValue:StringNotEquals", "x:missing", `["Cost"]`, false},
		{"ForAnyValue:StringEqualsIgnoreCase", "aws:TagKeys", `"cost"`, true},

		{"StringEquals", "x:user", `"${aws:username}"`, true},
		{"StringEquals", "x:user", `"${ AWS:UserName }"`, true},
		{"StringEquals", "x:user", `"${aws:userid}"`, false},
		{"StringEquals", "x:user", `"${x:missing}"`, false},
		{"StringEquals", "x:user", `["${x:missing}","alice"]`, true},
		{"StringNotEquals", "x:user", `"${x:missing}"`, true},
		{"StringEquals", "x:user", `"${x:missing, 'alice'}"`, true},
		{"StringEquals", "x:user", `"${x:missing,'al'}ice"`, true},
		{"StringEquals", "x:user", `"${aws:username, 'bob'}"`, true},
		{"StringEqualsIgnoreCase", "x:user", `"A${x:missing, 'LI'}ce"`, true},
		{"StringEquals", "x:user", `"${aws:TagKeys}"`, false},
		{"StringEquals", "x:user", `"${aws:TagKeys, 'alice'}"`, false},
		{"StringLike", "ebs:Description", `"*${x:missing, '*'}"`, true},
		{"StringLike", "x:user", `"${x:missing, '*'}"`, false},
		{"StringLike", "x:user", `"${x:stars}*"`, false},
		{"StringLike", "x:stars", `"${x:stars}"`, true},
		{"StringEquals", "x:stars", `"a${*}b${?}c${$}{"`, true},
		{"StringEquals", "x:stars", `"a*b?c${$}{"`, true},
		{"StringLike", "x:user", `"a*${?}"`, false},
		{"StringEquals", "aws:ResourceTag/${literal}", `"x"`, true},
	} {
		p := identity(t, allow("ebs:StartSnapshot", condition(tt.operator, tt.key, tt.value)))
		err := alice(p).Authorize(policy.Request{Action: "ebs:StartSnapshot", Resource: snapOne, Keys: keys(volume)})
		if got := why(t, err) == ""; got != tt.want {
			t.Errorf("%s of %s to %s: got %v", tt.operator, tt.key, tt.value, got)
		}
	}
}

// Several values without ForAllValues and ForAnyValue are met by all if that
// allows, and by any if that denies.
func TestSeveralValues(t *testing.T) {
	for _, tt := range []struct {
		operator, value string
		allows, denies  bool
	}{
		{"StringEquals", `["Cost","Team"]`, true, true},
		{"StringEquals", `"Cost"`, false, true},
		{"StringEquals", `"Env"`, false, false},
		{"StringNotEquals", `["Cost","Team"]`, false, false},
		{"StringNotEquals", `"Cost"`, false, true},
		{"StringNotEquals", `"Env"`, true, true},
	} {
		test := condition(tt.operator, "aws:TagKeys", tt.value)
		r := policy.Request{Action: "ebs:StartSnapshot", Resource: snapOne, Keys: keys(volume)}
		if got := why(t, alice(identity(t, allow("*", test))).Authorize(r)) == ""; got != tt.allows {
			t.Errorf("%s %s allows: %v", tt.operator, tt.value, got)
		}
		if got := why(t, alice(identity(t, allow("*"), deny("*", test))).Authorize(r)) != ""; got != tt.denies {
			t.Errorf("%s %s denies: %v", tt.operator, tt.value, got)
		}
	}
}

// All operators and all keys of a Condition must hold.
func TestConditionsTogether(t *testing.T) {
	for text, want := range map[string]bool{
		`{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"ebs:VolumeSize":101}}`:  true,
		`{"Bool":{"aws:SecureTransport":false},"NumericLessThan":{"ebs:VolumeSize":101}}`: false,
		`{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"ebs:VolumeSize":100}}`:  false,
		`{"StringEquals":{"x:user":"alice","aws:ResourceTag/Team":"Blue"}}`:               true,
		`{"StringEquals":{"x:user":"alice","aws:ResourceTag/Team":"Red"}}`:                false,
		`{"StringEquals":{"x:user":"bob","aws:ResourceTag/Team":"Blue"}}`:                 false,
		`{"StringEquals":{}}`: true,
		`{}`:                  true,
	} {
		p := identity(t, allow("*", `"Condition":`+text))
		err := alice(p).Authorize(policy.Request{Action: "ebs:StartSnapshot", Resource: snapOne, Keys: keys(volume)})
		if got := why(t, err) == ""; got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

// The keys that every request has, of each kind of principal.
func TestGlobalKeys(t *testing.T) {
	bare := alice()
	bare.Environment = policy.Environment{Time: noon.Add(999 * time.Millisecond)}
	zoned := alice()
	zoned.SourceIP = netip.MustParseAddr("::ffff:10.0.0.1")
	zoned.UserAgent = strings.Repeat("a", 2000)
	const absent = "\x00"
	for _, tt := range []struct {
		who  *policy.Subject
		key  string
		want string
	}{
		{alice(), "aws:CurrentTime", "2026-05-29T12:00:00Z"},
		{bare, "aws:CurrentTime", "2026-05-29T12:00:00Z"},
		{alice(), "aws:EpochTime", "1780056000"},
		{alice(), "aws:SourceIp", "203.0.113.7"},
		{zoned, "aws:SourceIp", "10.0.0.1"},
		{bare, "aws:SourceIp", absent},
		{alice(), "aws:SecureTransport", "true"},
		{bare, "aws:SecureTransport", "false"},
		{alice(), "aws:UserAgent", "aws-cli/2.0"},
		{zoned, "aws:UserAgent", strings.Repeat("a", 1024)},
		{bare, "aws:UserAgent", absent},
		{alice(), "aws:RequestedRegion", "us-east-1"},
		{alice(), "aws:Referer", absent},
		{alice(), "aws:PrincipalArn", "arn:aws:iam::111122223333:user/team/alice"},
		{session(), "aws:PrincipalArn", roleARN},
		{within(root(here), identity(t, allow("*"))), "aws:PrincipalArn", "arn:aws:iam::111122223333:root"},
		{alice(), "aws:PrincipalAccount", here},
		{alice(), "aws:PrincipalType", "User"},
		{session(), "aws:PrincipalType", "AssumedRole"},
		{alice(), "aws:userid", "AIDAALICE"},
		{session(), "aws:userid", "AROANIGHTLY:s1"},
		{alice(), "aws:username", "alice"},
		{session(), "aws:username", absent},
		{alice(), "aws:PrincipalIsAWSService", "false"},
		{alice(), "aws:ViaAWSService", "false"},
		{alice(), "aws:TokenIssueTime", absent},
		{session(), "aws:TokenIssueTime", "2026-05-29T11:00:00Z"},
		{alice(), "aws:MultiFactorAuthPresent", absent},
		{session(), "aws:MultiFactorAuthPresent", "false"},
		{alice(), "aws:PrincipalTag/team", absent},
		{alice(), "aws:PrincipalOrgID", absent},
	} {
		test := condition("StringEquals", tt.key, `"`+tt.want+`"`)
		if tt.want == absent {
			test = condition("Null", tt.key, "true")
		}
		s := *tt.who
		p := *s.Principal
		s.Principal = &p
		p.Policies = []*policy.Policy{identity(t, allow("ebs:*", test))}
		if p.Kind == policy.Account {
			p.Session = p.Policies
		}
		for _, r := range []policy.Request{
			{Action: "ebs:StartSnapshot", Resource: snapOne},
			// What a request says of itself does not count for these.
			{Action: "ebs:StartSnapshot", Resource: snapOne, Keys: func(key string) ([]string, bool, error) {
				return []string{"forged"}, tt.want != absent, nil
			}},
		} {
			if got := why(t, s.Authorize(r)); got != "" {
				t.Errorf("%s of %s is not %q", tt.key, p.ARN, tt.want)
			}
		}
	}
}
