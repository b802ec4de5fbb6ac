package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"shale/internal/audit"
)

func open(t testing.TB, path string, keep int) (*audit.File, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	f, err := audit.OpenFile(path, keep, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return f, log
}

func mustWrite(t testing.TB, f *audit.File, text string) {
	t.Helper()
	if n, err := f.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write(%q): %d, %v", text, n, err)
	}
}

func mustClose(t testing.TB, f *audit.File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// files are the contents of a folder's files by name.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().IsRegular() && info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v: %v", e.Name(), info.Mode(), err)
		}
		b, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		found[e.Name()] = string(b)
	}
	return found
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	f, log := open(t, filepath.Join(dir, "a"), 2)
	f.Limit(8)
	for _, line := range []string{"1\n", "22\n", "333\n", "4444\n", "too long for any file\n", "6\n"} {
		mustWrite(t, f, line)
	}
	if got := fmt.Sprint(files(t, dir)); got != "map[a:6\n a.1:too long for any file\n a.2:4444\n]" {
		t.Errorf("got %q", got)
	}
	mustClose(t, f)

	// Where fewer are kept, what is older goes.
	f, _ = open(t, filepath.Join(dir, "a"), 1)
	f.Limit(3)
	mustWrite(t, f, "7\n")
	if got := fmt.Sprint(files(t, dir)); got != "map[a:7\n a.1:6\n]" {
		t.Errorf("got %q", got)
	}
	mustClose(t, f)
	if log.Len() > 0 {
		t.Errorf("log %q", log)
	}
}

// Rotating under concurrent calls loses no line, breaks none, and keeps those of
// one caller in their order.
func TestRotationLosesNothing(t *testing.T) {
	const callers, calls = 8, 300
	dir := t.TempDir()
	f, _ := open(t, filepath.Join(dir, "a"), 100)
	f.Limit(16 << 10)
	trail := audit.NewTrail(audit.Options{Out: f})
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range calls {
				trail.Write(&audit.Event{RequestID: fmt.Sprint(i), ID: fmt.Sprint(caller), Record: trail.NewRecord()})
			}
		})
	}
	wg.Wait()
	mustClose(t, f)
	found := files(t, dir)
	next := map[string]int{}
	for n := len(found) - 1; n >= 0; n-- {
		name := "a"
		if n > 0 {
			name = fmt.Sprintf("a.%d", n)
		}
		if len(found[name]) > 16<<10 || !strings.HasSuffix(found[name], "\n") {
			t.Fatalf("%s has %d bytes", name, len(found[name]))
		}
		for line := range strings.Lines(found[name]) {
			var e struct{ EventID, RequestID string }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if e.RequestID != fmt.Sprint(next[e.EventID]) {
				t.Fatalf("%s: call %s of %s, want %d", name, e.RequestID, e.EventID, next[e.EventID])
			}
			next[e.EventID]++
		}
	}
	for caller, n := range next {
		if n != calls {
			t.Errorf("%s left %d lines", caller, n)
		}
	}
	if len(next) != callers || len(found) < 40 {
		t.Errorf("%d callers in %d files", len(next), len(found))
	}
}

// A file that cannot be rotated is written on, and says so once in a while.
func TestRotationFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a.1", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, log := open(t, filepath.Join(dir, "a"), 1)
	f.Limit(10)
	for range 30 {
		mustWrite(t, f, "1\n")
	}
	mustClose(t, f)
	if got := files(t, dir)["a"]; got != strings.Repeat("1\n", 30) {
		t.Errorf("got %q", got)
	}
	if n := strings.Count(log.String(), "cannot be rotated"); n != 5 {
		t.Errorf("log %q", log)
	}
}

// A line that a crash of the machine cut short spoils no other.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte("whole\nto"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"1\n", "2\n"} {
		f, _ := open(t, path, 1)
		mustWrite(t, f, line)
		mustClose(t, f)
	}
	if got := files(t, dir)["a"]; got != "whole\nto\n1\n2\n" {
		t.Errorf("got %q", got)
	}
}

// A write that the disk takes a part of leaves nothing. The limit stands for a
// full disk, and is the whole process's: this test runs alone.
func TestFullDisk(t *testing.T) {
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, _ := open(t, filepath.Join(dir, "a"), 1)
	mustWrite(t, f, "12345\n")
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 10, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	n, err := f.Write([]byte("67890123\n"))
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if n != 0 || err == nil {
		t.Errorf("a part was written: %d, %v", n, err)
	}
	mustWrite(t, f, "x\n")
	mustClose(t, f)
	if got := files(t, dir)["a"]; got != "12345\nx\n" {
		t.Errorf("got %q", got)
	}
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f, _ := open(t, path, 1)
	if _, err := audit.OpenFile(path, 1, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	mustClose(t, f)
	f, _ = open(t, path, 1)
	mustClose(t, f)
	for _, path := range []string{dir, filepath.Join(dir, "none", "a")} {
		if _, err := audit.OpenFile(path, 1, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("opened %s", path)
		}
	}
}
