package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"shale/internal/block"
	"shale/internal/domain"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/kms/kmstest"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

var caller = kms.Caller{Account: "111122223333", Region: "us-east-1"}

type fixture struct {
	testing.TB
	*keyring.Keyring
	kms  *kmstest.Provider
	dir  string
	disk *errorfs.FS
	log  bytes.Buffer
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{TB: t, kms: kmstest.New(), dir: t.TempDir()}
	f.disk = errorfs.Wrap(vfs.Dir(f.dir))
	f.open()
	return f
}

// open opens the folder as a start does.
func (f *fixture) open() {
	f.Helper()
	var err error
	if f.Keyring, err = keyring.Open(f.disk, f.kms, slog.New(slog.NewTextHandler(&f.log, nil))); err != nil {
		f.Fatal(err)
	}
}

// domain gives the domain of a KMS key.
func (f *fixture) domain(arn string) *domain.Key {
	f.Helper()
	got, key, err := f.Domain(f.Context(), caller, arn)
	if err != nil || got != arn {
		f.Fatalf("Domain: got %s, %v", got, err)
	}
	return key
}

// files are the paths of all files.
func (f *fixture) files() []string {
	f.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		f.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(f.dir, e.Name()))
	}
	return paths
}

func refusal(err error) kms.Code {
	var e *kms.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// A KMS key has one domain, however often and by whatever name it is asked
// for, also after a restart; two keys have two.
func TestDomain(t *testing.T) {
	f := newFixture(t)
	arn, other := f.kms.Create(caller.Account, caller.Region), f.kms.Create(caller.Account, caller.Region)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { f.domain(arn) })
	}
	wg.Wait()
	key := f.domain(arn)
	if key.Number() == domain.Unencrypted || f.domain(other).Number() == key.Number() {
		t.Error("two keys share a domain")
	}
	if n := len(f.files()); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
	for _, path := range f.files() {
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
		}
	}
	f.open()
	again, err := f.Key(t.Context(), caller, key.Number())
	if err != nil {
		t.Fatal(err)
	}
	if again.ID(block.ZeroDigest) != key.ID(block.ZeroDigest) || f.domain(arn).Number() != key.Number() {
		t.Error("after a restart the domain is another")
	}
	alias, key, err := f.Domain(t.Context(), caller, kms.DefaultKeyAlias)
	if err != nil || key == nil || !strings.Contains(alias, ":key/") {
		t.Errorf("by alias: got %q, %v", alias, err)
	}
	if strings.Contains(f.log.String(), "arn:") {
		t.Errorf("a key's ARN is in the log:\n%s", &f.log)
	}
}

// The KMS is asked each time, whether the key is in memory or not, and a key
// that nobody can use is forgotten.
func TestEveryUseIsAsked(t *testing.T) {
	f := newFixture(t)
	arn := f.kms.Create(caller.Account, caller.Region)
	n := f.domain(arn).Number()
	use := func(want kms.Code) {
		t.Helper()
		key, err := f.Key(t.Context(), caller, n, kms.DescribeKey)
		if refusal(err) != want || (key == nil) != (err != nil) {
			t.Errorf("Key: got %v, want %q", err, want)
		}
	}
	f.kms.Deny(arn, caller.Account, kms.Decrypt)
	use(kms.AccessDenied)
	f.kms.Deny(arn, caller.Account, kms.DescribeKey)
	use(kms.AccessDenied)
	f.kms.Deny(arn, caller.Account)
	if f.Cached(n) == nil {
		t.Error("one who is refused makes the key forgotten")
	}
	for _, state := range []struct {
		change func(string)
		want   kms.Code
	}{{f.kms.Disable, kms.Disabled}, {f.kms.ScheduleDeletion, kms.InvalidState}} {
		state.change(arn)
		use(state.want)
		if f.Cached(n) != nil {
			t.Errorf("%s: the key is still in memory", state.want)
		}
		f.kms.Enable(arn)
		use("")
		if f.Cached(n) == nil {
			t.Error("enabled again, the key is not in memory")
		}
	}
	if _, err := f.Check(t.Context(), kms.Caller{Account: "444455556666", Region: caller.Region}, arn, kms.DescribeKey); refusal(err) != kms.AccessDenied {
		t.Errorf("Check for a stranger: got %v", err)
	}
	f.kms.Destroy(arn)
	use(kms.NotFound)
	f.open()
	use(kms.NotFound)
}

