package snapshot_test

import (
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

// kept is a snapshot as a trivially correct implementation of copies, locks and
// the recycle bin keeps it.
type kept struct {
	id      string
	state   snapshot.State // Open, Completed or Failed
	gone    bool
	exits   time.Time // from the bin; zero outside
	blocks  map[block.Index]block.Digest
	lineage int

	lock           snapshot.LockState // 0 without
	ends, coolEnds time.Time          // ends is zero until the snapshot is completed
	days           int64
	deadline       time.Time // while open
}

func (k *kept) there() bool { return !k.gone && k.exits.IsZero() }

func (k *kept) locked() bool { return k.lock != 0 && k.lock != snapshot.LockExpired }

// keeper drives the service and the model side by side.
type keeper struct {
	*fixture
	t     *rapid.T
	snaps []*kept
	mark  time.Time // the latest recorded time of locks
}

// now is the time of locks. What has come to its end by it has ended.
func (m *keeper) now() time.Time {
	if now := m.Clock.Now(); now.After(m.mark) {
		return now
	}
	return m.mark
}

// tick lets what is due happen in the model, and records the time.
func (m *keeper) tick() {
	for _, s := range m.snaps {
		if !s.exits.IsZero() && !m.Clock.Now().Before(s.exits) {
			s.gone, s.exits = true, time.Time{}
		}
	}
	// Nothing is recorded while no lock is in force.
	if slices.ContainsFunc(m.snaps, func(s *kept) bool { return !s.gone && s.locked() }) {
		m.mark = m.now()
	}
	for _, s := range m.snaps {
		if s.lock == snapshot.CoolingOff && !m.now().Before(s.coolEnds) {
			s.lock = snapshot.Compliance
		}
		if s.locked() && !s.ends.IsZero() && !m.now().Before(s.ends) {
			s.lock = snapshot.LockExpired
		}
	}
}

func (m *keeper) expect(what string, err error, want snapshot.Code) {
	m.t.Helper()
	if want == never && err != nil || want != never && code(err) != want {
		m.t.Fatalf("%s: got %v, want code %d (%d is none)", what, err, want, never)
	}
}

func (m *keeper) pick(t *rapid.T) *kept { return rapid.SampledFrom(m.snaps).Draw(t, "snapshot") }

func (m *keeper) Make(t *rapid.T) {
	b := rapid.SampledFrom(contents).Draw(t, "content")
	s := &kept{state: snapshot.Open, lineage: len(m.snaps), blocks: map[block.Index]block.Digest{5: digest(b)}}
	snap, err := m.Service.Start(m.Context(), caller, snapshot.StartRequest{VolumeSize: ptr(int64(1)), Timeout: ptr(int64(4320))})
	if err != nil {
		t.Fatal(err)
	}
	s.id = snap.ID
	if err := m.put(s.id, 5, b); err != nil {
		t.Fatal(err)
	}
	s.deadline = m.Clock.Now().Add(4320 * time.Minute)
	m.snaps = append(m.snaps, s)
	if rapid.IntRange(0, 3).Draw(t, "left open") > 0 {
		m.finish(t, s, 1)
	}
}

// Complete completes an open snapshot or lets it fail.
func (m *keeper) Complete(t *rapid.T) {
	s := m.pick(t)
	if s.there() && s.state == snapshot.Open {
		m.finish(t, s, int64(rapid.IntRange(0, 1).Draw(t, "count")))
	}
}

func (m *keeper) finish(t *rapid.T, s *kept, count int64) {
	if _, err := m.Service.Complete(m.Context(), caller, snapshot.CompleteRequest{SnapshotID: s.id, ChangedBlocks: &count}); err != nil {
		t.Fatal(err)
	}
	m.settle()
	if count != int64(len(s.blocks)) {
		s.state, s.lock = snapshot.Failed, 0
	} else {
		s.state, m.mark = snapshot.Completed, m.now()
		if s.locked() {
			s.ends = m.now().AddDate(0, 0, int(s.days))
		}
	}
	m.tick()
}

func (m *keeper) Copy(t *rapid.T) {
	source := m.pick(t)
	snap, err := m.Service.Copy(m.Context(), caller, snapshot.CopyRequest{SourceRegion: caller.Region, SourceID: source.id})
	if err != nil {
		t.Fatal(err)
	}
	m.settle()
	s := &kept{id: snap.ID, state: snapshot.Failed, lineage: source.lineage}
	why := "Source snapshot is not found"
	switch {
	case !source.there():
	case source.state == snapshot.Open:
		why = "Source snapshot is not complete"
	case source.state == snapshot.Completed:
		s.state, s.blocks, why = snapshot.Completed, source.blocks, ""
		m.mark = m.now()
	}
	m.snaps = append(m.snaps, s)
	m.tick()
	if got := m.describe(s.id); got.State != s.state || got.Message != why {
		t.Fatalf("copy of %+v: got %v %q, want %v %q", source, got.State, got.Message, s.state, why)
	}
}

func (m *keeper) Lock(t *rapid.T) {
	s := m.pick(t)
	m.tick()
	r := snapshot.LockRequest{SnapshotID: s.id, Compliance: rapid.Bool().Draw(t, "compliance"), Days: ptr(int64(rapid.IntRange(1, 3).Draw(t, "days")))}
	if r.Compliance && rapid.Bool().Draw(t, "cooling off") {
		r.CoolOffHours = ptr(int64(rapid.IntRange(1, 30).Draw(t, "hours")))
	}
	var ends time.Time
	if s.state == snapshot.Completed {
		ends = m.now().AddDate(0, 0, int(*r.Days))
	}
	want := never
	switch {
	case !s.there():
		want = snapshot.NotFound
	case s.state == snapshot.Failed:
		want = snapshot.NotLockable
	case s.lock == snapshot.Compliance:
		longer := *r.Days > s.days
		if !ends.IsZero() {
			longer = ends.After(s.ends)
		}
		if !r.Compliance || r.CoolOffHours != nil || !longer {
			want = snapshot.LockForbidden
		}
	}
	l, err := m.Service.Lock(m.Context(), caller, r)
	m.expect("Lock", err, want)
	if err != nil {
		return
	}
	m.mark = m.now()
	s.days, s.ends = *r.Days, ends
	switch {
	case !r.Compliance:
		s.lock = snapshot.Governance
	case r.CoolOffHours != nil:
		s.lock, s.coolEnds = snapshot.CoolingOff, m.now().Add(time.Duration(*r.CoolOffHours)*time.Hour)
	default:
		s.lock = snapshot.Compliance
	}
	if l.State != s.lock || !l.ExpiresAt.Equal(s.ends) {
		t.Fatalf("Lock: got %+v, want %v until %v", l, s.lock, s.ends)
	}
}

func (m *keeper) Unlock(t *rapid.T) {
	s := m.pick(t)
	m.tick()
	want := never
	switch {
	case !s.there():
		want = snapshot.NotFound
	case !s.locked():
		want = snapshot.NotLocked
	case s.lock == snapshot.Compliance:
		want = snapshot.LockForbidden
	}
	m.expect("Unlock", m.unlock(s.id), want)
	if want == never {
		s.lock, m.mark = 0, m.now()
	}
}

func (m *keeper) Delete(t *rapid.T) {
	s := m.pick(t)
	if s.there() {
		m.mark = m.now() // in the transaction, whatever comes of it
	}
	m.tick()
	want := never
	switch {
	case !s.there():
		want = snapshot.NotFound
	case s.locked():
		want = snapshot.Locked
	}
	m.expect("Delete", m.Service.Delete(m.Context(), caller, s.id), want)
	if want != never {
		return
	}
	if s.state == snapshot.Completed {
		s.exits = m.Clock.Now().Add(binTime)
	} else {
		s.gone = true
	}
}

const binTime = 48 * time.Hour

func (m *keeper) Restore(t *rapid.T) {
	s := m.pick(t)
	want := snapshot.NotFound
	if !s.exits.IsZero() {
		want = never
		s.exits = time.Time{}
	}
	_, err := m.Service.Restore(m.Context(), caller, snapshot.RestoreRequest{SnapshotID: s.id})
	m.expect("Restore", err, want)
}

func (m *keeper) Read(t *rapid.T) {
	s := m.pick(t)
	if !s.there() || s.state != snapshot.Completed {
		_, err := m.Service.ListBlocks(m.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: s.id})
		m.expect("ListBlocks", err, snapshot.NotFound)
		return
	}
	if got := m.blocks(s.id); !maps.Equal(got, s.blocks) {
		t.Fatalf("blocks of %s: got %v, want %v", s.id, got, s.blocks)
	}
}

