// Package postgrestest starts a real PostgreSQL, for tests.
package postgrestest

import (
	"bufio"
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// A Server is a PostgreSQL of its own, on a free port of 127.0.0.1. It ends
// with the process that started it, however that ends.
type Server struct {
	bin, dir string // of its programs, and for its files
	port     int
	run      *syscall.Credential // nil for this process's
	alive    io.WriteCloser      // the server ends when this is closed
}

// memory is a folder that is kept in memory: no test of shale's is one of
// PostgreSQL's syncs.
const memory = "/dev/shm"

// server.sh has a server run until its standard input ends.
//
//go:embed server.sh
var script string

// Start starts a server and ends it with the test. The test is skipped where
// PostgreSQL is not installed.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartIn(t, memory)
}

// StartIn is Start with a folder for the server's files.
func StartIn(t testing.TB, folder string) *Server {
	t.Helper()
	s, err := start(folder)
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		t.Skip(skipped)
	}
	t.Cleanup(func() { _ = s.alive.Close() })
	return s
}

const skipped = "PostgreSQL is not installed: initdb is neither in PATH nor in /usr/lib/postgresql/*/bin"

// shared is the server of all tests of a process, nil where there is none.
var shared = sync.OnceValues(func() (*Server, error) { return start(memory) })

// schemas counts those that were made.
var schemas atomic.Int64

// URL gives a fresh, empty schema on the server that the tests of this process
// share, or on the one whose URL is in SHALE_TEST_POSTGRES. The test is skipped
// where there is none.
func URL(t testing.TB) string {
	t.Helper()
	base := os.Getenv("SHALE_TEST_POSTGRES")
	if base == "" {
		s, err := shared()
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			t.Skip(skipped)
		}
		base = s.URL()
	}
	return Schema(t, base)
}

// Schema makes an empty schema in the database of the URL, removes it when the
// test ends, and gives the URL that leads to it.
func Schema(t testing.TB, base string) string {
	t.Helper()
	name := fmt.Sprintf("shale_test_%d_%d", os.Getpid(), schemas.Add(1))
	Exec(t, base, "CREATE SCHEMA "+name)
	t.Cleanup(func() { Exec(t, base, "DROP SCHEMA "+name+" CASCADE") })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// Exec runs statements in the database of a URL.
func Exec(t testing.TB, url, statements string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// URL leads to the server's own database.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://postgres:hunter2@127.0.0.1:%d/postgres?sslmode=disable", s.port)
}

// Restart ends the server, in the mode of pg_ctl ("fast", or "immediate" for
// as in a crash), and starts it again with the same files.
func (s *Server) Restart(t testing.TB, mode string) {
	t.Helper()
	s.control(t, "stop", "-m", mode)
	s.control(t, "start", "-l", filepath.Join(s.dir, "log"))
}

// Stop ends the server, until Restart.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.control(t, "stop", "-m", "immediate")
}

// Begin starts the server after Stop.
func (s *Server) Begin(t testing.TB) {
	t.Helper()
	s.control(t, "start", "-l", filepath.Join(s.dir, "log"))
}

func (s *Server) control(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(s.bin, "pg_ctl"),
		append([]string{"-D", filepath.Join(s.dir, "data"), "-w", "-s"}, args...)...)
	s.as(cmd)
	if err := cmd.Run(); err != nil {
		t.Fatalf("pg_ctl %v: %v", args, err)
	}
}

// as has a command run as who may run the server: it refuses root.
func (s *Server) as(cmd *exec.Cmd) {
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.run, Setpgid: true}
}

// start starts a server with its files in the folder, or in that for temporary
// files if it does not exist; it is nil if there is no PostgreSQL here.
func start(folder string) (*Server, error) {
	s := &Server{bin: binaries()}
	if s.bin == "" {
		return nil, nil
	}
	var err error
	if s.dir, err = os.MkdirTemp(folder, "shale-postgres-"); err != nil {
		s.dir, err = os.MkdirTemp("", "shale-postgres-")
	}
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.run = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", script, "sh", s.bin, s.dir, strconv.Itoa(s.port))
	s.as(cmd)
	if s.alive, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	said, err := lines.ReadString('\n')
	if err != nil || said != "ready\n" {
		rest, _ := io.ReadAll(lines)
		return nil, fmt.Errorf("start PostgreSQL: %s%s: %w", said, rest, cmd.Wait())
	}
	return s, nil
}

// binaries is the folder of PostgreSQL's programs, empty if there is none.
// Debian keeps those of servers outside of PATH.
func binaries() string {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(initdb)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is right
	if len(found) == 0 {
		return ""
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1])
}

func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// servers counts those that this process has started.
var servers atomic.Int64

// freePort looks below the ports that the kernel gives to whoever asks for
// any, from a place of this process's and this server's own, so that nobody
// takes it before the server does.
func freePort() (int, error) {
	first := 20_000 + os.Getpid()%500*20 + int(servers.Add(1))%20
	for port := first; port < 30_020; port += 20 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no port that follows %d in twenties is free", first)
}
