package snapshot_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shale/internal/kms"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
)

// withKMS puts the KMS of this program under the service.
func withKMS(t testing.TB) (*fixture, *kms.Local) {
	t.Helper()
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "kms")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := kms.NewRoot(bytes.Repeat([]byte("r"), kms.RootSize))
	if err != nil {
		t.Fatal(err)
	}
	local, err := kms.OpenLocal(kms.LocalOptions{FS: vfs.Dir(dir), Root: root, Now: f.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	f.Provider = local
	f.Restart(t)
	return f, local
}

func account(c snapshot.Caller) kms.Caller { return kms.Caller{Account: c.Account, Region: c.Region} }

// makeKey makes a key whose policy has statements beside the one that leaves it
// to its account.
func makeKey(t testing.TB, l *kms.Local, statements ...string) string {
	t.Helper()
	all := append([]string{keyStatement(caller.Account, "kms:*")}, statements...)
	m, err := l.CreateKey(t.Context(), account(caller), kms.CreateRequest{Policy: `{"Version":"2012-10-17","Statement":[` + strings.Join(all, ",") + `]}`})
	if err != nil {
		t.Fatal(err)
	}
	return m.ARN
}

func keyStatement(principal, actions string) string {
	return strings.Replace(allow(actions), `"Action"`, `"Principal":{"AWS":"`+principal+`"},"Action"`, 1)
}

// The refusals of keys, by policies of the user that deny just that, whether the
// key is in memory or not. Spec: ebs-direct §6.2.
func TestKeysDeniedToUsers(t *testing.T) {
	f, l := withKMS(t)
	key := makeKey(t, l)
	done := f.encrypted(key)
	f.mustPut(done, 0, data(1))
	f.complete(done, 1, nil)
	pending, token := f.encrypted(key), f.token(done)
	start := func(r snapshot.StartRequest) func(snapshot.Caller) error {
		r.VolumeSize = ptr(int64(1))
		return func(c snapshot.Caller) error { _, err := f.Service.Start(t.Context(), c, r); return err }
	}
	parentless := start(snapshot.StartRequest{KMSKeyARN: &key})
	child := start(snapshot.StartRequest{ParentSnapshotID: &done})
	list := func(c snapshot.Caller) error {
		_, err := f.Service.ListBlocks(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: done})
		return err
	}
	get := func(c snapshot.Caller) error {
		d, err := f.Service.GetBlock(t.Context(), c, snapshot.GetBlockRequest{SnapshotID: done, Token: &token})
		if err == nil {
			d.Release()
		}
		return err
	}
	put := func(c snapshot.Caller) error {
		_, err := f.Service.PutBlock(t.Context(), c, snapshot.PutBlockRequest{SnapshotID: pending, ChecksumOptional: true, Body: bytes.NewReader(data(1))})
		return err
	}
	complete := func(c snapshot.Caller) error {
		_, err := f.Service.Complete(t.Context(), c, snapshot.CompleteRequest{SnapshotID: pending, ChangedBlocks: ptr(int64(1))})
		return err
	}
	image := func(c snapshot.Caller) error { _, err := f.Service.OpenImage(t.Context(), c, done); return err }
	const fine = snapshot.Code(-1)
	byContext := func(id string) string {
		return statement("Deny", "kms:*", "*", `{"StringEquals":{"kms:EncryptionContext:aws:ebs:id":"`+id+`"}}`)
	}
	for _, tt := range []struct {
		name   string
		denied string // a statement
		do     func(snapshot.Caller) error
		want   snapshot.Code
	}{
		{"Start, GenerateDataKey", deny("kms:GenerateDataKey"), parentless, snapshot.KeyRefused},
		{"Start with a parent, ReEncryptFrom", deny("kms:ReEncryptFrom"), child, snapshot.KeyRefused},
		{"Start with a parent, ReEncryptTo", deny("kms:ReEncryptTo"), child, snapshot.KeyRefused},
		{"Start with a parent, Decrypt", deny("kms:Decrypt"), child, snapshot.KeyNotFound},
		{"Start with a parent, GenerateDataKey", deny("kms:GenerateDataKey"), child, fine},
		{"List, DescribeKey", deny("kms:DescribeKey"), list, snapshot.KeyNotFound},
		{"List, Decrypt", deny("kms:Decrypt"), list, fine},
		{"Get, DescribeKey", deny("kms:DescribeKey"), get, snapshot.KeyNotFound},
		{"Get, Decrypt", deny("kms:Decrypt"), get, snapshot.KeyNotFound},
		{"Get, Encrypt", deny("kms:Encrypt"), get, fine},
		{"image, Decrypt", deny("kms:Decrypt"), image, snapshot.KeyNotFound},
		{"Put, Decrypt", deny("kms:Decrypt"), put, snapshot.KeyRefused},
		{"Put, GenerateDataKey", deny("kms:GenerateDataKey"), put, fine},
		{"Get, by the encryption context", byContext(done), get, snapshot.KeyNotFound},
		{"Get, by that of another snapshot", byContext(pending), get, fine},
		{"Put, by the encryption context", byContext(pending), put, snapshot.KeyRefused},
		{"Start with a parent, by the parent's", byContext(done), child, snapshot.KeyNotFound},
		{"List has no encryption context", byContext(done), list, fine},
		{"Start, by the service", statement("Deny", "kms:*", "*", `{"StringEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}`), parentless, snapshot.KeyRefused},
		{"Start, but by the service", statement("Deny", "kms:*", "*", `{"StringNotEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}`), parentless, fine},
		{"Complete, Decrypt", deny("kms:Decrypt"), complete, snapshot.KeyRefused},
		{"Complete, Encrypt", deny("kms:Encrypt"), complete, fine},
	} {
		if err := tt.do(f.user(allow("*"), tt.denied)); code(err) != tt.want || tt.want == fine && err != nil {
			t.Errorf("%s: got %v, want code %d", tt.name, err, tt.want)
		}
		if tt.want == snapshot.KeyNotFound {
			f.Restart(t) // nothing is in memory
			if err := tt.do(f.user(allow("*"), tt.denied)); code(err) != tt.want {
				t.Errorf("%s, from the disk: got %v", tt.name, err)
			}
		}
	}
}

