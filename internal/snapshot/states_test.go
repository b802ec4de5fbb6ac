package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/catalog"
	"shale/internal/domain"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/vfs"
)

func (f *fixture) startWith(r snapshot.StartRequest) (snapshot.Snapshot, error) {
	if r.VolumeSize == nil {
		r.VolumeSize = ptr(int64(1))
	}
	return f.Service.Start(f.Context(), caller, r)
}

// Of many requests with one client token one makes a snapshot, and all get the
// same answer. Spec: ebs-direct §3, Idempotency.
func TestClientTokenInParallel(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		testClientTokenInParallel(newFixture(t), snapshot.StartRequest{
			ClientToken: ptr("token"), Description: ptr("d"), Tags: []snapshot.Tag{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}},
			Encrypted: &encrypted,
		})
	}
}

func testClientTokenInParallel(f *fixture, r snapshot.StartRequest) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var answers []snapshot.Snapshot
	for range 64 {
		wg.Go(func() {
			snap, err := f.startWith(r)
			if err != nil || snap.Encrypted() != *r.Encrypted {
				f.Errorf("Start: got encrypted %v, %v", snap.Encrypted(), err)
			}
			snap.MAC = domain.MAC{} // no part of the answer
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, snap)
		})
	}
	wg.Wait()
	for _, a := range answers {
		if d := cmp.Diff(answers[0], a); d != "" {
			f.Fatalf("answers differ (-first +this):\n%s", d)
		}
	}
	page, err := f.Service.Describe(f.Context(), caller, snapshot.DescribeRequest{})
	if err != nil || len(page.Snapshots) != 1 {
		f.Errorf("%d snapshots, %v, want 1", len(page.Snapshots), err)
	}
}

// A bound token gives the first answer again whatever has happened since, and
// no other request.
func TestClientTokenReplay(t *testing.T) {
	f := newFixture(t)
	parent := f.start("")
	f.complete(parent, 0, nil)
	request := func() snapshot.StartRequest {
		return snapshot.StartRequest{
			VolumeSize: ptr(int64(2)), ParentSnapshotID: &parent, ClientToken: ptr("token"), Description: ptr("d"),
			Tags: []snapshot.Tag{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}},
		}
	}
	first, err := f.startWith(request())
	if err != nil {
		t.Fatal(err)
	}
	f.complete(first.ID, 0, nil)
	if err := f.Service.Delete(t.Context(), caller, parent); err != nil {
		t.Fatal(err)
	}
	same := func(name string, r snapshot.StartRequest) {
		t.Helper()
		got, err := f.startWith(r)
		if d := cmp.Diff(first, got); d != "" || err != nil {
			t.Errorf("%s: %v (-first +this):\n%s", name, err, d)
		}
	}
	same("completed, parent deleted", request())
	r := request()
	r.Timeout = ptr(int64(60))
	same("the default timeout given", r)
	f.Restart(t)
	same("after a restart", request())
	if err := f.Service.Delete(t.Context(), caller, first.ID); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(23 * time.Hour)
	same("deleted 23 hours ago", request())

	for name, change := range map[string]func(*snapshot.StartRequest){
		"size":        func(r *snapshot.StartRequest) { r.VolumeSize = ptr(int64(3)) },
		"parent":      func(r *snapshot.StartRequest) { r.ParentSnapshotID = nil },
		"description": func(r *snapshot.StartRequest) { r.Description = nil },
		"tag value":   func(r *snapshot.StartRequest) { r.Tags[0].Value = "x" },
		"tags":        func(r *snapshot.StartRequest) { r.Tags = r.Tags[:1] },
		"timeout":     func(r *snapshot.StartRequest) { r.Timeout = ptr(int64(61)) },
	} {
		r := request()
		change(&r)
		if _, err := f.startWith(r); code(err) != snapshot.ClientTokenReused {
			t.Errorf("another %s: got %v, want ClientTokenReused", name, err)
		}
	}
	r = request()
	r.Tags[0], r.Tags[1] = r.Tags[1], r.Tags[0]
	same("tags in another order", r)
	other := snapshottest.Caller
	other.Region = "eu-west-1"
	if got, err := f.Service.Start(t.Context(), other, snapshot.StartRequest{VolumeSize: ptr(int64(1)), ClientToken: ptr("token")}); err != nil || got.ID == first.ID {
		t.Errorf("the token in another region: got %v, %v, want a snapshot of its own", got.ID, err)
	}
}

