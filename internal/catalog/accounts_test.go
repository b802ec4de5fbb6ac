package catalog_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"shale/internal/catalog"
	"shale/internal/identity"
)

// Another catalog on the same file, as another process has it, adds accounts
// while the first commits writes; neither fails, and each sees the other's.
func TestOpenBeside(t *testing.T) { onBoth(t, testOpenBeside) }

func testOpenBeside(t *testing.T, place string) {
	c, snap := createAt(t, place)
	beside, err := catalog.OpenBeside(t.Context(), place, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	var both sync.WaitGroup
	both.Go(func() {
		for i := range n {
			for _, err := range commit(t, c, snap, i*4, 4) {
				if err != nil {
					t.Errorf("write %d: %v", i, err)
				}
			}
		}
	})
	both.Go(func() {
		for i := range n {
			key := catalog.AccessKey{ID: fmt.Sprintf("K%d", i), Account: fmt.Sprintf("%012d", i), Secret: "s"}
			if err := beside.CreateAccount(t.Context(), fmt.Sprintf("name%d", i), key); err != nil {
				t.Errorf("account %d: %v", i, err)
			}
		}
	})
	both.Wait()
	if err := beside.Close(); err != nil {
		t.Error(err)
	}
	accounts, err := c.Accounts(t.Context())
	if err != nil || len(accounts) != 1+n || accounts[0].Name != "default" || accounts[n].Name != fmt.Sprintf("name%d", n-1) {
		t.Errorf("%d accounts, %v; want %d in the order of their making", len(accounts), err, 1+n)
	}
	if k, err := c.Key(t.Context(), "K7"); err != nil || k.Account != "000000000007" || k.User != "" || k.Status != identity.Active {
		t.Errorf("key of an account from beside: %+v %v", k, err)
	}
	err = c.CreateAccount(t.Context(), "name7", catalog.AccessKey{ID: "X", Account: "999999999999"})
	if !errors.Is(err, catalog.ErrAccountExists) {
		t.Errorf("a name twice: got %v, want ErrAccountExists", err)
	}
}

// A rotation from beside leaves one key of the root user, and all keys of
// users and of other accounts; of two at once the key of the later one.
func TestRotateAccountKey(t *testing.T) { onBoth(t, testRotateAccountKey) }

func testRotateAccountKey(t *testing.T, place string) {
	c, _ := createAt(t, place)
	ctx := t.Context()
	old, _, err := c.AccountKey(ctx, "default")
	if err != nil {
		t.Fatal(err)
	}
	alice := identity.Entity{Kind: identity.User, ID: "AIDA1", Account: old.Account, Path: "/", Name: "alice"}
	hers := identity.AccessKey{ID: "HERS", Account: old.Account, User: alice.ID, Secret: "s", Status: identity.Active}
	err = errors.Join(c.CreateEntity(ctx, alice, 10), c.CreateKey(ctx, hers, 2),
		c.CreateAccount(ctx, "other", catalog.AccessKey{ID: "OTHER", Account: "000000000009", Secret: "s"}))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := catalog.OpenBeside(ctx, place, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	if err := beside.RotateAccountKey(ctx, "nobody", "NEW", "s"); !errors.Is(err, catalog.ErrNoAccount) {
		t.Errorf("no account: got %v, want ErrNoAccount", err)
	}
	// The transaction is whole: a key that cannot be made leaves the old one.
	if err := beside.RotateAccountKey(ctx, "default", "OTHER", "s"); err == nil {
		t.Error("the ID of another account's key was taken")
	}
	if k, err := c.Key(ctx, old.ID); err != nil || k.Secret != old.Secret {
		t.Errorf("the old key, after a rotation that failed: %+v, %v", k, err)
	}
	var both sync.WaitGroup
	for i, from := range []*catalog.Catalog{c, beside} {
		both.Go(func() {
			if err := from.RotateAccountKey(ctx, "default", fmt.Sprintf("NEW%d", i), fmt.Sprintf("secret %d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	keys, err := c.Keys(ctx, old.Account, "")
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys of the root user, %v; want one", len(keys), err)
	}
	k, found, err := c.AccountKey(ctx, "default")
	if err != nil || !found || k.Account != old.Account || k.ID != keys[0].ID || k.Secret != "secret "+k.ID[3:] {
		t.Errorf("the key of the account: %+v, %v, %v", k, found, err)
	}
	if _, err := c.Key(ctx, old.ID); !errors.Is(err, identity.ErrNone) {
		t.Errorf("the old key: got %v, want ErrNone", err)
	}
	for _, id := range []string{"HERS", "OTHER"} {
		if _, err := c.Key(ctx, id); err != nil {
			t.Errorf("key %s: %v", id, err)
		}
	}
}

// What is opened beside is never made, and never another's format.
func TestOpenBesideRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "catalog.db")
	if _, err := catalog.OpenBeside(t.Context(), path, time.Now); !errors.Is(err, catalog.ErrNone) {
		t.Errorf("no file: got %v, want ErrNone", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", []byte("a log"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.OpenBeside(t.Context(), path, time.Now); !errors.Is(err, catalog.ErrNone) {
		t.Errorf("an empty file: got %v, want ErrNone", err)
	}
	if b, err := os.ReadFile(path + "-wal"); string(b) != "a log" {
		t.Errorf("the log was touched: %q, %v", b, err)
	}

	_, path, _ = create(t)
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, change := range []struct {
		statement string
		target    any
	}{
		{`INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, 1)`, new(*catalog.NewerError)},
		{`DELETE FROM goose_db_version WHERE version_id > 1`, new(*catalog.OlderError)},
	} {
		if _, err := db.ExecContext(t.Context(), change.statement); err != nil {
			t.Fatal(err)
		}
		if _, err := catalog.OpenBeside(t.Context(), path, time.Now); !errors.As(err, change.target) {
			t.Errorf("%s: got %v", change.statement, err)
		}
	}
}

// A server whose database another process wrote to last checkpoints it like
// any other, at its end and in between.
func TestCheckpointAfterAnother(t *testing.T) {
	c, path, snap := create(t)
	for i := range 3 {
		beside, err := catalog.OpenBeside(t.Context(), path, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, c, snap, i*2000, 2000) // more than the log holds before it is checkpointed
		err = beside.CreateAccount(t.Context(), fmt.Sprint(i), catalog.AccessKey{ID: fmt.Sprint(i), Account: fmt.Sprint(i)})
		if err := errors.Join(err, beside.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes of log are left", info.Size())
	}
	accounts, err := open(t, path).Accounts(t.Context())
	if err != nil || len(accounts) != 4 {
		t.Errorf("%d accounts, %v; want 4", len(accounts), err)
	}
}
