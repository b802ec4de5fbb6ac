package snapshot_test

import (
	"crypto/sha256"
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shale/internal/block"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// modelled is a snapshot as a trivially correct implementation keeps it.
type modelled struct {
	id       string
	key      string // the ARN of its KMS key; empty if it is not encrypted
	state    snapshot.State
	gone     bool
	lineage  int
	base     map[block.Index]block.Digest // the parent's blocks
	written  map[block.Index]block.Digest
	deadline time.Time
}

// blocks are all blocks of a completed snapshot.
func (m *modelled) blocks() map[block.Index]block.Digest {
	all := maps.Clone(m.base)
	maps.Copy(all, m.written)
	return all
}

func (m *modelled) aggregate() block.Digest {
	h := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(m.written)) {
		d := m.written[i]
		h.Write(d[:])
	}
	return block.Digest(h.Sum(nil))
}

// contents are the blocks that the model test writes; the first is zeros.
var contents = [][]byte{data(0), data(1), data(2), data(3)}

// machine drives the service and the model side by side.
type machine struct {
	*fixture
	t        *rapid.T
	snaps    []*modelled
	keys     []string // of the KMS; the empty one stands for none
	disabled map[string]bool
}

const never = snapshot.NumCodes // no error

func (m *machine) expect(what string, err error, want snapshot.Code) {
	m.t.Helper()
	if want == never && err != nil || want != never && code(err) != want {
		m.t.Fatalf("%s: got %v, want code %d (%d is none)", what, err, want, never)
	}
}

// any draws one of the snapshots, deleted ones included.
func (m *machine) any(t *rapid.T) *modelled { return m.pick(t, func(*modelled) bool { return true }) }

// mostly draws one in the state, except now and then.
func (m *machine) mostly(t *rapid.T, state snapshot.State) *modelled {
	if rapid.IntRange(0, 9).Draw(t, "odd one") == 9 {
		return m.any(t)
	}
	return m.pick(t, func(s *modelled) bool { return !s.gone && s.state == state })
}

// pick draws one that is to be kept, or any if there is none such.
func (m *machine) pick(t *rapid.T, keep func(*modelled) bool) *modelled {
	var from []*modelled
	for _, s := range m.snaps {
		if keep(s) {
			from = append(from, s)
		}
	}
	if len(from) == 0 {
		from = m.snaps
	}
	return rapid.SampledFrom(from).Draw(t, "snapshot")
}

// settle lets what is due happen in the model.
func (m *machine) settle() {
	for _, s := range m.snaps {
		if !s.gone && s.state == snapshot.Open && !m.Clock.Now().Before(s.deadline) {
			s.state = snapshot.Failed
		}
	}
}

func (m *machine) Start(t *rapid.T) {
	s := &modelled{state: snapshot.Open, base: map[block.Index]block.Digest{}, written: map[block.Index]block.Digest{}}
	r := snapshot.StartRequest{VolumeSize: ptr(int64(1)), Timeout: ptr(int64(10))}
	want := never
	if len(m.snaps) > 2 && rapid.IntRange(0, 2).Draw(t, "with a parent") > 0 {
		parent := m.mostly(t, snapshot.Completed)
		r.ParentSnapshotID = &parent.id
		switch {
		case parent.gone || parent.state == snapshot.Failed:
			want = snapshot.NotFound
		case parent.state == snapshot.Open:
			want = snapshot.ParentIncomplete
		case m.disabled[parent.key]:
			want = snapshot.KeyRefused
		}
		s.base, s.lineage, s.key = parent.blocks(), parent.lineage, parent.key
	} else {
		s.lineage = len(m.snaps) + 1
		if s.key = rapid.SampledFrom(m.keys).Draw(t, "key"); s.key != "" {
			r.KMSKeyARN = &s.key
		}
		if m.disabled[s.key] {
			want = snapshot.KeyRefused
		}
	}
	snap, err := m.Service.Start(m.Context(), caller, r)
	m.expect("Start", err, want)
	if err == nil {
		s.id, s.deadline = snap.ID, m.Clock.Now().Add(10*time.Minute)
		m.snaps = append(m.snaps, s)
	}
}