// Two accounts share an encrypted snapshot, with users on both sides: each side's
// user needs his policy, the key's, and the share.
func TestUsersShareEncrypted(t *testing.T) {
	f, l := withKMS(t)
	key := makeKey(t, l, keyStatement("arn:aws:iam::"+other.Account+":root", "kms:DescribeKey,kms:Decrypt"))
	writer := f.user(allow("ebs:*,ec2:ModifySnapshotAttribute,kms:*"))
	reader := snapshottest.User(t, other, "bill", allow("ebs:ListSnapshotBlocks,ebs:GetSnapshotBlock,kms:DescribeKey,kms:Decrypt"))
	noKey := snapshottest.User(t, other, "carl", allow("ebs:*"))
	noEBS := snapshottest.User(t, other, "dora", allow("kms:*"))

	snap, err := f.Service.Start(t.Context(), writer, snapshot.StartRequest{VolumeSize: ptr(int64(1)), KMSKeyARN: &key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Service.PutBlock(t.Context(), writer, snapshot.PutBlockRequest{SnapshotID: snap.ID, ChecksumOptional: true, Body: bytes.NewReader(data(1))}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Service.Complete(t.Context(), writer, snapshot.CompleteRequest{SnapshotID: snap.ID, ChangedBlocks: ptr(int64(1))}); err != nil {
		t.Fatal(err)
	}
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func(c snapshot.Caller) error {
		page, err := f.Service.ListBlocks(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: snap.ID})
		if err != nil {
			return err
		}
		d, err := f.Service.GetBlock(t.Context(), c, snapshot.GetBlockRequest{SnapshotID: snap.ID, Token: &page.Blocks[0].Token})
		if err == nil {
			if digest(d.Bytes) != digest(data(1)) {
				t.Error("other bytes")
			}
			d.Release()
		}
		return err
	}
	wantCodes(t, "before it is shared", read(reader), snapshot.NotFound)
	if err := f.Service.Share(t.Context(), writer, snapshot.ShareRequest{SnapshotID: snap.ID, Accounts: []string{other.Account}}); err != nil {
		t.Fatal(err)
	}
	if err := read(reader); err != nil {
		t.Errorf("shared: got %v", err)
	}
	wantCodes(t, "without a right to the key", read(noKey), snapshot.KeyNotFound)
	wantDenied(t, read(noEBS), "ebs:ListSnapshotBlocks", "", "because no identity-based policy")
	wantDenied(t, f.Service.Delete(t.Context(), f.user(), snap.ID), "ec2:DeleteSnapshot", "", "")
	wantCodes(t, "the recipient deletes", f.Service.Delete(t.Context(), snapshottest.User(t, other, "eve", allow("*")), snap.ID), snapshot.NotFound)

	// A copy is asked for by whoever requests it, and goes on without him.
	copies := func(c snapshot.Caller) snapshot.Snapshot {
		s, err := f.Service.Copy(t.Context(), c, snapshot.CopyRequest{SourceRegion: c.Region, SourceID: snap.ID})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Service.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		page, err := f.Service.Describe(t.Context(), other, snapshot.DescribeRequest{IDs: []string{s.ID}})
		if err != nil {
			t.Fatal(err)
		}
		return page.Snapshots[0]
	}
	if got := copies(snapshottest.User(t, other, "bill", allow("ec2:CopySnapshot,kms:DescribeKey,kms:Decrypt,kms:GenerateDataKey"))); got.State != snapshot.Completed {
		t.Errorf("copy: got %v: %s", got.State, got.Message)
	}
	for name, action := range map[string]string{"the source's key": "kms:DescribeKey", "its own key": "kms:GenerateDataKey"} {
		u := snapshottest.User(t, other, "bill", allow("*"), deny(action))
		if got := copies(u); got.State != snapshot.Failed || got.Message != "Given key ID is not accessible" {
			t.Errorf("copy without a right to %s: got %v: %s", name, got.State, got.Message)
		}
	}
	if err := l.PutPolicy(t.Context(), account(caller), key, `{"Statement":`+keyStatement(caller.Account, "kms:*")+`}`, false); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, "once the key is taken back", read(reader), snapshot.KeyNotFound)
}

// Whoever asks for a copy needs the source's key, an account as its users do: what
// goes on later could decrypt as soon as the key's policy allows anything to anybody
// of the account. Spec: ec2-snapshots §5, §6.1.
func TestCopyNeedsTheSourcesKey(t *testing.T) {
	f, l := withKMS(t)
	elsewhere := caller
	elsewhere.Region = "eu-west-1"
	root := "arn:aws:iam::" + other.Account + ":root"
	denied := strings.Replace(keyStatement(caller.Account, "kms:Decrypt"), "Allow", "Deny", 1)
	for _, tt := range []struct {
		name      string
		by        snapshot.Caller
		statement string // of the source's key
		fine      bool
	}{
		{"another account that may describe it", other, keyStatement(root, "kms:DescribeKey"), false},
		{"another account that may decrypt", other, keyStatement(root, "kms:Decrypt"), false},
		{"another account that may do both", other, keyStatement(root, "kms:DescribeKey,kms:Decrypt"), true},
		{"the key's account, denied", caller, denied, false},
		{"the key's account, denied, into another region", elsewhere, denied, false},
		{"the key's account, into another region", elsewhere, keyStatement(root, "kms:DescribeKey"), true},
		{"its user, denied, into another region", snapshottest.User(t, elsewhere, "uma", allow("*")), denied, false},
		{"its user, into another region", snapshottest.User(t, elsewhere, "uma", allow("*")), keyStatement(root, "kms:DescribeKey"), true},
	} {
		key := makeKey(t, l)
		source := f.encrypted(key)
		f.mustPut(source, 0, data(1))
		f.complete(source, 1, nil)
		f.share(source, other.Account)
		if err := l.PutPolicy(t.Context(), account(caller), key, `{"Statement":[`+keyStatement(caller.Account, "kms:*")+`,`+tt.statement+`]}`, false); err != nil {
			t.Fatal(err)
		}
		copied, err := f.Service.Copy(t.Context(), tt.by, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		f.settle()
		page, err := f.Service.Describe(t.Context(), tt.by, snapshot.DescribeRequest{IDs: []string{copied.ID}})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := page.Snapshots[0]
		if refused := got.State == snapshot.Failed && got.Message == "Given key ID is not accessible"; got.State != snapshot.Completed && !refused || refused == tt.fine {
			t.Errorf("%s: got %v %q", tt.name, got.State, got.Message)
		}
	}
}

// A key that names one user, and leaves nothing to his account, does for all that
// goes on after he has asked.
func TestKeyOfOneUser(t *testing.T) {
	f, l := withKMS(t)
	u := f.user(allow("ebs:*,ec2:*"))
	m, err := l.CreateKey(t.Context(), account(caller), kms.CreateRequest{
		Policy: `{"Statement":` + keyStatement(u.By.ARN, "kms:*") + `}`, BypassLockoutCheck: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.startWith(snapshot.StartRequest{KMSKeyARN: &m.ARN}); code(err) != snapshot.KeyRefused {
		t.Errorf("by the account: got %v", err)
	}
	snap, err := f.Service.Start(t.Context(), u, snapshot.StartRequest{VolumeSize: ptr(int64(1)), KMSKeyARN: &m.ARN})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Service.Complete(t.Context(), u, snapshot.CompleteRequest{SnapshotID: snap.ID, ChangedBlocks: ptr(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.describe(snap.ID); got.State != snapshot.Completed {
		t.Errorf("got %v: %s", got.State, got.Message)
	}
}