// A refused request binds no token.
func TestRefusalBindsNoToken(t *testing.T) {
	f := newFixture(t)
	r := snapshot.StartRequest{ClientToken: ptr("token"), ParentSnapshotID: ptr("snap-0123456789abcdef0")}
	if _, err := f.startWith(r); code(err) != snapshot.NotFound {
		t.Fatalf("got %v, want NotFound", err)
	}
	r.ParentSnapshotID = nil
	if _, err := f.startWith(r); err != nil {
		t.Errorf("the token after a refusal: %v", err)
	}
}

// An early catalog says for writes that the deadline was a moment ago.
type early struct{ *catalog.Catalog }

func (e early) SnapshotToWrite(ctx context.Context, id string) (snapshot.Snapshot, bool, error) {
	snap, found, err := e.Snapshot(ctx, id)
	snap.Deadline = snap.StartTime
	return snap, found, err
}

// A write to a snapshot whose deadline earlier writes have moved is taken, though
// that is not what its look-up has seen.
func TestMovedDeadline(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.Service = snapshot.New(snapshot.Options{
		Catalog: early{f.Catalog}, Store: f.Store, Keyring: f.Keyring, Now: f.Clock.Now, Scratch: vfs.Dir(f.Dir),
	})
	f.mustPut(id, 0, data(1))
}

// The timer runs from the start, begins anew with each block and stops at
// Complete. Spec: ebs-direct §5.2.
func TestTimeout(t *testing.T) {
	f := newFixture(t)
	start := func() string {
		snap, err := f.startWith(snapshot.StartRequest{Timeout: ptr(int64(10))})
		if err != nil {
			t.Fatal(err)
		}
		return snap.ID
	}
	idle, busy, done := start(), start(), start()
	f.complete(done, 0, nil)
	f.Clock.Advance(9 * time.Minute)
	f.mustPut(busy, 0, data(1))
	f.Clock.Advance(time.Minute)
	// At once, whether the background work has come to it or not.
	if err := f.put(idle, 0, data(1)); code(err) != snapshot.NotFound {
		t.Errorf("PutBlock after the time: got %v, want NotFound", err)
	}
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]snapshot.State{idle: snapshot.Failed, busy: snapshot.Open, done: snapshot.Completed} {
		if got := f.describe(id); got.State != want || (want == snapshot.Failed) != (got.Message == "Snapshot timed out") {
			t.Errorf("%s: got state %v, message %q, want %v", id, got.State, got.Message, want)
		}
	}
	if state, err := f.Service.Complete(t.Context(), caller, snapshot.CompleteRequest{SnapshotID: idle, ChangedBlocks: ptr(int64(0))}); err != nil || state != snapshot.Failed {
		t.Errorf("Complete after the time: got %v, %v, want error", state, err)
	}
	if _, err := f.startWith(snapshot.StartRequest{ParentSnapshotID: &idle}); code(err) != snapshot.NotFound {
		t.Errorf("child of it: got %v, want NotFound", err)
	}
}

// A wrong claim is accepted and shows later; of two the checksum's is told.
// Spec: ebs-direct §5.1.
func TestWrongClaims(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		count     int64
		aggregate *block.Digest
		message   string
	}{
		{2, nil, "Changed blocks count mismatch for snapshot"},
		{1, &block.ZeroDigest, "Checksum mismatch for snapshot"},
		{2, &block.ZeroDigest, "Checksum mismatch for snapshot"},
	} {
		id := f.start("")
		f.mustPut(id, 3, data(1))
		snap := f.complete(id, tt.count, tt.aggregate)
		if snap.State != snapshot.Failed || snap.Message != tt.message || snap.FullBytes() != 0 {
			t.Errorf("count %d, aggregate %v: got %v %q, want error %q", tt.count, tt.aggregate != nil, snap.State, snap.Message, tt.message)
		}
	}
}