// A key that nobody can use leaves the memory also if nobody asks for it.
func TestForget(t *testing.T) {
	f := newFixture(t)
	var numbers []domain.Number
	for range 4 {
		arn := f.kms.Create(caller.Account, caller.Region)
		numbers = append(numbers, f.domain(arn).Number())
		switch len(numbers) {
		case 1:
			f.kms.Destroy(arn)
		case 2:
			f.kms.Disable(arn)
		case 3:
			f.kms.Deny(arn, caller.Account, kms.Decrypt) // others may be allowed to
		}
	}
	f.Forget(t.Context())
	for i, n := range numbers {
		if got, want := f.Cached(n) != nil, i >= 2; got != want {
			t.Errorf("key %d in memory: %v, want %v", i, got, want)
		}
	}
}

// distant is a KMS that tells only when it decrypts whether that is allowed.
type distant struct {
	*kmstest.Provider
	believed time.Duration
}

func (d distant) Key(ctx context.Context, c kms.Caller, name string, _ ...kms.Action) (kms.Key, error) {
	return d.Provider.Key(ctx, c, name, kms.DescribeKey)
}

func (d distant) Believed() time.Duration { return d.believed }

// A key in memory is given out no longer than a KMS elsewhere allows its use.
func TestDecryptionTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := distant{kmstest.New(), 5 * time.Second}
		k, err := keyring.Open(vfs.Dir(t.TempDir()), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		arn := p.Create(caller.Account, caller.Region)
		_, key, err := k.Domain(t.Context(), caller, arn)
		if err != nil {
			t.Fatal(err)
		}
		use := func(want kms.Code) {
			t.Helper()
			if _, err := k.Key(t.Context(), caller, key.Number()); refusal(err) != want {
				t.Errorf("Key: got %v, want %q", err, want)
			}
		}
		time.Sleep(p.believed)
		use("")
		p.Deny(arn, caller.Account, kms.Decrypt)
		use("") // believed
		time.Sleep(p.believed)
		for range 2 {
			use(kms.AccessDenied)
		}
		if k.Cached(key.Number()) != nil {
			t.Error("the key is still in memory")
		}
		p.Deny(arn, caller.Account)
		use("")
	})
}

// A domain whose file is missing or damaged is lost until the file is back;
// the start, and all other domains, do not mind. Its number is not given away.
func TestLostDomain(t *testing.T) {
	f := newFixture(t)
	arn, other := f.kms.Create(caller.Account, caller.Region), f.kms.Create(caller.Account, caller.Region)
	n, sound := f.domain(arn).Number(), f.domain(other).Number()
	path := filepath.Join(f.dir, n.String())
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f.open()
		if _, err := f.Key(t.Context(), caller, n); !errors.Is(err, domain.ErrLost) {
			t.Fatalf("byte %d changed: got %v, want ErrLost", at, err)
		}
		if _, err := f.Key(t.Context(), caller, sound); err != nil {
			t.Fatalf("the other domain: %v", err)
		}
	}
	if !strings.Contains(f.log.String(), n.String()) {
		t.Error("the log does not name the damaged domain")
	}
	if got := f.domain(arn).Number(); got == n {
		t.Error("the number of a damaged domain is used again")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Key(t.Context(), caller, n); err != nil {
		t.Errorf("put back: %v", err)
	}
	// A file under another's name, and a key that was wrapped for another
	// domain, are no better.
	if err := os.Rename(path, filepath.Join(f.dir, "00000001")); err != nil {
		t.Fatal(err)
	}
	f.open()
	for _, n := range []domain.Number{1, n} {
		if _, err := f.Key(t.Context(), caller, n); !errors.Is(err, domain.ErrLost) {
			t.Errorf("domain %v: got %v, want ErrLost", n, err)
		}
	}
}

// A domain is on the disk before anybody uses it, or is not made.
func TestDomainThatCannotBeWritten(t *testing.T) {
	for _, op := range []errorfs.Op{errorfs.Create, errorfs.Write, errorfs.Sync, errorfs.Rename, errorfs.SyncDir} {
		t.Run(string(op), func(t *testing.T) {
			f := newFixture(t)
			arn := f.kms.Create(caller.Account, caller.Region)
			f.disk.Fail(func(o errorfs.Op, _ string) error {
				if o == op {
					return syscall.ENOSPC
				}
				return nil
			})
			if _, key, err := f.Domain(t.Context(), caller, arn); !errors.Is(err, syscall.ENOSPC) || key != nil {
				t.Errorf("Domain: got %v, %v, want ENOSPC", key, err)
			}
			f.disk.Fail(nil)
			n := f.domain(arn).Number()
			f.open()
			if _, err := f.Key(t.Context(), caller, n); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}

// What a crash left of a file that was being written is removed.
func TestUnfinishedDomain(t *testing.T) {
	f := newFixture(t)
	if err := os.WriteFile(filepath.Join(f.dir, "12345678"+vfs.Staged), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.open()
	if files := f.files(); len(files) != 0 {
		t.Errorf("left over: %v", files)
	}
}
