package main

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"shale/internal/vfs/crashfs"
)

// A sync that fails, of the segments or of the catalog, ends all that depends on
// it: the request fails, and so do later ones, though the disk works again; the
// probe, the metrics and the log say so; what is there can be read.
func TestFailedSyncIsVisible(t *testing.T) {
	for _, suffix := range []string{".seg", ".db-wal"} {
		t.Run(suffix, func(t *testing.T) {
			disk := crashfs.New()
			t.Cleanup(func() { _ = disk.Close() })
			s := mustStart(t, serveCmd{DataDir: t.TempDir(), Anonymous: anonymousLoopback, disk: disk})
			send := func(method, at string, body []byte) (int, string) {
				r, err := http.NewRequestWithContext(t.Context(), method, s.url+at, bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				var b bytes.Buffer
				_, _ = b.ReadFrom(answer.Body)
				return answer.StatusCode, b.String()
			}
			status, text := send("POST", "/snapshots", []byte(`{"volume_size": 1}`))
			id := regexp.MustCompile(`snap-[0-9a-f]{17}`).FindString(text)
			if id == "" || status != http.StatusCreated {
				t.Fatalf("start: %d %s", status, text)
			}
			blocks := "/snapshots/" + id + "/blocks/"
			if status, text := send("PUT", blocks+"0", content(1)); status != http.StatusCreated {
				t.Fatalf("put: %d %s", status, text)
			}
			var failed atomic.Bool
			disk.Before(func(op crashfs.Op) error {
				if op.Kind == crashfs.Sync && strings.HasSuffix(op.Name, suffix) && failed.CompareAndSwap(false, true) {
					return syscall.EIO
				}
				return nil
			})
			for _, index := range []string{"1", "2"} { // the second with a disk that works
				if status, text := send("PUT", blocks+index, content(2)); status != http.StatusInternalServerError {
					t.Errorf("put %s: %d %s", index, status, text)
				}
			}
			if status, text := send("GET", "/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(text, syscall.EIO.Error()) {
				t.Errorf("/readyz: %d %s", status, text)
			}
			if _, text := send("GET", "/metrics", nil); !strings.Contains(text, "\nshale_store_stopped 1\n") {
				t.Error("/metrics does not say that the store has stopped")
			}
			if status, text := send("GET", blocks[:len(blocks)-1]+"?state=pending", nil); status != http.StatusOK || strings.Count(text, "block_index") != 1 {
				t.Errorf("what was written: %d %s", status, text)
			}
			if err := s.stop(); err != nil {
				t.Logf("stop: %v", err) // the catalog may say so once more
			}
			if !strings.Contains(s.log.String(), "restart the server once the disk is sound") {
				t.Errorf("the log says nothing of it:\n%s", s.log)
			}
		})
	}
}