// Once a snapshot is sealed no write is acknowledged, and what was before is
// all there.
func TestSealAgainstWriters(t *testing.T) {
	f := newFixture(t)
	closed := func(err error) bool { return code(err) == snapshot.AlreadyCompleted || code(err) == snapshot.NotFound }
	for round := range 5 {
		id := f.start("")
		snap := f.describe(id)
		var acknowledged atomic.Int64
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range int64(20) {
					if err := f.put(id, int64(w)*20+i, data(uint64(i))); closed(err) {
						return
					} else if err != nil {
						t.Errorf("PutBlock: %v", err)
					}
					acknowledged.Add(1)
				}
			})
		}
		time.Sleep(time.Duration(round) * 5 * time.Millisecond) // anywhere in the writing
		if done, err := f.Catalog.Seal(t.Context(), snap.Key, snapshot.Claim{ChangedBlocks: 1}); err != nil || !done {
			t.Fatal(done, err)
		}
		if err := f.put(id, 2000, data(1)); !closed(err) {
			t.Errorf("PutBlock after the seal: got %v", err)
		}
		wg.Wait()
		pending, err := f.Catalog.Pending(t.Context(), &snap, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		// None are left if the background work has come to it already.
		if n := acknowledged.Load(); len(pending) > 0 && int64(len(pending)) != n {
			t.Errorf("%d blocks are recorded, %d were acknowledged", len(pending), n)
		}
	}
}

// What was sealed before a crash is completed after it.
func TestFoldGoesOnAfterARestart(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.mustPut(id, 3, data(1))
	snap := f.describe(id)
	// Sealed behind the service's back, as by a process that died then.
	if done, err := f.Catalog.Seal(t.Context(), snap.Key, snapshot.Claim{ChangedBlocks: 1}); err != nil || !done {
		t.Fatal(done, err)
	}
	f.Restart(t)
	if err := f.Service.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.describe(id); got.State != snapshot.Completed || got.Blocks != 1 {
		t.Errorf("got %v with %d blocks, want completed with 1", got.State, got.Blocks)
	}
}

// Damage in the parent's map fails the child, for a reason, and nothing else.
func TestDamagedParentMap(t *testing.T) {
	f := newFixture(t)
	parent, other := f.start(""), f.start("")
	f.mustPut(other, 9, data(2))
	f.complete(other, 1, nil)
	f.mustPut(parent, 3, data(1))
	f.complete(parent, 1, nil)
	child := f.start(parent)
	f.mustPut(child, 4, data(3))
	f.Restart(t) // nothing is in memory any more
	// The parent's nodes are the last batch but two.
	files, _ := filepath.Glob(filepath.Join(f.Dir, "segments", "*.seg"))
	segment, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndex(segment, []byte("shalefrm"))       // the child's block
	last = bytes.LastIndex(segment[:last], []byte("shalefrm")) // the parent's manifest
	nodes := bytes.LastIndex(segment[:last], []byte("shalefrm"))
	for i := nodes + 4096; i < last; i++ {
		segment[i] ^= 0xff
	}
	if err := os.WriteFile(files[0], segment, 0o600); err != nil {
		t.Fatal(err)
	}
	if snap := f.complete(child, 1, nil); snap.State != snapshot.Failed || snap.Message == "" {
		t.Errorf("child: got %v %q, want error and a reason", snap.State, snap.Message)
	}
	if _, err := f.Service.ListBlocks(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: parent}); code(err) != snapshot.Internal {
		t.Errorf("ListBlocks of the damaged map: got %v, want an internal error", err)
	}
	if got := f.blocks(other); len(got) != 1 {
		t.Errorf("the other snapshot has %d blocks, want 1", len(got))
	}
}

