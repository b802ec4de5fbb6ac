package policy_test

import (
	"errors"
	"strings"
	"testing"

	"shale/internal/policy"
)

const (
	noIdentity = "because no identity-based policy allows the kms:Decrypt action"
	noSession  = "because no session policy allows the kms:Decrypt action"
	noResource = "because no resource-based policy allows the kms:Decrypt action"
	byIdentity = "with an explicit deny in an identity-based policy"
	bySession  = "with an explicit deny in a session policy"
	byResource = "with an explicit deny in a resource-based policy"
)

var decrypt = policy.Request{Action: "kms:Decrypt", Resource: keyOne}

func TestAuthorize(t *testing.T) {
	yes, no, other := identity(t, allow("kms:*")), identity(t, deny("kms:Decrypt")), identity(t, allow("kms:Encrypt"))
	for name, tt := range map[string]struct {
		s    *policy.Subject
		want string
	}{
		"the server itself":              {nil, ""},
		"root":                           {root(here), ""},
		"root within a session":          {within(root(here), yes), ""},
		"root beyond a session":          {within(root(here), other), noSession},
		"root against a session":         {within(root(here), yes, no), bySession},
		"nothing":                        {alice(), noIdentity},
		"another action":                 {alice(other), noIdentity},
		"allowed":                        {alice(other, yes), ""},
		"deny wins":                      {alice(yes, no), byIdentity},
		"deny wins, whatever the order":  {alice(no, yes), byIdentity},
		"deny in one policy":             {alice(identity(t, deny("kms:*"), allow("*"))), byIdentity},
		"deny of others":                 {alice(yes, identity(t, deny("kms:Encrypt"))), ""},
		"session of a role":              {session(yes), ""},
		"within a session":               {within(session(yes), yes), ""},
		"one of several session's":       {within(session(yes), other, yes), ""},
		"beyond a session":               {within(session(yes), other), noSession},
		"a session policy gives nothing": {within(session(other), yes), noIdentity},
		"denied by a session":            {within(session(yes), yes, no), bySession},
		"a session without any":          {within(session(yes), []*policy.Policy{}...), noSession},
	} {
		if got := why(t, tt.s.Authorize(decrypt)); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestDeniedSaysWho(t *testing.T) {
	err := alice().Authorize(policy.Request{Action: "ebs:PutSnapshotBlock", Resource: snapOne})
	const want = "User: arn:aws:iam::111122223333:user/team/alice is not authorized to perform: ebs:PutSnapshotBlock on resource: " +
		"arn:aws:ec2:us-east-1::snapshot/snap-1 because no identity-based policy allows the ebs:PutSnapshotBlock action"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func principal(names string) string {
	return `"Principal":{"AWS":` + names + `}`
}

func TestAuthorizeOn(t *testing.T) {
	yes, no, other := identity(t, allow("kms:*")), identity(t, deny("kms:Decrypt")), identity(t, allow("kms:Encrypt"))
	user, role, assumed := `"`+alice().ARN+`"`, `"`+roleARN+`"`, `"`+sessionARN+`"`
	account := `"` + here + `"`
	abroad := func(s *policy.Subject) *policy.Subject {
		s.Account = there
		return s
	}
	to := func(principals ...string) []string {
		var all []string
		for _, p := range principals {
			all = append(all, allow("kms:Decrypt", p))
		}
		return all
	}
	but := func(names string) []string {
		return append(to(`"Principal":"*"`), deny("kms:Decrypt", `"NotPrincipal":{"AWS":`+names+`}`))
	}
	for name, tt := range map[string]struct {
		key  []string
		s    *policy.Subject
		want string
	}{
		"the server itself":           {to(principal(`"` + there + `"`)), nil, ""},
		"root by number":              {to(principal(account)), root(here), ""},
		"root by ARN":                 {to(principal(`"arn:aws:iam::` + here + `:root"`)), root(here), ""},
		"root that is not named":      {to(principal(`"` + there + `"`)), root(here), noResource},
		"another action":              {[]string{allow("kms:Encrypt", principal(account))}, root(here), noResource},
		"another resource":            {[]string{allow("kms:Decrypt", principal(account), `"Resource":"x"`)}, root(here), noResource},
		"root, denied":                {append(to(principal(account)), deny("kms:Decrypt", principal(account))), root(here), byResource},
		"root abroad":                 {to(principal(`"` + there + `"`)), root(there), ""},
		"root abroad, not named":      {to(principal(account)), root(there), noResource},
		"anyone":                      {to(`"Principal":"*"`), root(there), ""},
		"anyone at AWS":               {to(principal(`"*"`)), root(there), ""},
		"one of a list":               {to(principal(`["` + there + `",` + account + `]`)), root(here), ""},
		"a service":                   {to(`"Principal":{"Service":"ec2.amazonaws.com"}`), root(here), noResource},
		"account gives to its user":   {to(principal(account)), alice(yes), ""},
		"account does not":            {to(principal(account)), alice(other), noIdentity},
		"account forbids":             {to(principal(account)), alice(yes, no), byIdentity},
		"user by name":                {to(principal(user)), alice(), ""},
		"another user":                {to(principal(`"arn:aws:iam::` + here + `:user/team/bob"`)), alice(yes), noResource},
		"user of another path":        {to(principal(`"arn:aws:iam::` + here + `:user/alice"`)), alice(yes), noResource},
		"user by name, forbidden":     {to(principal(user)), alice(no), byIdentity},
		"user by name, within":        {to(principal(user)), within(alice(), yes), ""},
		"user by name, beyond":        {to(principal(user)), within(alice(), other), noSession},
		"anyone, in the account":      {to(`"Principal":"*"`), alice(), ""},
		"user and account":            {to(principal(account), principal(user)), alice(), ""},
		"only the identity allows":    {to(principal(`"` + there + `"`)), alice(yes), noResource},
		"denied by account":           {append(to(principal(user)), deny("kms:Decrypt", principal(account))), alice(yes), byResource},
		"denied by name":              {append(to(principal(account)), deny("kms:Decrypt", principal(user))), alice(yes), byResource},
		"role":                        {to(principal(role)), session(), ""},
		"role, beyond its session":    {to(principal(role)), within(session(), other), noSession},
		"session":                     {to(principal(assumed)), session(), ""},
		"session, beyond its own":     {to(principal(assumed)), within(session(), other), ""},
		"session, forbidden":          {to(principal(assumed)), within(session(), no), bySession},
		"another session":             {to(principal(`"arn:aws:sts::` + here + `:assumed-role/nightly/s2"`)), session(yes), noResource},
		"role, denied to a session":   {append(to(principal(role)), deny("kms:Decrypt", principal(assumed))), session(), byResource},
		"abroad, both":                {to(principal(`"` + there + `"`)), abroad(alice(yes)), ""},
		"abroad, the key only":        {to(principal(user)), abroad(alice(other)), noIdentity},
		"abroad, the user only":       {to(principal(account)), abroad(alice(yes)), noResource},
		"abroad, beyond its session":  {to(principal(assumed)), within(abroad(session(yes)), other), noSession},
		"but for the user":            {but(`[` + account + `,` + user + `]`), alice(), ""},
		"but for the user alone":      {but(user), alice(), byResource},
		"but for the account":         {but(account), alice(), byResource},
		"but for the account itself":  {but(account), root(here), ""},
		"but for the session":         {but(`[` + account + `,` + role + `,` + assumed + `]`), session(), ""},
		"but for the session alone":   {but(`[` + account + `,` + assumed + `]`), session(), byResource},
		"but for another":             {but(`["` + there + `"]`), alice(), byResource},
		"condition of the key":        {[]string{allow("kms:Decrypt", principal(account), condition("Bool", "aws:SecureTransport", "false"))}, root(here), noResource},
		"condition of a denial holds": {append(to(principal(account)), deny("kms:Decrypt", principal(account), condition("Bool", "aws:SecureTransport", "true"))), root(here), byResource},
	} {
		if got := why(t, tt.s.AuthorizeOn(parse(t, policy.Key, tt.key...), here, decrypt)); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestTrust(t *testing.T) {
	assume := policy.Request{Action: "sts:AssumeRole", Resource: roleARN}
	trust := func(principal string, more ...string) *policy.Policy {
		text := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":` + principal + `,"Action":"sts:AssumeRole"` + strings.Join(more, "") + `}}`
		p, err := policy.Parse(text, policy.Trust)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	yes := identity(t, allow("sts:AssumeRole", `"Resource":"`+roleARN+`"`))
	const refused = "because no identity-based policy allows the sts:AssumeRole action"
	for name, tt := range map[string]struct {
		trust *policy.Policy
		s     *policy.Subject
		want  string
	}{
		"account":        {trust(`{"AWS":"` + here + `"}`), alice(yes), ""},
		"account only":   {trust(`{"AWS":"` + here + `"}`), alice(), refused},
		"user":           {trust(`{"AWS":"` + alice().ARN + `"}`), alice(), ""},
		"nobody":         {trust(`{"Service":"ec2.amazonaws.com"}`), alice(yes), "because no resource-based policy allows the sts:AssumeRole action"},
		"with a key":     {trust(`{"AWS":"`+here+`"}`, `,`+condition("StringEquals", "sts:ExternalId", `"x"`)), root(here), ""},
		"with a wrong 1": {trust(`{"AWS":"`+here+`"}`, `,`+condition("StringEquals", "sts:ExternalId", `"y"`)), root(here), "because no resource-based policy allows the sts:AssumeRole action"},
	} {
		assume.Keys = keys(map[string][]string{"sts:externalid": {"x"}})
		if got := why(t, tt.s.AuthorizeOn(tt.trust, here, assume)); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// What cannot be known decides nothing, whatever the statements around it say.
func TestUnknowableKey(t *testing.T) {
	gone := errors.New("the catalog does not answer")
	r := decrypt
	asked := 0
	r.Keys = func(string) ([]string, bool, error) { asked++; return []string{"x"}, true, gone }
	tagged := condition("StringEquals", "aws:ResourceTag/Team", `"x"`)
	for name, p := range map[string]*policy.Policy{
		"allow":          identity(t, allow("*", tagged)),
		"allow first":    identity(t, allow("*"), allow("*", tagged)),
		"deny":           identity(t, deny("*", tagged), allow("*")),
		"a negation":     identity(t, allow("*", condition("StringNotEquals", "aws:ResourceTag/Team", `"y"`))),
		"a missing key":  identity(t, allow("*", condition("Null", "aws:ResourceTag/Team", `true`))),
		"a variable":     identity(t, allow("*", condition("StringEquals", "aws:username", `"${aws:ResourceTag/Team, 'alice'}"`))),
		"in a resource":  identity(t, allow("*", `"Resource":["arn:aws:kms:::${aws:ResourceTag/Team, 'x'}","*"]`)),
		"two conditions": identity(t, allow("*", `"Condition":{"Null":{"aws:ResourceTag/Team":true},"StringLike":{"aws:ResourceTag/Other":"*"}}`)),
	} {
		asked = 0
		if err := alice(p).Authorize(r); !errors.Is(err, gone) {
			t.Errorf("%s: Authorize: got %v", name, err)
		}
		if asked != 1 {
			t.Errorf("%s: asked %d times", name, asked)
		}
	}
	key := parse(t, policy.Key, allow("kms:*", principal(`"`+here+`"`), tagged))
	if err := root(here).AuthorizeOn(key, here, r); !errors.Is(err, gone) {
		t.Errorf("AuthorizeOn: got %v", err)
	}
}

func TestKeysAreAskedOnce(t *testing.T) {
	tagged := condition("StringEquals", "AWS:resourceTag/Team", `["x","y"]`)
	var asked []string
	r := decrypt
	r.Keys = func(key string) ([]string, bool, error) { asked = append(asked, key); return nil, false, nil }
	p := identity(t, allow("kms:Decrypt", tagged), allow("kms:*", tagged), allow("ebs:*", condition("Null", "ebs:VolumeSize", "true")))
	if got := why(t, alice(p, p).Authorize(r)); got != noIdentity {
		t.Errorf("got %q", got)
	}
	if len(asked) != 1 || asked[0] != "aws:resourcetag/Team" {
		t.Errorf("asked for %q", asked)
	}
}
