package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// program is the path of the shale that the tests run.
var program string

// TestMain takes the program that SHALE_BIN names, or else builds it.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() { // the SDK would prefer these to the server's files
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(func() int {
		if program = os.Getenv("SHALE_BIN"); program != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "shale-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "shale")
		build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/shale")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "go build:", err)
			return 1
		}
		os.Setenv("SHALE_BIN", program) // for shaletest
		return m.Run()
	}())
}

// A server is a `shale serve` on a folder and a free port.
type server struct {
	dir     string
	flags   []string
	address string // host:port

	cmd    *exec.Cmd
	log    string // file with everything that it printed
	exited chan struct{}
}

// startServer starts a server on a fresh folder and ends it with the test.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	return startServerIn(t, filepath.Join(t.TempDir(), "data"), flags...)
}

func startServerIn(t *testing.T, dir string, flags ...string) *server {
	t.Helper()
	s := &server{dir: dir, flags: flags, log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() {
		if s.running() {
			s.kill()
		}
		if t.Failed() {
			t.Logf("the server's log:\n%.20000s", s.output(t))
		}
	})
	s.start(t)
	return s
}

var readyLine = regexp.MustCompile(`(?m)^ready: https?://(\S+:\d+)`)

// start starts the process and waits until it is ready.
func (s *server) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(s.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	before := len(s.output(t))
	s.cmd = exec.Command(program, append([]string{"serve", "--data-dir", s.dir, "--listen", "127.0.0.1:0"}, s.flags...)...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.exited = make(chan struct{})
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait() // what became of it is in ProcessState
		close(s.exited)
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		text := s.output(t)[before:]
		if m := readyLine.FindStringSubmatch(text); m != nil {
			s.address = m[1]
			return
		}
		if !s.running() {
			t.Fatalf("the server ended before it was ready, %v:\n%s", s.cmd.ProcessState, text)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not ready after a minute:\n%s", text)
		}
	}
}

func (s *server) running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// kill ends the process at once.
func (s *server) kill() {
	s.cmd.Process.Kill() // it may have ended by itself
	<-s.exited
}

// stop asks the process to end and returns its exit status.
func (s *server) stop(t *testing.T) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(time.Minute):
		s.kill()
		t.Fatal("the server did not end within a minute of SIGTERM")
	}
	return s.cmd.ProcessState.ExitCode()
}

// output returns what the server has printed so far.
func (s *server) output(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// config is what the AWS SDK makes of the files in the data folder. A failed
// request is not tried again.
func (s *server) config(t *testing.T) aws.Config {
	t.Helper()
	c, err := config.LoadDefaultConfig(context.Background(),
		config.WithSharedCredentialsFiles([]string{filepath.Join(s.dir, "credentials")}),
		config.WithSharedConfigFiles([]string{filepath.Join(s.dir, "config")}),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *server) ebs(t *testing.T) *ebs.Client {
	t.Helper()
	return ebs.NewFromConfig(s.config(t))
}

func (s *server) ec2(t *testing.T) *ec2.Client {
	t.Helper()
	return ec2.NewFromConfig(s.config(t))
}

// secret is the secret key of the server's account.
func (s *server) secret(t *testing.T) string {
	t.Helper()
	c, err := s.config(t).Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.SecretAccessKey
}

// openFiles counts the file descriptors of the process.
func (s *server) openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// runShale runs a command of the program to its end.
func runShale(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("shale %s: %v", strings.Join(args, " "), errors.Join(err, ctx.Err()))
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
