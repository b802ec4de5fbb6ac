package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
)

// A question is one request and the policies to judge it by, as both shale and
// test/oracle/simulate.mjs read it.
type question struct {
	Principal      string         `json:"principal"`
	Action         string         `json:"action"`
	Resource       string         `json:"resource"`
	Owner          string         `json:"owner"`
	Keys           map[string]any `json:"keys"` // a string or a list of strings each
	Identity       []document     `json:"identity"`
	Session        document       `json:"session,omitempty"`
	ResourcePolicy document       `json:"resourcePolicy,omitempty"`

	subject *policy.Subject
	form    policy.Form // of ResourcePolicy
	own     map[string][]string
}

// A document is a policy before it is text.
type document map[string]any

func (d document) text() string {
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A questioner makes up questions whose answers are not plain: most elements of a
// policy are near the request's, and some of them miss it.
type questioner struct {
	*rand.Rand
}

func pick[T any](q questioner, from ...T) T {
	return from[q.IntN(len(from))]
}

func (q questioner) chance(percent int) bool {
	return q.IntN(100) < percent
}

// A scene is what a kind of request has: the keys are those that the simulator
// knows for it.
type scene struct {
	actions   []string
	resources []string
	keys      []string
	form      policy.Form
}

var scenes = []scene{
	{
		actions: []string{"ebs:StartSnapshot"}, resources: []string{snapOne, "arn:aws:ec2:eu-west-1::snapshot/null"},
		keys: []string{"aws:ResourceTag/Team", "aws:RequestTag/Team", "aws:TagKeys", "ebs:VolumeSize", "ebs:Description", "ebs:ParentSnapshot"},
	},
	{
		actions:   []string{"ebs:PutSnapshotBlock", "ebs:GetSnapshotBlock", "ebs:ListSnapshotBlocks", "ebs:ListChangedBlocks", "ebs:CompleteSnapshot"},
		resources: []string{snapOne, "arn:aws:ec2:us-east-1::snapshot/snap-22"}, keys: []string{"aws:ResourceTag/Team"},
	},
	{actions: []string{"ec2:DeleteSnapshot", "ec2:CreateTags"}, resources: []string{snapOne}, keys: []string{"aws:ResourceTag/Team"}},
	{actions: []string{"kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"}, resources: []string{keyOne}, keys: []string{"aws:ResourceTag/Team"}, form: policy.Key},
	{
		actions: []string{"sts:AssumeRole"}, resources: []string{"arn:aws:iam::" + here + ":role/target"},
		keys: []string{"sts:ExternalId", "aws:TagKeys", "aws:RequestTag/Team"}, form: policy.Trust,
	},
}

func (q questioner) question() *question {
	s := scenes[q.IntN(len(scenes))]
	w := &question{
		Action: pick(q, s.actions...), Resource: pick(q, s.resources...), Owner: here, form: s.form,
		Keys: map[string]any{}, own: map[string][]string{},
	}
	q.subjectOf(w)
	q.keysOf(w, s.keys)
	for range 1 + q.IntN(2) {
		w.Identity = append(w.Identity, q.policy(w, policy.Identity, s.keys))
	}
	if w.subject.Kind == policy.Account { // the simulator gives it no rights
		w.Identity = []document{{"Version": "2012-10-17", "Statement": []any{document{"Effect": "Allow", "Action": "*", "Resource": "*"}}}}
	}
	if w.subject.Kind == policy.AssumedRole && q.chance(40) { // the simulator has them for no others
		w.Session = q.policy(w, policy.Session, s.keys)
	}
	if s.form != policy.Identity {
		w.ResourcePolicy = q.policy(w, s.form, s.keys)
	}
	return w
}

func (q questioner) subjectOf(w *question) {
	account := here
	if w.form != policy.Identity && q.chance(30) {
		account = there
	}
	p := &policy.Principal{Account: account, ARN: "arn:aws:iam::" + account + ":user/alice", ID: "AIDAALICE", Kind: policy.User, Name: "alice"}
	switch q.IntN(5) {
	case 0:
		p = &policy.Principal{Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account, Kind: policy.Account}
	case 1, 2:
		p = &policy.Principal{
			Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/nightly/s1", ID: "AROANIGHTLY:s1", Kind: policy.AssumedRole,
			Role: "arn:aws:iam::" + account + ":role/nightly", Issued: noon.Add(-time.Hour),
		}
	}
	w.Principal = p.ARN
	w.subject = &policy.Subject{Principal: p, Environment: policy.Environment{
		Time: noon, SourceIP: pick(q, netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")),
		Secure: q.chance(50), UserAgent: "aws-cli/2.0", Region: "us-east-1",
	}}
}

// keysOf gives the request its keys: the global ones as they follow from who asks,
// and some of those of its action.
func (q questioner) keysOf(w *question, names []string) {
	s := w.subject
	w.Keys["aws:CurrentTime"] = noon.Format(time.RFC3339)
	w.Keys["aws:EpochTime"] = fmt.Sprint(noon.Unix())
	w.Keys["aws:SourceIp"] = s.SourceIP.String()
	w.Keys["aws:SecureTransport"] = fmt.Sprint(s.Secure)
	w.Keys["aws:UserAgent"] = s.UserAgent
	w.Keys["aws:RequestedRegion"] = s.Region
	w.Keys["aws:PrincipalArn"] = s.ARN
	w.Keys["aws:PrincipalAccount"] = s.Account
	w.Keys["aws:PrincipalType"] = string(s.Kind)
	w.Keys["aws:userid"] = s.ID
	w.Keys["aws:ViaAWSService"] = "false"
	w.Keys["aws:PrincipalIsAWSService"] = "false"
	switch s.Kind {
	case policy.User:
		w.Keys["aws:username"] = s.Name
	case policy.AssumedRole:
		w.Keys["aws:PrincipalArn"] = s.Role
		w.Keys["aws:TokenIssueTime"] = s.Issued.Format(time.RFC3339)
		w.Keys["aws:MultiFactorAuthPresent"] = "false"
	}
	for _, name := range names {
		if q.chance(30) {
			continue
		}
		values := []string{q.valueOf(name)}
		if name == "aws:TagKeys" {
			for range q.IntN(3) {
				values = append(values, q.valueOf(name))
			}
			w.Keys[name] = values
		} else {
			w.Keys[name] = values[0]
		}
		before, after, found := strings.Cut(name, "/")
		if name = strings.ToLower(before); found {
			name += "/" + after
		}
		w.own[name] = values
	}
}

// valueOf makes up a value that a request may have.
func (q questioner) valueOf(key string) string {
	switch key {
	case "aws:TagKeys":
		return pick(q, "Team", "Cost", "Env", "team")
	case "ebs:VolumeSize":
		return pick(q, "1", "16", "100", "65536")
	case "ebs:Description":
		return pick(q, "nightly", "nightly 2", "Weekly", "a*b", "?", "${aws:username}", "alice")
	case "ebs:ParentSnapshot":
		return pick(q, "arn:aws:ec2:us-east-1::snapshot/snap-0", "arn:aws:ec2:eu-west-1::snapshot/snap-1", "arn:aws:ec2:us-east-1::snapshot/a:b")
	default:
		return pick(q, "Blue", "blue", "Red", "alice", "a*", "us-east-1")
	}
}

func (q questioner) policy(w *question, f policy.Form, names []string) document {
	var all []any
	for range 1 + q.IntN(3) {
		all = append(all, q.statement(w, f, names))
	}
	if f == policy.Trust || q.chance(90) {
		return document{"Version": "2012-10-17", "Statement": all}
	}
	return document{"Version": "2012-10-17", "Id": "made up", "Statement": all[0]}
}

func (q questioner) statement(w *question, f policy.Form, names []string) document {
	s := document{"Effect": "Allow"}
	if q.chance(25) {
		s["Effect"] = "Deny"
	}
	s[q.not("Action", 10, f == policy.Trust)] = q.oneOrMany(func() string { return q.action(w, f) })
	if f != policy.Trust {
		s[q.not("Resource", 10, f == policy.Key)] = q.oneOrMany(func() string { return q.resource(w, f) })
	}
	if f == policy.Key || f == policy.Trust {
		s["Principal"] = q.principals(w)
		if f == policy.Key && s["Effect"] == "Deny" && q.chance(40) {
			s["NotPrincipal"] = document{"AWS": q.oneOrMany(func() string { return q.principal(w) })}
			delete(s, "Principal")
		}
	}
	if q.chance(60) {
		conditions := document{}
		for range 1 + q.IntN(2) {
			q.condition(w, names, conditions)
		}
		s["Condition"] = conditions
	}
	return s
}

func (q questioner) not(element string, percent int, never bool) string {
	if !never && q.chance(percent) {
		return "Not" + element
	}
	return element
}

func (q questioner) oneOrMany(value func() string) any {
	if q.chance(50) {
		return value()
	}
	all := []string{value()}
	for range q.IntN(3) {
		if v := value(); !strings.Contains(strings.Join(all, "\n"), v) {
			all = append(all, v)
		}
	}
	return all
}

func (q questioner) action(w *question, f policy.Form) string {
	service, name, _ := strings.Cut(w.Action, ":")
	if f == policy.Trust {
		return pick(q, w.Action, w.Action, "sts:TagSession")
	}
	own := []string{
		w.Action, w.Action, service + ":*", service + ":" + name[:3] + "*", service + ":*" + name[len(name)-4:],
		strings.ToUpper(service) + ":" + strings.ToLower(name), service + ":" + name[:2] + "?" + name[3:], service + ":" + name[:3], service + ":?" + name,
	}
	if f == policy.Key {
		return pick(q, own...)
	}
	return pick(q, append(own, "*", "ebs:List*", "ec2:*", "kms:Decrypt")...)
}

func (q questioner) resource(w *question, f policy.Form) string {
	parts := strings.SplitN(w.Resource, ":", 6)
	region, account, id := parts[3], parts[4], parts[5]
	kind, _, _ := strings.Cut(id, "/")
	arn := func(region, account, id string) string {
		return strings.Join([]string{"arn:aws", parts[2], region, account, id}, ":")
	}
	if f == policy.Key {
		return pick(q, "*", "*", w.Resource)
	}
	return pick(q, "*", "*", "*", w.Resource, w.Resource, arn("*", account, id), arn(region, account, kind+"/*"), arn("*", "*", kind+"/*"), arn(region, account, id[:len(id)-1]+"?"),
		arn(region, there, kind+"/*"), arn(region, account, strings.ToUpper(id)), arn("eu-*", account, kind+"/*"), arn(region, account, kind+"/other"),
		arn(region, account, kind+"/${aws:username, '"+id[len(kind)+1:]+"'}"), arn(region, account, kind+"/${aws:PrincipalTag/none}*"), arn(region, account, kind+"/*${*}"))
}

func (q questioner) principals(w *question) any {
	if q.chance(15) {
		return "*"
	}
	if q.chance(10) {
		return document{"Service": "ec2.amazonaws.com"}
	}
	return document{"AWS": q.oneOrMany(func() string { return q.principal(w) })}
}

func (q questioner) principal(w *question) string {
	s := w.subject
	own := []string{s.Account, "arn:aws:iam::" + s.Account + ":root", s.ARN, s.ARN}
	if s.Role != "" {
		own = append(own, s.Role, s.Role)
	}
	return pick(q, append(own, here, there, "arn:aws:iam::"+s.Account+":user/bob", "arn:aws:sts::"+s.Account+":assumed-role/nightly/s2")...)
}

// families are the operators by the type of what they compare.
var families = map[string][]string{
	"string":  {"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"},
	"number":  {"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"},
	"date":    {"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"},
	"bool":    {"Bool"},
	"address": {"IpAddress", "NotIpAddress"},
	"arn":     {"ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"},
}

func (q questioner) condition(w *question, names []string, into document) {
	key := pick(q, append([]string{
		"aws:CurrentTime", "aws:EpochTime", "aws:SourceIp", "aws:SecureTransport", "aws:PrincipalArn", "aws:PrincipalAccount", "aws:username", "aws:userid",
		"aws:RequestedRegion", "aws:TokenIssueTime", "aws:MultiFactorAuthPresent", "aws:PrincipalType",
	}, append(names, names...)...)...)
	family := familyOf(key)
	if (family == "arn" || family == "number") && q.chance(20) {
		family = "string"
	}
	operator := pick(q, families[family]...)
	set := 5
	if key == "aws:TagKeys" {
		set = 80
	}
	value := q.oneOrMany(func() string { return q.policyValue(w, family, key, operator) })
	switch {
	case q.chance(8):
		operator, value = "Null", pick(q, "true", "false")
	case q.chance(set):
		operator = pick(q, "ForAllValues:", "ForAnyValue:") + operator
	}
	if operator != "Null" && q.chance(15) {
		operator += "IfExists"
	}
	if q.chance(10) {
		before, after, _ := strings.Cut(key, ":")
		key = strings.ToUpper(before) + ":" + after
	}
	keys, ok := into[operator].(document)
	if !ok {
		keys = document{}
		into[operator] = keys
	}
	keys[key] = value
}

func familyOf(key string) string {
	switch key {
	case "aws:CurrentTime", "aws:EpochTime", "aws:TokenIssueTime":
		return "date"
	case "aws:SourceIp":
		return "address"
	case "aws:SecureTransport", "aws:MultiFactorAuthPresent":
		return "bool"
	case "aws:PrincipalArn", "ebs:ParentSnapshot":
		return "arn"
	case "ebs:VolumeSize":
		return "number"
	default:
		return "string"
	}
}

// policyValue makes up a value that a policy may compare with.
func (q questioner) policyValue(w *question, family, key, operator string) string {
	s := w.subject
	switch family {
	case "date":
		return pick(q, "2026-05-29T12:00:00Z", "2026-05-29T14:00:00+02:00", "2026-05-29T11:00:00Z", "2020-01-01T00:00:00Z", "2030-12-31T23:59:59Z", "2026-05-29", "1780056000")
	case "address":
		return pick(q, "203.0.113.0/24", "203.0.113.7", "203.0.113.7/32", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "2001:db8::7", "2001:db9::/32")
	case "bool":
		return pick(q, "true", "false")
	case "number":
		return pick(q, "1", "16", "16.0", "99.5", "100", "65536")
	case "arn":
		return pick(q, s.ARN, "arn:aws:iam::"+s.Account+":user/*", "arn:aws:iam::*:role/night*", "arn:aws:*::*:user/${aws:username}", "arn:aws:iam::"+here+":root",
			"arn:aws:ec2:*::snapshot/*", "arn:aws:ec2:us-east-1::snapshot/snap-?", "arn:aws:ec2:us-*::snapshot/snap-0", "arn:aws:ec2:*:"+here+":snapshot/*")
	}
	values := []string{q.valueOf(key), q.valueOf(key), s.Account, s.ID, string(s.Kind), "us-east-1", "${aws:username}", "${aws:PrincipalTag/none}", "${aws:username, 'Blue'}"}
	if strings.HasSuffix(operator, "Like") {
		values = append(values, "*", "B*", "*e*", "???e", "a${*}*", "night*", "us-*-?", "*:s1", "${aws:username}*", "*"+s.Account+"*")
	}
	return pick(q, values...)
}

// ask has shale answer the question.
func (w *question) ask(t testing.TB) error {
	t.Helper()
	parse := func(d document, f policy.Form) *policy.Policy {
		p, err := policy.Parse(d.text(), f)
		if err != nil {
			t.Fatalf("%s: %v", d.text(), err)
		}
		return p
	}
	s := *w.subject
	p := *s.Principal
	s.Principal = &p
	for _, d := range w.Identity {
		p.Policies = append(p.Policies, parse(d, policy.Identity))
	}
	if w.Session != nil {
		p.Session = []*policy.Policy{parse(w.Session, policy.Session)}
	}
	r := policy.Request{Action: w.Action, Resource: w.Resource, Keys: keys(w.own)}
	if w.ResourcePolicy == nil {
		return s.Authorize(r)
	}
	return s.AuthorizeOn(parse(w.ResourcePolicy, w.form), w.Owner, r)
}
