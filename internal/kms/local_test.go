package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shale/internal/kms"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

var (
	alice = kms.Caller{Account: "111122223333", Region: "us-east-1"}
	bob   = kms.Caller{Account: "444455556666", Region: "us-east-1"}
)

// A folder is one of keys, and what a test opens on it.
type folder struct {
	path string
	fs   *errorfs.FS
	now  time.Time
	root kms.Root
	log  bytes.Buffer
	*kms.Local
}

func rootOf(t testing.TB, letter string) kms.Root {
	t.Helper()
	root, err := kms.NewRoot(bytes.Repeat([]byte(letter), kms.RootSize))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newFolder(t testing.TB) *folder {
	t.Helper()
	f := &folder{path: t.TempDir(), now: time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC), root: rootOf(t, "r")}
	f.fs = errorfs.Wrap(vfs.Dir(f.path))
	f.reopen(t)
	return f
}

func (f *folder) open() (err error) {
	f.Local, err = kms.OpenLocal(kms.LocalOptions{
		FS: f.fs, Root: f.root, Now: func() time.Time { return f.now },
		Logger: slog.New(slog.NewTextHandler(&f.log, nil)),
	})
	return err
}

func (f *folder) reopen(t testing.TB) {
	t.Helper()
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) create(t testing.TB, r kms.CreateRequest) kms.Metadata {
	t.Helper()
	m, err := f.CreateKey(t.Context(), alice, r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// content gives all bytes of all files in the folder.
func (f *folder) content(t testing.TB) []byte {
	t.Helper()
	entries, err := os.ReadDir(f.path)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(f.path, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// wrappedIn gives the wrapped key of a key's file.
func (f *folder) wrappedIn(t testing.TB, id string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.path, id))
	if err != nil {
		t.Fatal(err)
	}
	return b[32:92]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode fails unless err is an *Error of the code with the text; an empty
// text stands for any.
func wantCode(t testing.TB, err error, code kms.Code, text string) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok || e.Code != code || text != "" && e.Text != text {
		t.Errorf("got %v, want %s: %s", err, code, text)
	}
}

var volume = map[string]string{"aws:ebs:id": "vol-1", "b": "2"}

func TestDataKey(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	d, err := f.GenerateDataKey(t.Context(), alice, k.ARN, volume)
	must(t, err)
	f.reopen(t)
	got, err := f.Decrypt(t.Context(), alice, k.ARN, d.Wrapped, map[string]string{"b": "2", "aws:ebs:id": "vol-1"})
	must(t, err)
	if got != d.Plaintext {
		t.Error("another data key came back")
	}
	for name, encryption := range map[string]map[string]string{
		"none":          nil,
		"part":          {"aws:ebs:id": "vol-1"},
		"other value":   {"aws:ebs:id": "vol-2", "b": "2"},
		"other name":    {"aws:ebs:iD": "vol-1", "b": "2"},
		"other borders": {"aws:ebs:i": "dvol-1", "b": "2"},
	} {
		if _, err := f.Decrypt(t.Context(), alice, k.ARN, d.Wrapped, encryption); err == nil {
			t.Errorf("%s: decrypted", name)
		} else {
			wantCode(t, err, kms.InvalidCiphertext, "")
		}
	}
	for bit := range len(d.Wrapped) * 8 {
		b := bytes.Clone(d.Wrapped)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := f.Decrypt(t.Context(), alice, k.ARN, b, volume); err == nil {
			t.Fatalf("bit %d flipped: decrypted", bit)
		}
	}
	other := f.create(t, kms.CreateRequest{})
	_, err = f.Decrypt(t.Context(), alice, other.ARN, d.Wrapped, volume)
	wantCode(t, err, kms.IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
}

// What each state lets a caller do. Source: AWS KMS Developer Guide, Key states.
func TestStates(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	var blob []byte
	ops := []struct {
		name string
		do   func(k kms.Metadata) error
		// What is refused, by state.
		disabled, pending kms.Code
	}{
		{"DescribeKey", func(k kms.Metadata) error { _, err := f.Describe(ctx, alice, k.ID); return err }, "", ""},
		{"GenerateDataKey", func(k kms.Metadata) error { _, err := f.GenerateDataKey(ctx, alice, k.ARN, nil); return err }, kms.Disabled, kms.InvalidState},
		{"Decrypt", func(k kms.Metadata) error { _, err := f.Decrypt(ctx, alice, k.ARN, blob, nil); return err }, kms.Disabled, kms.InvalidState},
		{"Key", func(k kms.Metadata) error { _, err := f.Key(ctx, alice, k.ARN); return err }, "", ""},
		{"Key for describing", func(k kms.Metadata) error { _, err := f.Key(ctx, alice, k.ARN, kms.DescribeKey); return err }, "", ""},
		{"Key for use", func(k kms.Metadata) error {
			_, err := f.Key(ctx, alice, k.ARN, kms.DescribeKey, kms.GenerateDataKey)
			return err
		}, kms.Disabled, kms.InvalidState},
		{"EnableKey", func(k kms.Metadata) error { return f.EnableKey(ctx, alice, k.ID) }, "", kms.InvalidState},
		{"DisableKey", func(k kms.Metadata) error { return f.DisableKey(ctx, alice, k.ID) }, "", kms.InvalidState},
		{"ScheduleKeyDeletion", func(k kms.Metadata) error { _, err := f.ScheduleDeletion(ctx, alice, k.ID, nil); return err }, "", kms.InvalidState},
		{"CancelKeyDeletion", func(k kms.Metadata) error { _, err := f.CancelDeletion(ctx, alice, k.ID); return err }, kms.InvalidState, ""},
		{"CreateAlias", func(k kms.Metadata) error { return f.CreateAlias(ctx, alice, "alias/"+k.ID, k.ID) }, "", kms.InvalidState},
		{"PutKeyPolicy", func(k kms.Metadata) error { return f.PutPolicy(ctx, alice, k.ID, everyone, false) }, "", ""},
		{"GetKeyPolicy", func(k kms.Metadata) error { _, err := f.Policy(ctx, alice, k.ID); return err }, "", ""},
		{"TagResource", func(k kms.Metadata) error { return f.AddTags(ctx, alice, k.ID, []kms.Tag{{Key: "a"}}) }, "", kms.InvalidState},
		{"UntagResource", func(k kms.Metadata) error { return f.RemoveTags(ctx, alice, k.ID, []string{"a"}) }, "", kms.InvalidState},
		{"ListResourceTags", func(k kms.Metadata) error { _, err := f.Tags(ctx, alice, k.ID); return err }, "", ""},
		{"UpdateKeyDescription", func(k kms.Metadata) error { return f.UpdateDescription(ctx, alice, k.ID, "d") }, "", kms.InvalidState},
		{"GetKeyRotationStatus", func(k kms.Metadata) error { _, err := f.Rotating(ctx, alice, k.ID); return err }, "", ""},
	}
	for _, op := range ops {
		for state, want := range map[kms.State]kms.Code{kms.DisabledState: op.disabled, kms.PendingDeletion: op.pending} {
			k := f.create(t, kms.CreateRequest{})
			d, err := f.GenerateDataKey(ctx, alice, k.ARN, nil)
			must(t, err)
			blob = d.Wrapped
			text := k.ARN + " is disabled."
			if state == kms.DisabledState {
				must(t, f.DisableKey(ctx, alice, k.ID))
			} else {
				_, err := f.ScheduleDeletion(ctx, alice, k.ID, nil)
				must(t, err)
				text = k.ARN + " is pending deletion."
			}
			if op.name == "CancelKeyDeletion" {
				text = k.ARN + " is not pending deletion."
			}
			switch err := op.do(k); {
			case want == "" && err != nil:
				t.Errorf("%s, %s: %v", op.name, state, err)
			case want != "":
				wantCode(t, err, want, text)
			}
		}
	}
}

func TestSurvivesRestart(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{Description: "d", Tags: []kms.Tag{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}}, Policy: everyone})
	must(t, f.CreateAlias(ctx, alice, "alias/disks", k.ARN))
	doomed := f.create(t, kms.CreateRequest{})
	before, err := f.ScheduleDeletion(ctx, alice, doomed.ID, new(int64(7)))
	must(t, err)
	standard, err := f.Key(ctx, alice, kms.DefaultKeyAlias)
	must(t, err)

	f.reopen(t)
	got, err := f.Describe(ctx, alice, "alias/disks")
	must(t, err)
	if got != k {
		t.Errorf("got %+v, want %+v", got, k)
	}
	if got, err := f.Describe(ctx, alice, doomed.ID); err != nil || got != before {
		t.Errorf("pending deletion: got %+v, %v; want %+v", got, err, before)
	}
	if got, err := f.Key(ctx, alice, kms.DefaultKeyAlias); err != nil || got != standard {
		t.Errorf("default key: got %+v, %v; want %+v", got, err, standard)
	}
	tags, err := f.Tags(ctx, alice, k.ID)
	must(t, err)
	if fmt.Sprint(tags) != "[{a 1} {b 2}]" {
		t.Errorf("tags %v", tags)
	}
	if policy, err := f.Policy(ctx, alice, k.ID); err != nil || policy != everyone {
		t.Errorf("policy %q, %v", policy, err)
	}
	for _, e := range must2(os.ReadDir(f.path)) {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A key whose time is over is gone for everybody at that moment, and after the
// sweep there is nothing of its material in the folder.
func TestDeletion(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	must(t, f.CreateAlias(ctx, alice, "alias/doomed", k.ID))
	d, err := f.GenerateDataKey(ctx, alice, k.ARN, nil)
	must(t, err)
	wrapped := f.wrappedIn(t, k.ID)
	if !bytes.Contains(f.content(t), wrapped) {
		t.Fatal("the test does not find what it looks for")
	}
	_, err = f.ScheduleDeletion(ctx, alice, k.ID, new(int64(7)))
	must(t, err)
	must(t, f.Sweep(ctx))
	f.now = f.now.AddDate(0, 0, 7).Add(-time.Second)
	must(t, f.Sweep(ctx))
	if _, err := f.Describe(ctx, alice, k.ID); err != nil {
		t.Fatalf("a second before: %v", err)
	}
	f.now = f.now.Add(time.Second)
	check := func() {
		t.Helper()
		_, err := f.Describe(ctx, alice, k.ID)
		wantCode(t, err, kms.NotFound, "Key '"+k.ARN+"' does not exist")
		_, err = f.CancelDeletion(ctx, alice, k.ID)
		wantCode(t, err, kms.NotFound, "")
		_, err = f.Decrypt(ctx, alice, k.ARN, d.Wrapped, nil)
		wantCode(t, err, kms.NotFound, "")
		_, err = f.Describe(ctx, alice, "alias/doomed")
		wantCode(t, err, kms.NotFound, "Alias arn:aws:kms:us-east-1:111122223333:alias/doomed is not found.")
		_, err = f.Open(ctx, alice, d.Wrapped, kms.Request{})
		wantCode(t, err, kms.AccessDenied, "")
		if keys, err := f.Keys(ctx, alice); err != nil || len(keys) != 0 {
			t.Errorf("keys %v", keys)
		}
		if aliases, err := f.Aliases(ctx, alice, ""); err != nil || len(aliases) != 0 {
			t.Errorf("aliases %v, %v", aliases, err)
		}
	}
	check()
	must(t, f.Sweep(ctx))
	check()
	if bytes.Contains(f.content(t), wrapped) {
		t.Error("the wrapped key is still in the folder")
	}
	f.reopen(t)
	check()
	if log := f.log.String(); !strings.Contains(log, "KMS key deleted") || strings.Contains(log, "cannot be used") {
		t.Errorf("log:\n%s", log)
	}
}

// The old file of a key that is changed is overwritten before the file system
// frees it.
func TestChangesLeaveNoCopy(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	held, err := os.Open(filepath.Join(f.path, k.ID))
	must(t, err)
	defer held.Close()
	must(t, f.DisableKey(t.Context(), alice, k.ID))
	b := make([]byte, 92)
	if _, err := held.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b[32:], make([]byte, 60)) {
		t.Error("the old file still has the wrapped key")
	}
}

// A deletion that was interrupted between its two steps is finished later.
func TestDeletionInterrupted(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	_, err := f.ScheduleDeletion(ctx, alice, k.ID, nil)
	must(t, err)
	f.now = f.now.AddDate(0, 0, 30)
	f.fs.Fail(func(op errorfs.Op, _ string) error {
		if op == errorfs.Create {
			return errors.New("no")
		}
		return nil
	})
	if err := f.Sweep(ctx); err == nil {
		t.Fatal("the sweep did not tell")
	}
	f.fs.Fail(nil)
	if got := f.wrappedIn(t, k.ID); !bytes.Equal(got, make([]byte, 60)) {
		t.Fatal("the wrapped key is still there")
	}
	f.now = f.now.AddDate(0, 0, -30) // and no clock brings it back
	for range 2 {
		_, err = f.Describe(ctx, alice, k.ID)
		wantCode(t, err, kms.NotFound, "")
		_, err = f.CancelDeletion(ctx, alice, k.ID)
		wantCode(t, err, kms.NotFound, "")
		f.reopen(t)
	}
	must(t, f.Sweep(ctx))
	f.reopen(t)
	if f.log.Len() > 0 && strings.Contains(f.log.String(), "cannot be used") {
		t.Errorf("log:\n%s", f.log.String())
	}
}

// Readers and changes at once, for the race detector; a key is one thing at each
// moment.
func TestConcurrently(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	d := must2(f.GenerateDataKey(t.Context(), alice, k.ARN, nil))
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := f.Decrypt(t.Context(), alice, k.ARN, d.Wrapped, nil); err == nil && got != d.Plaintext {
					t.Error("another data key came back")
				} else if err != nil {
					wantCode(t, err, kms.Disabled, "")
				}
				_, _ = f.Keys(t.Context(), alice)
				must2(f.Aliases(t.Context(), alice, ""))
				must2(f.Key(t.Context(), bob, kms.DefaultKeyAlias))
			}
		})
	}
	var changes sync.WaitGroup
	for i := range 3 {
		changes.Go(func() {
			for range 5 {
				must2(0, f.DisableKey(t.Context(), alice, k.ID))
				must2(0, f.EnableKey(t.Context(), alice, k.ID))
				name := fmt.Sprintf("alias/%d", i)
				must2(0, f.CreateAlias(t.Context(), alice, name, k.ID))
				must2(0, f.Sweep(t.Context()))
				must2(0, f.DeleteAlias(t.Context(), alice, name))
			}
		})
	}
	changes.Wait()
	close(stop)
	all.Wait()
	if keys, err := f.Keys(t.Context(), bob); err != nil || len(keys) != 1 {
		t.Errorf("default keys %v", keys)
	}
}

