package snapshot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/kms"
	"shale/internal/snapshot"
)

// encrypted starts a snapshot under the KMS key.
func (f *fixture) encrypted(arn string) string {
	f.Helper()
	snap, err := f.startWith(snapshot.StartRequest{KMSKeyARN: &arn})
	if err != nil || snap.KMSKeyARN != arn || !snap.Encrypted() {
		f.Fatalf("Start: got key %s, %v, want %s", snap.KMSKeyARN, err, arn)
	}
	return snap.ID
}

// newKey makes a KMS key.
func (f *fixture) newKey() string { return f.KMS.Create(caller.Account, caller.Region) }

// aggregate is that of blocks with the digests.
func aggregate(digests ...block.Digest) *block.Digest {
	h := sha256.New()
	for _, d := range digests {
		h.Write(d[:])
	}
	return ptr(block.Digest(h.Sum(nil)))
}

// An encrypted snapshot and its child behave as unencrypted ones do: their
// checksums and aggregates are those of the plain bytes. Spec: ebs-direct §6.1.
func TestEncryptedRoundTrip(t *testing.T) {
	f := newFixture(t)
	parent := f.encrypted(f.newKey())
	f.mustPut(parent, 0, data(1))
	f.mustPut(parent, 5, data(0))
	f.mustPut(parent, 9, data(1))
	if snap := f.complete(parent, 3, aggregate(digest(data(1)), block.ZeroDigest, digest(data(1)))); snap.State != snapshot.Completed {
		t.Fatalf("got %v: %s", snap.State, snap.Message)
	}
	f.Restart(t)
	child := f.start(parent)
	f.mustPut(child, 5, data(2))
	f.mustPut(child, 0, data(1)) // what is there already
	snap := f.complete(child, 2, aggregate(digest(data(1)), digest(data(2))))
	if snap.State != snapshot.Completed || snap.Blocks != 3 || snap.KMSKeyARN != f.describe(parent).KMSKeyARN {
		t.Fatalf("child: got %v with %d blocks: %s", snap.State, snap.Blocks, snap.Message)
	}
	want := map[block.Index]block.Digest{0: digest(data(1)), 5: digest(data(2)), 9: digest(data(1))}
	for range 2 {
		got := f.blocks(child)
		if len(got) != len(want) {
			t.Errorf("got %d blocks, want %d", len(got), len(want))
		}
		for i, d := range want {
			if got[i] != d {
				t.Errorf("block %d: got %v, want %v", i, got[i], d)
			}
		}
		page, err := f.Service.ListChangedBlocks(t.Context(), caller, snapshot.ListChangedRequest{FirstSnapshotID: &parent, SecondSnapshotID: child})
		if err != nil || len(page.Blocks) != 1 || page.Blocks[0].Index != 5 {
			t.Errorf("ListChangedBlocks: got %+v, %v, want block 5", page.Blocks, err)
		}
		f.Restart(t)
	}
	failing := f.start(parent)
	f.mustPut(failing, 1, data(3))
	if snap := f.complete(failing, 1, aggregate(digest(data(4)))); snap.State != snapshot.Failed {
		t.Errorf("with a wrong aggregate: got %v, want an error", snap.State)
	}
}

// Equal blocks are stored once under one KMS key, whatever the snapshot, and
// never shared between two keys or with unencrypted snapshots.
func TestDeduplicationStaysInItsDomain(t *testing.T) {
	f := newFixture(t)
	mine, other := f.newKey(), f.newKey()
	stats := f.Store.Stats()
	for _, step := range []struct {
		name, id     string
		stored, hits int64
	}{
		{"unencrypted", f.start(""), 1, 0},
		{"under a key", f.encrypted(mine), 1, 0},
		{"under it again", f.encrypted(mine), 0, 1},
		{"under another", f.encrypted(other), 1, 0},
		{"under the default key", f.withDefaultKey(), 1, 0},
		{"under that again", f.withDefaultKey(), 0, 1},
	} {
		stored, hits := stats.BlocksStored.Load(), stats.DedupHits.Load()
		f.mustPut(step.id, 0, data(1))
		if s, h := stats.BlocksStored.Load()-stored, stats.DedupHits.Load()-hits; s != step.stored || h != step.hits {
			t.Errorf("%s: %d stored, %d hits, want %d, %d", step.name, s, h, step.stored, step.hits)
		}
	}
}

