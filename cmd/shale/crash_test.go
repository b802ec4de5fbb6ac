package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/snapshot"
	"shale/internal/vfs"
	"shale/internal/vfs/crashfs"
)

// A campaign says how much of what could happen is tried. Without the
// environment it is a sample, the same each time.
type campaign struct {
	seed   int64
	stride int64 // of the points, one of so many
	states int   // ways to survive at each point
	only   int64 // the point to try, 0 for all
}

// newCampaign reads SHALE_CRASH, a list of name=value with the names above.
func newCampaign(t *testing.T, stride int64) campaign {
	t.Helper()
	c := campaign{seed: 1, stride: stride, states: 1}
	for setting := range strings.FieldsSeq(os.Getenv("SHALE_CRASH")) {
		name, value, _ := strings.Cut(setting, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			t.Fatalf("SHALE_CRASH: %q: %v", setting, err)
		}
		switch name {
		case "seed":
			c.seed = n
		case "stride":
			c.stride = n
		case "states":
			c.states = int(n)
		case "only":
			c.only, c.stride = n, 1
		default:
			t.Fatalf("SHALE_CRASH: %q is not known", name)
		}
	}
	return c
}

// tries reports whether the point is one of those that are tried.
func (c campaign) tries(point int64) bool {
	if c.only != 0 {
		return point == c.only
	}
	return (point+c.seed)%c.stride == 0
}

// enters reports whether the operations of a step are looked at: in a sample
// those of one step in four, as each has to be gone through first.
func (c campaign) enters(step int) bool {
	return c.stride == 1 || (int64(step)+c.seed)%4 == 0
}

// replay says how to see one point again.
func (c campaign) replay(t *testing.T, point int64) string {
	return fmt.Sprintf("SHALE_CRASH='seed=%d states=%d only=%d' go test ./cmd/shale -run '^%s$'", c.seed, c.states, point, t.Name())
}

// survivors are the ways to survive that are tried at a point.
func (c campaign) survivors(point int64) []crashfs.Survivors {
	var all []crashfs.Survivors
	for i := range c.states {
		all = append(all, crashfs.Survivors{Seed: seedOf(c.seed, point, int64(i))})
	}
	if c.states > 2 {
		all = append(all, crashfs.Survivors{Mode: crashfs.Nothing}, crashfs.Survivors{Mode: crashfs.Everything})
	}
	return all
}

// A moment is what a crash leaves just before an operation.
type moment struct {
	op    crashfs.Op
	disks []*crashfs.Disk
	ways  []string
	// killed is what the end of the process leaves.
	killed *crashfs.Disk
	// again is as the first of disks, for a crash in the start after it; nil if
	// that is not tried.
	again *crashfs.Disk
}

// A passage is one step of the script as it went on a sound disk.
type passage struct {
	step
	number int
	base   *world // before it; nothing runs there
	was    string // what could be seen before it
	is     string // and what can be after it
}

// runScript goes through the script on a sound disk. before is called with each
// operation that changes something, and after with each step.
func runScript(t *testing.T, seed int64, w *world, before func(crashfs.Op), after func(passage)) {
	t.Helper()
	was := ""
	for i, s := range script() {
		w.clock = w.clock.Add(time.Second) // lists are in the order of time
		p := passage{step: s, number: i, base: w.on(w.disk.Crash(crashfs.Survivors{Mode: crashfs.Everything}))}
		p.random(t, seed)
		w.disk.Before(func(op crashfs.Op) error {
			if op.Changes() {
				before(op)
			}
			return nil
		})
		if err := s.do(t.Context(), w); err != nil {
			t.Fatalf("step %d, %s: %v", i, s.name, err)
		}
		w.disk.Before(nil)
		seen, err := w.look(t.Context())
		if err != nil {
			t.Fatalf("after step %d, %s: %v", i, s.name, err)
		}
		if i == 0 {
			was = seen // a store that was never started looks like one that was just made
		}
		p.was, p.is = was, seen
		after(p)
		if t.Failed() {
			t.FailNow()
		}
		was = seen
	}
}

// random makes what the step draws the same each time.
func (p *passage) random(t *testing.T, seed int64) {
	cryptotest.SetGlobalRandom(t, seedOf(seed, int64(p.number)))
}