func (m *machine) Put(t *rapid.T) {
	s := m.mostly(t, snapshot.Open)
	index := rapid.SampledFrom([]int64{0, 1, 63, 64, 2047, 2048}).Draw(t, "index")
	b := rapid.SampledFrom(contents).Draw(t, "content")
	want := never
	switch {
	case s.gone || s.state == snapshot.Failed:
		want = snapshot.NotFound
	case s.state == snapshot.Completed:
		want = snapshot.AlreadyCompleted
	case m.disabled[s.key]:
		want = snapshot.KeyRefused
	case index > 2047:
		want = snapshot.BlockBeyondVolume
	}
	m.expect("PutBlock", m.put(s.id, index, b), want)
	if want == never {
		s.written[block.Index(index)] = digest(b)
		s.deadline = m.Clock.Now().Add(10 * time.Minute)
	}
}

func (m *machine) Complete(t *rapid.T) {
	s := m.mostly(t, snapshot.Open)
	r := snapshot.CompleteRequest{SnapshotID: s.id, ChangedBlocks: ptr(int64(len(s.written)))}
	outcome := snapshot.Completed
	switch rapid.SampledFrom([]string{"right", "right", "right", "right, no checksum", "right, no checksum", "wrong count", "wrong checksum"}).Draw(t, "claim") {
	case "wrong count":
		*r.ChangedBlocks++
		outcome = snapshot.Failed
	case "wrong checksum":
		r.Checksum, outcome = ptr(block.ZeroDigest.Base64()), snapshot.Failed
	case "right":
		r.Checksum = ptr(s.aggregate().Base64())
	}
	if r.Checksum != nil {
		r.Algorithm, r.AggregationMethod = ptr("SHA256"), ptr("LINEAR")
	}
	want, state := never, s.state
	switch {
	case s.gone:
		want = snapshot.NotFound
	case state == snapshot.Open && m.disabled[s.key]:
		want = snapshot.KeyRefused
	}
	got, err := m.Service.Complete(m.Context(), caller, r)
	m.expect("Complete", err, want)
	if err != nil {
		return
	}
	if got.String() != state.String() {
		m.t.Fatalf("Complete of a snapshot in state %v: got %v", state, got)
	}
	if state == snapshot.Open {
		s.state = outcome
		if err := m.Service.Settle(m.Context()); err != nil {
			t.Fatal(err)
		}
		if snap := m.describe(s.id); snap.State != outcome || outcome == snapshot.Completed && snap.Blocks != int64(len(s.blocks())) {
			m.t.Fatalf("completed: got state %v, %d blocks, want %v, %d", snap.State, snap.Blocks, outcome, len(s.blocks()))
		}
	}
}

func (m *machine) Read(t *rapid.T) {
	s := m.mostly(t, snapshot.Completed)
	if s.gone || s.state != snapshot.Completed {
		_, err := m.Service.ListBlocks(m.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: s.id})
		m.expect("ListBlocks", err, snapshot.NotFound)
		return
	}
	if m.disabled[s.key] { // listed, but not read
		page, err := m.Service.ListBlocks(m.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: s.id})
		if err != nil || len(page.Blocks) != len(s.blocks()) {
			t.Fatalf("ListBlocks of %s with a disabled key: got %d blocks, %v", s.id, len(page.Blocks), err)
		}
		for _, b := range page.Blocks {
			_, err := m.Service.GetBlock(m.Context(), caller, snapshot.GetBlockRequest{SnapshotID: s.id, Index: int64(b.Index), Token: &b.Token})
			m.expect("GetBlock", err, snapshot.KeyRefused)
		}
		return
	}
	if got := m.blocks(s.id); !maps.Equal(got, s.blocks()) {
		t.Fatalf("blocks of %s: got %v, want %v", s.id, got, s.blocks())
	}
}

