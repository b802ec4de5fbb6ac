package scrub_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/keyring"
	"shale/internal/scrub"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
)

// A mixed is a fixture with something of everything, and no background work: so
// a copy stays in progress, and a snapshot completing.
type mixed struct {
	*fixture
	arn                                                                    string
	parent, child, secret, copying, completing, open, failed, binned, gone string
}

func newMixed(t testing.TB) *mixed {
	f := newFixture(t)
	f.BinTime = 24 * time.Hour
	f.Restart(t)
	m := &mixed{fixture: f, arn: f.KMS.Create(snapshottest.Account, snapshottest.Region)}
	ctx, caller := t.Context(), snapshottest.Caller
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, length := range map[string]int{"store_id": 16, "token_key": 32} {
		_, _, err := f.Catalog.Setting(ctx, name, func() []byte { return make([]byte, length) })
		must(err)
	}
	m.parent = f.make("", "", map[int64]uint64{0: 1, 1: 2, 70: 3, 9000: 0})
	m.child = f.make(m.parent, "", map[int64]uint64{1: 4, 130: 1})
	m.secret = f.make("", m.arn, map[int64]uint64{0: 1, 5: 5, 6: 0})
	f.make(m.secret, "", map[int64]uint64{5: 6})
	m.binned = f.make("", "", map[int64]uint64{0: 8})
	must(f.Service.Delete(ctx, caller, m.binned))
	m.failed = f.open("", "", map[int64]uint64{0: 9})
	f.complete(m.failed, 2)
	m.gone = f.open("", "", map[int64]uint64{1: 9})
	must(f.Service.Delete(ctx, caller, m.gone))
	days := int64(10)
	_, err := f.Service.Lock(ctx, caller, snapshot.LockRequest{SnapshotID: m.child, Days: &days})
	must(err)
	must(f.Service.Share(ctx, caller, snapshot.ShareRequest{SnapshotID: m.parent, Accounts: []string{snapshottest.Other.Account}}))
	must(f.Service.CreateTags(ctx, caller, snapshot.TagRequest{IDs: []string{m.parent}, Tags: []snapshot.Tag{{Key: "a", Value: "b"}}}))
	must(f.Service.CountUsage(ctx))
	for i := 0; ; i++ { // until rows of closed snapshots are gone
		more, err := f.Catalog.Sweep(ctx, time.Unix(0, 0), 100)
		must(err)
		if !more {
			break
		}
	}
	f.Halt()
	copied, err := f.Service.Copy(ctx, caller, snapshot.CopyRequest{SourceRegion: snapshottest.Region, SourceID: m.parent, KMSKey: &m.arn, Encrypted: ptr(true)})
	must(err)
	m.copying = copied.ID
	m.open = f.open(m.secret, "", map[int64]uint64{7: 7})
	m.completing = f.open(m.child, "", map[int64]uint64{8: 8})
	_, err = f.Service.Complete(ctx, caller, snapshot.CompleteRequest{SnapshotID: m.completing, ChangedBlocks: ptr(int64(1))})
	must(err)
	f.Stop(t)
	return m
}

func ptr[T any](v T) *T { return &v }

