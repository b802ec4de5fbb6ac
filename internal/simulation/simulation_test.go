// Package simulation_test runs the service, the store, the segments, the catalog
// and the keyring, all of them the real ones, in a world where nothing happens
// by chance: the clock and the timers are those of a synctest bubble, the disk is
// one in memory that loses power, and which goroutine goes on is drawn from a
// seed. Clients write, complete, read, copy and delete beside one another; a
// model of maps knows what they may see.
//
// One seed is one history. A failure prints how to see it again.
package simulation_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A campaign says how much is tried.
type campaign struct {
	seed       uint64 // the first one
	operations int    // of each history
	seeds      int
}

// newCampaign reads SHALE_SIMULATION, a list of name=value: seed, seeds,
// operations.
func newCampaign(t *testing.T, c campaign) campaign {
	t.Helper()
	for setting := range strings.FieldsSeq(os.Getenv("SHALE_SIMULATION")) {
		name, value, _ := strings.Cut(setting, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("SHALE_SIMULATION: %q: %v", setting, err)
		}
		switch name {
		case "seed":
			c.seed = uint64(n)
		case "seeds":
			c.seeds = n
		case "operations":
			c.operations = n
		default:
			t.Fatalf("SHALE_SIMULATION: %q is not known", name)
		}
	}
	return c
}

// Whatever the order in which things happen, and wherever the power goes: what
// was acknowledged is there, and what is read is what was written.
func TestSimulation(t *testing.T) {
	c := newCampaign(t, campaign{seed: 1, seeds: 6, operations: 200})
	watch(t)
	var sums totals
	began := time.Now()
	for i := range c.seeds {
		simulate(t, c.seed+uint64(i), c.operations, &sums)
		if t.Failed() {
			break
		}
	}
	t.Logf("seeds %d to %d of %d operations each: %v, %v",
		c.seed, c.seed+uint64(c.seeds)-1, c.operations, &sums, time.Since(began).Round(time.Second))
}

// One seed is one history.
func TestRepeatable(t *testing.T) {
	c := newCampaign(t, campaign{seed: 1, seeds: 2, operations: 100})
	watch(t)
	var sums totals
	last := ""
	for i := range c.seeds {
		seed := c.seed + uint64(i)
		first := simulate(t, seed, c.operations, &sums)
		if again := simulate(t, seed, c.operations, &sums); again != first {
			t.Errorf("the history of seed %d was %s, and then %s", seed, first, again)
		}
		if first == last {
			t.Errorf("seed %d has the history of the one before", seed)
		}
		last = first
	}
}

// watch ends the test if nothing goes on any more: somebody waits for a lock
// that one who has stopped holds, which is a point in the wrong place.
func watch(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		for last := int64(-1); ; {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Second):
			}
			now := progress.Load()
			if now == last {
				debug.SetTraceback("all")
				panic("the simulation stands still")
			}
			last = now
		}
	}()
}