// The n-th call of the disk fails, for each n: what was answered holds, what
// was refused did or did not take place as a whole, and nothing else changed.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for n := 1; ; n++ {
		f := newFolder(t)
		old := f.create(t, kms.CreateRequest{Description: "old"})
		d := must2(f.GenerateDataKey(ctx, alice, old.ARN, nil))
		calls := 0
		f.fs.Fail(func(errorfs.Op, string) error {
			calls++
			if calls == n {
				return errors.New("disk")
			}
			return nil
		})
		// Each step with whether it was acknowledged.
		created, createErr := f.CreateKey(ctx, alice, kms.CreateRequest{Description: "new"})
		disableErr := f.DisableKey(ctx, alice, old.ID)
		aliasErr := f.CreateAlias(ctx, alice, "alias/a", old.ID)
		enableErr := f.EnableKey(ctx, alice, old.ID)
		failed := calls >= n
		f.fs.Fail(nil)
		for range 2 { // before and after a restart
			if createErr == nil {
				if m, err := f.Describe(ctx, alice, created.ID); err != nil || m.Description != "new" {
					t.Errorf("call %d: the new key is %+v, %v", n, m, err)
				}
			}
			if aliasErr == nil {
				if m, err := f.Describe(ctx, alice, "alias/a"); err != nil || m.ID != old.ID {
					t.Errorf("call %d: the alias is of %+v, %v", n, m, err)
				}
			}
			m, err := f.Describe(ctx, alice, old.ID)
			must(t, err)
			if enableErr == nil && m.State != kms.Enabled || enableErr != nil && disableErr == nil && m.State == kms.PendingDeletion {
				t.Errorf("call %d: the old key is %s; disable %v, enable %v", n, m.State, disableErr, enableErr)
			}
			must(t, f.EnableKey(ctx, alice, old.ID))
			if got, err := f.Decrypt(ctx, alice, old.ARN, d.Wrapped, nil); err != nil || got != d.Plaintext {
				t.Errorf("call %d: decrypt: %v", n, err)
			}
			f.reopen(t)
		}
		if strings.Contains(f.log.String(), "cannot be used") {
			t.Errorf("call %d: %s", n, f.log.String())
		}
		if !failed {
			return
		}
	}
}

