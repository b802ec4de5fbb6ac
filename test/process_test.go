package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// refusesToStart runs a server that has to end by itself, and checks that it
// says why in one line that holds the given words.
func refusesToStart(t *testing.T, dir, listen string, words ...string) {
	t.Helper()
	out, errs, status := runShale(t, "serve", "--data-dir", dir, "--listen", listen)
	if status == 0 {
		t.Error("exit status 0")
	}
	if out != "" {
		t.Errorf("standard output: %q", out)
	}
	if strings.Count(errs, "\n") != 1 {
		t.Errorf("want one line, got %q", errs)
	}
	for _, word := range words {
		if !strings.Contains(errs, word) {
			t.Errorf("the message %q does not name %q", errs, word)
		}
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	refusesToStart(t, s.dir, "127.0.0.1:0", s.dir)
	s.wire(t).usable()
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	s.start(t)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refusesToStart(t, filepath.Join(t.TempDir(), "data"), l.Addr().String(), l.Addr().String())
}

func TestFolderThatIsNone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	refusesToStart(t, file, "127.0.0.1:0", file)
	refusesToStart(t, filepath.Join(file, "below"), "127.0.0.1:0", file)
	if got := string(readFile(t, file)); got != "mine" {
		t.Errorf("the file now holds %q", got)
	}
}

func TestFolderNotWritable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // to whom every folder is writable, but for those of the kernel
		dir = "/proc/self"
	}
	refusesToStart(t, filepath.Join(dir, "data"), "127.0.0.1:0", dir)
}

// TestFullDisk fills the disk under a server: writes are refused, reads and
// deletions go on, and with room again so do writes.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("no small disk to fill: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := startServerIn(t, filepath.Join(dir, "data"))
	u := uploader{s.ebs(t), s.ec2(t)}
	done, _ := u.upload(t, denseFile(t, 4), nil, "")
	started, err := u.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	random := func(index int) []byte { return (&job{number: 1}).content(8*index+3, 1) }
	written := 0
	for ; written < 200; written++ {
		if err = putBlock(t.Context(), u.ebs, *started.SnapshotId, written, random(written)); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatalf("%d blocks went onto a disk of 96 MiB", written)
	}
	t.Logf("after %d blocks: %v", written, err)
	if written == 0 {
		t.Error("not a block went onto the disk")
	}
	if !s.running() {
		t.Fatal("the server ended")
	}
	for range 5 { // still refused, still running
		if err := putBlock(t.Context(), u.ebs, *started.SnapshotId, written, random(written)); err == nil {
			t.Error("a block went onto the full disk")
		}
	}
	var blocks atomic.Int32
	err = eachBlock(t.Context(), u.ebs, done, func(int, []byte) error { blocks.Add(1); return nil })
	if err != nil || blocks.Load() != 4 {
		t.Errorf("read on a full disk: %d blocks, %v", blocks.Load(), err)
	}
	if _, err := u.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &done}); err != nil {
		t.Errorf("delete on a full disk: %v", err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=256m"); err != nil {
		t.Fatal(err)
	}
	if err := putBlock(t.Context(), u.ebs, *started.SnapshotId, written, random(written)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
}

// TestDrain asks the server to stop while a block is on its way.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	snapshot := s.startSnapshot(t)
	w := s.wire(t)
	w.send(s.head(t, put(snapshot, "0", secretBlock, "Content-Length: 524288")), secretBlock[:blockSize/2])
	time.Sleep(100 * time.Millisecond) // until the server has the request
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", s.address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			c.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal("new connections are still taken")
		}
	}
	w.send(secretBlock[blockSize/2:])
	if r := w.reply(); r.status != 201 {
		t.Errorf("the block on its way: %v", r)
	}
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("the server goes on with nothing to do")
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	s.start(t)
	if err := putBlock(t.Context(), s.ebs(t), snapshot, 1, secretBlock); err != nil {
		t.Error(err)
	}
}

// TestDrainIsBounded has a client that never ends its request.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	snapshot := s.startSnapshot(t)
	w := s.wire(t)
	w.send(s.head(t, put(snapshot, "0", secretBlock, "Content-Length: 524288")))
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	s.stop(t)
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestEnv evaluates what shale env prints in a shell whose own variables lead
// elsewhere.
func TestEnv(t *testing.T) {
	t.Parallel()
	s := startServerIn(t, filepath.Join(t.TempDir(), "it's a folder"))
	const script = `eval "$("$0" env --data-dir "$1")"; env`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, program, s.dir)
	hostile := []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION",
		"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EBS", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_S3",
	}
	cmd.Env = append(os.Environ(), "AWS_CONFIG_FILE=/elsewhere")
	for _, name := range hostile {
		cmd.Env = append(cmd.Env, name+"=elsewhere")
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		got[name] = value
	}
	for _, name := range hostile {
		if value, ok := got[name]; ok {
			t.Errorf("%s is still %q", name, value)
		}
	}
	for name, file := range map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"} {
		if want := filepath.Join(s.dir, file); got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	for _, file := range []string{"credentials", "config"} {
		info, err := os.Stat(filepath.Join(s.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", file, mode)
		}
	}
}

// TestClientCommands takes an image through shale's own upload and download.
func TestClientCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	data := bytes.Repeat(secretBlock, 5)
	data = append(data, make([]byte, 3*blockSize)...)
	data = append(data, "an end that is no whole block"...)
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + s.address
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append(args, "--endpoint-url", endpoint)...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_STATE_HOME="+dir,
			"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(s.dir, "credentials"), "AWS_CONFIG_FILE="+filepath.Join(s.dir, "config"))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("shale %s: %v\n%s", strings.Join(args, " "), err, errs.Bytes())
		}
		return out
	}
	var uploaded struct {
		SnapshotID string `json:"snapshot_id"`
		BlocksSent int    `json:"blocks_sent"`
		BytesSent  int64  `json:"bytes_sent"`
	}
	if err := json.Unmarshal(run("upload", image, "--json"), &uploaded); err != nil {
		t.Fatal(err)
	}
	if uploaded.BlocksSent != 6 || uploaded.BytesSent != 6*blockSize {
		t.Errorf("upload: %+v, want 6 blocks", uploaded)
	}
	restored := filepath.Join(dir, "restored")
	run("download", uploaded.SnapshotID, restored)
	if !bytes.Equal(readFile(t, restored), data) {
		t.Error("the image came back changed")
	}
	if out := run("list"); !bytes.Contains(out, []byte(uploaded.SnapshotID)) {
		t.Errorf("list: %s", out)
	}
	run("delete", uploaded.SnapshotID)
	if out := run("list"); bytes.Contains(out, []byte(uploaded.SnapshotID)) {
		t.Errorf("list after delete: %s", out)
	}
}
