package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/transfer"
)

var small = image{6*block.Size + 9, map[block.Index][]byte{0: data(0), 1: data(1), 2: data(2), 5: data(5), 6: data(6)}}

// Each of these failures goes away by itself, and no caller hears of it.
func TestPassingFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		operation string
		times     int64
		fail      func(w http.ResponseWriter)
	}{
		"put, 500": {"PutSnapshotBlock", 3, func(w http.ResponseWriter) {
			refuse(w, http.StatusInternalServerError, "InternalServerException", "", "oops")
		}},
		"put, throttled": {"PutSnapshotBlock", 5, func(w http.ResponseWriter) {
			refuse(w, http.StatusBadRequest, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE", "slow down")
		}},
		"put, account throttled": {"PutSnapshotBlock", 2, func(w http.ResponseWriter) {
			refuse(w, http.StatusBadRequest, "ThrottlingException", "", "Rate exceeded")
		}},
		"put, failed to read": {"PutSnapshotBlock", 2, func(w http.ResponseWriter) {
			refuse(w, http.StatusBadRequest, "ValidationException", "INVALID_PARAMETER_VALUE", "Failed to read block data")
		}},
		"put, just started": {"PutSnapshotBlock", 2, func(w http.ResponseWriter) {
			refuse(w, http.StatusNotFound, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", "does not exist")
		}},
		"put, clock": {"PutSnapshotBlock", 1, func(w http.ResponseWriter) {
			refuse(w, http.StatusForbidden, "InvalidSignatureException", "", "Signature expired: 20260101T000000Z is now earlier than …")
		}},
		"put, cut off":      {"PutSnapshotBlock", 3, hangUp},
		"start, cut off":    {"StartSnapshot", 1, hangUp},
		"complete, cut off": {"CompleteSnapshot", 2, hangUp},
		"describe, unavailable": {"DescribeSnapshots", 2, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}},
		"list, cut off": {"ListSnapshotBlocks", 2, hangUp},
		"get, cut off":  {"GetSnapshotBlock", 3, hangUp},
		"get, garbled": {"GetSnapshotBlock", 2, func(w http.ResponseWriter) {
			w.Header().Set("x-amz-Checksum", block.ZeroDigest.Base64())
			w.Header().Set("x-amz-Data-Length", "524288")
			fmt.Fprintf(w, "%s", data(77))
		}},
		"get, short": {"GetSnapshotBlock", 2, func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "524288")
			w.Header().Set("x-amz-Data-Length", "524288")
			fmt.Fprintf(w, "%s", data(77)[:1000])
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			var failed atomic.Int64
			f.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
				if operation(r) != test.operation || failed.Add(1) > test.times {
					return false
				}
				test.fail(w)
				return true
			}
			c := f.client(t, t.TempDir())
			r := upload(t, c, small.write(t), "")
			checkDownload(t, c, r.SnapshotID, small)
			if len(f.snaps) != 1 {
				t.Errorf("%d snapshots were started, want 1", len(f.snaps))
			}
		})
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		conn.Close()
	}
}

// An upload that fails for good leaves no snapshot behind and says why.
func TestUploadFailureCleansUp(t *testing.T) {
	f := newFake(t)
	f.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "PutSnapshotBlock" || indexIn(r) != 2 {
			return false
		}
		refuse(w, http.StatusForbidden, "AccessDeniedException", "", "you may not")
		return true
	}
	_, err := f.client(t, t.TempDir()).Upload(t.Context(), transfer.UploadRequest{Path: small.write(t)})
	var refused *transfer.ServiceError
	if !errors.As(err, &refused) || refused.Code != "AccessDeniedException" || refused.RequestID != "test-request" {
		t.Errorf("Upload: got %v, want an AccessDeniedException", err)
	}
	if n := f.count("DeleteSnapshot"); n != 1 || len(f.snaps) != 0 {
		t.Errorf("%d deletes, %d snapshots left, want 1 and 0", n, len(f.snaps))
	}
	if n := f.count("PutSnapshotBlock"); n > 8 {
		t.Errorf("%d blocks sent: a refusal was repeated", n)
	}
}

func TestUploadErrorState(t *testing.T) {
	f := newFake(t)
	f.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) == "CompleteSnapshot" {
			r.Header.Set("x-amz-ChangedBlocksCount", "17")
		}
		return false
	}
	_, err := f.client(t, t.TempDir()).Upload(t.Context(), transfer.UploadRequest{Path: small.write(t)})
	var state *transfer.StateError
	if !errors.As(err, &state) || state.State != "error" || !strings.Contains(state.Message, "count mismatch") {
		t.Errorf("Upload: got %v, want the server's verdict", err)
	}
	if len(f.snaps) != 0 {
		t.Errorf("the snapshot in error is still there")
	}
}

func TestUploadInterrupted(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.misbehave = func(_ http.ResponseWriter, r *http.Request) bool {
		if operation(r) == "PutSnapshotBlock" {
			cancel()
		}
		return false
	}
	_, err := f.client(t, t.TempDir()).Upload(ctx, transfer.UploadRequest{Path: small.write(t)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Upload: got %v, want %v", err, context.Canceled)
	}
	if len(f.snaps) != 0 {
		t.Errorf("the unfinished snapshot is still there")
	}
}

// A server that goes away while it completes may have completed: its snapshot
// must not be taken for failed.
func TestUploadVerdictUnknown(t *testing.T) {
	f := newFake(t)
	f.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "DescribeSnapshots" {
			return false
		}
		refuseEC2(w, "UnauthorizedOperation", "You are not authorized to perform this operation.")
		return true
	}
	_, err := f.client(t, t.TempDir()).Upload(t.Context(), transfer.UploadRequest{Path: small.write(t)})
	var leftover *transfer.LeftoverError
	if !errors.As(err, &leftover) || !leftover.Sealed || !transfer.IsDenied(err) {
		t.Errorf("Upload: got %v, want a sealed leftover", err)
	}
	if len(f.snaps) != 1 {
		t.Errorf("the snapshot is gone")
	}
}

