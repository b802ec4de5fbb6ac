package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
)

const fine = `{"Effect":"Allow","Action":"ebs:*","Resource":"*"}`

func with(c string) string { return statements(allow("ebs:*", c)) }

func resource(names string) string {
	return statements(`{"Effect":"Allow","Action":"ebs:*","Resource":` + names + `}`)
}

func TestRefused(t *testing.T) {
	const syntax = "Syntax errors in policy."
	for _, tt := range []struct {
		name, text, aws, hint string
		form                  policy.Form
	}{
		{"nothing", ``, syntax, "JSON object", policy.Identity},
		{"no JSON", `policy`, syntax, "JSON object", policy.Identity},
		{"a list", `[]`, syntax, "JSON object", policy.Identity},
		{"null", `null`, syntax, "JSON object", policy.Identity},
		{"broken off", `{"Statement":`, syntax, "valid JSON", policy.Identity},
		{"bytes after it", statements(fine) + `{}`, syntax, "valid JSON", policy.Identity},
		{"invalid UTF-8", with(condition("StringEquals", "aws:username", "\"\xff\"")), syntax, "valid JSON", policy.Identity},
		{"deep", strings.Repeat(`{"Statement":`, 8000) + strings.Repeat(`}`, 8000), "The policy is too long.", "", policy.Identity},
		{"deep lists", `{"Statement":` + strings.Repeat(`[`, 8000) + strings.Repeat(`]`, 8000) + `}`, syntax, "JSON object", policy.Identity},
		{"unknown member", `{"Comment":"","Statement":` + fine + `}`, syntax, "Version, Id and Statement", policy.Identity},
		{"case of a member", `{"statement":` + fine + `}`, syntax, "Version, Id and Statement", policy.Identity},
		{"member twice", `{"Statement":` + fine + `,"Statement":` + fine + `}`, syntax, "twice", policy.Identity},
		{"version", `{"Version":"2015-01-01","Statement":` + fine + `}`, "Policy document must be version 2012-10-17 or greater.", "2008-10-17", policy.Identity},
		{"version null", `{"Version":null,"Statement":` + fine + `}`, "Policy document must be version 2012-10-17 or greater.", "", policy.Identity},
		{"version a number", `{"Version":2012,"Statement":` + fine + `}`, "Policy document must be version 2012-10-17 or greater.", "", policy.Identity},
		{"Id", `{"Id":1,"Statement":` + fine + `}`, syntax, "Id must be a string", policy.Identity},
		{"no statement", `{"Version":"2012-10-17"}`, syntax, "Statement", policy.Identity},
		{"no statements", statements(), syntax, "at least one", policy.Identity},
		{"statement null", `{"Statement":null}`, syntax, "Statement", policy.Identity},
		{"statement a string", `{"Statement":"x"}`, syntax, "JSON object", policy.Identity},

		{"unknown member of a statement", statements(`{"Comment":"","Effect":"Allow","Action":"ebs:*","Resource":"*"}`), syntax, "NotResource and Condition", policy.Identity},
		{"Conditions", statements(`{"Conditions":{},"Effect":"Allow","Action":"ebs:*","Resource":"*"}`), syntax, "NotResource and Condition", policy.Identity},
		{"Effect twice", statements(`{"Effect":"Deny","Effect":"Allow","Action":"ebs:*","Resource":"*"}`), syntax, "twice", policy.Identity},
		{"no Effect", statements(`{"Action":"ebs:*","Resource":"*"}`), syntax, "Effect must be Allow or Deny", policy.Identity},
		{"case of Effect", statements(`{"Effect":"allow","Action":"ebs:*","Resource":"*"}`), syntax, "Effect must be Allow or Deny", policy.Identity},
		{"Sid", statements(`{"Sid":1,"Effect":"Allow","Action":"ebs:*","Resource":"*"}`), syntax, "Sid must be a string", policy.Identity},
		{"Sid's characters", statements(allow("ebs:*", `"Sid":"a b"`)), syntax, "letters of ASCII", policy.Identity},
		{"Sid twice", statements(allow("ebs:*", `"Sid":"a"`), allow("ebs:*", `"Sid":"a"`)), "Statement IDs (SID) in a single policy must be unique.", "Statement 2", policy.Identity},

		{"no action", statements(`{"Effect":"Allow","Resource":"*"}`), "Policy statement must contain actions.", "", policy.Identity},
		{"both actions", statements(allow("ebs:*", `"NotAction":"ebs:*"`)), syntax, "both", policy.Identity},
		{"empty list of actions", statements(`{"Effect":"Allow","Action":[],"Resource":"*"}`), syntax, "at least one", policy.Identity},
		{"an empty action", statements(allow("")), syntax, "none of them empty", policy.Identity},
		{"action null", statements(`{"Effect":"Allow","Action":null,"Resource":"*"}`), syntax, "at least one", policy.Identity},
		{"action a number", statements(`{"Effect":"Allow","Action":["ebs:*",1],"Resource":"*"}`), syntax, "list of strings", policy.Identity},
		{"action without a service", statements(allow("StartSnapshot")), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", "ebs:StartSnapshot", policy.Identity},
		{"action without a name", statements(allow("ebs:")), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", "", policy.Identity},
		{"wildcard in a service", statements(allow("e*:StartSnapshot")), "Vendor is not valid.", "", policy.Identity},
		{"two colons", statements(allow("ebs:Start:Snapshot")), "Actions/Condition can contain only one colon.", "", policy.Identity},
		{"NotAction without a service", statements(`{"Effect":"Deny","NotAction":"StartSnapshot","Resource":"*"}`), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", "", policy.Identity},

		{"no resource", statements(`{"Effect":"Allow","Action":"ebs:*"}`), "Policy statement must contain resources.", "", policy.Identity},
		{"both resources", statements(`{"Effect":"Allow","Action":"ebs:*","Resource":"*","NotResource":"*"}`), syntax, "both", policy.Identity},
		{"empty list of resources", resource(`[]`), syntax, "at least one", policy.Identity},
		{"an empty resource", resource(`[""]`), syntax, "none of them empty", policy.Identity},
		{"no ARN", resource(`"snap-1"`), `Resource must be in ARN format or "*".`, "arn:aws:ec2:*::snapshot/*", policy.Identity},
		{"half an ARN", resource(`"arn:aws:ec2"`), `Resource must be in ARN format or "*".`, "", policy.Identity},
		{"a short ARN", resource(`"arn:aws:ec2:us-east-1:snapshot/snap-1"`), `Resource must be in ARN format or "*".`, "", policy.Identity},
		{"no resource in an ARN", resource(`"arn:aws:ec2:us-east-1::"`), `Resource must be in ARN format or "*".`, "", policy.Identity},
		{"partition", resource(`"arn:amazon:ec2:us-east-1::snapshot/snap-1"`), `Resource must be in ARN format or "*".`, "", policy.Identity},
		{"one of several", resource(`["*","*","x"]`), `Resource must be in ARN format or "*".`, "", policy.Identity},
		{"a variable too early", resource(`"arn:aws:ec2:${aws:RequestedRegion}::snapshot/*"`), `Resource must be in ARN format or "*".`, "", policy.Identity},
		{"a variable without end", resource(`"arn:aws:ec2:*::snapshot/${aws:username"`), syntax, "${$}{", policy.Identity},
		{"a variable without a name", resource(`"arn:aws:ec2:*::snapshot/${}"`), syntax, "${aws:username}", policy.Identity},
		{"a variable without a prefix", with(condition("StringEquals", "aws:username", `"${username}"`)), syntax, "${aws:username}", policy.Identity},
		{"a default without quotes", with(condition("StringEquals", "aws:username", `"${aws:username, bob}"`)), syntax, "'default'", policy.Identity},
		{"a default of one quote", with(condition("StringEquals", "aws:username", `"${aws:username, '}"`)), syntax, "'default'", policy.Identity},

		{"Condition null", with(`"Condition":null`), syntax, "object of operators", policy.Identity},
		{"Condition a list", with(`"Condition":[]`), syntax, "object of operators", policy.Identity},
		{"operator twice", with(`"Condition":{"Null":{"aws:username":true},"Null":{"aws:username":true}}`), syntax, "twice", policy.Identity},
		{"key twice", with(`"Condition":{"Null":{"aws:username":true,"aws:username":true}}`), syntax, "twice", policy.Identity},
		{"operator a string", with(`"Condition":{"Null":"aws:username"}`), syntax, "object of keys", policy.Identity},
		{"unknown operator", with(condition("StringEqual", "aws:username", `"x"`)), syntax, "none of IAM's", policy.Identity},
		{"case of an operator", with(condition("stringEquals", "aws:username", `"x"`)), syntax, "none of IAM's", policy.Identity},
		{"unknown prefix", with(condition("ForNoValue:StringEquals", "aws:username", `"x"`)), syntax, "none of IAM's", policy.Identity},
		{"two prefixes", with(condition("ForAnyValue:ForAllValues:StringEquals", "aws:username", `"x"`)), syntax, "none of IAM's", policy.Identity},
		{"two suffixes", with(condition("StringEqualsIfExistsIfExists", "aws:username", `"x"`)), syntax, "none of IAM's", policy.Identity},
		{"NullIfExists", with(condition("NullIfExists", "aws:username", `true`)), syntax, "none of IAM's", policy.Identity},
		{"ForAllValues:Null", with(condition("ForAllValues:Null", "aws:username", `true`)), syntax, "none of IAM's", policy.Identity},
		{"BinaryNotEquals", with(condition("BinaryNotEquals", "x:y", `"AAEC"`)), syntax, "none of IAM's", policy.Identity},
		{"NotBool", with(condition("NotBool", "x:y", `true`)), syntax, "none of IAM's", policy.Identity},
		{"key without a prefix", with(condition("StringEquals", "username", `"x"`)), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", "aws:SourceIp", policy.Identity},
		{"no value", with(condition("StringEquals", "aws:username", `[]`)), syntax, "at least one", policy.Identity},
		{"value null", with(condition("StringEquals", "aws:username", `null`)), syntax, "at least one", policy.Identity},
		{"one value null", with(condition("StringEquals", "aws:username", `["x",null]`)), syntax, "a Boolean", policy.Identity},
		{"value an object", with(condition("StringEquals", "aws:username", `{}`)), syntax, "a Boolean", policy.Identity},
		{"a list in a list", with(condition("StringEquals", "aws:username", `[["x"]]`)), syntax, "a Boolean", policy.Identity},
		{"number", with(condition("NumericEquals", "x:y", `"many"`)), syntax, "number: 100", policy.Identity},
		{"number in hexadecimal", with(condition("NumericEquals", "x:y", `"0x10"`)), syntax, "number: 100", policy.Identity},
		{"infinity", with(condition("NumericEquals", "x:y", `"Inf"`)), syntax, "number: 100", policy.Identity},
		{"a number too great", with(condition("NumericEquals", "x:y", `1e999`)), syntax, "number: 100", policy.Identity},
		{"no number", with(condition("NumericEquals", "x:y", `""`)), syntax, "number: 100", policy.Identity},
		{"number true", with(condition("NumericEquals", "x:y", `true`)), syntax, "number: 100", policy.Identity},
		{"date", with(condition("DateEquals", "x:y", `"tomorrow"`)), syntax, "ISO 8601", policy.Identity},
		{"no such date", with(condition("DateEquals", "x:y", `"2026-02-30"`)), syntax, "ISO 8601", policy.Identity},
		{"date without zone", with(condition("DateEquals", "x:y", `"2026-02-20T12:00:00"`)), syntax, "with its zone", policy.Identity},
		{"seconds without end", with(condition("DateEquals", "x:y", `99999999999999999999`)), syntax, "ISO 8601", policy.Identity},
		{"Bool", with(condition("Bool", "x:y", `"yes"`)), syntax, "true or false", policy.Identity},
		{"Bool a number", with(condition("Bool", "x:y", `1`)), syntax, "true or false", policy.Identity},
		{"Null", with(condition("Null", "x:y", `"null"`)), syntax, "true or false", policy.Identity},
		{"Base64", with(condition("BinaryEquals", "x:y", `"AAE"`)), syntax, "Base64", policy.Identity},
		{"address", with(condition("IpAddress", "aws:SourceIp", `"203.0.113"`)), syntax, "203.0.113.0/24", policy.Identity},
		{"a range too long", with(condition("IpAddress", "aws:SourceIp", `"203.0.113.0/33"`)), syntax, "203.0.113.0/24", policy.Identity},
		{"address with a zone", with(condition("IpAddress", "aws:SourceIp", `"fe80::1%eth0"`)), syntax, "2001:db8::/32", policy.Identity},
		{"ARN", with(condition("ArnLike", "aws:PrincipalArn", `"alice"`)), syntax, "six parts", policy.Identity},
		{"ARN of five parts", with(condition("ArnLike", "aws:PrincipalArn", `"arn:aws:iam::*"`)), syntax, "six parts", policy.Identity},
		{"ARN of one part and a variable", with(condition("ArnLike", "aws:PrincipalArn", `"x${aws:username}"`)), syntax, "six parts", policy.Identity},
		{"one value of several", with(condition("NumericEquals", "x:y", `[1,2,"x"]`)), syntax, "number: 100", policy.Identity},

		{"a principal", statements(allow("ebs:*", `"Principal":"*"`)), "Policy document should not specify a principal.", "", policy.Identity},
		{"a principal of a session", statements(allow("ebs:*", `"NotPrincipal":"*"`)), "Policy document should not specify a principal.", "", policy.Session},

		{"trust without principal", statements(`{"Effect":"Allow","Action":"sts:AssumeRole"}`), syntax, "must have a Principal", policy.Trust},
		{"trust with resource", statements(`{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}`), "Has prohibited field Resource.", "", policy.Trust},
		{"trust with NotPrincipal", statements(`{"Effect":"Deny","NotPrincipal":"*","Action":"sts:AssumeRole"}`), "Has prohibited field NotPrincipal.", "", policy.Trust},
		{"trust with another action", statements(`{"Effect":"Allow","Principal":"*","Action":"ebs:*"}`), "AssumeRole policy may only specify STS AssumeRole actions.", "", policy.Trust},
		{"trust with all actions", statements(`{"Effect":"Allow","Principal":"*","Action":"*"}`), "AssumeRole policy may only specify STS AssumeRole actions.", "", policy.Trust},

		{"key without principal", statements(allow("kms:*")), syntax, "must have a Principal", policy.Key},
		{"key, a name as principal", statements(allow("kms:*", `"Principal":"`+here+`"`)), syntax, "must have a Principal", policy.Key},
		{"key, empty principal", statements(allow("kms:*", `"Principal":{}`)), syntax, "must have a Principal", policy.Key},
		{"key, no principals", statements(allow("kms:*", `"Principal":{"AWS":[]}`)), syntax, "at least one", policy.Key},
		{"key, principals twice", statements(allow("kms:*", `"Principal":{"AWS":"*","AWS":"*"}`)), syntax, "twice", policy.Key},
		{"key, both principals", statements(deny("kms:*", `"Principal":"*","NotPrincipal":"*"`)), syntax, "both", policy.Key},
		{"key, allow NotPrincipal", statements(allow("kms:*", `"NotPrincipal":{"AWS":"`+here+`"}`)), syntax, "Deny only", policy.Key},
		{"key, other service", statements(allow("s3:*", `"Principal":"*"`)), syntax, "those of kms", policy.Key},
		{"key, half an ARN", statements(allow("kms:*", principal(`"arn:aws:iam::111122223333"`))), "Policy contains a statement with one or more invalid principals.", "without wildcards", policy.Key},
		{"key, number and root", statements(allow("kms:*", principal(`"111122223333:root"`))), "Policy contains a statement with one or more invalid principals.", "", policy.Key},
		{"key, eleven digits", statements(allow("kms:*", principal(`"11112222333"`))), "Policy contains a statement with one or more invalid principals.", "", policy.Key},
		{"key, wildcard", statements(allow("kms:*", principal(`"arn:aws:iam::111122223333:user/*"`))), "Policy contains a statement with one or more invalid principals.", "", policy.Key},
		{"key, group", statements(allow("kms:*", principal(`"arn:aws:iam::111122223333:group/g"`))), "Policy contains a statement with one or more invalid principals.", "", policy.Key},
		{"key, federated", statements(allow("kms:*", `"Principal":{"Federated":"f"}`)), syntax, "types AWS and Service", policy.Key},
		{"key, canonical user", statements(allow("kms:*", `"Principal":{"CanonicalUser":"f"}`)), syntax, "types AWS and Service", policy.Key},
	} {
		p, err := policy.Parse(tt.text, tt.form)
		var malformed *policy.MalformedError
		if !errors.As(err, &malformed) || p != nil {
			t.Errorf("%s: got %v, %v", tt.name, p, err)
			continue
		}
		if !strings.HasPrefix(malformed.Text, tt.aws) || !strings.Contains(malformed.Text, tt.hint) {
			t.Errorf("%s: got %q, want %q and %q", tt.name, malformed.Text, tt.aws, tt.hint)
		}
	}
}

func TestRefusalsQuoteNothing(t *testing.T) {
	for _, text := range []string{
		`{"sesame":1}`,
		statements(`{"sesame":1}`),
		statements(allow("sesame")),
		resource(`"sesame"`),
		with(condition("sesame", "aws:username", `"x"`)),
		with(condition("StringEquals", "sesame", `"x"`)),
		with(condition("DateEquals", "aws:CurrentTime", `"sesame"`)),
		`sesame`,
	} {
		if _, err := policy.Parse(text, policy.Identity); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestUnderstood(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		form       policy.Form
	}{
		{"without a version", `{"Statement":` + fine + `}`, policy.Identity},
		{"2008", `{"Version":"2008-10-17","Id":"i","Statement":[` + fine + `]}`, policy.Identity},
		{"variables are text in 2008", `{"Version":"2008-10-17","Statement":` + allow("ebs:*", condition("StringEquals", "aws:username", `"${"`)) + `}`, policy.Identity},
		{"white space", " \r\n\t" + statements(fine) + "\n", policy.Identity},
		{"escapes", strings.ReplaceAll(statements(fine), `"Effect"`, `"\u0045ffect"`), policy.Identity},
		{"empty Sids", statements(allow("ebs:*", `"Sid":""`), allow("ebs:*", `"Sid":""`)), policy.Identity},
		{"wildcard of all services", statements(allow("*:*")), policy.Identity},
		{"a resource cut short", resource(`"arn:aws:ec2:*"`), policy.Identity},
		{"partitions", resource(`["arn:aws-cn:ec2:*::snapshot/*","arn:*:ec2:*::snapshot/*"]`), policy.Identity},
		{"NotAction and NotResource", statements(`{"Effect":"Allow","NotAction":["iam:*"],"NotResource":["arn:aws:ec2:*::snapshot/*"]}`), policy.Identity},
		{"session", statements(fine), policy.Session},
		{"trust", statements(`{"Sid":"","Effect":"Allow","Principal":{"AWS":["111122223333","` + roleARN + `"],"Service":"ec2.amazonaws.com","Federated":"cognito-identity.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}`), policy.Trust},
		{"key", statements(allow("*", `"Sid":"Allow the use"`, principal(`["`+roleARN+`","`+sessionARN+`","arn:aws:iam::111122223333:user/a/b","arn:aws-cn:iam::111122223333:root"]`))), policy.Key},
		{"key, same Sids", statements(allow("kms:*", `"Sid":"s"`, `"Principal":"*"`), allow("kms:*", `"Sid":"s"`, `"Principal":"*"`)), policy.Key},
		{"key, any resource", statements(allow("kms:*", `"Principal":"*","Resource":["x","*"]`)), policy.Key},
	} {
		if _, err := policy.Parse(tt.text, tt.form); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestBounds(t *testing.T) {
	long := func(n int) string {
		return with(condition("StringEquals", "aws:username", `"`+strings.Repeat("a", n-len(with(condition("StringEquals", "aws:username", `""`))))+`"`))
	}
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf(`{"Effect":"Deny","Action":"ebs:a%d","Resource":"*"}`, i)
	}
	key := strings.Repeat(" ", 32<<10-len(statements(allow("kms:*", `"Principal":"*"`)))) + statements(allow("kms:*", `"Principal":"*"`))
	for _, tt := range []struct {
		name, text string
		form       policy.Form
		fits       bool
	}{
		{"20 KiB", long(20 << 10), policy.Identity, true},
		{"20 KiB and white space", strings.Repeat(" \n", 20<<10) + long(20<<10), policy.Identity, true},
		{"more than 20 KiB", long(20<<10 + 1), policy.Identity, false},
		{"much white space", strings.Repeat(" ", 128<<10) + statements(fine), policy.Identity, false},
		{"1 MiB", long(1 << 20), policy.Identity, false},
		{"10,000 statements", statements(many...), policy.Identity, false},
		{"as many statements as fit", statements(many[:350]...), policy.Identity, true},
		{"32 KiB of a key", key, policy.Key, true},
		{"more than 32 KiB of a key", key + " ", policy.Key, false},
	} {
		began := time.Now()
		_, err := policy.Parse(tt.text, tt.form)
		if (err == nil) != tt.fits || err != nil && err.Error() != "The policy is too long." {
			t.Errorf("%s: %v", tt.name, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: took %v", tt.name, took)
		}
	}
}
