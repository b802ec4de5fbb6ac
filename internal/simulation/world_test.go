package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/keyring"
	"shale/internal/kms/kmstest"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/token"
	"shale/internal/vfs/crashfs"
)

const (
	clients = 4
	// segmentSize closes a segment after about ten blocks, so that there is
	// always something to compact.
	segmentSize = 6 << 20
)

// A world is one history: a disk, a server on it, clients, and the model of what
// they were told.
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand // of what happens from outside
	s    *scheduler
	kms  *kmstest.Provider
	keys []string // ARNs; the empty one for none

	disk *crashfs.Disk
	node *node

	mu       sync.Mutex // guards what follows, between two points
	model    model
	violated error

	epoch    atomic.Int64 // counts the starts of the server
	stopping atomic.Bool  // no client begins anything
	dying    atomic.Bool  // the power is off
	powerAt  atomic.Int64 // the operation of the disk at which it goes off; 0 for none
	crashAt  int          // the step at which the server is started anew; 0 for none
	faults   faults
	rots     bool          // bits flip
	bin      time.Duration // how long the recycle bin keeps
	clients  sync.WaitGroup

	totals *totals
}

// totals counts what was done over all histories.
type totals struct {
	operations, points, crashes, faults, bits, cycles, reads, refused atomic.Int64
}

func (t *totals) String() string {
	return fmt.Sprintf("%d operations, %d points, %d crashes, %d faults, %d flipped bits, %d cycles of reclaiming, %d snapshots read, %d writes refused",
		t.operations.Load(), t.points.Load(), t.crashes.Load(), t.faults.Load(), t.bits.Load(), t.cycles.Load(), t.reads.Load(), t.refused.Load())
}

// A node is one server from its start to its end.
type node struct {
	catalog   *catalog.Catalog
	medium    *segment.Store
	store     *blockstore.Store
	keyring   *keyring.Keyring
	service   *snapshot.Service
	reclaimer *reclaim.Collector
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

func newWorld(t *testing.T, seed uint64, sums *totals) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), s: newScheduler(rand.New(rand.NewPCG(seed, 2))),
		kms: kmstest.New(), disk: crashfs.New(), totals: sums,
	}
	w.model.faults, w.model.keyless = -1, -1
	w.rots = seed%5 == 0
	if seed%2 == 0 {
		w.bin = binTime
	}
	w.keys = []string{"", "", w.kms.Create(snapshottest.Account, snapshottest.Region), w.kms.Create(snapshottest.Account, snapshottest.Region)}
	return w
}

// boot starts the server on the disk.
func (w *world) boot() error {
	ctx := context.Background()
	n := &node{cancel: func() {}}
	var err error
	if n.catalog, err = catalog.OpenOn(ctx, w.disk, "/catalog.db", time.Now); err != nil {
		return err
	}
	last, committed, err := n.catalog.LastContainer(ctx)
	if err != nil {
		return errors.Join(err, n.catalog.Close())
	}
	if n.medium, err = segment.Open(segment.Options{
		FS: w.disk.Folder("segments"), Last: last, Committed: committed, MaxSize: segmentSize,
	}); err != nil {
		return errors.Join(err, n.catalog.Close())
	}
	n.store = blockstore.New(blockstore.Options{Medium: stopMedium{n.medium, w.s}, Index: stops{n.catalog, w.s}, NodeLength: blockmap.Length})
	if n.keyring, err = keyring.Open(w.disk.Folder("keys"), w.kms, nil); err != nil {
		return err
	}
	n.service = snapshot.New(snapshot.Options{
		Catalog: stops{n.catalog, w.s}, Store: n.store, Keyring: stopKeys{n.keyring, w.s},
		Tokens: token.New(bytes.Repeat([]byte{7}, token.KeySize)), Now: time.Now,
		BinTime: w.bin, Scratch: w.disk.Folder("scratch"),
	})
	n.reclaimer = reclaim.New(reclaim.Options{Catalog: stops{n.catalog, w.s}, Store: n.store, Now: time.Now})
	w.node = n
	w.epoch.Add(1)
	return nil
}

// run starts what runs by itself.
func (w *world) run() {
	n := w.node
	ctx, cancel := context.WithCancel(as(context.Background(), background))
	n.cancel = cancel
	n.running.Go(func() { n.service.Run(ctx) })
	for i := range clients {
		w.clients.Go(func() { w.client(i) })
	}
	collectors := 1
	if w.rivals() {
		collectors = 2
	}
	for i := range collectors {
		n.running.Go(func() { w.collector(as(ctx, fmt.Sprintf("collector %d", i))) })
	}
}

