package simulation_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing/synctest"
	"time"

	"shale/internal/vfs/crashfs"
)

// faults are what goes wrong with the disk next, beside the power.
type faults struct {
	writeAt atomic.Int64 // the operation that fails for good; 0 for none
	reads   atomic.Int64 // how many of the next reads of segments fail
}

// before is asked before each operation of the disk.
func (w *world) before(op crashfs.Op) error {
	if at := w.powerAt.Load(); at > 0 && op.N >= at && op.Changes() {
		w.powerAt.Store(0)
		w.dying.Store(true)
		w.s.note("power off before %v", op)
		w.disk.PowerOff()
		return nil
	}
	if at := w.faults.writeAt.Load(); at > 0 && op.N >= at && op.Changes() {
		w.faults.writeAt.Store(0)
		w.s.note("a fault: %v", op)
		if op.Kind == crashfs.Write && op.N%2 == 0 {
			return &crashfs.Torn{Bytes: op.Length / 2, Err: syscall.EIO}
		}
		return syscall.EIO
	}
	if op.Kind == crashfs.Read && strings.HasPrefix(op.Name, "segments/") && w.faults.reads.Load() > 0 {
		w.faults.reads.Add(-1)
		w.s.note("a fault: %v", op)
		return syscall.EIO
	}
	return nil
}

// excuse says from when on calls may fail for a reason of the disk, and forgive
// that they may not any more.
func (w *world) excuse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.model.faults = ever
	w.totals.faults.Add(1)
}

func (w *world) forgive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.model.faults == ever {
		w.model.faults = w.model.tick
	}
}

// outside lets something happen from outside, now and then.
func (w *world) outside() error {
	if w.crashAt > 0 && w.s.steps >= w.crashAt {
		return w.crash()
	}
	if w.rng.IntN(50) == 0 {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	switch n := w.rng.IntN(4000); {
	case n < 20:
		d := time.Duration(w.rng.IntN(4)+1) * time.Minute
		w.s.note("%v pass", d)
		time.Sleep(d)
	case n < 24:
		return w.crash()
	case n < 28:
		w.powerAt.CompareAndSwap(0, w.disk.Ops()+1+int64(w.rng.IntN(60)))
	case n < 30 && w.crashAt == 0: // a write or a sync fails, after which only a start helps
		w.excuse()
		w.faults.writeAt.Store(w.disk.Ops() + 1 + int64(w.rng.IntN(40)))
		w.crashAt = w.s.steps + 50 + w.rng.IntN(300)
	case n < 32: // reads fail for a moment
		w.excuse()
		w.faults.reads.Store(int64(w.rng.IntN(3) + 1))
	case n < 34: // the disk is full
		w.excuse()
		free := int64(w.rng.IntN(90)) << 20
		w.s.note("%d bytes are free", free)
		w.disk.SetFree(free)
	case n < 60 && w.crashAt == 0 && w.faults.reads.Load() == 0:
		w.s.note("the disk is well")
		w.disk.SetFree(-1)
		w.forgive()
	case n < 62:
		w.setKeys(false)
	case n < 80:
		w.setKeys(true)
	case n < 86 && w.rots:
		return w.rot()
	}
	return nil
}

// setKeys enables or disables the KMS keys.
func (w *world) setKeys(enabled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if enabled == (w.model.keyless != ever) {
		return
	}
	w.s.note("keys enabled: %v", enabled)
	w.model.keyless = ever
	if enabled {
		w.model.keyless = w.model.tick
	}
	for _, arn := range w.keys {
		switch {
		case arn == "":
		case enabled:
			w.kms.Enable(arn)
		default:
			w.kms.Disable(arn)
		}
	}
}

// segmentHeader is not rotten here: one that is makes a start refuse the folder,
// which has its own tests.
const segmentHeader = 4096

// rot flips a bit of a segment, for good.
func (w *world) rot() error {
	folder := w.disk.Folder("segments")
	names, err := folder.List()
	if err != nil || len(names) == 0 {
		return err
	}
	w.disk.Before(nil)
	defer w.disk.Before(w.before)
	name := names[w.rng.IntN(len(names))]
	f, err := folder.OpenWrite(name)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size <= segmentHeader {
		return err
	}
	var b [1]byte
	at := segmentHeader + w.rng.Int64N(size-segmentHeader)
	if w.rng.IntN(2) == 0 { // most of what is small is at the end of a batch
		at = size - 1 - w.rng.Int64N(min(size-segmentHeader, 8192))
	}
	if _, err := f.ReadAt(b[:], at); err != nil {
		return fmt.Errorf("rot: %w", err)
	}
	b[0] ^= 1 << w.rng.IntN(8)
	if err := f.WriteAt([][]byte{b[:]}, at); err != nil {
		return fmt.Errorf("rot: %w", err)
	}
	w.s.note("a bit of %s at %d flips", name, at)
	w.mu.Lock()
	w.model.rotten = true
	w.mu.Unlock()
	w.totals.bits.Add(1)
	return f.Sync()
}