// Each flipped bit of a key's file is noticed, costs that key alone, and is
// said in the log. Of the JSON one bit a byte is tried: they are under one sum.
func TestDamagedKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFolder(t)
	k, sound := f.create(t, kms.CreateRequest{}), f.create(t, kms.CreateRequest{})
	path := filepath.Join(f.path, k.ID)
	b := must2(os.ReadFile(path))
	for bit := range len(b) * 8 {
		if bit >= 96*8 && bit%8 != bit/8%8 {
			continue
		}
		damaged := bytes.Clone(b)
		damaged[bit/8] ^= 1 << (bit % 8)
		must(t, os.WriteFile(path, damaged, 0o600))
		f.log.Reset()
		f.reopen(t)
		_, err := f.GenerateDataKey(ctx, alice, k.ARN, nil)
		if e, ok := errors.AsType[*kms.Error](err); err == nil || ok {
			t.Fatalf("bit %d: got %v, want an error that is none of KMS's", bit, e)
		}
		if !strings.Contains(f.log.String(), k.ID) {
			t.Fatalf("bit %d: the log says %q", bit, f.log.String())
		}
		if _, err := f.GenerateDataKey(ctx, alice, sound.ARN, nil); err != nil {
			t.Fatalf("bit %d: the other key: %v", bit, err)
		}
	}
	for _, short := range [][]byte{nil, b[:50], b[:len(b)-1]} {
		must(t, os.WriteFile(path, short, 0o600))
		f.reopen(t)
		if _, err := f.Describe(ctx, alice, k.ID); err == nil {
			t.Errorf("%d bytes: described", len(short))
		}
	}
}

