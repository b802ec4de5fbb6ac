package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/bearer"
	"shale/internal/catalog"
	"shale/internal/identity"
)

// owner is the account of these tests.
const owner = "111122223333"

func openIdentity(t *testing.T, place string) *catalog.Catalog {
	t.Helper()
	c := open(t, place)
	if err := c.CreateAccount(t.Context(), "default", catalog.AccessKey{ID: "ROOTKEY", Account: owner, Secret: "root"}); err != nil {
		t.Fatal(err)
	}
	return c
}

func user(n int) identity.Entity {
	return identity.Entity{
		Kind: identity.User, ID: fmt.Sprintf("AIDA%d", n), Account: owner, Path: "/", Name: fmt.Sprintf("user%d", n),
		Created: time.UnixMilli(1_700_000_000_123).UTC(),
	}
}

func TestEntities(t *testing.T) { onBoth(t, testEntities) }

func testEntities(t *testing.T, place string) {
	c, ctx := openIdentity(t, place), t.Context()
	const limit = 4
	role := identity.Entity{
		Kind: identity.Role, ID: "AROA1", Account: owner, Path: "/team/x/", Name: "Reader", Created: user(0).Created,
		Trust: `{"a":1}`, Description: "é", MaxSession: 2 * time.Hour,
	}
	alice := user(1)
	alice.Name, alice.Path = "Alice", "/team/"
	for _, e := range []identity.Entity{alice, role, user(2), user(3)} {
		if err := c.CreateEntity(ctx, e, limit); err != nil {
			t.Fatalf("%s: %v", e.ARN(), err)
		}
		got, err := c.Entity(ctx, owner, e.Kind, e.Name)
		byID, errID := c.EntityByID(ctx, e.ID)
		if d := cmp.Diff(e, got) + cmp.Diff(e, byID); d != "" || err != nil || errID != nil {
			t.Errorf("%v, %v (-want +got):\n%s", err, errID, d)
		}
	}
	again := user(9)
	again.Name = "aLICE"
	if err := c.CreateEntity(ctx, again, limit); !errors.Is(err, identity.ErrExists) {
		t.Errorf("a name in other letters: got %v, want ErrExists", err)
	}
	if _, err := c.Entity(ctx, owner, identity.User, "alice"); !errors.Is(err, identity.ErrNone) {
		t.Errorf("found by another spelling: %v", err)
	}
	if _, err := c.Entity(ctx, "000000000000", identity.User, "Alice"); !errors.Is(err, identity.ErrNone) {
		t.Errorf("another account's: %v", err)
	}
	if err := c.CreateEntity(ctx, user(4), limit); err != nil {
		t.Errorf("the last that is allowed: %v", err)
	}
	if err := c.CreateEntity(ctx, user(5), limit); !errors.Is(err, identity.ErrLimit) {
		t.Errorf("one more: got %v, want ErrLimit", err)
	}
	list := func(prefix, after string, n int) string {
		found, err := c.Entities(ctx, owner, identity.User, prefix, after, n)
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, len(found))
		for i, e := range found {
			names[i] = e.Name
		}
		return strings.Join(names, " ")
	}
	for _, l := range []struct {
		prefix, after string
		n             int
		want          string
	}{
		{"/", "", 10, "Alice user2 user3 user4"},
		{"/", "", 2, "Alice user2"},
		{"/", "user2", 10, "user3 user4"},
		{"/team/", "", 10, "Alice"},
		{"/te", "alice", 10, ""},
	} {
		if got := list(l.prefix, l.after, l.n); got != l.want {
			t.Errorf("%q after %q: got %q, want %q", l.prefix, l.after, got, l.want)
		}
	}
	if err := errors.Join(c.SetTrust(ctx, "AROA1", "new")); err != nil {
		t.Error(err)
	}
	if got, _ := c.EntityByID(ctx, "AROA1"); got.Trust != "new" {
		t.Errorf("trust policy: got %q", got.Trust)
	}
	for _, id := range []string{"AIDA1", "none"} { // a user has none
		if err := c.SetTrust(ctx, id, "new"); !errors.Is(err, identity.ErrNone) {
			t.Errorf("trust policy of %s: got %v, want ErrNone", id, err)
		}
	}
	if at, err := c.AccountCreated(ctx, owner); err != nil || at.IsZero() {
		t.Errorf("account: %v, %v", at, err)
	}
	if _, err := c.AccountCreated(ctx, "000000000000"); !errors.Is(err, identity.ErrNone) {
		t.Errorf("no account: got %v", err)
	}
}

