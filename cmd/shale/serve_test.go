package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"shale/internal/datadir"
	"shale/internal/gateway"
)

// serving is a server in this process.
type serving struct {
	url    string
	stdout string
	log    *bytes.Buffer // to be read once it is stopped
	stop   func() error  // ends it as SIGTERM does
}

// start starts a server, or gives the error with which it refuses to start.
func start(t *testing.T, c serveCmd) (*serving, error) {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if len(c.Region) == 0 {
		c.Region = []string{"us-east-1"}
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = gateway.DefaultMaxConnections
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	failed := make(chan error, 1)
	var log bytes.Buffer
	go func() {
		err := c.Run(ctx, streams{out: in, err: &log})
		in.CloseWithError(io.EOF)
		failed <- err
	}()
	line := make([]byte, 4096)
	n, err := out.Read(line)
	if err != nil {
		cancel()
		return nil, <-failed
	}
	stop := sync.OnceValue(func() error {
		cancel()
		return <-failed
	})
	t.Cleanup(func() { _ = stop() })
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(line[:n]))
	return &serving{url: url, stdout: string(line[:n]), log: &log, stop: stop}, nil
}

func mustStart(t *testing.T, c serveCmd) *serving {
	t.Helper()
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	s := mustStart(t, serveCmd{DataDir: dir})
	if !strings.HasPrefix(s.stdout, "ready: "+s.url+" ") {
		t.Errorf("stdout %q, want a line that begins with ready and the address", s.stdout)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if status, _ := get(t, s.url+path); status != http.StatusOK {
			t.Errorf("%s: got %d", path, status)
		}
	}
	if status, _ := get(t, s.url+"/_test/clock"); status != http.StatusNotFound {
		t.Errorf("/_test/clock without test controls: got %d, want 404", status)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, want the owner's only", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	files := datadir.FilesOf(dir)
	before, _ := os.ReadFile(files.Credentials)
	config, _ := os.ReadFile(files.Config)
	if !regexp.MustCompile(`^\[default\]\naws_access_key_id = AKIA[A-Z2-7]{16}\naws_secret_access_key = \S{40}\n$`).Match(before) {
		t.Error("the credentials are not a profile with an access key")
	}
	if want := "[default]\nregion = us-east-1\nendpoint_url = " + s.url + "\n"; string(config) != want {
		t.Errorf("config:\n%s\nwant:\n%s", config, want)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	mustStart(t, serveCmd{DataDir: dir})
	if after, _ := os.ReadFile(files.Credentials); !bytes.Equal(before, after) {
		t.Error("a second start changed the credentials")
	}
}

// Every reason not to start is one clear line, and changes nothing.
func TestRefusesToStart(t *testing.T) {
	// used is a folder that was served and stopped.
	used := func(t *testing.T) string {
		dir := t.TempDir()
		if err := mustStart(t, serveCmd{DataDir: dir}).stop(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, tt := range map[string]struct {
		prepare func(t *testing.T) serveCmd
		want    string
		usage   bool
	}{
		"folder in use": {func(t *testing.T) serveCmd {
			dir := t.TempDir()
			mustStart(t, serveCmd{DataDir: dir})
			return serveCmd{DataDir: dir}
		}, fmt.Sprintf("is in use by process %d; stop it", os.Getpid()), false},
		"port in use": {func(t *testing.T) serveCmd {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return serveCmd{DataDir: t.TempDir(), Listen: l.Addr().String()}
		}, "choose another address with --listen", false},
		"a file in the folder's place": {func(t *testing.T) serveCmd {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return serveCmd{DataDir: path}
		}, "not a directory", false},
		"a folder of a newer version": {func(t *testing.T) serveCmd {
			dir := used(t)
			db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "catalog.db"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			return serveCmd{DataDir: dir}
		}, "use a newer shale", false},
		"no database but something of its name": {func(t *testing.T) serveCmd {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "catalog.db"), []byte("not a database"), 0o600); err != nil {
				t.Fatal(err)
			}
			return serveCmd{DataDir: dir}
		}, "file is not a database", false},
		"test controls on a real folder": {func(t *testing.T) serveCmd {
			return serveCmd{DataDir: used(t), TestControls: true}
		}, "--test-controls is refused on a folder whose first start was without it", true},
		"test controls for everybody": {func(t *testing.T) serveCmd {
			return serveCmd{DataDir: t.TempDir(), TestControls: true, Listen: "0.0.0.0:0"}
		}, "--test-controls is for loopback addresses only", true},
		"anonymous for everybody by mistake": {func(t *testing.T) serveCmd {
			return serveCmd{DataDir: t.TempDir(), Anonymous: anonymousLoopback, Listen: "0.0.0.0:0"}
		}, "or say --anonymous=anywhere", true},
		"a catalog that was lost": {func(t *testing.T) serveCmd {
			dir := t.TempDir()
			s := mustStart(t, serveCmd{DataDir: dir, Anonymous: anonymousLoopback})
			writeBlock(t, s.url)
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "catalog.db")); err != nil {
				t.Fatal(err)
			}
			return serveCmd{DataDir: dir}
		}, "put the right catalog back", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := tt.prepare(t)
			before := segments(t, c.DataDir)
			_, err := start(t, c)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
			var usage usageError
			if errors.As(err, &usage) != tt.usage {
				t.Errorf("a usage error: %v, want %v", !tt.usage, tt.usage)
			}
			if after := segments(t, c.DataDir); after != before {
				t.Errorf("segments were\n%s\nand are\n%s", before, after)
			}
		})
	}
}