// Bodies that are not a block. Spec: ebs-direct §4.
func TestBodies(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	good := data(1)
	broken := errors.New("connection reset")
	for name, tt := range map[string]struct {
		body snapshot.BodyReader
		want snapshot.Code
	}{
		"empty":       {bytes.NewReader(nil), snapshot.BodyIncomplete},
		"short":       {bytes.NewReader(good[1:]), snapshot.BodyIncomplete},
		"long":        {bytes.NewReader(append(bytes.Clone(good), 0)), snapshot.BodyTooLong},
		"broken":      {io.MultiReader(bytes.NewReader(good[:1000]), errorReader{broken}), snapshot.BodyIncomplete},
		"broken late": {io.MultiReader(bytes.NewReader(good), errorReader{broken}), snapshot.BodyIncomplete},
		"in pieces":   {io.MultiReader(bytes.NewReader(good[:1]), bytes.NewReader(good[1:70_000]), bytes.NewReader(good[70_000:])), never},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Service.PutBlock(t.Context(), caller, snapshot.PutBlockRequest{SnapshotID: id, ChecksumOptional: true, Body: tt.body})
			if got := code(err); tt.want == never && err != nil || tt.want != never && got != tt.want {
				t.Errorf("got %v, want code %d", err, tt.want)
			}
		})
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// Snapshots of other accounts and regions do not exist.
func TestVisibility(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.complete(id, 0, nil)
	for _, c := range []snapshot.Caller{{Account: "999999999999", Region: "us-east-1"}, {Account: caller.Account, Region: "eu-west-1"}} {
		for name, err := range map[string]error{
			"Delete":     f.Service.Delete(t.Context(), c, id),
			"ListBlocks": second(f.Service.ListBlocks(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: id})),
			"Describe":   second(f.Service.Describe(t.Context(), c, snapshot.DescribeRequest{IDs: []string{id}})),
			"Complete":   second(f.Service.Complete(t.Context(), c, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(0))})),
			"Start":      second(f.Service.Start(t.Context(), c, snapshot.StartRequest{VolumeSize: ptr(int64(1)), ParentSnapshotID: &id})),
		} {
			if code(err) != snapshot.NotFound {
				t.Errorf("%+v: %s: got %v, want NotFound", c, name, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Every page token ends where the next begins, at any page size.
func TestPaging(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	const n = 250
	for i := range int64(n) {
		f.mustPut(id, i*8, data(uint64(i%3)))
	}
	f.complete(id, n, nil)
	var got []block.Index
	next, start := (*string)(nil), ptr(int64(9))
	for pages := 1; ; pages++ {
		page, err := f.Service.ListBlocks(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id, MaxResults: ptr(int64(100)), PageToken: next, StartingIndex: start})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Blocks {
			got = append(got, b.Index)
		}
		if page.NextToken == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		next, start = &page.NextToken, ptr(int64(0)) // ignored
	}
	for i, index := range got {
		if want := block.Index(i+2) * 8; index != want {
			t.Fatalf("entry %d is block %d, want %d", i, index, want)
		}
	}
	if len(got) != n-2 {
		t.Errorf("%d blocks, want %d", len(got), n-2)
	}
	page, err := f.Service.ListBlocks(t.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id, StartingIndex: ptr(int64(1<<31 - 1))})
	if err != nil || len(page.Blocks) != 0 || page.NextToken != "" {
		t.Errorf("past every volume: got %d blocks, token %q, %v", len(page.Blocks), page.NextToken, err)
	}
}

// stalled is a body that gives nothing until it is let go.
type stalled struct {
	release <-chan struct{}
	began   bool
}

func (s *stalled) Read(p []byte) (int, error) {
	if !s.began { // or it would get no buffer
		s.began = true
		return min(len(p), 8<<10), nil
	}
	<-s.release
	return 0, io.ErrUnexpectedEOF
}

// Senders that stall hold up neither readers nor, for long, other senders,
// who are told to come back.
func TestStalledSenders(t *testing.T) {
	f := newFixture(t)
	readable := f.start("")
	f.mustPut(readable, 0, data(1))
	f.complete(readable, 1, nil)
	id := f.start("")
	f.Service.SetBufferWait(20 * time.Millisecond)
	release := make(chan struct{})
	var senders sync.WaitGroup
	for range snapshot.MaxWriting {
		senders.Go(func() {
			err := error(&snapshot.Error{Code: snapshot.Throttled})
			for code(err) == snapshot.Throttled { // on a slow machine the write below holds a buffer for long
				_, err = f.Service.PutBlock(context.Background(), caller, snapshot.PutBlockRequest{SnapshotID: id, ChecksumOptional: true, Body: &stalled{release: release}})
			}
			if code(err) != snapshot.BodyIncomplete {
				t.Errorf("stalled sender: got %v, want BodyIncomplete", err)
			}
		})
	}
	for code(f.put(id, 0, data(1))) != snapshot.Throttled { // until all buffers are taken
		time.Sleep(time.Millisecond)
	}
	if got := f.blocks(readable); len(got) != 1 {
		t.Errorf("a reader beside them got %d blocks, want 1", len(got))
	}
	close(release)
	senders.Wait()
	f.mustPut(id, 0, data(1))
}

// A silentReader takes nothing of what it asked for until it is interrupted.
type silentReader struct {
	known       bool
	interrupted chan struct{}
	once        sync.Once
}

func newSilentReader(known bool) *silentReader {
	return &silentReader{known: known, interrupted: make(chan struct{})}
}

func (s *silentReader) Interrupt()          { s.once.Do(func() { close(s.interrupted) }) }
func (s *silentReader) Known() bool         { return s.known }
func (s *silentReader) Address() netip.Addr { return netip.Addr{} }

// Readers that do not take what they asked for, be it blocks, images or pages, do
// not keep others from theirs.
func TestSilentReaders(t *testing.T) {
	f := newFixture(t)
	id := f.made(map[int64][]byte{0: data(1), 1: data(2)})
	token := f.token(id)
	f.Service.SetTakeWithin(20 * time.Millisecond)
	img, err := f.Service.OpenImage(t.Context(), caller, id)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]func(client *silentReader) error{
		"blocks": func(client *silentReader) error {
			b, err := f.Service.GetBlock(t.Context(), caller, snapshot.GetBlockRequest{SnapshotID: id, Token: &token, Client: client})
			if err != nil {
				return err
			}
			<-client.interrupted
			b.Release()
			return nil
		},
		"images": func(client *silentReader) error {
			for _, err := range img.Read(t.Context(), client, 0, block.Size) {
				if err != nil {
					return err
				}
				<-client.interrupted
			}
			return nil
		},
		"pages": func(client *silentReader) error {
			place, err := f.Service.TakePlace(t.Context(), client)
			if err != nil {
				return err
			}
			defer place.Leave()
			place.Send()
			<-client.interrupted
			return nil
		},
	}
	for what, read := range read {
		var readers sync.WaitGroup
		var clients []*silentReader
		for i := range 2 * snapshot.MaxReading { // more than there are buffers: each gets one
			c := newSilentReader(i%2 == 0)
			clients = append(clients, c)
			readers.Go(func() {
				if err := read(c); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		for what != "pages" && snapshot.Reading(f.Service) < snapshot.MaxReading/2 { // no more may be left of them, later
			time.Sleep(time.Millisecond)
		}
		for range 10 {
			if _, err := f.get(id, token); err != nil {
				t.Errorf("beside silent readers of %s: %v", what, err)
			}
			for _, err := range img.Read(t.Context(), nil, 0, block.Size) {
				if err != nil {
					t.Errorf("an image beside silent readers of %s: %v", what, err)
				}
			}
			place, err := f.Service.TakePlace(t.Context(), nil)
			if err != nil {
				t.Fatalf("a page beside silent readers of %s: %v", what, err)
			}
			place.Leave()
		}
		for _, c := range clients {
			c.Interrupt()
		}
		readers.Wait()
	}
	if n := snapshot.Reading(f.Service); n != 0 {
		t.Errorf("%d buffers are still held", n)
	}
}
