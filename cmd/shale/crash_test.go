package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// newCampaign reads SHALE_CRASH, a list of name=value: seed, points=all or one
// of so many, states, only.
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
}

// runScript goes through the script on a sound disk. before is called with each
// operation that changes something, and after with each step, what could be seen
// before it, and what can be now.
func runScript(t *testing.T, seed int64, w *world, before func(crashfs.Op), after func(i int, s step, was, is string)) {
	t.Helper()
	was := ""
	for i, s := range script() {
		cryptotest.SetGlobalRandom(t, seedOf(seed, int64(i)))
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
		is, err := w.look(t.Context())
		if err != nil {
			t.Fatalf("after step %d, %s: %v", i, s.name, err)
		}
		if i == 0 {
			was = is // a store that was never started looks like one that was just made
		}
		after(i, s, was, is)
		was = is
	}
}

// The power goes before every operation of the script, and the store opens
// again with all that was acknowledged and nothing that was not asked for: what
// is seen is what was seen before the step or after it. It also opens a second
// time, and completes what was open.
func TestCrashAtEveryPoint(t *testing.T) {
	c := newCampaign(t, 11)
	w := newWorld(t)
	t.Cleanup(w.discard)
	var moments []moment
	begun, points, states := time.Now(), int64(0), 0
	runScript(t, c.seed, w, func(op crashfs.Op) {
		points++
		if !c.tries(op.N) {
			return
		}
		m := moment{op: op}
		for _, s := range c.survivors(op.N) {
			m.disks, m.ways = append(m.disks, w.disk.Crash(s)), append(m.ways, s.String())
		}
		moments = append(moments, m)
	}, func(_ int, s step, was, is string) {
		for _, m := range moments {
			for i, disk := range m.disks {
				states++
				if err := recovers(t, w.on(disk), was, is); err != nil {
					t.Errorf("%s: a crash before %v, of which survives %s: %v\n%s", s.name, m.op, m.ways[i], err, c.replay(t, m.op.N))
				}
			}
		}
		moments = moments[:0]
		if t.Failed() {
			t.FailNow()
		}
	})
	seen, err := w.finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.checkFinals(t, seen)
	t.Logf("%d points, %d states, %v", points, states, time.Since(begun).Round(time.Second))
}

// recovers opens the world, which must look like one of two, and does it again.
func recovers(t *testing.T, w *world, was, is string) error {
	t.Helper()
	defer w.discard()
	if err := w.open(t.Context()); err != nil {
		return fmt.Errorf("the store does not open: %w", err)
	}
	first, err := w.look(t.Context())
	if err != nil {
		return fmt.Errorf("the store cannot be read: %w", err)
	}
	if first != was && first != is {
		return fmt.Errorf("what is found is neither (-before +found):\n%s\nnor (-after +found):\n%s", cmp.Diff(was, first), cmp.Diff(is, first))
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
	if _, err := w.finish(t.Context()); err != nil {
		return fmt.Errorf("what was open cannot be completed: %w", err)
	}
	return w.close()
}