func (f *fixture) withDefaultKey() string {
	f.Helper()
	snap, err := f.startWith(snapshot.StartRequest{Encrypted: ptr(true)})
	if err != nil {
		f.Fatal(err)
	}
	return snap.ID
}

// traces are what would give a block away in a file: pieces of it, and its
// digest in the forms that are in use.
type traces map[[32]byte]bool

func (tr traces) add(b []byte) {
	for i := 0; i+32 <= len(b); i += 32 {
		tr[[32]byte(b[i:])] = true
	}
	d := digest(b)
	tr[d] = true
	tr[[32]byte([]byte(hex.EncodeToString(d[:])))] = true
	tr[[32]byte([]byte(d.Base64()))] = true
}

// in counts them in all files of the folder, wherever they begin.
func (tr traces) in(t *testing.T, dir string) (found int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for i := 0; i+32 <= len(b); i++ {
			if tr[[32]byte(b[i:])] {
				found++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// No file of the data folder holds anything of an encrypted snapshot's blocks,
// nor their digests, while it is pending and once it is completed. The same
// search finds all of an unencrypted one.
func TestNothingPlainOnTheDisk(t *testing.T) {
	f := newFixture(t)
	random := make([]byte, block.Size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)
	secret := make(traces)
	secret.add(random)

	id := f.encrypted(f.newKey())
	f.mustPut(id, 3, random)
	if n := secret.in(t, f.Dir); n != 0 {
		t.Errorf("pending: %d traces of the plain block", n)
	}
	f.complete(id, 1, aggregate(digest(random)))
	f.blocks(id)
	f.Restart(t)
	if n := secret.in(t, f.Dir); n != 0 {
		t.Errorf("completed: %d traces of the plain block", n)
	}

	id = f.start("")
	f.mustPut(id, 3, random)
	f.complete(id, 1, nil)
	f.Restart(t)
	if n := secret.in(t, f.Dir); n < block.Size/32+1 {
		t.Errorf("control: an unencrypted block left only %d traces", n)
	}
}

// A key that is gone takes its snapshots with it, and nothing else: others are
// read and written, and it can be deleted.
func TestShreddedKey(t *testing.T) {
	f := newFixture(t)
	gone, kept := f.newKey(), f.newKey()
	ids := []string{f.encrypted(gone), f.encrypted(kept), f.start("")}
	for _, id := range ids {
		f.mustPut(id, 0, data(1))
		f.complete(id, 1, nil)
	}
	pending := f.encrypted(gone)
	token := f.token(ids[0])
	f.KMS.Destroy(gone)
	for range 2 {
		if _, err := f.get(ids[0], token); code(err) != snapshot.KeyNotFound {
			t.Errorf("GetBlock: got %v, want KeyNotFound", err)
		}
		if err := f.put(pending, 0, data(1)); code(err) != snapshot.KeyNotFound {
			t.Errorf("PutBlock: got %v, want KeyNotFound", err)
		}
		if _, err := f.startWith(snapshot.StartRequest{KMSKeyARN: &gone}); code(err) != snapshot.InvalidKey {
			t.Errorf("Start: got %v, want InvalidKey", err)
		}
		for _, id := range ids[1:] {
			if got := f.blocks(id); len(got) != 1 || got[0] != digest(data(1)) {
				t.Errorf("another snapshot: got %v", got)
			}
			child := f.start(id)
			f.mustPut(child, 1, data(2))
			f.complete(child, 1, nil)
		}
		f.Restart(t)
	}
	for _, id := range []string{ids[0], pending} {
		if err := f.Service.Delete(t.Context(), caller, id); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
}

// token is that of block 0.
func (f *fixture) token(id string) string {
	f.Helper()
	page, err := f.Service.ListBlocks(f.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id})
	if err != nil || len(page.Blocks) == 0 {
		f.Fatalf("ListBlocks: got %d blocks, %v", len(page.Blocks), err)
	}
	return page.Blocks[0].Token
}

// get reads block 0 and gives its digest.
func (f *fixture) get(id, token string) (block.Digest, error) {
	d, err := f.Service.GetBlock(f.Context(), caller, snapshot.GetBlockRequest{SnapshotID: id, Token: &token})
	if err != nil {
		return block.Digest{}, err
	}
	defer d.Release()
	return d.Digest, nil
}

// A domain whose file is lost is told apart from a KMS key that is: listings
// go on, blocks are not read, the rest does not mind.
func TestLostDomain(t *testing.T) {
	f := newFixture(t)
	id := f.encrypted(f.newKey())
	f.mustPut(id, 0, data(1))
	f.complete(id, 1, nil)
	file := filepath.Join(f.Dir, "keys", f.describe(id).Domain.String())
	f.Stop(t)
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	token := f.token(id)
	if _, err := f.get(id, token); code(err) != snapshot.DomainLost {
		t.Errorf("GetBlock: got %v, want DomainLost", err)
	}
	if _, err := f.startWith(snapshot.StartRequest{ParentSnapshotID: &id}); code(err) != snapshot.DomainLost {
		t.Errorf("Start: got %v, want DomainLost", err)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	if _, err := f.get(id, token); err != nil {
		t.Errorf("put back: %v", err)
	}
}

// A snapshot that was sealed stays pending while its key is disabled, over a
// restart too, and is completed once it is enabled.
func TestCompletionWaitsForTheKey(t *testing.T) {
	f := newFixture(t)
	arn := f.newKey()
	id := f.encrypted(arn)
	f.mustPut(id, 0, data(1))
	f.KMS.Disable(arn)
	if _, err := f.Service.Complete(t.Context(), caller, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(1))}); code(err) != snapshot.KeyRefused {
		t.Errorf("Complete: got %v, want KeyRefused", err)
	}
	// Disabled just after that was checked.
	if done, err := f.Catalog.Seal(t.Context(), f.describe(id).Key, snapshot.Claim{ChangedBlocks: 1}); err != nil || !done {
		t.Fatal(done, err)
	}
	f.Restart(t)
	if snap := f.describe(id); snap.State != snapshot.Completing {
		t.Fatalf("with a disabled key: got %v %s, want completing", snap.State, snap.Message)
	}
	f.KMS.Enable(arn)
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if snap := f.describe(id); snap.State != snapshot.Completed {
		t.Errorf("enabled again: got %v %s, want completed", snap.State, snap.Message)
	}
}

// What waits for a key holds up nobody: neither other snapshots nor those who
// wait until all is done that can be.
func TestNobodyWaitsForAKey(t *testing.T) {
	f := newFixture(t)
	disabled, gone := f.newKey(), f.newKey()
	f.Halt()
	var waiting []string
	for i := range 10 {
		id := f.encrypted([]string{disabled, gone}[i%2])
		if done, err := f.Catalog.Seal(t.Context(), f.describe(id).Key, snapshot.Claim{}); err != nil || !done {
			t.Fatal(done, err)
		}
		waiting = append(waiting, id)
	}
	f.KMS.Disable(disabled)
	f.KMS.Destroy(gone)
	f.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	other := f.start("")
	if _, err := f.Service.Complete(ctx, caller, snapshot.CompleteRequest{SnapshotID: other, ChangedBlocks: ptr(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if err := f.Service.Settle(ctx); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	if snap := f.describe(other); snap.State != snapshot.Completed {
		t.Errorf("an unencrypted snapshot is %v", snap.State)
	}
	f.KMS.Enable(disabled)
	if err := f.Service.Settle(ctx); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	for i, id := range waiting {
		if got, want := f.describe(id).State, []snapshot.State{snapshot.Completed, snapshot.Completing}[i%2]; got != want {
			t.Errorf("snapshot %d: got %v, want %v", i, got, want)
		}
	}
}

// What fails again and again comes after what has not, also if there was no
// room to try it: else the oldest that nobody answers for would take all room.
func TestFailuresComeLast(t *testing.T) {
	got := snapshot.InTurn([]int64{1, 2, 3, 4, 5}, map[int64]int{1: 5, 2: 1, 4: 3})
	if want := []int64{3, 5, 2, 4, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// sql changes the catalog behind the server's back.
func (f *fixture) sql(statement string, args ...any) {
	f.Helper()
	f.Stop(f)
	db := f.OpenDatabase(f)
	defer db.Close()
	result, err := db.ExecContext(f.Context(), statement, args...)
	if err != nil {
		f.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		f.Fatalf("%d rows changed, %v", n, err)
	}
	f.Restart(f)
}

// Whoever can write to the catalog, but has no key, cannot give a snapshot the
// map of another, though both are of one domain.
func TestExchangedMap(t *testing.T) {
	f := newFixture(t)
	arn := f.newKey()
	var ids []string
	for i := range uint64(2) {
		id := f.encrypted(arn)
		f.mustPut(id, 0, data(i+1))
		f.complete(id, 1, nil)
		ids = append(ids, id)
	}
	child := f.start(ids[0])
	f.mustPut(child, 1, data(3))
	f.sql(`UPDATE snapshots SET root = (SELECT root FROM snapshots WHERE id = $1) WHERE id = $2`, ids[1], ids[0])
	token := f.token(ids[0]) // the key is not in memory yet
	if _, err := f.get(ids[0], token); code(err) != snapshot.Internal {
		t.Errorf("GetBlock: got %v, want Internal", err)
	}
	if _, err := f.Service.ListBlocks(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: ids[0]}); code(err) != snapshot.Internal {
		t.Errorf("ListBlocks with the key in memory: got %v, want Internal", err)
	}
	if _, err := f.startWith(snapshot.StartRequest{ParentSnapshotID: &ids[0]}); code(err) != snapshot.Internal {
		t.Errorf("Start: got %v, want Internal", err)
	}
	// Nor what a pending one starts from.
	f.sql(`UPDATE snapshots SET base = (SELECT root FROM snapshots WHERE id = $1) WHERE id = $2`, ids[1], child)
	if snap := f.complete(child, 1, nil); snap.State != snapshot.Failed {
		t.Errorf("child of an exchanged map: got %v, want an error", snap.State)
	}
	if _, err := f.get(ids[1], f.token(ids[1])); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// A repeated request is answered as it was, whatever has become of the key and
// of the account's defaults. Spec: ebs-direct §3, Idempotency.
func TestEncryptedReplay(t *testing.T) {
	f := newFixture(t)
	r := snapshot.StartRequest{ClientToken: ptr("t"), Encrypted: ptr(true)}
	first, err := f.startWith(r)
	if err != nil {
		t.Fatal(err)
	}
	other := f.newKey()
	if err := f.Catalog.SetAccountSetting(t.Context(), caller, "default-key", other); err != nil {
		t.Fatal(err)
	}
	f.KMS.Disable(first.KMSKeyARN)
	again, err := f.startWith(r)
	if err != nil || again.ID != first.ID || again.KMSKeyARN != first.KMSKeyARN || !again.Encrypted() {
		t.Errorf("again: got %s, key %s, %v, want %s, %s", again.ID, again.KMSKeyARN, err, first.ID, first.KMSKeyARN)
	}
	if _, err := f.startWith(snapshot.StartRequest{ClientToken: ptr("t"), KMSKeyARN: &first.KMSKeyARN}); code(err) != snapshot.ClientTokenReused {
		t.Errorf("with the key named: got %v, want ClientTokenReused", err)
	}
	if _, err := f.startWith(snapshot.StartRequest{ClientToken: ptr("t")}); code(err) != snapshot.ClientTokenReused {
		t.Errorf("unencrypted: got %v, want ClientTokenReused", err)
	}
}

// Each account has its own default key, and one account's settings are not
// another's.
func TestDefaultsOfAccounts(t *testing.T) {
	f := newFixture(t)
	stranger := snapshot.Caller{Account: "444455556666", Region: caller.Region}
	if err := f.Catalog.SetAccountSetting(t.Context(), stranger, "encryption-by-default", "1"); err != nil {
		t.Fatal(err)
	}
	if snap, err := f.startWith(snapshot.StartRequest{}); err != nil || snap.Encrypted() {
		t.Errorf("got %v, %v, want it unencrypted", snap.Encrypted(), err)
	}
	elsewhere := snapshot.Caller{Account: caller.Account, Region: "eu-west-1"}
	if byDefault, err := f.Service.EncryptionByDefault(t.Context(), elsewhere); byDefault || err != nil {
		t.Errorf("got %v, %v", byDefault, err)
	}
}

// What the KMS says that is not about the key is not blamed on the key.
func TestKMSTrouble(t *testing.T) {
	f := newFixture(t)
	id := f.encrypted(f.newKey())
	for want, err := range map[snapshot.Code]error{
		snapshot.KeyThrottled: &kms.Error{Code: kms.Throttled, Text: "slow down"},
		snapshot.Internal:     errors.New("connection refused"),
	} {
		f.KMS.Fail(err)
		if err := f.put(id, 0, data(1)); code(err) != want {
			t.Errorf("PutBlock: got %v, want code %v", err, want)
		}
		if _, err := f.startWith(snapshot.StartRequest{Encrypted: ptr(true)}); code(err) != want {
			t.Errorf("Start: got %v, want code %v", err, want)
		}
	}
	f.KMS.Fail(nil)
	f.mustPut(id, 0, data(1))
}

// The text of an error, which may be logged, names no KMS key.
func TestErrorsNameNoKey(t *testing.T) {
	f := newFixture(t)
	arn := f.newKey()
	id := f.encrypted(arn)
	f.KMS.Disable(arn)
	for _, err := range []error{
		f.put(id, 0, data(1)),
		second(f.startWith(snapshot.StartRequest{KMSKeyARN: &arn})),
		second(f.startWith(snapshot.StartRequest{KMSKeyARN: ptr(arn + "0")})),
	} {
		if err == nil || bytes.Contains([]byte(err.Error()), []byte("key/")) {
			t.Errorf("got %v", err)
		}
	}
}

// Snapshots of two domains are compared by content.
func TestCompareAcrossDomains(t *testing.T) {
	f := newFixture(t)
	var snaps []snapshot.Snapshot
	for i, id := range []string{f.start(""), f.encrypted(f.newKey()), f.encrypted(f.newKey())} {
		f.mustPut(id, 0, data(1))
		f.mustPut(id, 1, data(0))
		f.mustPut(id, 2, data(uint64(i)+2))
		f.mustPut(id, int64(10+i), data(1))
		snaps = append(snaps, f.complete(id, 4, nil))
	}
	for i := range snaps {
		for j := range snaps {
			var got []block.Index
			for c, err := range f.Service.Compare(t.Context(), caller, &snaps[i], &snaps[j], 1) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, c.Index)
			}
			want := []block.Index{2, block.Index(10 + min(i, j)), block.Index(10 + max(i, j))}
			if i == j {
				want = nil
			}
			if len(got) != len(want) || len(want) > 0 && [3]block.Index(got) != [3]block.Index(want) {
				t.Errorf("%d against %d: got %v, want %v", i, j, got, want)
			}
		}
	}
	f.KMS.Disable(snaps[1].KMSKeyARN)
	for _, err := range f.Service.Compare(t.Context(), caller, &snaps[0], &snaps[1], 0) {
		if code(err) != snapshot.KeyRefused {
			t.Errorf("with a disabled key: got %v, want KeyRefused", err)
		}
	}
}
