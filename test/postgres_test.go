package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"golang.org/x/sync/errgroup"

	"shale/internal/catalog/postgrestest"
)

// startOnPostgres starts a server whose catalog is in a PostgreSQL of its own.
func startOnPostgres(t *testing.T) (s *server, pg *postgrestest.Server, url string) {
	t.Helper()
	pg = postgrestest.Start(t)
	url = postgrestest.Schema(t, pg.URL())
	return startServer(t, "--catalog", url), pg, url
}

// The main job with the catalog in PostgreSQL: a disk goes in, the server is
// killed, and the disk comes out.
func TestPostgres(t *testing.T) {
	t.Parallel()
	s, _, url := startOnPostgres(t)
	u := uploader{s.ebs(t), s.ec2(t)}
	file := denseFile(t, 40)
	id, _ := u.upload(t, file, nil, "")
	started, err := u.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &id})
	if err != nil {
		t.Fatal(err)
	}
	child := *started.SnapshotId
	fresh := (&job{number: 1}).content(8, 1)
	if err := putBlock(t.Context(), u.ebs, child, 7, fresh); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.start(t)
	u = uploader{s.ebs(t), s.ec2(t)}
	if !bytes.Equal(u.download(t, id)[:40*blockSize], readFile(t, file)) {
		t.Error("the disk came back changed")
	}
	completed(t, u, child, 1)
	err = eachBlock(t.Context(), u.ebs, child, func(index int, data []byte) error {
		if want := index == 7; bytes.Equal(data, fresh) != want {
			t.Errorf("block %d is the one that was written: %v, want %v", index, !want, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	token, errs, status := runShale(t, "token", "create", "--data-dir", s.dir, "--catalog", url)
	if status != 0 {
		t.Fatalf("token create: %s", errs)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+"/snapshots", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("with a token made beside the server: status %d", response.StatusCode)
	}

	for what, args := range map[string][]string{
		"in use by another server": {"serve", "--listen", "127.0.0.1:0", "--catalog", url, "--data-dir", filepath.Join(t.TempDir(), "other")},
		"say where with --catalog": {"token", "list", "--data-dir", s.dir},
		"it is the URL":            {"serve", "--data-dir", t.TempDir(), "--catalog", "hunter2"},
	} {
		_, errs, status := runShale(t, args...)
		if status == 0 || !strings.Contains(errs, what) {
			t.Errorf("%v: status %d, want a message with %q: %s", args[0], status, what, errs)
		}
		if strings.Contains(errs, "hunter2") {
			t.Errorf("the password is in a message: %s", errs)
		}
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	if strings.Contains(s.output(t), "hunter2") {
		t.Error("the password is in the log")
	}
	refusesToStart(t, s.dir, "127.0.0.1:0", "--catalog")
	_, errs, status = runShale(t, "serve", "--listen", "127.0.0.1:0", "--catalog", url, "--data-dir", filepath.Join(t.TempDir(), "other"))
	if status == 0 || !strings.Contains(errs, "another folder") {
		t.Errorf("the catalog of another folder: status %d: %s", status, errs)
	}
	s.start(t)
}

// completed completes a snapshot and waits for it.
func completed(t *testing.T, u uploader, id string, blocks int) {
	t.Helper()
	_, err := u.ebs.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(int32(blocks))})
	if err != nil {
		t.Fatal(err)
	}
	err = ec2.NewSnapshotCompletedWaiter(u.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second
	}).Wait(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
}

// PostgreSQL ends as in a crash, again and again, while blocks are written.
// Clients see errors of the server's and repeat; the server goes on by itself,
// and all that was acknowledged is there.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	s, pg, _ := startOnPostgres(t)
	u := uploader{s.ebs(t), s.ec2(t)}
	const blocks, writers, restarts = 400, 8, 4
	id := s.startSnapshot(t)
	var next, acknowledged, failed atomic.Int64
	group, ctx := errgroup.WithContext(t.Context())
	for range writers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < blocks; i = int(next.Add(1)) - 1 {
				if err := putUntilTaken(ctx, u.ebs, id, i, &failed); err != nil {
					return err
				}
				acknowledged.Add(1)
			}
			return nil
		})
	}
	for i := range int64(restarts) {
		for acknowledged.Load() < (i+1)*blocks/(restarts+1) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if i == 0 {
			pg.Stop(t)
			if status, text := s.readiness(t); status != http.StatusServiceUnavailable || !strings.Contains(text, "does not answer") {
				t.Errorf("/readyz without PostgreSQL: %d %s", status, text)
			}
			pg.Begin(t)
			continue
		}
		pg.Restart(t, []string{"immediate", "fast"}[i%2])
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d blocks acknowledged, %d errors on the way", acknowledged.Load(), failed.Load())
	if status, text := s.readiness(t); status != http.StatusOK {
		t.Errorf("/readyz with PostgreSQL back: %d %s", status, text)
	}
	completed(t, u, id, blocks)
	var read atomic.Int64
	err := eachBlock(t.Context(), u.ebs, id, func(index int, data []byte) error {
		read.Add(1)
		if !bytes.Equal(data, (&job{number: 2}).content(8*index, 1)) {
			return fmt.Errorf("block %d is another", index)
		}
		return nil
	})
	if err != nil || read.Load() != blocks {
		t.Errorf("%d blocks read, %v; want %d", read.Load(), err, blocks)
	}
}

// putUntilTaken repeats a write, as clients do, for up to a minute.
func putUntilTaken(ctx context.Context, c *ebs.Client, id string, index int, failed *atomic.Int64) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := putBlock(ctx, c, id, index, (&job{number: 2}).content(8*index, 1))
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		failed.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
}

// readiness asks /readyz.
func (s *server) readiness(t *testing.T) (status int, text string) {
	t.Helper()
	response, err := http.Get("http://" + s.address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