func (m *machine) Diff(t *rapid.T) {
	a, b := m.mostly(t, snapshot.Completed), m.mostly(t, snapshot.Completed)
	want := never
	switch {
	case a.gone || b.gone || a.state != snapshot.Completed || b.state != snapshot.Completed:
		want = snapshot.NotFound
	case a.lineage != b.lineage:
		want = snapshot.Unrelated
	}
	page, err := m.Service.ListChangedBlocks(m.Context(), caller, snapshot.ListChangedRequest{FirstSnapshotID: &a.id, SecondSnapshotID: b.id})
	m.expect("ListChangedBlocks", err, want)
	if err != nil {
		return
	}
	var got, changed []block.Index
	for _, c := range page.Blocks {
		got = append(got, c.Index)
	}
	first, second := a.blocks(), b.blocks()
	all := maps.Clone(first)
	maps.Copy(all, second)
	for _, i := range slices.Sorted(maps.Keys(all)) {
		d1, in1 := first[i]
		if d2, in2 := second[i]; in1 != in2 || d1 != d2 {
			changed = append(changed, i)
		}
	}
	if !slices.Equal(got, changed) {
		t.Fatalf("changes: got %v, want %v", got, changed)
	}
}

func (m *machine) Delete(t *rapid.T) {
	s := m.any(t)
	want := never
	if s.gone {
		want = snapshot.NotFound
	}
	m.expect("Delete", m.Service.Delete(m.Context(), caller, s.id), want)
	s.gone = true
}

func (m *machine) List(t *rapid.T) {
	page, err := m.Service.Describe(m.Context(), caller, snapshot.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]snapshot.State)
	for _, s := range page.Snapshots {
		got[s.ID] = s.State
	}
	want := make(map[string]snapshot.State)
	for _, s := range m.snaps {
		if !s.gone {
			want[s.id] = s.state
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("Describe: got %v, want %v", got, want)
	}
}

func (m *machine) Wait(t *rapid.T) {
	m.Clock.Advance(time.Duration(rapid.IntRange(1, 9).Draw(t, "minutes")) * time.Minute)
	m.settle()
}

// Toggle disables a KMS key, or enables it again.
func (m *machine) Toggle(t *rapid.T) {
	key := rapid.SampledFrom(m.keys).Draw(t, "key")
	switch {
	case key == "":
	case m.disabled[key]:
		m.KMS.Enable(key)
		m.disabled[key] = false
	default:
		m.KMS.Disable(key)
		m.disabled[key] = true
	}
}

func (m *machine) Crash(*rapid.T) { m.Restart(m.TB) }

// Any sequence of operations, restarts included, gives what a map in memory
// gives.
func TestModel(t *testing.T) {
	beside(t)
	rapid.Check(t, func(rt *rapid.T) {
		env := snapshottest.New(t)
		defer env.Stop(t)
		m := &machine{fixture: &fixture{env, t}, t: rt, disabled: make(map[string]bool)}
		m.keys = []string{"", m.newKey(), m.newKey()}
		actions := map[string]func(*rapid.T){
			"start": m.Start, "put": m.Put, "complete": m.Complete, "read": m.Read, "diff": m.Diff,
			"delete": m.Delete, "list": m.List, "wait": m.Wait, "restart": m.Crash, "toggle": m.Toggle,
		}
		// As often as each stands here.
		choice := rapid.SampledFrom(strings.Fields(
			"start start put put put put put put complete complete read diff diff delete list wait restart toggle"))
		m.Start(rt)
		for range rapid.IntRange(50, 250).Draw(rt, "steps") {
			actions[choice.Draw(rt, "action")](rt)
		}
	})
}

// beside is for models whose every check starts a service. They make fewer
// checks, all of them as many, for there is one flag, and run beside one another.
func beside(t *testing.T) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue { // not asked for otherwise
		if err := checks.Value.Set("40"); err != nil {
			t.Fatal(err)
		}
	}
	t.Parallel()
}
