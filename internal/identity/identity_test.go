package identity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/catalog"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/sigv4"
)

const (
	account = "111122223333"
	other   = "444455556666"
)

// A world is a service over a real catalog, with a clock of its own.
type world struct {
	*identity.Service
	catalog *catalog.Catalog
	now     time.Time
}

var sessionKey = bytes.Repeat([]byte{7}, identity.SessionKeySize)

// newWorld makes two accounts; store, if not nil, is put between the service
// and the catalog.
func newWorld(t testing.TB, store func(identity.Store) identity.Store) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return w.now }
	var err error
	if w.catalog, err = catalog.Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.catalog.Close() })
	for name, key := range map[string]catalog.AccessKey{
		"default": {ID: "ROOTKEY", Account: account, Secret: "root"}, "other": {ID: "OTHERKEY", Account: other, Secret: "other"},
	} {
		if err := w.catalog.CreateAccount(t.Context(), name, key); err != nil {
			t.Fatal(err)
		}
	}
	o := identity.Options{Store: w.catalog, SessionKey: sessionKey, Now: clock}
	if store != nil {
		o.Store = store(w.catalog)
	}
	w.Service = identity.New(o)
	return w
}

func root(account string) identity.Caller {
	return identity.Caller{Account: account, By: &policy.Subject{Principal: identity.Root(account)}}
}

// by is who signs with the credential.
func (w *world) by(t testing.TB, key, token string) identity.Caller {
	t.Helper()
	_, p, err := w.Credential(t.Context(), key, token)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Caller{Account: p.Account, By: &policy.Subject{Principal: p, Environment: policy.Environment{Time: w.now}}}
}

// user makes a user with a policy, unless that is empty, and a key.
func (w *world) user(t testing.TB, name, text string) identity.AccessKey {
	t.Helper()
	if _, err := w.CreateUser(t.Context(), root(account), "/", name); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		w.put(t, name, text)
	}
	k, _, err := w.CreateAccessKey(t.Context(), root(account), name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) put(t testing.TB, name, text string) {
	t.Helper()
	if err := w.PutPolicy(t.Context(), root(account), identity.User, name, "p", text); err != nil {
		t.Fatal(err)
	}
}

// allow is a policy that allows the actions.
func allow(actions string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.ReplaceAll(actions, " ", `","`) + `"],"Resource":"*"}]}`
}