// halt ends the server and all clients, whatever they are at.
func (w *world) halt() {
	if w.node == nil { // it did not start
		return
	}
	w.stopping.Store(true)
	w.s.release()
	w.node.cancel()
	w.clients.Wait()
	w.node.running.Wait()
	_ = w.node.store.Close() // without power these fail
	_ = w.node.catalog.Close()
	w.node = nil
	w.s.hold()
	w.stopping.Store(false)
}

// crash takes the power away and finds out what is left.
func (w *world) crash() error {
	w.dying.Store(true)
	w.disk.PowerOff()
	w.halt()
	// Nobody knows how much those drew who went on without power.
	cryptotest.SetGlobalRandom(w.t, w.rng.Uint64())
	mode := crashfs.Some
	switch w.rng.IntN(10) {
	case 0:
		mode = crashfs.Nothing
	case 1:
		mode = crashfs.Everything
	}
	survivors := crashfs.Survivors{Mode: mode, Seed: w.rng.Uint64()}
	w.s.note("crash, survivors %v", survivors)
	found := w.disk.Crash(survivors)
	_ = w.disk.Close()
	w.disk = found
	w.disk.SetFree(-1)
	w.crashAt = 0
	w.faults.writeAt.Store(0)
	w.faults.reads.Store(0)
	w.dying.Store(false)
	w.totals.crashes.Add(1)
	w.s.release() // what is done to start is no part of the history
	if err := w.boot(); err != nil {
		return fmt.Errorf("start after a crash: %w", err)
	}
	if err := w.reconcile(); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	w.s.hold()
	w.disk.Before(w.before)
	w.run()
	return nil
}

// violate ends the history as failed.
func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.violated == nil {
		w.violated = fmt.Errorf(format, args...)
	}
}

func (w *world) violation() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.violated
}

// history runs until so many operations were done.
func (w *world) history(operations int) error {
	w.s.release()
	if err := w.boot(); err != nil {
		return err
	}
	key := catalog.AccessKey{ID: snapshottest.AccessKey, Account: snapshottest.Account, Secret: snapshottest.Secret}
	if err := w.node.catalog.CreateAccount(context.Background(), "default", key); err != nil {
		return err
	}
	w.s.hold()
	w.disk.Before(w.before)
	w.run()
	defer func() {
		w.disk.PowerOff()
		w.halt()
		_ = w.disk.Close()
	}()
	began := w.totals.operations.Load()
	for w.totals.operations.Load()-began < int64(operations) {
		progress.Add(1)
		if !w.s.step() {
			time.Sleep(time.Second) // all wait for the clock
		}
		// Whatever is counted, or comes from outside, is and comes when all have
		// stopped again, or it were left to chance how far they had got.
		synctest.Wait()
		if err := w.violation(); err != nil {
			return err
		}
		if w.dying.Load() {
			if err := w.crash(); err != nil {
				return err
			}
		}
		if err := w.outside(); err != nil {
			return err
		}
	}
	w.totals.points.Add(int64(w.s.steps))
	return w.finish()
}

// finish ends the history in order: all is completed, read, reclaimed, deleted,
// and reclaimed again.
func (w *world) finish() error {
	w.powerAt.Store(0)
	w.faults.writeAt.Store(0)
	w.faults.reads.Store(0)
	w.disk.SetFree(-1)
	w.forgive()
	w.setKeys(true)
	settle := func() {
		w.stopping.Store(true)
		for w.s.step() {
			progress.Add(1)
		}
	}
	settle()
	if w.node.service.Ready() != nil { // which a fault from before may show now only
		if err := w.crash(); err != nil {
			return err
		}
		settle()
	}
	if err := w.violation(); err != nil {
		return err
	}
	w.s.release()
	w.clients.Wait()
	w.node.cancel() // Settle does what is due
	w.node.running.Wait()
	w.s.note("finish")
	if err := w.reconcile(); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	if err := w.inspect(); err != nil {
		return err
	}
	return w.empty()
}

// progress counts steps and histories the histories, of all.
var progress, histories atomic.Int64

// simulate runs one history and gives the sum of all that happened.
func simulate(t *testing.T, seed uint64, operations int, sums *totals) (sum string) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, sums)
		if name := os.Getenv("SHALE_SIMULATION_LOG"); name != "" {
			f, err := os.Create(fmt.Sprintf("%s.%d", name, histories.Add(1)))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w.s.log = f
		}
		if err := w.history(operations); err != nil {
			t.Errorf("seed %d, after %d steps: %v\nagain: SHALE_SIMULATION='seed=%d seeds=1 operations=%d' go test ./internal/simulation -run TestSimulation\nbefore that:\n%s",
				seed, w.s.steps, err, seed, operations, strings.Join(w.s.tail[max(0, len(w.s.tail)-tailLength):], "\n"))
		}
		sum = w.s.sum()
	})
	return sum
}