// A damaged default key is not replaced by another one.
func TestDamagedDefaultKey(t *testing.T) {
	f := newFolder(t)
	k := must2(f.Key(t.Context(), alice, kms.DefaultKeyAlias))
	must(t, os.WriteFile(filepath.Join(f.path, k.ID), []byte("damaged"), 0o600))
	f.reopen(t)
	if again, err := f.Key(t.Context(), alice, kms.DefaultKeyAlias); err == nil {
		t.Errorf("got %+v", again)
	}
}

func TestDamagedAliases(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	must(t, f.CreateAlias(ctx, alice, "alias/a", k.ID))
	path := filepath.Join(f.path, "aliases")
	before := must2(os.ReadFile(path))
	must(t, os.WriteFile(path, before[:60], 0o600))
	f.reopen(t)
	if _, err := f.Describe(ctx, alice, "alias/a"); err == nil {
		t.Error("described by a lost alias")
	}
	if err := f.CreateAlias(ctx, alice, "alias/b", k.ID); err == nil {
		t.Error("lost aliases were overwritten")
	}
	if _, err := f.Describe(ctx, alice, k.ID); err != nil {
		t.Error(err)
	}
	must(t, os.WriteFile(path, before, 0o600))
	f.reopen(t)
	if _, err := f.Describe(ctx, alice, "alias/a"); err != nil {
		t.Error(err)
	}
}