func TestDocuments(t *testing.T) { onBoth(t, testDocuments) }

func testDocuments(t *testing.T, place string) {
	c, ctx := openIdentity(t, place), t.Context()
	for n := range 2 {
		if err := c.CreateEntity(ctx, user(n), 10); err != nil {
			t.Fatal(err)
		}
	}
	const limit = 100
	put := func(id, name string, size int) error {
		return c.PutDocument(ctx, id, identity.Document{Name: name, Text: fmt.Sprint(name, " of ", size), Size: size}, limit)
	}
	if err := errors.Join(put("AIDA0", "b", 60), put("AIDA0", "a", 40), put("AIDA1", "a", 100)); err != nil {
		t.Fatal(err)
	}
	if err := put("AIDA0", "c", 1); !errors.Is(err, identity.ErrLimit) {
		t.Errorf("more than there is room for: got %v", err)
	}
	if err := put("AIDA0", "b", 61); !errors.Is(err, identity.ErrLimit) {
		t.Errorf("a larger one in place of another: got %v", err)
	}
	if err := put("AIDA0", "b", 59); err != nil {
		t.Errorf("a smaller one in place of another: %v", err)
	}
	if err := put("AIDA9", "b", 1); !errors.Is(err, identity.ErrNone) {
		t.Errorf("nobody's: got %v", err)
	}
	got, err := c.Documents(ctx, "AIDA0")
	if d := cmp.Diff([]identity.Document{{Name: "a", Text: "a of 40", Size: 40}, {Name: "b", Text: "b of 59", Size: 59}}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if err := c.DeleteEntity(ctx, "AIDA0"); !errors.Is(err, identity.ErrHasPolicies) {
		t.Errorf("a user with policies: got %v", err)
	}
	if err := errors.Join(c.DeleteDocument(ctx, "AIDA0", "a"), c.DeleteDocument(ctx, "AIDA0", "b")); err != nil {
		t.Error(err)
	}
	if err := c.DeleteDocument(ctx, "AIDA0", "a"); !errors.Is(err, identity.ErrNone) {
		t.Errorf("deleted before: got %v", err)
	}
	if err := c.DeleteEntity(ctx, "AIDA0"); err != nil {
		t.Error(err)
	}
	if err := c.DeleteEntity(ctx, "AIDA0"); !errors.Is(err, identity.ErrNone) {
		t.Errorf("deleted before: got %v", err)
	}
}

func TestUsersKeys(t *testing.T) { onBoth(t, testUsersKeys) }

func testUsersKeys(t *testing.T, place string) {
	c, ctx := openIdentity(t, place), t.Context()
	if err := errors.Join(c.CreateEntity(ctx, user(1), 10), c.CreateEntity(ctx, user(2), 10)); err != nil {
		t.Fatal(err)
	}
	key := func(n int) identity.AccessKey {
		return identity.AccessKey{
			ID: fmt.Sprintf("AKIA%d", n), Secret: "s", Account: owner, User: "AIDA1", Status: identity.Active,
			Created: time.UnixMilli(int64(n)).UTC(),
		}
	}
	if err := errors.Join(c.CreateKey(ctx, key(2), 2), c.CreateKey(ctx, key(1), 2)); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateKey(ctx, key(3), 2); !errors.Is(err, identity.ErrLimit) {
		t.Errorf("a third one: got %v", err)
	}
	nobodys := key(4)
	nobodys.User = "AIDA9"
	if err := c.CreateKey(ctx, nobodys, 2); !errors.Is(err, identity.ErrNone) {
		t.Errorf("nobody's: got %v", err)
	}
	keys, err := c.Keys(ctx, owner, "AIDA1")
	if d := cmp.Diff([]identity.AccessKey{key(1), key(2)}, keys); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if keys, err := c.Keys(ctx, owner, ""); err != nil || len(keys) != 1 || keys[0].ID != "ROOTKEY" || keys[0].User != "" {
		t.Errorf("the root user's: %+v, %v", keys, err)
	}
	// A user's key is never taken for its account's.
	if k, found, err := c.AccountKey(ctx, "default"); !found || err != nil || k.ID != "ROOTKEY" {
		t.Errorf("key of the account: %+v, %v, %v", k, found, err)
	}
	if a, err := c.Accounts(ctx); err != nil || a[0].AccessKey != "ROOTKEY" {
		t.Errorf("accounts: %+v, %v", a, err)
	}
	if err := c.SetKeyStatus(ctx, "AIDA1", "AKIA1", identity.Inactive); err != nil {
		t.Error(err)
	}
	if k, err := c.Key(ctx, "AKIA1"); err != nil || k.Status != identity.Inactive || k.User != "AIDA1" {
		t.Errorf("an inactive key: %+v, %v", k, err)
	}
	for _, other := range []string{"AIDA2", ""} {
		for what, err := range map[string]error{
			"status": c.SetKeyStatus(ctx, other, "AKIA1", identity.Active), "delete": c.DeleteKey(ctx, other, "AKIA1"),
			"status of root": c.SetKeyStatus(ctx, other, "ROOTKEY", identity.Inactive), "delete root": c.DeleteKey(ctx, other, "ROOTKEY"),
		} {
			if !errors.Is(err, identity.ErrNone) {
				t.Errorf("%s by %q: got %v, want ErrNone", what, other, err)
			}
		}
	}
	if err := c.DeleteEntity(ctx, "AIDA1"); !errors.Is(err, identity.ErrHasKeys) {
		t.Errorf("a user with keys: got %v", err)
	}
	_, id, sum := bearer.New()
	token, found, err := c.CreateBearer(ctx, catalog.BearerToken{ID: id, AccountName: "default", UserName: "user1", Sum: sum}, 0)
	if err != nil || !found || token.User != "AIDA1" {
		t.Errorf("bearer token: %+v, %v, %v", token, found, err)
	}
	if got, found, err := c.Bearer(ctx, id); err != nil || !found || got != token {
		t.Errorf("bearer token: %+v, %v, %v; want %+v", got, found, err, token)
	}
	if _, found, err := c.CreateBearer(ctx, catalog.BearerToken{ID: "x", AccountName: "default", UserName: "user9"}, 0); found || err != nil {
		t.Errorf("bearer token of nobody: %v, %v", found, err)
	}
	if err := errors.Join(c.DeleteKey(ctx, "AIDA1", "AKIA1"), c.DeleteKey(ctx, "AIDA1", "AKIA2"), c.DeleteEntity(ctx, "AIDA1")); err != nil {
		t.Error(err)
	}
	if _, found, err := c.Bearer(ctx, id); err != nil || found {
		t.Errorf("bearer token of a deleted user: %v, %v", found, err)
	}
}

// Of many that want the last place one gets it; of a user's deletion and what
// would keep it one comes to pass.
func TestIdentityRaces(t *testing.T) { onBoth(t, testIdentityRaces) }

func testIdentityRaces(t *testing.T, place string) {
	c, ctx := openIdentity(t, place), t.Context()
	if err := c.CreateEntity(ctx, user(0), 100); err != nil {
		t.Fatal(err)
	}
	const many = 8
	count := func(what string, want int64, f func(i int) error) {
		t.Helper()
		var done atomic.Int64
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				if f(i) == nil {
					done.Add(1)
				}
			})
		}
		all.Wait()
		if done.Load() != want {
			t.Errorf("%s: %d were done, want %d", what, done.Load(), want)
		}
	}
	count("users of one name", 1, func(i int) error {
		e := user(100 + i)
		e.Name = "same"
		return c.CreateEntity(ctx, e, 100)
	})
	count("keys", 2, func(i int) error {
		return c.CreateKey(ctx, identity.AccessKey{ID: fmt.Sprint(i), Account: owner, User: "AIDA0"}, 2)
	})
	count("policies", 3, func(i int) error {
		return c.PutDocument(ctx, "AIDA0", identity.Document{Name: fmt.Sprint(i), Size: 30}, 100)
	})
	for i := range many {
		e := user(10 + i)
		if err := c.CreateEntity(ctx, e, 100); err != nil {
			t.Fatal(err)
		}
		var deleted, added error
		var both sync.WaitGroup
		both.Go(func() { deleted = c.DeleteEntity(ctx, e.ID) })
		both.Go(func() {
			added = c.CreateKey(ctx, identity.AccessKey{ID: "K" + e.ID, Account: owner, User: e.ID}, 2)
		})
		both.Wait()
		if (deleted == nil) == (added == nil) {
			t.Errorf("deleted: %v; key added: %v; want one of them", deleted, added)
		}
	}
}
