package main

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"shale/internal/bearer"
	"shale/internal/block"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shale": main})
}

// TestScript runs the commands as a person would, against `shale serve`. The
// scripts have these commands besides testscript's own:
//
//	server DIR [FLAGS]     starts a server on DIR; sets $server to its address
//	                       and the environment as `shale env` would
//	restart DIR            kills that server at once and starts it again
//	halt                   ends that server as SIGTERM does
//	spoil DIR FILE INDEX   flips a bit of the block of the image, where it lies in
//	                       a segment of the data folder
//	image FILE BYTES [INDEX=SEED …]
//	                       makes a sparse image; SEED 0 writes zeros, an INDEX
//	                       of the form A-B a run of blocks, each of its own
//	keep NAME              sets $NAME to the stdout of the last command
//	answer STATUS URL [TOKEN]
//	                       gets the URL, with a bearer token if there is one,
//	                       and fails if the answer has another status
//	tokenid TOKEN NAME     sets $NAME to the ID in a bearer token
//	sparse FILE            fails if FILE takes as much disk as it has bytes
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			env.Values[serverKey{}] = new(*exec.Cmd)
			return nil
		},
		// None may have the name of a command of testscript's own, which would be
		// run in its place: stop ends a script as passed.
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server":  startServer,
			"restart": restartServer,
			"halt":    stopServer,
			"spoil":   spoilBlock,
			"image":   makeImage,
			"keep":    keepOutput,
			"answer":  checkAnswer,
			"tokenid": keepTokenID,
			"sparse":  checkSparse,
		},
	})
}

// serverKey is where a script keeps its server, a *exec.Cmd.
type serverKey struct{}

func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: server DIR [FLAGS]")
	}
	dir := ts.MkAbs(args[0])
	serve(ts, dir, "127.0.0.1:0", args[1:])
	ts.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	ts.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
}

func restartServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: restart DIR")
	}
	running := *ts.Value(serverKey{}).(**exec.Cmd)
	ts.Check(running.Process.Kill())
	if err := running.Wait(); err == nil {
		ts.Fatalf("restart: the server ended before it was killed")
	}
	serve(ts, ts.MkAbs(args[0]), strings.TrimPrefix(ts.Getenv("server"), "http://"), nil)
}

func stopServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: halt")
	}
	running := *ts.Value(serverKey{}).(**exec.Cmd)
	ts.Check(errors.Join(running.Process.Signal(syscall.SIGTERM), running.Wait()))
}

func spoilBlock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: spoil DIR FILE INDEX")
	}
	index, err := strconv.Atoi(args[2])
	ts.Check(err)
	image := []byte(ts.ReadFile(args[1]))
	wanted := image[index*block.Size:][:block.Size]
	segments, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "segments", "*.seg"))
	ts.Check(err)
	for _, path := range segments {
		b, err := os.ReadFile(path)
		ts.Check(err)
		if at := bytes.Index(b, wanted); at >= 0 {
			b[at+1000] ^= 1
			ts.Check(os.WriteFile(path, b, 0o600))
			return
		}
	}
	ts.Fatalf("block %d of %s lies in no segment", index, args[1])
}

// serve starts a server and returns once it is ready. The script's end stops
// it.
func serve(ts *testscript.TestScript, dir, listen string, flags []string) {
	cmd := exec.Command(shaleBinary(ts), append([]string{"serve", "--data-dir", dir, "--listen", listen}, flags...)...)
	cmd.Dir = ts.Getenv("WORK")
	log, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	defer log.Close() // the server has its own
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if cmd.ProcessState != nil {
			return // restarted
		}
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			ts.Logf("server: %v", err)
		}
	})
	ready, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(ready)
	if err != nil || len(fields) < 2 || fields[0] != "ready:" {
		ts.Fatalf("server: got %q, %v, want a line with its address; it says:\n%s", ready, err, ts.ReadFile(dir+".log"))
	}
	ts.Setenv("server", fields[1])
	*ts.Value(serverKey{}).(**exec.Cmd) = cmd
}

// shaleBinary finds the test binary under the name of the command.
func shaleBinary(ts *testscript.TestScript) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, "shale")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	ts.Fatalf("no shale in PATH")
	return ""
}

func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: image FILE BYTES [INDEX=SEED …]")
	}
	length, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(length))
	for _, arg := range args[2:] {
		indexes, seed, ok := strings.Cut(arg, "=")
		first, last, isRun := strings.Cut(indexes, "-")
		if !isRun {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		n, err3 := strconv.Atoi(seed)
		if err := errors.Join(err1, err2, err3); !ok || err != nil {
			ts.Fatalf("image: %q: %v", arg, err)
		}
		for i := from; i <= to; i++ {
			at := int64(i) * block.Size
			b := make([]byte, min(block.Size, length-at))
			if n != 0 {
				_, err := rand.NewChaCha8([32]byte{byte(n), byte(i - from), byte((i - from) >> 8)}).Read(b)
				ts.Check(err)
			}
			_, err = f.WriteAt(b, at)
			ts.Check(err)
		}
	}
}

func keepOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func checkAnswer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: answer STATUS URL [TOKEN]")
	}
	r, err := http.NewRequest(http.MethodGet, args[1], http.NoBody)
	ts.Check(err)
	if len(args) == 3 {
		r.Header.Set("Authorization", "Bearer "+args[2])
	}
	answer, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer answer.Body.Close()
	if strconv.Itoa(answer.StatusCode) != args[0] {
		ts.Fatalf("%s: got status %d, want %s", args[1], answer.StatusCode, args[0])
	}
	if challenge := answer.Header.Get("Www-Authenticate"); (challenge == "Bearer") != (args[0] == "401") {
		ts.Fatalf("%s: the challenge is %q", args[1], challenge)
	}
}

func keepTokenID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tokenid TOKEN NAME")
	}
	id, _, ok := bearer.Parse(args[0])
	if !ok {
		ts.Fatalf("%s is no token", args[0])
	}
	ts.Setenv(args[1], id)
}

func checkSparse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sparse FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used >= info.Size() {
		ts.Fatalf("%s has %d bytes and takes %d", args[0], info.Size(), used)
	}
}
