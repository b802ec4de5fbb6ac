package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/prometheus/client_golang/prometheus"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/snapshot"
)

// makeFixture names the store that is made by this version, to be kept:
//
//	go test ./cmd/shale -run TestMakeFixture -make-fixture store-9
//
// The name has the version of the catalog. Those that are there stay as they
// are, for ever: they are what earlier versions have left on people's disks.
var makeFixture = flag.String("make-fixture", "", "make the fixture of this name")

var fixtureCaller = snapshot.Caller{Account: "111122223333", Region: "us-east-1"}

// fixtureTime is how long the fixture's snapshots stay locked and in the
// recycle bin.
const fixtureTime = 36_000 * 24 * time.Hour

func openFixture(t *testing.T, path string) (*node, *datadir.Dir) {
	t.Helper()
	dir, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := openNode(t.Context(), dir, nodeOptions{
		log: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry(), binTime: fixtureTime,
		disk: catalog.LocalDisk{}, now: time.Now,
	})
	if err != nil {
		t.Fatal(errors.Join(err, dir.Close()))
	}
	return n, dir
}

func closeFixture(t *testing.T, n *node, dir *datadir.Dir) {
	t.Helper()
	if err := errors.Join(n.close(), dir.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestMakeFixture(t *testing.T) {
	if *makeFixture == "" {
		t.Skip("makes a fixture when it is asked to")
	}
	path := t.TempDir()
	c, err := catalog.Open(t.Context(), filepath.Join(path, "catalog.db"), time.Now)
	if err == nil {
		err = errors.Join(c.CreateAccount(t.Context(), "default",
			catalog.AccessKey{ID: "AKIDEXAMPLE", Account: fixtureCaller.Account, Secret: "wJalrXUtnFEMI/K7MDENG"}), c.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	n, dir := openFixture(t, path)
	s, ctx := n.service, t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ptr := func(n int64) *int64 { return &n }
	made := func(r snapshot.StartRequest, seeds map[int64]byte) string {
		t.Helper()
		r.VolumeSize = ptr(1)
		snap, err := s.Start(ctx, fixtureCaller, r)
		must(err)
		for index, seed := range seeds {
			b := bytes.Repeat([]byte{seed}, block.Size)
			sum, algorithm := block.Digest(sha256.Sum256(b)).Base64(), "SHA256"
			_, err := s.PutBlock(ctx, fixtureCaller, snapshot.PutBlockRequest{
				SnapshotID: snap.ID, Index: index, DataLength: ptr(block.Size), Checksum: &sum, Algorithm: &algorithm, Body: bytes.NewReader(b),
			})
			must(err)
		}
		_, err = s.Complete(ctx, fixtureCaller, snapshot.CompleteRequest{SnapshotID: snap.ID, ChangedBlocks: ptr(int64(len(seeds)))})
		must(err)
		must(s.Settle(ctx))
		return snap.ID
	}
	description, encrypted := "kept", true
	first := made(snapshot.StartRequest{Description: &description, Tags: []snapshot.Tag{{Key: "Name", Value: "first"}}},
		map[int64]byte{0: 1, 5: 2, 64: 0, 2047: 3})
	made(snapshot.StartRequest{ParentSnapshotID: &first}, map[int64]byte{5: 4})
	// A sealed payload cannot be compressed, and an archive is to be small: the
	// block of zeros has a sealed digest and no payload.
	sealed := made(snapshot.StartRequest{Encrypted: &encrypted}, map[int64]byte{10: 0})
	gone := made(snapshot.StartRequest{}, map[int64]byte{0: 6})
	must(s.Share(ctx, fixtureCaller, snapshot.ShareRequest{SnapshotID: first, Accounts: []string{"444455556666"}}))
	_, err = s.Lock(ctx, fixtureCaller, snapshot.LockRequest{SnapshotID: sealed, Days: ptr(36_000)})
	must(err)
	must(s.Delete(ctx, fixtureCaller, gone))
	found := strings.Join(fixtureLines(t, n), "\n") + "\n"
	closeFixture(t, n, dir)
	must(os.WriteFile(filepath.Join(path, "found"), []byte(found), 0o600))
	must(pack(filepath.Join("testdata", *makeFixture+".tar.gz"), path))
	t.Log(found)
}

// fixtureLines is what the store has, in words that never change.
func fixtureLines(t *testing.T, n *node) (lines []string) {
	t.Helper()
	s, ctx := n.service, t.Context()
	page, err := s.Describe(ctx, fixtureCaller, snapshot.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range page.Snapshots {
		x := &page.Snapshots[i]
		lines = append(lines, fmt.Sprintf("%s %v parent %q volume %d started %d completed %d root %v blocks %d encrypted %v",
			x.ID, x.State, x.ParentID, x.VolumeSize, x.StartTime.UnixMilli(), x.CompletedAt.UnixMilli(), x.Root, x.Blocks, x.Encrypted()))
		if x.Description != nil {
			lines = append(lines, x.ID+" description "+*x.Description)
		}
		for _, tag := range x.Tags {
			lines = append(lines, fmt.Sprintf("%s tag %q %q", x.ID, tag.Key, tag.Value))
		}
		grantees, err := s.Grantees(ctx, fixtureCaller, snapshot.AttributeRequest{SnapshotID: x.ID})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s shared with %q", x.ID, grantees))
		for _, err := range blockmap.Walk(ctx, n.store, x.Root, 0) { // checks every node against its id
			if err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.ListBlocks(ctx, fixtureCaller, snapshot.ListBlocksRequest{SnapshotID: x.ID})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list.Blocks {
			d, err := s.GetBlock(ctx, fixtureCaller, snapshot.GetBlockRequest{SnapshotID: x.ID, Index: int64(b.Index), Token: &b.Token})
			if err != nil {
				t.Fatalf("%s, block %d: %v", x.ID, b.Index, err)
			}
			lines = append(lines, fmt.Sprintf("%s block %d %x", x.ID, b.Index, sha256.Sum256(d.Bytes)))
			d.Release()
		}
	}
	bin, err := s.Bin(ctx, fixtureCaller, snapshot.BinRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bin.Snapshots {
		lines = append(lines, fmt.Sprintf("%s in the bin from %d to %d, root %v", b.Snapshot.ID, b.EnteredAt.UnixMilli(), b.ExitsAt.UnixMilli(), b.Snapshot.Root))
	}
	locks, err := s.Locks(ctx, fixtureCaller, snapshot.LocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range locks.Snapshots {
		lines = append(lines, fmt.Sprintf("%s locked %v until %d", l.ID, l.Lock.State, l.Lock.ExpiresAt.UnixMilli()))
	}
	return lines
}

// pack makes an archive of the folder.
func pack(path, dir string) error {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), z.Close())
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o644)
	}
	return err
}

// unpack makes a folder of the archive.
func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o700)
		} else if err = os.MkdirAll(filepath.Dir(to), 0o700); err == nil {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What any version has left is found by this one: as it was, and once more when
// its catalog is lost.
func TestFixtures(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join("testdata", "store-*.tar.gz"))
	if err != nil || len(archives) < 2 {
		t.Fatalf("got %d fixtures, %v", len(archives), err)
	}
	for _, archive := range archives {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			path := unpack(t, archive)
			want, err := os.ReadFile(filepath.Join(path, "found"))
			if err != nil {
				t.Fatal(err)
			}
			check := func(when string) {
				t.Helper()
				n, dir := openFixture(t, path)
				defer closeFixture(t, n, dir)
				if got := strings.Join(fixtureLines(t, n), "\n") + "\n"; got != string(want) {
					t.Errorf("%s there is\n%s\nwant\n%s", when, got, want)
				}
				// An older store gets its manifests in the background.
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
					due, err := n.catalog.DueManifests(t.Context(), nil, 1)
					if err != nil || time.Now().After(deadline) {
						t.Fatalf("manifests are due still, %v", err)
					}
					if len(due) == 0 {
						return
					}
				}
			}
			check("at first")
			var out, errs bytes.Buffer
			if code := run([]string{"rebuild", "--data-dir", path}, streams{out: &out, err: &errs}); code != exitFailed || !strings.Contains(errs.String(), "--force") {
				t.Errorf("rebuild beside a catalog: got %d, %s", code, errs.String())
			}
			if code := run([]string{"rebuild", "--data-dir", path, "--force"}, streams{out: &out, err: &errs}); code != exitDone {
				t.Fatalf("rebuild: got %d, %s%s", code, out.String(), errs.String())
			}
			check("after the loss of the catalog")
		})
	}
}