// check compares what is seen with what could be before the step, unless it has
// been acknowledged, and after it.
func (p *passage) check(seen string, acknowledged bool) error {
	if seen = anonymized(seen); seen == anonymized(p.is) || !acknowledged && seen == anonymized(p.was) {
		return nil
	}
	return fmt.Errorf("acknowledged %v, and what is found is neither (-before +found):\n%s\nnor (-after +found):\n%s",
		acknowledged, cmp.Diff(anonymized(p.was), seen), cmp.Diff(anonymized(p.is), seen))
}

var drawn = regexp.MustCompile(`snap-[0-9a-f]{17}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// anonymized has numbers, in the order in which they appear, for what is drawn
// at random: a step that is repeated draws something else.
func anonymized(seen string) string {
	numbers := map[string]string{}
	return drawn.ReplaceAllStringFunc(seen, func(id string) string {
		if numbers[id] == "" {
			numbers[id] = fmt.Sprintf("<%d>", len(numbers))
		}
		return numbers[id]
	})
}

// The power goes before every operation of the script, and the store opens
// again with all that was acknowledged and nothing that was not asked for: what
// is seen is what was seen before the step or after it. It also opens a second
// time, completes what was open, has all invariants, and loses nothing in two
// cycles of reclaiming. So it does if the process is killed there,
// and if the power goes again in the start after it.
func TestCrashAtEveryPoint(t *testing.T) {
	c := newCampaign(t, 151)
	w := newWorld(t)
	t.Cleanup(w.discard)
	var moments []moment
	begun, points, tried, states := time.Now(), 0, 0, 0
	runScript(t, c.seed, w, func(op crashfs.Op) {
		points++
		if !c.tries(op.N) {
			return
		}
		m := moment{op: op, killed: w.disk.Kill()}
		if c.only != 0 || tried%recoveries == 0 {
			m.again = w.disk.Crash(c.survivors(op.N)[0])
		}
		for _, s := range c.survivors(op.N) {
			m.disks, m.ways = append(m.disks, w.disk.Crash(s)), append(m.ways, s.String())
		}
		tried++
		moments = append(moments, m)
	}, func(p passage) {
		for _, m := range moments {
			failed := func(what string, err error) {
				t.Errorf("%s, before %v: %s: %v\n%s", p.name, m.op, what, err, c.replay(t, m.op.N))
			}
			for i, disk := range m.disks {
				states++
				if err := p.recovers(t, w.on(disk), false); err != nil {
					failed("a crash, of which survives "+m.ways[i], err)
				}
			}
			states++
			if err := p.survivesTwice(t, w.on(m.killed)); err != nil {
				failed("killed", err)
			}
			if m.again != nil {
				n, err := p.recoversAgain(t, c, w.on(m.again))
				if states += n; err != nil {
					failed("a crash, of which survives "+m.ways[0], err)
				}
			}
		}
		moments = moments[:0]
	})
	seen, err := w.finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.checkFinals(t, seen)
	if f := w.freed; f.Removed == 0 || f.Relocated == 0 || f.Dropped == 0 {
		t.Errorf("%d records removed, %d copied, %d segments dropped: want some of each", f.Removed, f.Relocated, f.Dropped)
	}
	t.Logf("%d records removed, %d copied, %d segments dropped", w.freed.Removed, w.freed.Relocated, w.freed.Dropped)
	t.Logf("%d points, %d tried, %d states, %v", points, tried, states, time.Since(begun).Round(time.Second))
}

// recoveries is the one of so many points at which a crash in the start after
// the crash is tried: each is as many states as the start has operations.
const recoveries = 31

// recovers opens the world, which must be as the passage allows, does it again,
// reclaims, while what is open is, and completes that.
func (p *passage) recovers(t *testing.T, w *world, acknowledged bool) error {
	t.Helper()
	defer w.discard()
	if err := p.opens(t, w, acknowledged); err != nil {
		return err
	}
	if err := w.reclaimed(t.Context()); err != nil {
		return fmt.Errorf("after two cycles of reclaiming: %w", err)
	}
	if err := w.completes(t.Context()); err != nil {
		return err
	}
	return w.close()
}

// opens opens the world twice.
func (p *passage) opens(t *testing.T, w *world, acknowledged bool) error {
	t.Helper()
	if err := w.open(t.Context()); err != nil {
		return fmt.Errorf("the store does not open: %w", err)
	}
	first, err := w.look(t.Context())
	if err != nil {
		return fmt.Errorf("the store cannot be read: %w", err)
	}
	if err := p.check(first, acknowledged); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return fmt.Errorf("the store does not close: %w", err)
	}
	if err := w.open(t.Context()); err != nil {
		return fmt.Errorf("the store does not open a second time: %w", err)
	}
	if again, err := w.look(t.Context()); err != nil || again != first {
		return fmt.Errorf("opened a second time: %w\n%s", err, cmp.Diff(first, again))
	}
	return nil
}

// survivesTwice opens the world after the process was killed. Then, with nothing
// done, the power goes: what could be seen is there. So a start makes durable
// what it finds.
func (p *passage) survivesTwice(t *testing.T, w *world) error {
	t.Helper()
	defer w.discard()
	if err := w.open(t.Context()); err != nil {
		return fmt.Errorf("the store does not open: %w", err)
	}
	first, err := w.look(t.Context())
	if err != nil {
		return err
	}
	if err := p.check(first, false); err != nil {
		return err
	}
	after := w.on(w.disk.Crash(crashfs.Survivors{Mode: crashfs.Nothing}))
	defer after.discard()
	if err := after.open(t.Context()); err != nil {
		return fmt.Errorf("the store does not open after the crash: %w", err)
	}
	if seen, err := after.look(t.Context()); err != nil || seen != first {
		return fmt.Errorf("after the crash: %w\n%s", err, cmp.Diff(first, seen))
	}
	return nil
}

// recoversAgain opens the world after a crash, and lets the power go again before
// every operation of that.
func (p *passage) recoversAgain(t *testing.T, c campaign, w *world) (states int, err error) {
	t.Helper()
	defer w.discard()
	var second []moment
	w.disk.Before(func(op crashfs.Op) error {
		if op.Changes() {
			second = append(second, moment{op: op, disks: []*crashfs.Disk{w.disk.Crash(c.survivors(op.N)[0])}})
		}
		return nil
	})
	if err := w.open(t.Context()); err != nil {
		return 0, err
	}
	w.disk.Before(nil)
	for _, m := range second {
		for _, disk := range m.disks {
			states++
			found := w.on(disk)
			err := p.opens(t, found, false)
			if err == nil {
				err = found.completes(t.Context())
			}
			found.discard()
			if err != nil {
				return states, fmt.Errorf("and another in the start, before %v: %w", m.op, err)
			}
		}
	}
	return states, nil
}

// Every operation of the script fails once. What hits it is refused, or is none
// the worse for it; after a failed sync or write nothing is written any more,
// though the disk works again, and the service says so; what can be seen goes
// on to be seen; after a restart, and a crash, all is there that was
// acknowledged.
func TestErrorAtEveryPoint(t *testing.T) {
	everyPoint(t, newCampaign(t, 89), func(crashfs.Op) bool { return true }, "with an error in", (*passage).failing)
}

// everyPoint goes through the script and tries it again with something amiss in
// each operation of it that may be hit, and says what is amiss where that fails.
func everyPoint(t *testing.T, c campaign, may func(crashfs.Op) bool, amiss string,
	try func(*passage, *testing.T, campaign, crashfs.Op) (refused bool, err error),
) {
	t.Helper()
	w := newWorld(t)
	t.Cleanup(w.discard)
	points, tried, refused := int64(0), 0, 0
	runScript(t, c.seed, w, func(crashfs.Op) {}, func(p passage) {
		if !c.enters(p.number) {
			return
		}
		for _, op := range p.operations(t, c) {
			if !may(op) {
				continue
			}
			points++
			at := 1000*int64(p.number) + op.N
			if !c.tries(at) {
				continue
			}
			tried++
			failed, err := try(&p, t, c, op)
			if failed {
				refused++
			}
			if err != nil {
				t.Errorf("%s, %s %v: %v\n%s", p.name, amiss, op, err, c.replay(t, at))
			}
		}
	})
	t.Logf("%d points, %d tried, %d of the steps were refused", points, tried, refused)
}

// operations are those of the passage, but for reads, with numbers from 1 on.
func (p *passage) operations(t *testing.T, c campaign) []crashfs.Op {
	t.Helper()
	w := p.again(t)
	defer w.discard()
	var all []crashfs.Op
	begun := w.disk.Ops()
	w.disk.Before(func(op crashfs.Op) error {
		if op.N -= begun; op.Kind != crashfs.Read {
			all = append(all, op)
		}
		return nil
	})
	p.random(t, c.seed)
	if err := p.do(t.Context(), w); err != nil {
		t.Fatalf("%s, once more: %v", p.name, err)
	}
	w.disk.Before(nil)
	seen, err := w.look(t.Context())
	if err == nil {
		err = p.check(seen, true)
	}
	if err != nil {
		t.Fatalf("%s, once more: %v", p.name, err)
	}
	return all
}

// again is the world before the passage, running if it was.
func (p *passage) again(t *testing.T) *world {
	t.Helper()
	w := p.base.on(p.base.disk.Crash(crashfs.Survivors{Mode: crashfs.Everything}))
	if p.number > 0 {
		if err := w.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// failing goes through the passage with an error in one operation. refused says
// that the step was.
func (p *passage) failing(t *testing.T, c campaign, at crashfs.Op) (refused bool, err error) {
	t.Helper()
	w := p.again(t)
	defer w.discard()
	begun, hit := w.disk.Ops(), false
	w.disk.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.Read || op.N-begun != at.N {
			return nil
		}
		hit = true
		if op.Kind == crashfs.Write {
			return &crashfs.Torn{Bytes: op.Length / 2, Err: syscall.EIO}
		}
		return syscall.EIO
	})
	p.random(t, c.seed)
	refusal := p.do(t.Context(), w)
	w.disk.Before(nil)
	if !hit {
		return false, errors.New("the operation was not done") // the script is not the same each time
	}
	refused = refusal != nil
	ways := append(c.survivors(at.N), crashfs.Survivors{Mode: crashfs.Nothing})
	var disks []*crashfs.Disk
	for _, s := range ways {
		disks = append(disks, w.disk.Crash(s))
	}
	// A key that a start cannot read is not used until the next one, which the
	// log says. A start that fails leaves nothing to look at.
	if unread := at.Kind == crashfs.Open && strings.Contains(at.Name, "/keys/"); w.node != nil && !unread {
		seen, err := w.look(t.Context())
		if err != nil {
			return refused, fmt.Errorf("reads do not go on: %w", err)
		}
		if err := p.check(seen, !refused); err != nil {
			return refused, fmt.Errorf("the step: %w; then: %w", refusal, err)
		}
		if ready := w.node.service.Ready(); final(at) && ready == nil {
			return refused, fmt.Errorf("the service says that it is ready; the step: %w", refusal)
		} else if ready != nil {
			err := starts("another", "", false).do(t.Context(), w)
			if err == nil { // the catalog is sound
				err = puts("another", 0, 1).do(t.Context(), w)
			}
			if e, ok := errors.AsType[*snapshot.Error](err); !ok || e.Code != snapshot.StorageStopped {
				return refused, fmt.Errorf("a write is answered with %w", err)
			}
			if !strings.Contains(w.log.String(), "no more changes are taken") && !strings.Contains(w.log.String(), "stopped taking writes") {
				return refused, fmt.Errorf("the log says nothing of it:\n%s", w.log)
			}
		}
	}
	for i, disk := range disks {
		if err := p.recovers(t, w.on(disk), !refused); err != nil {
			return refused, fmt.Errorf("the step: %w; then a crash, of which survives %v: %w", refusal, ways[i], err)
		}
	}
	return refused, nil
}

// final reports whether an error in the operation leaves the segments or the
// catalog in a state that nobody knows.
func final(op crashfs.Op) bool {
	return (op.Kind == crashfs.Sync || op.Kind == crashfs.Write) && !strings.Contains(op.Name, "/keys/")
}

// The disk is full from every operation of the script on that needs space. The
// step is refused as such, or needs none; what can be seen stays as it is; with
// space again the same step is done, without a restart.
func TestFullDiskAtEveryPoint(t *testing.T) {
	everyPoint(t, newCampaign(t, 37), func(op crashfs.Op) bool { return op.Grows }, "full from here on:", (*passage).full)
}

func (p *passage) full(t *testing.T, c campaign, at crashfs.Op) (refused bool, err error) {
	t.Helper()
	w := p.again(t)
	defer w.discard()
	begun := w.disk.Ops()
	w.disk.Before(func(op crashfs.Op) error {
		switch {
		case !op.Grows || op.N-begun < at.N:
			return nil
		case op.Kind == crashfs.Write:
			return &crashfs.Torn{Bytes: op.Length / 2, Err: syscall.ENOSPC}
		}
		return syscall.ENOSPC
	})
	p.random(t, c.seed)
	refusal := p.do(t.Context(), w)
	refused = refusal != nil
	if w.node != nil {
		seen, err := w.look(t.Context())
		if err == nil {
			err = p.check(seen, !refused)
		}
		if err != nil {
			return refused, fmt.Errorf("the step: %w; then: %w", refusal, err)
		}
		if err := w.node.service.Ready(); err != nil {
			return refused, fmt.Errorf("the service has stopped: %w", err)
		}
		var known *snapshot.Error
		if refused && errors.As(refusal, &known) && known.Code != snapshot.StorageFull {
			return refused, fmt.Errorf("the step is refused with %w", refusal)
		}
	}
	w.disk.Before(nil)
	if refused {
		if err := p.do(t.Context(), w); err != nil {
			return refused, fmt.Errorf("the step: %w; with space again: %w", refusal, err)
		}
	}
	seen, err := w.look(t.Context())
	if err == nil {
		err = p.check(seen, true)
	}
	if err != nil {
		return refused, fmt.Errorf("the step: %w; with space again: %w", refusal, err)
	}
	if err := p.recovers(t, w.on(w.disk.Crash(crashfs.Survivors{Mode: crashfs.Nothing})), true); err != nil {
		return refused, fmt.Errorf("the step: %w; with space again, and then a crash: %w", refusal, err)
	}
	return refused, nil
}

// SQLite's log is lost, or ends early, as a disk that breaks its promises leaves
// it. The store is refused, with the catalog named, or is as it was at an
// earlier moment, whole; never a mixture of two.
func TestLostLog(t *testing.T) {
	c := newCampaign(t, 11)
	w := newWorld(t)
	t.Cleanup(w.discard)
	var all []string // what could be seen after each step
	tried, refused, older := 0, 0, 0
	runScript(t, c.seed, w, func(crashfs.Op) {}, func(p passage) {
		all = append(all, p.is)
		size, err := vfs.SizeOf(w.disk.Folder(w.dir.Path()), "catalog.db-wal")
		if err != nil {
			t.Fatal(err)
		}
		// An empty one begins anew with the next transaction. An older catalog at a
		// later time, or with later keys, is no moment that there was.
		if later := w.ids["late"] != ""; size == 0 || later || !c.tries(int64(p.number)) {
			return
		}
		for cut := range int64(4) {
			tried++
			found := w.on(w.disk.Crash(crashfs.Survivors{Mode: crashfs.Everything}))
			at := int64(-1) // the log is gone
			if cut > 0 {
				at = int64(seedOf(c.seed, int64(p.number), cut) % uint64(size))
			}
			seen, err := found.withoutLog(t, at)
			switch {
			case err != nil && strings.Contains(err.Error(), "catalog"):
				refused++
			case err != nil:
				t.Errorf("after %s, with the log cut at %d: %v\n%s", p.name, at, err, c.replay(t, int64(p.number)))
			case !slices.Contains(all, seen):
				t.Errorf("after %s, with the log cut at %d: what is found never was (-now +found):\n%s\n%s",
					p.name, at, cmp.Diff(p.is, seen), c.replay(t, int64(p.number)))
			case seen != p.is:
				older++
			}
		}
	})
	t.Logf("%d states: %d refused, %d as of an earlier moment", tried, refused, older)
}

// withoutLog opens the world with SQLite's log cut, or removed if at is
// negative, and gives what can be seen.
func (w *world) withoutLog(t *testing.T, at int64) (string, error) {
	t.Helper()
	defer w.discard()
	root, name := w.disk.Folder(w.dir.Path()), "catalog.db-wal"
	if at < 0 {
		if err := root.Remove(name); err != nil {
			return "", err
		}
	} else if f, err := root.OpenWrite(name); err != nil {
		return "", err
	} else if err := f.Truncate(at); err != nil {
		return "", err
	}
	if err := w.open(t.Context()); err != nil {
		return "", err
	}
	return w.look(t.Context())
}
