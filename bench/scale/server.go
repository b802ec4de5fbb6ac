package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"shale/internal/block"
)

// A server is the real program on the folder.
type server struct {
	cmd    *exec.Cmd
	exited chan struct{}
	url    string
	key    aws.Credentials
	client *http.Client
	page   []byte        // the last long answer; one is asked for at a time
	ready  time.Duration // from the start of the process to its ready line
}

var readyLine = regexp.MustCompile(`(?m)^ready: (http://127\.0\.0\.1:\d+)`)

// launch starts shale on the folder and waits until it is ready.
func launch(program, dir string) (*server, error) {
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &server{
		cmd:    exec.Command(program, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0"),
		exited: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}},
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.cmd.Wait() //nolint:errcheck // the state is in cmd.ProcessState
		close(s.exited)
	}()
	for {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			return nil, err
		}
		if m := readyLine.FindSubmatch(text); m != nil {
			s.ready = time.Since(began)
			s.url = string(m[1])
			return s, s.readKey(filepath.Join(dir, "credentials"))
		}
		select {
		case <-s.exited:
			return nil, fmt.Errorf("shale ended before it was ready (%v):\n%s", s.cmd.ProcessState, text)
		case <-time.After(time.Millisecond):
		}
		if time.Since(began) > time.Minute {
			s.kill()
			return nil, fmt.Errorf("shale is not ready after a minute:\n%s", text)
		}
	}
}

func (s *server) readKey(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		switch name {
		case "aws_access_key_id":
			s.key.AccessKeyID = value
		case "aws_secret_access_key":
			s.key.SecretAccessKey = value
		}
	}
	return nil
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(time.Minute):
		s.kill()
		return errors.New("shale did not end within a minute of SIGTERM")
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill() //nolint:errcheck // it may have ended by itself
	<-s.exited
}

func (s *server) peakMemory() (float64, error) { return peakMemory(strconv.Itoa(s.cmd.Process.Pid)) }

const unsignedPayload = "UNSIGNED-PAYLOAD"

// do sends a signed request and gives the answer's body.
func (s *server) do(ctx context.Context, service, method, path string, body []byte, headers ...string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	payload := unsignedPayload
	if method != http.MethodPut {
		sum := sha256.Sum256(body)
		payload = hex.EncodeToString(sum[:])
	}
	r.Header.Set("X-Amz-Content-Sha256", payload)
	if err := v4.NewSigner().SignHTTP(ctx, s.key, r, payload, service, region, time.Now()); err != nil {
		return nil, err
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := s.read(answer)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, answer.Status, text)
	}
	return text, err
}

// read reads an answer of which nothing is kept once the next one is read, if it
// is a page.
func (s *server) read(answer *http.Response) ([]byte, error) {
	if answer.ContentLength < mib/2 {
		return io.ReadAll(answer.Body)
	}
	s.page = slices.Grow(s.page[:0], int(answer.ContentLength))[:answer.ContentLength]
	_, err := io.ReadFull(answer.Body, s.page)
	return s.page, err
}

// runID is another for each process, so that its blocks are those of no other.
var runID = func() (b [16]byte) {
	_, _ = rand.Read(b[:]) // never fails
	return b
}()

var filling = func() []byte {
	b := make([]byte, block.Size)
	_, _ = rand.Read(b)
	return b
}()

// newBlock is a block that no snapshot has, another for each number.
func newBlock(number uint64) []byte {
	b := bytes.Clone(filling)
	copy(b, runID[:])
	binary.LittleEndian.PutUint64(b[16:], number)
	return b
}