// A format of a later version is refused, by its name and version, and the
// folder stays as it was.
func TestNewerFormats(t *testing.T) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for name, c := range map[string]struct {
		change func(t *testing.T, path string)
		says   string
	}{
		"catalog": {func(t *testing.T, path string) {
			db, err := driver.Open("file:" + filepath.Join(path, "catalog.db"))
			if err == nil {
				_, err = db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
			}
			if err = errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}, "format version 99"},
		"segment": {func(t *testing.T, path string) {
			raise(t, one(t, path+"/segments/*.seg"), func(b []byte) {
				binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], castagnoli))
			})
		}, "format version 99"},
		"backup": {func(t *testing.T, path string) {
			if err := os.WriteFile(filepath.Join(path, "backup"), []byte(`{"version":99}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "format version 99"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newestFixture(t)
			c.change(t, path)
			before := contents(t, path)
			dir, err := datadir.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			n, err := openNode(t.Context(), dir, nodeOptions{
				log: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry(), disk: catalog.LocalDisk{}, now: time.Now,
			})
			if err == nil {
				_ = n.close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			for file, b := range contents(t, path) {
				if was, there := before[file]; (!there && !strings.HasSuffix(file, "-shm") && !strings.HasSuffix(file, "-wal")) || there && was != b {
					t.Errorf("%s has changed", file)
				}
			}
		})
	}
}

// The file of a key makes what is encrypted under it unreadable, and no more.
func TestNewerKeyFiles(t *testing.T) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for pattern, sum := range map[string]func(b []byte){
		"keys/domains/*": func(b []byte) {
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		},
		"keys/kms/*-*": func(b []byte) {
			binary.LittleEndian.PutUint32(b[92:], crc32.Update(crc32.Checksum(b[:32], castagnoli), castagnoli, b[96:]))
		},
	} {
		t.Run(filepath.Base(filepath.Dir(pattern)), func(t *testing.T) {
			path := newestFixture(t)
			file := one(t, filepath.Join(path, pattern))
			raise(t, file, sum)
			before := contents(t, path)[file]
			n, dir := openFixture(t, path)
			defer closeFixture(t, n, dir)
			page, err := n.service.Describe(t.Context(), fixtureCaller, snapshot.DescribeRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range page.Snapshots {
				x := &page.Snapshots[i]
				image, err := n.service.OpenImage(t.Context(), fixtureCaller, x.ID)
				if err == nil {
					for _, readErr := range image.Read(t.Context(), nil, 0, 11*block.Size) {
						err = errors.Join(err, readErr)
					}
				}
				if (err != nil) != x.Encrypted() {
					t.Errorf("%s, encrypted %v: got %v", x.ID, x.Encrypted(), err)
				}
			}
			if contents(t, path)[file] != before {
				t.Error("the file was changed")
			}
		})
	}
}

func newestFixture(t *testing.T) string {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join("testdata", "store-*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("got %d fixtures, %v", len(archives), err)
	}
	return unpack(t, archives[len(archives)-1])
}

// one is a file that matches.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: got %v, %v", pattern, found, err)
	}
	return found[0]
}

// raise gives a file with a version at byte 8 the version 99.
func raise(t *testing.T, path string, sum func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[8], b[9] = 99, 0
	sum(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// contents are the files of the folder that a refusal leaves as they are.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" || strings.HasSuffix(path, "-shm") {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