// crash copies the folder of a running server: what a crash would leave now.
func crash(t *testing.T, dir string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return copied
}

// A start without the catalog loses nothing of what a crash left in its log.
func TestCatalogThatComesBack(t *testing.T) {
	running := t.TempDir()
	s := mustStart(t, serveCmd{DataDir: running, Anonymous: anonymousLoopback})
	writeBlock(t, s.url)
	dir := crash(t, running)
	before := segments(t, dir)
	path := filepath.Join(dir, "catalog.db")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, serveCmd{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "put the right catalog back") {
		t.Errorf("without the catalog: got %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a new catalog was begun")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	mustStart(t, serveCmd{DataDir: dir})
	if after := segments(t, dir); after != before {
		t.Errorf("segments were\n%s\nand are\n%s", before, after)
	}
}

// A block whose segment was lost is stored when it is written again, not taken
// for stored.
func TestLostSegment(t *testing.T) {
	dir := t.TempDir()
	s := mustStart(t, serveCmd{DataDir: dir, Anonymous: anonymousLoopback})
	writeBlock(t, s.url)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "segments", "0000000000000001.seg")); err != nil {
		t.Fatal(err)
	}
	s = mustStart(t, serveCmd{DataDir: dir, Anonymous: anonymousLoopback})
	writeBlock(t, s.url)
	// A header, a frame, and the block, which compresses to less than a page.
	if got := segments(t, dir); !strings.HasPrefix(got, "0000000000000002.seg 12288") {
		t.Errorf("segments:\n%s\nwant the block in a second one", got)
	}
}

// A folder with segments of another version is refused before its catalog is
// touched: the program that can read them could not read that any more.
func TestOldSegmentsAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := mustStart(t, serveCmd{DataDir: dir, Anonymous: anonymousLoopback})
	writeBlock(t, s.url)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "segments", "0000000000000001.seg")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[8] = 1
	binary.LittleEndian.PutUint32(content[56:], crc32.Checksum(content[:56], crc32.MakeTable(crc32.Castagnoli)))
	path := filepath.Join(dir, "catalog.db")
	for file, b := range map[string][]byte{name: content, path: []byte("not to be opened")} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := start(t, serveCmd{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "has format version 1, this program's are 2 to 3") {
		t.Errorf("got %v, want a refusal of the segment's version", err)
	}
}

// segments lists the segments of a folder with their lengths.
func segments(t *testing.T, dir string) string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "segments", "*"))
	var list strings.Builder
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&list, info.Name(), info.Size())
	}
	return list.String()
}

// writeBlock writes one block into a new snapshot, in the plain dialect.
func writeBlock(t *testing.T, url string) {
	t.Helper()
	r, err := http.Post(url+"/snapshots", "application/json", strings.NewReader(`{"volume_size":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	answer, _ := io.ReadAll(r.Body)
	id := regexp.MustCompile(`snap-[0-9a-f]+`).FindString(string(answer))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/snapshots/"+id+"/blocks/0",
		bytes.NewReader(bytes.Repeat([]byte("x"), 512<<10)))
	if err != nil {
		t.Fatal(err)
	}
	r, err = http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if answer, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusCreated {
		t.Fatalf("write of a block: %d %s", r.StatusCode, answer)
	}
}

// The clock moves as told, and its folder can be served again.
func TestTestControls(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s := mustStart(t, serveCmd{DataDir: dir, TestControls: true})
		if !strings.Contains(s.stdout, "[test controls]") {
			t.Errorf("the ready line %q does not say that test controls are on", s.stdout)
		}
		r, err := http.Post(s.url+"/_test/clock", "application/json", strings.NewReader(`{"advance_seconds": 3600}`))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusOK || !strings.Contains(string(answer), `"offset_seconds":3600`) {
			t.Errorf("advance: got %d %s", r.StatusCode, answer)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(s.log.String(), "level=WARN msg=\"test controls are on") {
			t.Errorf("the log does not say that test controls are on:\n%s", s.log)
		}
	}
}

// A stop lets a request in progress finish.
func TestStopDrains(t *testing.T) {
	s := mustStart(t, serveCmd{DataDir: t.TempDir(), Anonymous: anonymousLoopback})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"volume_size":1}`
	fmt.Fprintf(conn, "POST /snapshots HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:5])
	for { // until the server has taken the request
		if _, metrics := get(t, s.url+"/metrics"); strings.Contains(metrics, "shale_http_requests_in_flight 2") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("stopped before the request was answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	fmt.Fprint(conn, body[5:])
	answer := make([]byte, 1000)
	if n, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 201 ") {
		t.Errorf("got %q, %v, want 201", answer[:n], err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
