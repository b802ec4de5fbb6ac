package identity_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/sigv4"
)

// role makes a role that may do the actions, and that the principal may assume.
func (w *world) role(t testing.TB, name, principal, actions string) identity.Entity {
	t.Helper()
	e, err := w.CreateRole(t.Context(), root(account), identity.NewRole{
		Path: "/x/", Name: name, Trust: trusting(principal), MaxSession: 2 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PutPolicy(t.Context(), root(account), identity.Role, name, "p", allow(actions)); err != nil {
		t.Fatal(err)
	}
	return e
}

// credential is how a session's credential is taken.
func (w *world) credential(t testing.TB, s identity.Session) string {
	t.Helper()
	secret, _, err := w.Credential(t.Context(), s.AccessKey, s.Token)
	if err == nil && secret != s.Secret {
		return "another secret"
	}
	if err == nil {
		return "good"
	}
	return kind(err)
}

var (
	unknownToken = kind(&sigv4.Error{Kind: sigv4.UnknownToken})
	expiredToken = kind(&sigv4.Error{Kind: sigv4.ExpiredToken})
)

func TestGetSessionToken(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	k := w.user(t, "alice", allow("ebs:* iam:* sts:*"))
	s, err := w.GetSessionToken(ctx, w.by(t, k.ID, ""), 900*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.AccessKey, "ASIA") || len(s.AccessKey) != 20 || len(s.Secret) != 40 || len(s.Token) > identity.MaxToken {
		t.Errorf("got %+v", s)
	}
	if got := w.credential(t, s); got != "good" {
		t.Errorf("got %q", got)
	}
	alice := w.by(t, s.AccessKey, s.Token)
	if alice.By.Kind != policy.User || alice.By.Name != "alice" || !alice.By.Issued.Equal(w.now) {
		t.Errorf("got %+v", alice.By.Principal)
	}
	// It acts under the policies that its user has now, but makes nothing that
	// outlives it.
	if !w.may(t, s.AccessKey, s.Token, "ebs:PutSnapshotBlock") {
		t.Error("it may not what its user may")
	}
	_, err = w.CreateUser(ctx, alice, "/", "mallory")
	check(t, "a session at IAM", err, identity.SessionRefused)
	_, _, err = w.AccessKeys(ctx, alice, "")
	check(t, "a session at IAM", err, identity.SessionRefused)
	_, err = w.GetSessionToken(ctx, alice, 0)
	check(t, "a session for another", err, identity.AccessDenied)
	w.put(t, "alice", allow("ec2:*"))
	if w.may(t, s.AccessKey, s.Token, "ebs:PutSnapshotBlock") {
		t.Error("it may what its user may no more")
	}
	// Its user's key is not its own.
	if err := w.DeleteAccessKey(ctx, root(account), "alice", k.ID); err != nil {
		t.Fatal(err)
	}
	w.now = s.Expires.Add(-time.Second)
	if got := w.credential(t, s); got != "good" {
		t.Errorf("a second before its end: got %q", got)
	}
	w.now = s.Expires
	if got := w.credential(t, s); got != expiredToken {
		t.Errorf("at its end: got %q", got)
	}

	forRoot, err := w.GetSessionToken(ctx, root(account), 36*time.Hour)
	if err != nil || forRoot.Expires.Sub(w.now) != time.Hour {
		t.Errorf("for root: got %+v, %v", forRoot, err)
	}
	by := w.by(t, forRoot.AccessKey, forRoot.Token)
	if by.By.Kind != policy.Account || by.Account != account {
		t.Errorf("for root: %+v", by.By.Principal)
	}
	_, err = w.Self(ctx, by)
	check(t, "root's session at IAM", err, identity.SessionRefused)
}

// A token of another key, an altered one, one of a user that is deleted, or made
// again, is none.
func TestTokensThatAreNone(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	k := w.user(t, "alice", "")
	w.user(t, "bob", "")
	alice := w.by(t, k.ID, "")
	session := func() identity.Session {
		s, err := w.GetSessionToken(ctx, alice, 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, s2 := session(), session()
	if s.AccessKey == s2.AccessKey || s.Secret == s2.Secret {
		t.Error("two sessions sign alike")
	}
	for what, c := range map[string]identity.Session{
		"another session's key": {AccessKey: s2.AccessKey, Token: s.Token},
		"a lasting key":         {AccessKey: k.ID, Token: s.Token},
		"no token at all":       {AccessKey: s.AccessKey, Token: "x"},
		"a longer token":        {AccessKey: s.AccessKey, Token: s.Token + "AAAA"},
		"a shorter token":       {AccessKey: s.AccessKey, Token: s.Token[:len(s.Token)-4]},
		"a line in the token":   {AccessKey: s.AccessKey, Token: s.Token[:8] + "\n" + s.Token[8:]},
		"an endless token":      {AccessKey: s.AccessKey, Token: s.Token + strings.Repeat("A", 1<<20)},
	} {
		if got := w.credential(t, c); got != unknownToken {
			t.Errorf("%s: got %q", what, got)
		}
	}
	b, err := base64.RawURLEncoding.DecodeString(s.Token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		altered := append([]byte(nil), b...)
		altered[i] ^= 1
		if got := w.credential(t, identity.Session{AccessKey: s.AccessKey, Token: base64.RawURLEncoding.EncodeToString(altered)}); got != unknownToken {
			t.Errorf("byte %d altered: got %q", i, got)
		}
	}
	foreign := identity.New(identity.Options{Store: w.catalog, SessionKey: []byte(strings.Repeat("k", identity.SessionKeySize)), Now: func() time.Time { return w.now }})
	if _, _, err := foreign.Credential(ctx, s.AccessKey, s.Token); kind(err) != unknownToken {
		t.Errorf("another server: got %v", err)
	}
	if got := w.credential(t, s); got != "good" {
		t.Errorf("the token as it is: got %q", got)
	}
	if err := errors.Join(w.DeleteAccessKey(ctx, root(account), "alice", k.ID), w.DeleteUser(ctx, root(account), "alice")); err != nil {
		t.Fatal(err)
	}
	if got := w.credential(t, s); got != unknownToken {
		t.Errorf("its user is deleted: got %q", got)
	}
	w.user(t, "alice", "")
	if got := w.credential(t, s); got != unknownToken {
		t.Errorf("another user of the name: got %q", got)
	}
}

func TestAssumeRole(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	k := w.user(t, "alice", allow("sts:AssumeRole"))
	alice := w.by(t, k.ID, "")
	role := w.role(t, "reader", account, "ebs:Get* ebs:List* sts:AssumeRole iam:GetRole")
	arn := role.ARN()
	assume := func(c identity.Caller, r identity.AssumeRole) (identity.Session, error) {
		if r.Name == "" {
			r.Name = "s1"
		}
		return w.AssumeRole(ctx, c, r)
	}
	s, err := assume(alice, identity.AssumeRole{RoleARN: arn})
	if err != nil || s.Expires.Sub(w.now) != time.Hour || s.ID != role.ID+":s1" || s.ARN != "arn:aws:sts::"+account+":assumed-role/reader/s1" {
		t.Fatalf("got %+v, %v", s, err)
	}
	p := w.by(t, s.AccessKey, s.Token).By.Principal
	if p.Kind != policy.AssumedRole || p.ARN != s.ARN || p.ID != s.ID || p.Role != arn || p.Name != "" || p.Account != account || p.Session != nil {
		t.Errorf("got %+v", p)
	}
	may := func(s identity.Session, action string, want bool) {
		t.Helper()
		if got := w.may(t, s.AccessKey, s.Token, action); got != want {
			t.Errorf("%s: got %v, want %v", action, got, want)
		}
	}
	may(s, "ebs:GetSnapshotBlock", true)
	may(s, "ebs:PutSnapshotBlock", false)

	bound, err := assume(alice, identity.AssumeRole{RoleARN: arn, Policy: new(allow("ebs:Get* ebs:Put*"))})
	if err != nil || bound.PackedPolicy < 1 || bound.PackedPolicy > 10 {
		t.Fatalf("got %+v, %v", bound, err)
	}
	may(bound, "ebs:GetSnapshotBlock", true)
	may(bound, "ebs:ListSnapshotBlocks", false) // beyond the session's policy
	may(bound, "ebs:PutSnapshotBlock", false)   // beyond the role's

	for what, c := range map[string]struct {
		by   identity.Caller
		r    identity.AssumeRole
		want identity.Code
	}{
		"by root":                       {root(account), identity.AssumeRole{RoleARN: arn}, identity.AccessDenied},
		"not there":                     {alice, identity.AssumeRole{RoleARN: arn + "x"}, identity.AccessDenied},
		"under another path":            {alice, identity.AssumeRole{RoleARN: "arn:aws:iam::" + account + ":role/reader"}, identity.AccessDenied},
		"no ARN of a role":              {alice, identity.AssumeRole{RoleARN: "arn:aws:iam::" + account + ":user/alice"}, identity.InvalidInput},
		"the longest":                   {alice, identity.AssumeRole{RoleARN: arn, Duration: 2 * time.Hour}, ""},
		"longer":                        {alice, identity.AssumeRole{RoleARN: arn, Duration: 2*time.Hour + time.Second}, identity.InvalidInput},
		"by a session of a role":        {w.by(t, s.AccessKey, s.Token), identity.AssumeRole{RoleARN: arn}, ""},
		"by a session, longer":          {w.by(t, s.AccessKey, s.Token), identity.AssumeRole{RoleARN: arn, Duration: 3601 * time.Second}, identity.InvalidInput},
		"by a session that is bound":    {w.by(t, bound.AccessKey, bound.Token), identity.AssumeRole{RoleARN: arn}, identity.AccessDenied},
		"a policy that is none":         {alice, identity.AssumeRole{RoleARN: arn, Policy: new("{")}, identity.MalformedPolicy},
		"a policy that is long":         {alice, identity.AssumeRole{RoleARN: arn, Policy: new(allow("ebs:" + strings.Repeat("x", 2048)))}, identity.PolicyTooLarge},
		"a policy of 2048 characters":   {alice, identity.AssumeRole{RoleARN: arn, Policy: new(allow("ebs:" + strings.Repeat("x", 2048-len(allow("ebs:")))))}, ""},
		"a policy, not all of it ASCII": {alice, identity.AssumeRole{RoleARN: arn, Policy: new(strings.Replace(allow("ebs:*"), `"Effect"`, `"Sid":"","Effect"`, 1) + strings.Repeat(" ", 10))}, ""},
	} {
		_, err := assume(c.by, c.r)
		check(t, what, err, c.want)
	}

	// As much as may be in a token is in one that is read.
	full, err := assume(alice, identity.AssumeRole{
		RoleARN: arn, Name: strings.Repeat("n", 64), Policy: new(allow("ebs:" + strings.Repeat("x", 2048-len(allow("ebs:"))))),
	})
	if err != nil || len(full.Token) > identity.MaxToken || full.PackedPolicy != 100 || w.credential(t, full) != "good" {
		t.Errorf("a full token: %d characters, %d %%, %v", len(full.Token), full.PackedPolicy, err)
	}

	// Who it trusts may change; sessions go on, until the role is gone.
	if err := w.SetTrust(ctx, root(account), "reader", trusting("arn:aws:iam::"+account+":user/bob")); err != nil {
		t.Fatal(err)
	}
	_, err = assume(alice, identity.AssumeRole{RoleARN: arn})
	check(t, "who is trusted no more", err, identity.AccessDenied)
	if got := w.credential(t, s); got != "good" {
		t.Errorf("a session of before: got %q", got)
	}
	if err := errors.Join(w.DeletePolicy(ctx, root(account), identity.Role, "reader", "p"), w.DeleteRole(ctx, root(account), "reader")); err != nil {
		t.Fatal(err)
	}
	if got := w.credential(t, s); got != unknownToken {
		t.Errorf("its role is deleted: got %q", got)
	}
}

// Another account has to be trusted, to say the word, and to let its users.
func TestAssumeRoleFromElsewhere(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	e, err := w.CreateRole(ctx, root(account), identity.NewRole{
		Path: "/", Name: "shared", MaxSession: time.Hour, Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",
			"Principal":{"AWS":"` + other + `"},"Condition":{"StringEquals":{"sts:ExternalId":"word"}}}]}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateUser(ctx, root(other), "/", "eve"); err != nil {
		t.Fatal(err)
	}
	k, _, err := w.CreateAccessKey(ctx, root(other), "eve")
	if err != nil {
		t.Fatal(err)
	}
	assume := func(word *string) error {
		_, err := w.AssumeRole(ctx, w.by(t, k.ID, ""), identity.AssumeRole{RoleARN: e.ARN(), Name: "s1", ExternalID: word})
		return err
	}
	check(t, "a user whose account does not let him", assume(new("word")), identity.AccessDenied)
	if err := w.PutPolicy(ctx, root(other), identity.User, "eve", "p", allow("sts:AssumeRole")); err != nil {
		t.Fatal(err)
	}
	check(t, "without the word", assume(nil), identity.AccessDenied)
	check(t, "another word", assume(new("sword")), identity.AccessDenied)
	check(t, "with the word", assume(new("word")), "")
}

// FuzzSession gives a server tokens that it did not make. Each process has a key
// of its own, so that the corpus has none that is good but its own.
func FuzzSession(f *testing.F) {
	w := newWorld(f, nil)
	key := make([]byte, identity.SessionKeySize)
	_, _ = rand.Read(key)
	service := identity.New(identity.Options{Store: w.catalog, SessionKey: key, Now: func() time.Time { return w.now }})
	s, err := service.GetSessionToken(f.Context(), root(account), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Token, s.AccessKey)
	f.Add("AlMg", "ASIA")
	f.Fuzz(func(t *testing.T, token, key string) {
		_, p, err := service.Credential(t.Context(), key, token)
		if err == nil && (token != s.Token || key != s.AccessKey) && token != "" {
			t.Fatalf("%q with %q is taken for %s", token, key, p.ARN)
		}
	})
}

// FuzzClaims takes claims apart that could only come from a server's own token.
func FuzzClaims(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x02111122223333\x00\x00{}"))
	f.Add([]byte(strings.Repeat("\xff", 24+256+256)))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, ok := identity.Claims(b)
		if ok && string(again) != string(b) {
			t.Errorf("%x came back as %x", b, again)
		}
	})
}