func trusting(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"` + principal + `"}}]}`
}

func kind(err error) string {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return e.Kind.String()
	}
	return fmt.Sprint(err)
}

func code(err error) identity.Code {
	if e, ok := errors.AsType[*identity.Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*policy.Denied](err); ok {
		return "denied"
	}
	if err != nil {
		return identity.Code(err.Error())
	}
	return ""
}

func check(t testing.TB, what string, err error, want identity.Code) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// may asks whether the credential may do the action.
func (w *world) may(t testing.TB, key, token, action string) bool {
	t.Helper()
	return w.by(t, key, token).By.Authorize(policy.Request{Action: action, Resource: "*"}) == nil
}

// Whatever is changed counts from the next request on.
func TestChangesCountAtOnce(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	k := w.user(t, "alice", "")
	unknown := kind(&sigv4.Error{Kind: sigv4.UnknownKey})
	if w.may(t, k.ID, "", "ebs:PutSnapshotBlock") {
		t.Error("a user without policies may write")
	}
	w.put(t, "alice", allow("ebs:*"))
	if !w.may(t, k.ID, "", "ebs:PutSnapshotBlock") {
		t.Error("a policy that was put does not count")
	}
	w.put(t, "alice", allow("ebs:Get*"))
	if w.may(t, k.ID, "", "ebs:PutSnapshotBlock") {
		t.Error("a policy that was replaced counts")
	}
	if err := w.DeletePolicy(ctx, root(account), identity.User, "alice", "p"); err != nil || w.may(t, k.ID, "", "ebs:GetSnapshotBlock") {
		t.Errorf("a policy that was deleted counts, %v", err)
	}
	if err := w.SetAccessKeyStatus(ctx, root(account), "alice", k.ID, identity.Inactive); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Credential(ctx, k.ID, ""); kind(err) != unknown {
		t.Errorf("an inactive key: got %v", err)
	}
	if err := w.SetAccessKeyStatus(ctx, root(account), "alice", k.ID, identity.Active); err != nil {
		t.Fatal(err)
	}
	if secret, p, err := w.Credential(ctx, k.ID, ""); err != nil || secret != k.Secret || p.Name != "alice" || p.ARN != "arn:aws:iam::"+account+":user/alice" {
		t.Errorf("an active key: got %q, %+v, %v", secret, p, err)
	}
	if err := w.DeleteAccessKey(ctx, root(account), "alice", k.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{k.ID, "AKIANONE", ""} {
		if _, _, err := w.Credential(ctx, id, ""); kind(err) != unknown {
			t.Errorf("key %q that is not there: got %v", id, err)
		}
	}
	if _, p, err := w.Credential(ctx, "ROOTKEY", ""); err != nil || p.Kind != policy.Account || p.ID != account {
		t.Errorf("root: got %+v, %v", p, err)
	}
	if _, _, err := w.Credential(ctx, "ROOTKEY", "token"); kind(err) != kind(&sigv4.Error{Kind: sigv4.UnknownToken}) {
		t.Errorf("a lasting key with a token: got %v", err)
	}
	user, err := w.User(ctx, root(account), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := w.Principal(ctx, account, user.ID); err != nil || p.Name != "alice" {
		t.Errorf("by ID: got %+v, %v", p, err)
	}
	if err := w.DeleteUser(ctx, root(account), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Principal(ctx, account, user.ID); !errors.Is(err, identity.ErrNone) {
		t.Errorf("a deleted user, by ID: got %v", err)
	}
}

// An account that another process adds is known at once, though its key was
// asked for before.
func TestAccountsFromBeside(t *testing.T) {
	w := newWorld(t, nil)
	if _, _, err := w.Credential(t.Context(), "NEW", ""); err == nil {
		t.Error("an unknown key is known")
	}
	if err := w.catalog.CreateAccount(t.Context(), "new", catalog.AccessKey{ID: "NEW", Account: "999999999999", Secret: "s"}); err != nil {
		t.Fatal(err)
	}
	if _, p, err := w.Credential(t.Context(), "NEW", ""); err != nil || p.Account != "999999999999" {
		t.Errorf("got %+v, %v", p, err)
	}
}

// A root user's key that another process exchanges is taken at once, and the
// old one refused a second later. What the root user has begun with it goes on.
func TestKeyRotatedBeside(t *testing.T) {
	w := newWorld(t, nil)
	session, err := w.GetSessionToken(t.Context(), w.by(t, "ROOTKEY", ""), 0)
	if err != nil {
		t.Fatal(err)
	}
	w.by(t, "ROOTKEY", "") // remembered
	if err := w.catalog.RotateAccountKey(t.Context(), "default", "NEWKEY", "new"); err != nil {
		t.Fatal(err)
	}
	rotated := time.Now()
	if secret, p, err := w.Credential(t.Context(), "NEWKEY", ""); err != nil || secret != "new" || p.ARN != identity.Root(account).ARN {
		t.Errorf("the new key: %+v, %v", p, err)
	}
	time.Sleep(time.Until(rotated.Add(time.Second)))
	if _, _, err := w.Credential(t.Context(), "ROOTKEY", ""); kind(err) != sigv4.UnknownKey.String() {
		t.Errorf("the old key: got %v, want UnknownKey", err)
	}
	w.by(t, session.AccessKey, session.Token)
}

// A slowStore stops between reading a policy and telling what it read, and
// counts how often keys are read.
type slowStore struct {
	identity.Store
	reads  atomic.Int64
	read   chan struct{} // nil: it does not stop
	resume chan struct{}
}

func (s *slowStore) Key(ctx context.Context, id string) (identity.AccessKey, error) {
	s.reads.Add(1)
	return s.Store.Key(ctx, id)
}

func (s *slowStore) Documents(ctx context.Context, id string) ([]identity.Document, error) {
	d, err := s.Store.Documents(ctx, id)
	if s.read != nil {
		s.read <- struct{}{}
		<-s.resume
	}
	return d, err
}

// What was read before a change, and would be remembered after it, is not
// relied on by whoever asks after the change.
func TestLookupRacesChange(t *testing.T) {
	var slow *slowStore
	w := newWorld(t, func(s identity.Store) identity.Store {
		slow = &slowStore{Store: s}
		return slow
	})
	k := w.user(t, "alice", allow("ebs:*"))
	slow.read, slow.resume = make(chan struct{}), make(chan struct{})
	early := make(chan error)
	go func() {
		_, _, err := w.Credential(context.Background(), k.ID, "")
		early <- err
	}()
	<-slow.read // it has read what allows all
	w.put(t, "alice", allow("ebs:Get*"))
	slow.resume <- struct{}{}
	if err := <-early; err != nil { // and remembers it now
		t.Fatal(err)
	}
	slow.read = nil
	if w.may(t, k.ID, "", "ebs:PutSnapshotBlock") {
		t.Error("a policy counts that was replaced before the request")
	}
}

// The block path does not ask the catalog, but once a second.
func TestCredentialIsRemembered(t *testing.T) {
	var slow *slowStore
	w := newWorld(t, func(s identity.Store) identity.Store {
		slow = &slowStore{Store: s}
		return slow
	})
	k := w.user(t, "alice", allow("ebs:*"))
	begun := time.Now()
	for range 10 {
		w.by(t, k.ID, "")
	}
	if n, most := slow.reads.Load(), 1+int64(time.Since(begun)/time.Second); n > most {
		t.Errorf("the key was read %d times, want at most %d", n, most)
	}
}

func BenchmarkCredential(b *testing.B) {
	w := newWorld(b, nil)
	k := w.user(b, "alice", allow("ebs:*"))
	s, err := w.GetSessionToken(b.Context(), w.by(b, k.ID, ""), 0)
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string][2]string{"key": {k.ID, ""}, "session": {s.AccessKey, s.Token}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := w.Credential(b.Context(), c[0], c[1]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Who may manage whom is decided by policies, and by the ARN of what is managed.
func TestManagement(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	k := w.user(t, "alice", "")
	alice := w.by(t, k.ID, "")
	w.user(t, "bob", "")
	own := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iam:*AccessKey*","Resource":"arn:aws:iam::` + account + `:user/${aws:username}"},
		{"Effect":"Allow","Action":["iam:CreateUser","iam:DeleteUser"],"Resource":"arn:aws:iam::*:user/team/*"}]}`
	_, err := w.CreateUser(ctx, alice, "/team/", "carol")
	check(t, "without policies", err, "denied")
	_, err = w.Self(ctx, alice)
	check(t, "herself, without policies", err, "denied")
	w.put(t, "alice", own)
	alice = w.by(t, k.ID, "")
	_, err = w.CreateUser(ctx, alice, "/team/", "carol")
	check(t, "below her path", err, "")
	_, err = w.CreateUser(ctx, alice, "/", "dave")
	check(t, "elsewhere", err, "denied")
	check(t, "one elsewhere", w.DeleteUser(ctx, alice, "bob"), "denied")
	check(t, "one that is not there", w.DeleteUser(ctx, alice, "nobody"), "denied")
	check(t, "one below her path", w.DeleteUser(ctx, alice, "carol"), "")
	check(t, "one that is not there, for root", w.DeleteUser(ctx, root(account), "nobody"), identity.NoSuchEntity)
	_, _, err = w.CreateAccessKey(ctx, alice, "")
	check(t, "an own key", err, "")
	_, _, err = w.CreateAccessKey(ctx, alice, "alice")
	check(t, "a third own key", err, identity.LimitExceeded)
	_, _, err = w.CreateAccessKey(ctx, alice, "bob")
	check(t, "another's key", err, "denied")
	keys, owner, err := w.AccessKeys(ctx, alice, "")
	if err != nil || len(keys) != 2 || owner.Name != "alice" || keys[0].Secret != "" {
		t.Errorf("own keys: %+v of %+v, %v", keys, owner, err)
	}
	check(t, "another's key by its ID", w.DeleteAccessKey(ctx, root(account), "bob", k.ID), identity.NoSuchEntity)
	check(t, "root's key", w.DeleteAccessKey(ctx, root(account), "", "ROOTKEY"), identity.InvalidInput)
	_, _, err = w.CreateAccessKey(ctx, root(account), "")
	check(t, "a second key of root's", err, identity.InvalidInput)
	if keys, _, err := w.AccessKeys(ctx, root(account), ""); err != nil || len(keys) != 1 || keys[0].ID != "ROOTKEY" {
		t.Errorf("root's keys: %+v, %v", keys, err)
	}
	_, err = w.User(ctx, root(other), "alice")
	check(t, "a user of another account", err, identity.NoSuchEntity)
	_, err = w.CreateUser(ctx, root(account), "/", "ALICE")
	check(t, "a name in other letters", err, identity.EntityAlreadyExists)
	if self, err := w.Self(ctx, root(account)); err != nil || self.ARN() != "arn:aws:iam::"+account+":root" || self.Created.IsZero() {
		t.Errorf("root: %+v, %v", self, err)
	}
}