// List compares all that the lists tell.
func (m *keeper) List(t *rapid.T) {
	m.tick()
	page, err := m.Service.Describe(m.Context(), caller, snapshot.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	bin, err := m.Service.Bin(m.Context(), caller, snapshot.BinRequest{})
	if err != nil {
		t.Fatal(err)
	}
	locks, err := m.Service.Locks(m.Context(), caller, snapshot.LocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	visible, binned, locked := map[string]snapshot.State{}, map[string]time.Time{}, map[string]snapshot.LockState{}
	for _, s := range page.Snapshots {
		visible[s.ID] = s.State
	}
	for _, b := range bin.Snapshots {
		binned[b.Snapshot.ID] = b.ExitsAt
	}
	for _, l := range locks.Snapshots {
		locked[l.ID] = l.Lock.State
	}
	for _, s := range m.snaps {
		state, found := visible[s.id]
		if found != s.there() || found && state != s.state {
			t.Fatalf("%s: Describe has %v, %v, want %+v", s.id, found, state, s)
		}
		if exits, found := binned[s.id]; found == s.exits.IsZero() || found && !exits.Equal(s.exits) {
			t.Fatalf("%s: the bin has %v, %v, want %+v", s.id, found, exits, s)
		}
		if lock := locked[s.id]; s.there() && lock != s.lock || !s.there() && lock != 0 {
			t.Fatalf("%s: its lock is %v, want %+v", s.id, lock, s)
		}
	}
}

// Wait lets time pass, or turns the clock back.
func (m *keeper) Wait(t *rapid.T) {
	m.Clock.Advance(time.Duration(rapid.IntRange(-20, 30).Draw(t, "hours")) * time.Hour)
	m.settle()
	for _, s := range m.snaps { // uploads of which nothing was heard
		if s.there() && s.state == snapshot.Open && !m.Clock.Now().Before(s.deadline) {
			s.state, s.lock = snapshot.Failed, 0
		}
	}
	m.tick()
}

func (m *keeper) Crash(*rapid.T) { m.Restart(m.TB) }

// Any sequence of copies, locks, deletions and restorations, with restarts and
// a clock that is turned back now and then, gives what a model in memory gives.
func TestRetentionModel(t *testing.T) {
	beside(t)
	rapid.Check(t, func(rt *rapid.T) {
		env := snapshottest.New(t)
		defer env.Stop(t)
		env.BinTime = binTime
		env.Restart(t)
		m := &keeper{fixture: &fixture{env, t}, t: rt}
		actions := map[string]func(*rapid.T){
			"make": m.Make, "complete": m.Complete, "copy": m.Copy, "lock": m.Lock, "unlock": m.Unlock, "delete": m.Delete,
			"restore": m.Restore, "read": m.Read, "list": m.List, "wait": m.Wait, "restart": m.Crash,
		}
		// As often as each stands here.
		choice := rapid.SampledFrom(strings.Fields(
			"make complete copy copy lock lock lock unlock delete delete delete restore restore read list list wait wait restart"))
		m.Make(rt)
		for range rapid.IntRange(30, 120).Draw(rt, "steps") {
			actions[choice.Draw(rt, "action")](rt)
		}
	})
}
