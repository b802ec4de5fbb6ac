// Package shaletest starts a shale server for a test: a fresh one on a folder
// and a port of its own, with test controls, ready within a second and ended
// with the test. The package needs nothing but the standard library, and
// aws.go the AWS SDK for Go; both may be copied.
//
// See docs/testing-your-tool.md.
package shaletest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// startTime bounds how long the server may take to be ready.
const startTime = time.Minute

// A Server is a `shale serve` that a test may do anything with. Its methods end
// the test if they fail.
type Server struct {
	Endpoint  string // its URL
	Region    string
	AccessKey string
	Secret    string
	Dir       string // the data folder, with files config and credentials for AWS's clients

	t       testing.TB
	process *exec.Cmd
	log     string
	exited  chan struct{}
}

// Start starts the program that SHALE_BIN names, or the shale of PATH, or inside
// shale's own module what go build makes of it. Flags are further flags of shale
// serve, such as --anonymous. The server's log is shown if the test fails.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	program, err := find()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &Server{t: t, Dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	out, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.process = exec.Command(program, append([]string{"serve", "--data-dir", s.Dir, "--listen", "127.0.0.1:0", "--test-controls"}, flags...)...)
	s.process.Stdout, s.process.Stderr = out, out
	endWithParent(s.process)
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.process.Wait() // it is in ProcessState
		close(s.exited)
	}()
	t.Cleanup(s.stop)
	s.await()
	s.readKeys()
	return s
}

// find gives the path of the program.
var find = sync.OnceValues(func() (string, error) {
	if program := os.Getenv("SHALE_BIN"); program != "" {
		return program, nil
	}
	if program, err := exec.LookPath("shale"); err == nil {
		return program, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	program := filepath.Join(cache, "shaletest", "shale")
	if out, err := exec.Command("go", "build", "-o", program, "shale/cmd/shale").CombinedOutput(); err != nil {
		return "", fmt.Errorf("no program shale in PATH, SHALE_BIN names none, and it cannot be built here: %w\n%s", err, out)
	}
	return program, nil
})

var readyLine = regexp.MustCompile(`(?m)^.*\bready\b.*?(http://[^ ]+)`)

// await waits until the server is ready.
func (s *Server) await() {
	s.t.Helper()
	for deadline := time.Now().Add(startTime); ; time.Sleep(2 * time.Millisecond) {
		text, err := os.ReadFile(s.log)
		if err != nil {
			s.t.Fatal(err)
		}
		if m := readyLine.FindSubmatch(text); m != nil {
			s.Endpoint = string(m[1])
			return
		}
		select {
		case <-s.exited:
			s.t.Fatalf("shale ended before it was ready: %v", s.process.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatal("shale is not ready after a minute")
		}
	}
}

// readKeys reads what the server wrote for AWS's clients.
func (s *Server) readKeys() {
	s.t.Helper()
	values := map[string]string{}
	for _, name := range []string{"credentials", "config"} {
		text, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); values[key] == "" { // the default profile comes first
				values[key] = strings.TrimSpace(value)
			}
		}
	}
	s.AccessKey, s.Secret, s.Region = values["aws_access_key_id"], values["aws_secret_access_key"], values["region"]
}

func (s *Server) stop() {
	interrupt := os.Interrupt
	if runtime.GOOS == "windows" {
		interrupt = os.Kill
	}
	s.process.Process.Signal(interrupt) // it may have ended by itself
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.process.Process.Kill() // as above
		<-s.exited
	}
	if s.t.Failed() {
		if text, err := os.ReadFile(s.log); err == nil {
			s.t.Logf("the log of shale:\n%s", text)
		}
	}
}

// SetBehaviour replaces the rules by which the server misbehaves:
// {"rules": [RULE…]} or {"preset": "hostile"}.
func (s *Server) SetBehaviour(rules string) {
	s.t.Helper()
	s.control(http.MethodPut, "/_test/behaviour", rules, nil)
}

// ClearBehaviour lets the server behave again, at once.
func (s *Server) ClearBehaviour() {
	s.t.Helper()
	s.control(http.MethodDelete, "/_test/behaviour", "", nil)
}

// Struck tells how often each rule has struck.
func (s *Server) Struck() []int64 {
	s.t.Helper()
	var data struct{ Rules []struct{ Struck int64 } }
	s.control(http.MethodGet, "/_test/behaviour", "", &data)
	counts := make([]int64, len(data.Rules))
	for i, r := range data.Rules {
		counts[i] = r.Struck
	}
	return counts
}

// Advance moves the server's clock forward by whole seconds, and returns when
// everything that became due has been done.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.control(http.MethodPost, "/_test/clock", fmt.Sprintf(`{"advance_seconds": %d}`, int64(d/time.Second)), nil)
}

// control sends a request to the test controls and decodes the data of the
// answer.
func (s *Server) control(method, path, body string, data any) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.Endpoint+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s: %s", method, path, answer.Status, bytes.TrimSpace(text))
	}
	if data == nil {
		return
	}
	if err := json.Unmarshal(text, &struct{ Data any }{data}); err != nil {
		s.t.Fatal(err)
	}
}
