package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/quota"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// limit starts the fixture's service again, with the quotas.
func (f *fixture) limit(settings ...string) {
	f.Helper()
	var err error
	if f.Quota, err = quota.Parse(settings); err != nil {
		f.Fatal(err)
	}
	f.Restart(f.TB)
}

// Each operation is refused once its account has asked for it too often, goes on
// a moment later, and is another account's to go on with meanwhile.
// Spec: ebs-direct §9.4, §10.
func TestAccountRates(t *testing.T) {
	f := newFixture(t)
	first := f.made(map[int64][]byte{0: data(1)})
	second := f.start(first)
	f.mustPut(second, 1, data(2))
	f.complete(second, 1, nil)
	open := f.start("")
	token := f.token(first)
	for _, x := range []struct {
		setting string
		call    func(c snapshot.Caller) error
	}{
		{"start-snapshot-rate=2", func(c snapshot.Caller) error {
			_, err := f.Service.Start(t.Context(), c, snapshot.StartRequest{VolumeSize: ptr(int64(1))})
			return err
		}},
		{"complete-snapshot-rate=2", func(c snapshot.Caller) error {
			_, err := f.Service.Complete(t.Context(), c, snapshot.CompleteRequest{SnapshotID: first, ChangedBlocks: ptr(int64(1))})
			return err
		}},
		{"put-block-rate=2", func(c snapshot.Caller) error {
			_, err := f.Service.PutBlock(t.Context(), c, snapshot.PutBlockRequest{
				SnapshotID: open, ChecksumOptional: true, Body: bytes.NewReader(data(3)),
			})
			return err
		}},
		{"get-block-rate=2", func(c snapshot.Caller) error {
			b, err := f.Service.GetBlock(t.Context(), c, snapshot.GetBlockRequest{SnapshotID: first, Token: &token})
			if err == nil {
				b.Release()
			}
			return err
		}},
		{"list-blocks-rate=2", func(c snapshot.Caller) error {
			_, err := f.Service.ListBlocks(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: first})
			return err
		}},
		{"list-blocks-rate=2", func(c snapshot.Caller) error {
			_, err := f.Service.ListPending(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: open})
			return err
		}},
		{"list-blocks-rate=2", func(c snapshot.Caller) (last error) {
			for _, err := range f.Service.Extents(t.Context(), c, first) {
				last = err
			}
			return last
		}},
		{"list-changed-blocks-rate=2", func(c snapshot.Caller) error {
			_, err := f.Service.ListChangedBlocks(t.Context(), c, snapshot.ListChangedRequest{FirstSnapshotID: &first, SecondSnapshotID: second})
			return err
		}},
		{"list-changed-blocks-rate=2", func(c snapshot.Caller) (last error) {
			for _, err := range f.Service.Diff(t.Context(), c, first, second) {
				last = err
			}
			return last
		}},
	} {
		f.limit(x.setting)
		for n := range 2 {
			if err := x.call(caller); err != nil {
				t.Errorf("%s, request %d: %v", x.setting, n+1, err)
			}
		}
		if err := x.call(caller); code(err) != snapshot.AccountThrottled {
			t.Errorf("%s: got %v, want AccountThrottled", x.setting, err)
		}
		if err := x.call(snapshottest.Other); code(err) == snapshot.AccountThrottled {
			t.Errorf("%s: it binds another account", x.setting)
		}
		f.Clock.Advance(500 * time.Millisecond)
		if err := x.call(caller); err != nil {
			t.Errorf("%s, half a second later: %v", x.setting, err)
		}
	}
}

// One snapshot is written to, and read, by everybody together at its own rate.
// What is refused for it takes nothing from the account's.
func TestSnapshotRates(t *testing.T) {
	f := newFixture(t)
	done, other := f.made(map[int64][]byte{0: data(1)}), f.made(map[int64][]byte{0: data(1)})
	one, two := f.start(""), f.start("")
	f.share(done, snapshottest.Other.Account)
	f.limit("put-block-rate=3", "put-block-rate-per-snapshot=1", "get-block-rate-per-snapshot=1")
	if err := f.put(one, 0, data(1)); err != nil {
		t.Error(err)
	}
	for range 5 {
		if err := f.put(one, 1, data(1)); code(err) != snapshot.SnapshotThrottled {
			t.Errorf("got %v, want SnapshotThrottled", err)
		}
	}
	if err := f.put(two, 0, data(1)); err != nil {
		t.Errorf("to another snapshot: %v", err)
	}
	get := func(c snapshot.Caller, id string) error {
		token := f.token(id)
		b, err := f.Service.GetBlock(t.Context(), c, snapshot.GetBlockRequest{SnapshotID: id, Token: &token})
		if err == nil {
			b.Release()
		}
		return err
	}
	if err := get(snapshottest.Other, done); err != nil {
		t.Error(err)
	}
	if err := get(caller, done); code(err) != snapshot.SnapshotThrottled {
		t.Errorf("got %v, want SnapshotThrottled", err)
	}
	if err := get(caller, other); err != nil {
		t.Errorf("of another snapshot: %v", err)
	}
}

// A body that must not be read.
type untouchable struct{ touched atomic.Bool }

