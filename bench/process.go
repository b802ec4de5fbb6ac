package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server is a process under test and what a client needs to talk to it.
type server struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process has been waited for
	log    string        // file with everything that it printed
	signer signer
	// readyAfter is the time from the start of the process to its ready line.
	readyAfter time.Duration
}

const (
	readyTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

var readyLine = regexp.MustCompile(`(?m)^.*\bready\b.*?(127\.0\.0\.1:\d+).*$`)

// launch starts a server and waits for its ready line. The output goes to a
// file, not through this process, which would take processor time from it.
func launch(name, log string, argv ...string) (*server, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s := &server{name: name, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{}), log: log}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	// Should bench be killed, its servers go with it.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		s.cmd.Wait() //nolint:errcheck // the state is in cmd.ProcessState
		close(s.exited)
	}()
	for {
		text, err := os.ReadFile(log)
		if err != nil {
			return nil, err
		}
		if m := readyLine.FindSubmatch(text); m != nil {
			s.readyAfter = time.Since(began)
			s.signer.host = string(m[1])
			return s, nil
		}
		select {
		case <-s.exited:
			return nil, fmt.Errorf("%s ended before it was ready (%v):\n%s", name, s.cmd.ProcessState, text)
		case <-time.After(time.Millisecond):
		}
		if time.Since(began) > readyTimeout {
			s.kill()
			return nil, fmt.Errorf("%s is not ready after %v:\n%s", name, readyTimeout, text)
		}
	}
}

// launchShale starts shale on the data folder dir and takes the credentials
// that it put there.
func launchShale(program, dir, log string) (*server, error) {
	s, err := launch("shale", log, program, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--anonymous")
	if err != nil {
		return nil, err
	}
	credentials, err := readINI(filepath.Join(dir, "credentials"))
	if err != nil {
		return nil, err
	}
	config, err := readINI(filepath.Join(dir, "config"))
	if err != nil {
		return nil, err
	}
	s.signer.accessKey = credentials["aws_access_key_id"]
	s.signer.secretKey = credentials["aws_secret_access_key"]
	s.signer.region = config["region"]
	return s, nil
}

// launchReference starts the reference server, which takes any signature, on a
// new file.
func launchReference(program, file, log string) (*server, error) {
	s, err := launch("reference", log, program, "-file", file)
	if err != nil {
		return nil, err
	}
	s.signer.accessKey, s.signer.secretKey, s.signer.region = "AKIDEXAMPLE00000REFE", strings.Repeat("x", 40), "us-east-1"
	return s, nil
}

// stop asks the server to end and waits until it has.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopTimeout):
		s.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", s.name, stopTimeout)
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill() //nolint:errcheck // it may have ended by itself
	<-s.exited
}

// clockTicks is the unit of the times in /proc/PID/stat on Linux: USER_HZ.
const clockTicks = 100

// waitIdle waits until the server has done what it does in the background. The
// count of usage rests for five seconds before it goes on with what has changed
// meanwhile, so that a shorter pause means nothing. What is measured while it
// counts is the benchmark's own doing: it looks at every block of zeros, one in a
// real store, and the prepared store has a million of them (loadBases).
func (s *server) waitIdle(ctx context.Context) error {
	const interval, idle, pause = 500 * time.Millisecond, 20 * time.Millisecond, 6 * time.Second
	before, err := s.cpu()
	for paused := time.Duration(0); err == nil && paused < pause; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
		var after time.Duration
		if after, err = s.cpu(); after-before <= idle {
			paused += interval
		} else {
			paused = 0
		}
		before = after
	}
	return err
}

// cpu returns the processor time that the process has used so far.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may hold
	// anything; utime and stime are the fields 14 and 15.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", s.cmd.Process.Pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// written returns the bytes that the process has sent to the disk so far.
func (s *server) written() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, errors.New("no write_bytes in /proc/PID/io")
}

// peakMemory returns the most resident memory that the process has had, in bytes.
func (s *server) peakMemory() (int64, error) { return s.memory("VmHWM:") }

// memory returns a line of /proc/PID/status, in bytes.
func (s *server) memory(name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/PID/status", name)
}

// readINI reads the "name = value" lines of a file with one section.
func readINI(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, "="); ok {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return values, nil
}