// clone copies a stopped store.
func (m *mixed) clone(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// check proves all that there is to prove about a stopped store.
func (m *mixed) check(t testing.TB, dir string) *scrub.Report {
	t.Helper()
	ctx := t.Context()
	c, err := catalog.OpenBeside(ctx, filepath.Join(dir, "catalog.db"), m.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	medium, err := segment.OpenReadOnly(vfs.Dir(filepath.Join(dir, "segments")), [16]byte{})
	if err != nil {
		t.Fatal(err)
	}
	defer medium.Close()
	ring, err := keyring.Open(vfs.Dir(filepath.Join(dir, "keys")), m.KMS, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := ownersKeys(ring)
	w := scrub.New(scrub.Options{Catalog: c, Medium: medium, Key: keys, Read: true, Count: true})
	if err := w.All(ctx); err != nil {
		t.Fatal(err)
	}
	found, _, err := scrub.Check(ctx, scrub.CheckOptions{
		Catalog: c, Medium: medium, Key: keys, FileName: segment.FileName,
		ARN: func(n number) (string, error) { return keyring.ReadARN(vfs.Dir(filepath.Join(dir, "keys")), n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Report.Include(found)
	return &w.Report
}

// exec changes the catalog of a stopped store, past all rules.
func exec(t testing.TB, dir, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "catalog.db")+"?_pragma=busy_timeout(10000)&_pragma=foreign_keys(0)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", query, n, err)
	}
}

// Each invariant is broken, and named by its number.
func TestInvariants(t *testing.T) {
	m := newMixed(t)
	if r := m.check(t, m.clone(t)); len(r.Findings) > 0 {
		for _, f := range r.Findings {
			t.Errorf("a sound store: %d %v", f.Invariant, f)
		}
	}
	file := func(dir string) string { return filepath.Join(dir, "segments", segment.FileName(1)) }
	edit := func(t *testing.T, path string, change func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(offset int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[offset] ^= 4
			return b
		}
	}
	domainFile := func(t *testing.T, dir string) string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "keys", "????????"))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		return names[0]
	}
	block1 := idOf(1)
	type breakage struct {
		number int
		name   string
		broken func(t *testing.T, dir string)
	}
	run := func(query string, args ...any) func(*testing.T, string) {
		return func(t *testing.T, dir string) { exec(t, dir, query, args...) }
	}
	cases := []breakage{
		{1, "a page", func(t *testing.T, dir string) {
			// One that a start does not read.
			edit(t, filepath.Join(dir, "catalog.db"), func(b []byte) []byte { return flip(bytes.LastIndex(b, []byte(m.child)))(b) })
		}},
		{2, "a tag of nothing", run(`INSERT INTO tags (snapshot, account, position, key, value) VALUES (99, '1', 0, 'k', 'v')`)},
		{2, "a copy of nothing", run(`INSERT INTO copies (snapshot, source_region, source_id, refused) VALUES (99, '', '', '')`)},
		{2, "an account is gone", run(`DELETE FROM accounts WHERE id = ?`, snapshottest.Account)},
		{3, "no store id", run(`DELETE FROM settings WHERE name = 'store_id'`)},
		{3, "a short token key", run(`UPDATE settings SET value = x'00' WHERE name = 'token_key'`)},
		{3, "no time of locks", run(`DELETE FROM lock_time`)},
		{4, "a segment is gone", func(t *testing.T, dir string) {
			if err := os.Remove(file(dir)); err != nil {
				t.Fatal(err)
			}
		}},
		{4, "a segment is short", func(t *testing.T, dir string) {
			edit(t, file(dir), func(b []byte) []byte { return b[:len(b)-4096] })
		}},
		{4, "a header", func(t *testing.T, dir string) { edit(t, file(dir), flip(30)) }},
		{4, "a length that is none", run(`UPDATE containers SET length = length - 1`)},
		{5, "a segment too many", func(t *testing.T, dir string) {
			for _, c := range []int{7, 8} {
				if err := os.WriteFile(filepath.Join(dir, "segments", fmt.Sprintf("%016x.seg", c)), make([]byte, 4096), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{6, "a frame", func(t *testing.T, dir string) { edit(t, file(dir), flip(4096+100)) }},
		{7, "a row of another place", run(`UPDATE records SET pos = pos + 4096 WHERE id = ?`, block1[:])},
		{7, "a row with another checksum", run(`UPDATE records SET crc = crc + 1 WHERE id = ?`, block1[:])},
		{7, "a row with another codec", run(`UPDATE records SET codec = 9 WHERE id = ?`, block1[:])},
		{7, "a row with a kind of its own", run(`UPDATE records SET kind = 9 WHERE id = ?`, block1[:])},
		{7, "a row in no segment", run(`UPDATE records SET container = 5 WHERE id = ?`, block1[:])},
		{7, "a row with half a seal", run(`UPDATE records SET sealed = x'00' WHERE domain <> 0 AND codec = 0`)},
		{8, "rows that overlap", run(`UPDATE records SET pos = (SELECT pos FROM records WHERE id = ?) WHERE id = ?`, idBytes(2), block1[:])},
		{9, "a payload", func(t *testing.T, dir string) {
			edit(t, file(dir), func(b []byte) []byte { return flip(bytes.Index(b, data(1)) + 1000)(b) })
		}},
		{9, "a mark", run(`UPDATE records SET damaged = 1 WHERE id = ?`, block1[:])},
		{10, "a block without a record", run(`DELETE FROM records WHERE id = ?`, block1[:])},
		{10, "a written block without a record", run(`DELETE FROM records WHERE id = (SELECT id FROM pending LIMIT 1)`)},
		{10, "a node without a record", run(`DELETE FROM records WHERE id = (SELECT root FROM snapshots WHERE id = ?)`, m.parent)},
		{10, "a root that is a leaf", run(`UPDATE snapshots SET root = (SELECT id FROM records WHERE kind = 2 AND length < 150
			AND id NOT IN (SELECT root FROM snapshots WHERE root IS NOT NULL) LIMIT 1) WHERE id = ?`, m.binned)},
		{10, "a root that is a block", run(`UPDATE snapshots SET root = ? WHERE id = ?`, block1[:], m.binned)},
		{10, "a block beyond the volume", run(`UPDATE snapshots SET volume_gib = 1 WHERE id = ?`, m.parent)},
		{10, "a map of another domain", run(`UPDATE snapshots SET root = (SELECT root FROM snapshots WHERE id = ?), blocks = 4 WHERE id = ?`, m.parent, m.secret)},
		{11, "a count", run(`UPDATE snapshots SET blocks = blocks + 1 WHERE id = ?`, m.child)},
		{11, "a count of the base", run(`UPDATE snapshots SET base_blocks = base_blocks + 1 WHERE id = ?`, m.completing)},
		{12, "a map that was exchanged", run(`UPDATE snapshots SET root_mac = zeroblob(32) WHERE id = ?`, m.secret)},
		{12, "the base's", run(`UPDATE snapshots SET root_mac = zeroblob(32) WHERE id = ?`, m.open)},
		{13, "blocks written to nothing", run(`INSERT INTO pending (snapshot, idx, id) VALUES (99, 0, ?)`, block1[:])},
		{13, "blocks written to what is completed", run(`INSERT INTO pending (snapshot, idx, id) SELECT key, 0, ? FROM snapshots WHERE id = ?`, block1[:], m.parent)},
		{13, "a block written beyond the volume", run(`UPDATE pending SET idx = 131072 WHERE snapshot = (SELECT key FROM snapshots WHERE id = ?)`, m.open)},
		{14, "a state", run(`UPDATE snapshots SET state = 8 WHERE id = ?`, m.child)},
		{14, "an ID", run(`UPDATE snapshots SET id = 'snap-1' WHERE id = ?`, m.failed)},
		{14, "a root of what is open", run(`UPDATE snapshots SET root = base, blocks = 1 WHERE id = ?`, m.open)},
		{14, "never completed", run(`UPDATE snapshots SET completed_ms = 0 WHERE id = ?`, m.child)},
		{14, "never deleted", run(`UPDATE snapshots SET deleted_ms = 0 WHERE id = ?`, m.gone)},
		{14, "no time in the bin", run(`UPDATE snapshots SET bin_exit_ms = 0 WHERE id = ?`, m.binned)},
		{14, "no reason", run(`UPDATE snapshots SET message = '' WHERE id = ?`, m.failed)},
		{14, "a volume", run(`UPDATE snapshots SET volume_gib = 65537 WHERE id = ?`, m.failed)},
		{14, "a root of 31 bytes", run(`UPDATE snapshots SET claim_checksum = zeroblob(31) WHERE id = ?`, m.failed)},
		{15, "another lineage", run(`UPDATE snapshots SET lineage = lineage + 1 WHERE id = ?`, m.child)},
		{15, "another base", run(`UPDATE snapshots SET base = (SELECT root FROM snapshots WHERE id = ?) WHERE id = ?`, m.binned, m.child)},
		{15, "a lineage without a parent", run(`UPDATE snapshots SET lineage = 1 WHERE id = ?`, m.failed)},
		{16, "a domain without a key", run(`UPDATE snapshots SET kms_key_arn = '' WHERE id = ?`, m.secret)},
		{16, "another key", run(`UPDATE snapshots SET kms_key_arn = 'arn:aws:kms:us-east-1:1:key/x' WHERE id = ?`, m.secret)},
		{16, "a domain's file is gone", func(t *testing.T, dir string) {
			if err := os.Remove(domainFile(t, dir)); err != nil {
				t.Fatal(err)
			}
		}},
		{16, "a domain's file", func(t *testing.T, dir string) { edit(t, domainFile(t, dir), flip(25)) }},
		{17, "a copy of what", run(`DELETE FROM copies`)},
		{17, "a lock", run(`UPDATE locks SET state = 9`)},
		{17, "a lock on what has failed", run(`UPDATE locks SET snapshot = (SELECT key FROM snapshots WHERE id = ?)`, m.failed)},
		{18, "a grant", run(`UPDATE grants SET start_ms = start_ms + 1`)},
		{18, "a tag of the bin", run(`DELETE FROM tags WHERE key = 'aws:recycle-bin:resource-in-bin'`)},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%d %s", c.number, c.name), func(t *testing.T) {
			dir := m.clone(t)
			c.broken(t, dir)
			r := m.check(t, dir)
			if !slices.ContainsFunc(r.Findings, func(f *scrub.Finding) bool { return f.Invariant == c.number }) {
				t.Errorf("invariant %d is broken, and not named among %d findings", c.number, len(r.Findings))
				for _, f := range r.Findings {
					t.Errorf("  %d %v", f.Invariant, f)
				}
			}
		})
	}
}

func idBytes(seed uint64) []byte {
	id := idOf(seed)
	return id[:]
}