func (u *untouchable) Read([]byte) (int, error) {
	u.touched.Store(true)
	return 0, io.EOF
}

// A block that comes too soon is not read. Only what may not be seen at all is
// told first. Spec: ebs-direct §4, the order of checks.
func TestThrottleOrder(t *testing.T) {
	f := newFixture(t)
	done := f.made(map[int64][]byte{0: data(1)})
	open := f.start("")
	f.limit("put-block-rate=1")
	f.mustPut(open, 0, data(1))
	body := new(untouchable)
	put := func(c snapshot.Caller, id string) error {
		_, err := f.Service.PutBlock(t.Context(), c, snapshot.PutBlockRequest{SnapshotID: id, ChecksumOptional: true, Body: body})
		return err
	}
	if err := put(caller, open); code(err) != snapshot.AccountThrottled {
		t.Errorf("got %v, want AccountThrottled", err)
	}
	if err := put(caller, done); code(err) != snapshot.AccountThrottled {
		t.Errorf("to a completed snapshot: got %v, want AccountThrottled", err)
	}
	if err := put(caller, "snap-0123456789abcdef0"); code(err) != snapshot.NotFound {
		t.Errorf("to a snapshot that is not there: got %v, want NotFound", err)
	}
	if err := put(caller, "vol-1"); code(err) != snapshot.InvalidRequest {
		t.Errorf("to what is none: got %v, want InvalidRequest", err)
	}
	if body.touched.Load() {
		t.Error("a body was read")
	}
}

// A request that has been answered is answered again, however many snapshots
// there are. Spec: ebs-direct §3.
func TestReplayAtLimit(t *testing.T) {
	for setting, want := range map[string]snapshot.Code{"pending-snapshots=2": snapshot.TooManyPending, "snapshots=2": snapshot.TooManySnapshots} {
		f := newFixture(t)
		f.limit(setting)
		start := func(token string) (snapshot.Snapshot, error) {
			return f.startWith(snapshot.StartRequest{VolumeSize: ptr(int64(1)), ClientToken: &token})
		}
		bound, err := start("a")
		if err != nil {
			t.Fatal(err)
		}
		f.start("")
		if again, err := start("a"); err != nil || again.ID != bound.ID {
			t.Errorf("%s: got %v, %v, want %v again", setting, again.ID, err, bound.ID)
		}
		_, err = start("b")
		var e *snapshot.Error
		if !errors.As(err, &e) || e.Code != want || e.Value != "2" {
			t.Errorf("%s: got %v, want %v at 2", setting, err, want)
		}
		if err := f.Service.Delete(t.Context(), caller, bound.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := start("b"); err != nil {
			t.Errorf("%s: with one deleted, the token that was refused: %v", setting, err)
		}
	}
}

// Of one request that is sent many times at once, for the last place, all get
// the same answer.
func TestReplayRacesForLastPlace(t *testing.T) {
	f := newFixture(t)
	f.limit("pending-snapshots=1", "snapshots=1")
	var all sync.WaitGroup
	var ids sync.Map
	for range 16 {
		all.Go(func() {
			s, err := f.startWith(snapshot.StartRequest{VolumeSize: ptr(int64(1)), ClientToken: ptr("token")})
			if err != nil {
				t.Error(err)
			}
			ids.Store(s.ID, true)
		})
	}
	all.Wait()
	count := 0
	ids.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d snapshots, want 1", count)
	}
}

// The quota on copies is the one that counts.
func TestCopyQuota(t *testing.T) {
	f := newFixture(t)
	source := f.made(map[int64][]byte{0: data(1)})
	f.limit("copies=1")
	f.Halt()
	defer f.Resume()
	f.copy(source)
	_, err := f.Service.Copy(t.Context(), caller, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source})
	var e *snapshot.Error
	if !errors.As(err, &e) || e.Code != snapshot.TooManyCopies || e.Value != "1" {
		t.Errorf("got %v, want TooManyCopies at 1", err)
	}
}

// The blocks of an image count as single reads do, and wait where those are
// refused.
func TestImageRate(t *testing.T) {
	f := newFixture(t)
	id := f.made(map[int64][]byte{0: data(1), 1: data(2), 2: data(3), 3: data(4)})
	token := f.token(id)
	f.limit("get-block-rate=2")
	img, err := f.Service.OpenImage(t.Context(), caller, id)
	if err != nil {
		t.Fatal(err)
	}
	pieces := make(chan error)
	go func() {
		defer close(pieces)
		for _, err := range img.Read(t.Context(), nil, 0, 4*block.Size) {
			pieces <- err
		}
	}()
	for n := range 4 {
		if n >= 2 {
			select {
			case err := <-pieces:
				t.Fatalf("piece %d came before its time, %v", n, err)
			case <-time.After(100 * time.Millisecond):
			}
			if _, err := f.get(id, token); code(err) != snapshot.AccountThrottled {
				t.Errorf("beside an image that waits: got %v, want AccountThrottled", err)
			}
			f.Clock.Advance(500 * time.Millisecond)
		}
		if err := <-pieces; err != nil {
			t.Error(err)
		}
	}
	if _, more := <-pieces; more {
		t.Error("there is more than the image")
	}
}