func TestPolicies(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	w.user(t, "alice", "")
	put := func(name, text string) error {
		return w.PutPolicy(ctx, root(account), identity.User, "alice", name, text)
	}
	for what, text := range map[string]string{
		"no JSON": "{", "an unknown operator": strings.Replace(allow("ebs:*"), `"Resource":"*"`, `"Resource":"*","Condition":{"StringSomehow":{"aws:username":"x"}}`, 1),
		"a principal": trusting("*"), "1 MiB": allow(strings.Repeat("ebs:GetSnapshotBlock ", 50_000) + "ebs:*"),
	} {
		check(t, what, put("p", text), identity.MalformedPolicy)
	}
	// Blanks do not count, nor does what is replaced.
	most := allow("ebs:" + strings.Repeat("x", 2048-len(allow("ebs:"))))
	check(t, "as much as there may be", put("p", most+strings.Repeat(" \n", 1000)), "")
	check(t, "in place of itself", put("p", most), "")
	check(t, "one more", put("q", allow("ebs:*")), identity.LimitExceeded)
	if names, err := w.PolicyNames(ctx, root(account), identity.User, "alice"); err != nil || strings.Join(names, " ") != "p" {
		t.Errorf("names: %q, %v", names, err)
	}
	if text, err := w.Policy(ctx, root(account), identity.User, "alice", "p"); err != nil || text != most {
		t.Errorf("text: %q, %v", text, err)
	}
	_, err := w.Policy(ctx, root(account), identity.User, "alice", "q")
	check(t, "one that is not there", err, identity.NoSuchEntity)
	check(t, "deleting it", w.DeletePolicy(ctx, root(account), identity.User, "alice", "q"), identity.NoSuchEntity)
	_, err = w.CreateRole(ctx, root(account), identity.NewRole{Path: "/", Name: "r", Trust: allow("sts:AssumeRole")})
	check(t, "a trust policy without principals", err, identity.MalformedPolicy)
	_, err = w.CreateRole(ctx, root(account), identity.NewRole{Path: "/", Name: "r", Trust: trusting(strings.Repeat("*", 2048))})
	check(t, "a trust policy with a bad principal", err, identity.MalformedPolicy)
}