func TestWrongRoot(t *testing.T) {
	f := newFolder(t) // a check value is there before there are keys
	f.root = rootOf(t, "x")
	if err := f.open(); err == nil || !strings.Contains(err.Error(), "not the root key") {
		t.Errorf("without keys: %v", err)
	}
	f.root = rootOf(t, "r")
	f.reopen(t)
	f.create(t, kms.CreateRequest{})
	must(t, os.Remove(filepath.Join(f.path, "roots")))
	if err := f.open(); err == nil {
		t.Error("keys without the file of the roots were taken")
	}
}

// What a crash left half-written is removed, and what is not ours stays.
func TestLeftovers(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	must(t, os.WriteFile(filepath.Join(f.path, k.ID+vfs.Staged), f.wrappedIn(t, k.ID), 0o600))
	must(t, os.WriteFile(filepath.Join(f.path, "notes.txt"), []byte("mine"), 0o600))
	f.reopen(t)
	if _, err := os.Stat(filepath.Join(f.path, k.ID+vfs.Staged)); !os.IsNotExist(err) {
		t.Errorf("the leftover: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.path, "notes.txt")); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	must(t, f.CreateAlias(ctx, alice, "alias/a", k.ID))
	const none = "00000000-0000-4000-8000-000000000000"
	for _, tt := range []struct {
		name   string
		caller kms.Caller
		code   kms.Code
		text   string
	}{
		{k.ID, alice, "", ""},
		{k.ARN, alice, "", ""},
		{"alias/a", alice, "", ""},
		{"arn:aws:kms:us-east-1:111122223333:alias/a", alice, "", ""},
		{none, alice, kms.NotFound, "Key 'arn:aws:kms:us-east-1:111122223333:key/" + none + "' does not exist"},
		{"key", alice, kms.NotFound, "Invalid keyId 'key'"},
		{"", alice, kms.NotFound, "Invalid keyId ''"},
		{"alias/b", alice, kms.NotFound, "Alias arn:aws:kms:us-east-1:111122223333:alias/b is not found."},
		{"alias/aws/s3", alice, kms.NotFound, ""},
		{"arn:aws:kms:eu-west-3:111122223333:key/" + k.ID, alice, kms.NotFound, "Invalid arn eu-west-3"},
		{"arn:aws:s3:::bucket", alice, kms.InvalidARN, ""},
		{"arn:aws:kms:us-east-1:111122223333:" + k.ID, alice, kms.InvalidARN, ""},
		// Another account learns nothing of what is there.
		{k.ID, bob, kms.NotFound, "Key 'arn:aws:kms:us-east-1:444455556666:key/" + k.ID + "' does not exist"},
		{k.ARN, bob, kms.AccessDenied, "User: arn:aws:iam::444455556666:root is not authorized to perform: kms:DescribeKey on resource: " + k.ARN +
			" because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"},
		{"arn:aws:kms:us-east-1:111122223333:key/" + none, bob, kms.AccessDenied, ""},
		{"arn:aws:kms:us-east-1:111122223333:alias/a", bob, kms.AccessDenied, ""},
		{"arn:aws:kms:us-east-1:111122223333:alias/b", bob, kms.AccessDenied, ""},
		{"arn:aws:kms:us-east-1:111122223333:alias/aws/ebs", bob, kms.AccessDenied, ""},
	} {
		_, err := f.Describe(ctx, tt.caller, tt.name)
		if tt.code == "" {
			must(t, err)
			continue
		}
		wantCode(t, err, tt.code, tt.text)
	}
	if keys, err := f.Keys(ctx, alice); err != nil || len(keys) != 1 {
		t.Errorf("somebody else's question made a default key: %v", keys)
	}
}

// The default key is its account's own, and nobody changes it.
func TestDefaultKey(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := must2(f.Key(ctx, alice, kms.DefaultKeyAlias, kms.GenerateDataKey, kms.Decrypt, kms.ReEncryptFrom, kms.ReEncryptTo, kms.Encrypt))
	if k.Manager != kms.AWS {
		t.Errorf("managed by %s", k.Manager)
	}
	if other := must2(f.Key(ctx, bob, kms.DefaultKeyAlias)); other.ARN == k.ARN {
		t.Error("two accounts have one default key")
	}
	for name, err := range map[string]error{
		"disable": f.DisableKey(ctx, alice, k.ID),
		"policy":  f.PutPolicy(ctx, alice, k.ID, everyone, true),
		"tag":     f.AddTags(ctx, alice, k.ID, []kms.Tag{{Key: "a"}}),
		"alias":   f.CreateAlias(ctx, alice, "alias/mine", k.ID),
		"delete":  second(f.ScheduleDeletion(ctx, alice, k.ID, nil)),
		"abroad":  second(f.Key(ctx, bob, k.ARN)),
	} {
		if err == nil {
			t.Errorf("%s: done", name)
		} else {
			wantCode(t, err, kms.AccessDenied, "")
		}
	}
	wantCode(t, f.DeleteAlias(ctx, alice, kms.DefaultKeyAlias), kms.InvalidAliasName, "")
}

func second[T any](_ T, err error) error { return err }

// Users may be allowed or denied by their account; a key is used across accounts
// only by its ARN and only if its policy says so.
func TestAbroad(t *testing.T) {
	ctx := t.Context()
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{Policy: policyOf(
		`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`,
		`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":["kms:GenerateDataKey*","kms:Decrypt","kms:PutKeyPolicy"],"Resource":"*"}`,
	)})
	d, err := f.GenerateDataKey(ctx, bob, k.ARN, nil)
	must(t, err)
	if got, err := f.Decrypt(ctx, bob, k.ARN, d.Wrapped, nil); err != nil || got != d.Plaintext {
		t.Errorf("decrypt: %v", err)
	}
	if _, err := f.Open(ctx, bob, d.Wrapped, kms.Request{}); err != nil {
		t.Errorf("decrypt without a name: %v", err)
	}
	_, err = f.Key(ctx, bob, k.ARN, kms.GenerateDataKey, kms.Encrypt)
	wantCode(t, err, kms.AccessDenied, "")
	// Whatever the policy says, it is the owner's to change.
	wantCode(t, f.PutPolicy(ctx, bob, k.ARN, everyone, false), kms.AccessDenied, "")

	must(t, f.PutPolicy(ctx, alice, k.ID, policyOf(
		`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`,
		`{"Effect":"Deny","Principal":{"AWS":["444455556666"]},"Action":"kms:decrypt","Resource":"`+k.ARN+`"}`,
	), false))
	_, err = f.Decrypt(ctx, bob, k.ARN, d.Wrapped, nil)
	wantCode(t, err, kms.AccessDenied, "")
	if _, err := f.GenerateDataKey(ctx, bob, k.ARN, nil); err != nil {
		t.Error(err)
	}
}