func TestUploadOfChangingImage(t *testing.T) {
	changes := map[string]func(*os.File) error{
		"grows":   func(f *os.File) error { return f.Truncate(small.length + 1) },
		"shrinks": func(f *os.File) error { return f.Truncate(block.Size) },
		"written": func(f *os.File) error {
			_, err := f.WriteAt([]byte("x"), 7)
			return errors.Join(err, os.Chtimes(f.Name(), time.Time{}, time.Now().Add(time.Second)))
		},
		"removed": func(f *os.File) error { return os.Remove(f.Name()) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			path := small.write(t)
			var done atomic.Bool
			f.misbehave = func(_ http.ResponseWriter, r *http.Request) bool {
				if operation(r) == "PutSnapshotBlock" && done.CompareAndSwap(false, true) {
					file, err := os.OpenFile(path, os.O_RDWR, 0)
					if err != nil {
						t.Error(err)
						return false
					}
					defer file.Close()
					if err := change(file); err != nil {
						t.Error(err)
					}
				}
				return false
			}
			_, err := f.client(t, t.TempDir()).Upload(t.Context(), transfer.UploadRequest{Path: path})
			var changed *transfer.ImageChangedError
			if !errors.As(err, &changed) || changed.Path != path {
				t.Errorf("Upload: got %v, want an *ImageChangedError", err)
			}
			if len(f.snaps) != 0 {
				t.Errorf("the unfinished snapshot is still there")
			}
		})
	}
}

// Page and block tokens that expire under a slow transfer are replaced.
func TestExpiredTokens(t *testing.T) {
	f := newFake(t)
	c := f.client(t, t.TempDir())
	r := upload(t, c, small.write(t), "")
	f.pageSize = 2
	var pages atomic.Int64
	var blocks sync.Map
	f.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Query().Has("pageToken") && pages.Add(1) == 1:
			refuse(w, http.StatusBadRequest, "ValidationException", "INVALID_PAGE_TOKEN", "The pagination token is invalid.")
		case r.URL.Query().Has("blockToken"):
			if _, again := blocks.LoadOrStore(indexIn(r), true); again {
				return false
			}
			refuse(w, http.StatusBadRequest, "ValidationException", "INVALID_BLOCK_TOKEN", "The block token is invalid.")
		default:
			return false
		}
		return true
	}
	checkDownload(t, c, r.SnapshotID, small)
}

// Damage that does not go away fails the download and leaves no file.
func TestDownloadOfDamage(t *testing.T) {
	f := newFake(t)
	c := f.client(t, t.TempDir())
	r := upload(t, c, small.write(t), "")
	f.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "GetSnapshotBlock" || indexIn(r) != 5 {
			return false
		}
		refuse(w, http.StatusBadRequest, "ValidationException", "INVALID_BLOCK_TOKEN", "The block token is invalid.")
		return true
	}
	folder := t.TempDir()
	_, err := c.Download(t.Context(), transfer.DownloadRequest{Snapshot: r.SnapshotID, Path: filepath.Join(folder, "back.img")})
	if err == nil || !strings.Contains(err.Error(), "block 5") || !strings.Contains(err.Error(), r.SnapshotID) {
		t.Errorf("Download: got %v, want an error that names block and snapshot", err)
	}
	if left, _ := os.ReadDir(folder); len(left) != 0 {
		t.Errorf("Download left %v behind", left)
	}
}

func TestUnusableSnapshots(t *testing.T) {
	f := newFake(t)
	c := f.client(t, t.TempDir())
	path := small.write(t)
	for _, state := range []string{"pending", "error"} {
		r := upload(t, c, path, "")
		f.snaps[r.SnapshotID].state = state
		var got *transfer.StateError
		_, err := c.Download(t.Context(), transfer.DownloadRequest{Snapshot: r.SnapshotID, Path: filepath.Join(t.TempDir(), "x")})
		if !errors.As(err, &got) || got.State != state {
			t.Errorf("Download of a snapshot in state %s: got %v", state, err)
		}
		if _, err = c.Upload(t.Context(), transfer.UploadRequest{Path: path, Parent: r.SnapshotID}); !errors.As(err, &got) {
			t.Errorf("Upload with a parent in state %s: got %v", state, err)
		}
	}
	const unknown = "snap-0ffffffffffffffff"
	_, err := c.Upload(t.Context(), transfer.UploadRequest{Path: path, Parent: unknown})
	if !transfer.IsNotFound(err) || !strings.Contains(err.Error(), unknown) {
		t.Errorf("Upload with an unknown parent: got %v", err)
	}
	if err := c.Delete(t.Context(), unknown); !transfer.IsNotFound(err) || !strings.Contains(err.Error(), unknown) {
		t.Errorf("Delete of an unknown snapshot: got %v", err)
	}
}

// A server that is not there is reported in good time, with its address.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, address := range map[string]string{"refuses": refusing.Addr().String(), "accepts and is silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := newClient(t, "http://"+address, "").Upload(t.Context(), transfer.UploadRequest{Path: small.write(t)})
			var unreachable *transfer.UnreachableError
			if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), address) {
				t.Errorf("Upload: got %v, want an *UnreachableError that names %s", err, address)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("Upload took %v to report it", took)
			}
		})
	}
}

func TestNotAnImage(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:1", "")
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none"), os.DevNull} {
		if _, err := c.Upload(t.Context(), transfer.UploadRequest{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Upload(%s): got %v, want an error that names it", path, err)
		}
	}
}
