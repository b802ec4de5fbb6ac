package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A size says how much work each phase does in a round.
type size struct {
	rounds        int
	blocks        int // written and read over 16 connections
	fileBlocks    int // of a file system, likewise
	latencyBlocks int // written over one connection
	memoryBlocks  int // written over 64 connections
	idle, slow    int // connections beside which blocks are written
	calls         int // of StartSnapshot, and of ListChangedBlocks
	buildRounds   int // in which two builds are compared
	base          int // blocks in the large snapshot
	smallBase     int // blocks in the small one
}

var (
	fullSize  = size{rounds: 3, blocks: 4096, fileBlocks: 2048, latencyBlocks: 512, memoryBlocks: 4096, idle: 10_000, slow: 1_000, calls: 100, buildRounds: 20, base: 1_000_000, smallBase: 10_000}
	quickSize = size{rounds: 1, blocks: 512, fileBlocks: 256, latencyBlocks: 64, memoryBlocks: 512, idle: 2_000, slow: 200, calls: 20, buildRounds: 2, base: 100_000, smallBase: 1_000}
)

const (
	connections       = 16
	memoryConnections = 64
	changes           = 10 // blocks that differ between a base and its child
)

// A bench is one run: two servers, the data on them and the figures so far.
type bench struct {
	size         size
	source       *blockSource
	nextBlock    uint64 // number of the first block not used yet
	dir          string
	shaleProgram string
	refProgram   string
	shale        *server
	reference    *server

	large, small pair

	onShale, onReference dataset // what writeUnique last wrote
	fileBlocks           []testBlock

	raw, rawDirect               figure
	put, putCPU, dedup, zero     figure
	dedupWritten, zeroWritten    figure
	latency50, latency99         figure
	files, filesStored, filesGet figure
	cold                         figure
	get, getCPU, image           figure
	encryptedPut, encryptedGet   figure
	policies                     figure
	start, diff, listing         figure
	ready, memory                figure
	crowd, crowdMemory           figure
}

// A pair is a large snapshot and a child of it that differs in a few blocks.
type pair struct{ base, child string }

func newBench(quick bool, shaleProgram, refProgram, dir string) *bench {
	b := &bench{
		size: fullSize, source: newBlockSource(), dir: dir, shaleProgram: shaleProgram, refProgram: refProgram,

		raw:          figure{title: "PUT unique blocks, 16 connections, against raw append + fdatasync of 8 MiB", unit: "MB/s"},
		rawDirect:    figure{title: "the same, against raw append with O_DIRECT + fdatasync", unit: "MB/s"},
		put:          figure{title: "PUT unique blocks, 16 connections", unit: "MB/s", goal: ratioAtLeast, target: 0.85},
		putCPU:       figure{title: "PUT unique blocks, processor time", unit: "s/GiB", digits: 2, goal: ratioAtMost, target: 1.4},
		latency50:    figure{title: "PUT unique blocks, 1 connection, p50", unit: "ms", digits: 2, goal: ratioAtMost, target: 1.5},
		latency99:    figure{title: "PUT unique blocks, 1 connection, p99", unit: "ms", digits: 2},
		dedup:        figure{title: "PUT blocks stored before, against the reference's unique ones", unit: "MB/s", goal: ratioAtLeast, target: 1.4},
		zero:         figure{title: "PUT zero blocks, against the reference's unique ones", unit: "MB/s", goal: ratioAtLeast, target: 1.4},
		dedupWritten: figure{title: "bytes written for each block stored before", unit: "KiB", digits: 2},
		zeroWritten:  figure{title: "bytes written for each zero block", unit: "KiB", digits: 2},
		files:        figure{title: "PUT a file system's blocks, 16 connections", unit: "MB/s", goal: ratioAtLeast, target: 0.6},
		filesStored:  figure{title: "a file system's blocks as stored, against their size", unit: "MiB"},
		filesGet:     figure{title: "GET of a file system's blocks in random order", unit: "MB/s"},
		cold:         figure{title: "GET in random order, nothing cached, against pread of the same", unit: "MB/s", goal: ratioAtLeast, target: 0.9},
		get:          figure{title: "GET in random order, 16 connections", unit: "MB/s", goal: ratioAtLeast, target: 0.9},
		getCPU:       figure{title: "GET in random order, processor time", unit: "s/GiB", digits: 2},
		encryptedPut: figure{title: "PUT unique blocks encrypted, 16 connections, against unencrypted", unit: "MB/s", goal: ratioAtLeast, target: 0.8},
		encryptedGet: figure{title: "GET of encrypted blocks, 16 connections, against unencrypted", unit: "MB/s", goal: ratioAtLeast, target: 0.75},
		policies: figure{
			title: fmt.Sprintf("PUT by a role with %d policies of %d statements, processor time, against the account's", policyCount, statementCount),
			unit:  "s/GiB", digits: 2, goal: ratioAtMost, target: 1.05,
		},
		listing: figure{title: "ListSnapshotBlocks, 1 connection", unit: "entries/s", goal: valueAtLeast, target: 1e6},
		ready:   figure{title: "from start to ready", unit: "s", digits: 3, goal: valueAtMost, target: 0.15},
		memory:  figure{title: "peak resident memory, 64 connections writing", unit: "MiB", goal: valueAtMost, target: 256},
		image:   figure{title: "image over 1 connection, against GET over 16", unit: "MB/s", goal: ratioAtLeast, target: 0.8},
	}
	if quick {
		b.size = quickSize
	}
	b.start = figure{title: fmt.Sprintf("StartSnapshot, parent of %d blocks against none, p50", b.size.base), unit: "ms", digits: 2, goal: ratioAtMost, target: 1.5}
	b.diff = figure{title: fmt.Sprintf("ListChangedBlocks, %d changes in %d blocks against in %d, p50", changes, b.size.base, b.size.smallBase), unit: "ms", digits: 2, goal: ratioAtMost, target: 1.3}
	b.crowd = figure{title: fmt.Sprintf("PUT unique blocks beside %d idle and %d slow connections, against without", b.size.idle, b.size.slow), unit: "MB/s", goal: ratioAtLeast, target: 0.9}
	b.crowdMemory = figure{title: "resident memory that those connections cost", unit: "MiB", goal: valueAtMost, target: 200}
	return b
}

// figures returns the figures in the order of the report.
func (b *bench) figures() []*figure {
	return []*figure{
		&b.put, &b.raw, &b.rawDirect, &b.putCPU, &b.latency50, &b.latency99, &b.dedup, &b.dedupWritten, &b.zero, &b.zeroWritten,
		&b.files, &b.filesStored, &b.filesGet, &b.get, &b.getCPU, &b.cold, &b.image, &b.encryptedPut, &b.encryptedGet, &b.policies, &b.start, &b.diff, &b.memory, &b.ready,
		&b.listing, &b.crowd, &b.crowdMemory,
	}
}

// A phase measures some figures once.
type phase struct {
	name string
	run  func(*bench, context.Context) error
}

var phases = []phase{
	{"put", (*bench).measurePut},
	{"latency", (*bench).measureLatency},
	{"files", (*bench).measureFiles},
	{"get", (*bench).measureGet},
	{"cold", (*bench).measureCold},
	{"encrypted", (*bench).measureEncrypted},
	{"policies", (*bench).measurePolicies},
	{"image", (*bench).measureImage},
	{"start", (*bench).measureStart},
	{"diff", (*bench).measureDiff},
	{"list", (*bench).measureList},
	{"restart", (*bench).measureRestart},
	{"connections", (*bench).measureConnections},
}

func phaseNames() []string {
	names := make([]string, len(phases))
	for i, p := range phases {
		names[i] = p.name
	}
	return names
}

func (b *bench) shaleDir() string { return filepath.Join(b.dir, "shale") }

func (b *bench) baseDir() string { return filepath.Join(b.dir, "base") }

func (b *bench) referenceFile() string { return filepath.Join(b.dir, "reference") }

func (b *bench) log(name string) string { return filepath.Join(b.dir, name+".log") }

// prepare fills a store, so that all figures are those of one with many blocks.
// Each phase begins with a copy of it.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.shale, err = launchShale(b.shaleProgram, b.shaleDir(), b.log("shale")); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "loading %d and %d blocks\n", b.size.base, b.size.smallBase)
	bases, err := b.loadBases(ctx, b.size.base, b.size.smallBase)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if b.large, err = b.changeSome(bases[0], b.size.base); err != nil {
		return err
	}
	if b.small, err = b.changeSome(bases[1], b.size.smallBase); err != nil {
		return err
	}
	// Such a load leaves a million rows to sweep, which no upload at a disk's
	// speed does.
	if err := errors.Join(b.shale.waitIdle(ctx), b.shale.stop()); err != nil {
		return err
	}
	return os.Rename(b.shaleDir(), b.baseDir())
}

// measure runs one phase, on a copy of the prepared store and with a reference
// that is empty: the phases of a round would fill 15 GiB together, and none
// shall find what another has left in memory and on the disk.
func (b *bench) measure(ctx context.Context, p phase) (err error) {
	defer func() {
		b.close()
		err = errors.Join(err, os.RemoveAll(b.shaleDir()), os.RemoveAll(b.referenceFile()))
	}()
	if err := copyFolder(b.shaleDir(), b.baseDir()); err != nil {
		return err
	}
	if b.reference, err = launchReference(b.refProgram, b.referenceFile(), b.log("reference")); err != nil {
		return err
	}
	if b.shale, err = launchShale(b.shaleProgram, b.shaleDir(), b.log("shale")); err != nil {
		return err
	}
	return p.run(b, ctx)
}

// close ends the servers, whose data is about to be removed.
func (b *bench) close() {
	for _, s := range []**server{&b.shale, &b.reference} {
		if *s != nil {
			(*s).kill()
			*s = nil
		}
	}
}

// copyFolder makes a copy of a folder that is on the disk when it returns, so
// that the kernel does not write it out beside what is measured.
func copyFolder(to, from string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
	})
}

// fresh returns the number of the first of n blocks that no server has seen.
func (b *bench) fresh(n int) uint64 {
	first := b.nextBlock
	b.nextBlock += uint64(n)
	return first
}

// changeSome makes a child of a snapshot with the given number of blocks in
// which some of these are others.
func (b *bench) changeSome(base string, blocks int) (pair, error) {
	child, err := b.shale.newSnapshot(blocks, base)
	if err != nil {
		return pair{}, err
	}
	first := b.fresh(changes)
	err = b.shale.once(func(c *conn) error {
		for i := range changes {
			blk := b.source.block(first + uint64(i))
			if err := c.put(child, blocks/changes*i+rand.IntN(blocks/changes), &blk); err != nil {
				return err
			}
		}
		return c.complete(child, changes)
	})
	return pair{base, child}, err
}

// turns is how many times the servers take turns in one phase of a round. What
// the machine gives (above all fresh memory for the page cache) changes from
// second to second by a factor of three; in short turns both get the same of it.
const turns = 8

// inTurns calls f for shale and the reference alternately, each time with the
// next part of n requests, and returns the sum of each server's runs.
func (b *bench) inTurns(ctx context.Context, n int, f func(s *server, over span) (run, error)) (onShale, onReference run, err error) {
	for turn := range turns {
		over := span{n * turn / turns, n * (turn + 1) / turns}
		order := []*server{b.shale, b.reference}
		if turn%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			r, err := f(s, over)
			if err != nil {
				return run{}, run{}, err
			}
			if s == b.shale {
				onShale.add(r)
			} else {
				onReference.add(r)
			}
		}
	}
	return onShale, onReference, nil
}

// writeUnique writes n new blocks to a new snapshot on each server.
func (b *bench) writeUnique(ctx context.Context, n, conns int) (onShale, onReference run, err error) {
	if b.onShale, err = b.newDataset(b.shale, n); err != nil {
		return run{}, run{}, err
	}
	if b.onReference, err = b.newDataset(b.reference, n); err != nil {
		return run{}, run{}, err
	}
	if err := b.shale.waitIdle(ctx); err != nil {
		return run{}, run{}, err
	}
	return b.inTurns(ctx, n, func(s *server, over span) (run, error) {
		return s.write(ctx, b.source, b.dataset(s), over, conns)
	})
}

// dataset returns what writeUnique last wrote to s.
func (b *bench) dataset(s *server) *dataset {
	if s == b.shale {
		return &b.onShale
	}
	return &b.onReference
}

// newDataset plans n new blocks in a new snapshot of s.
func (b *bench) newDataset(s *server, n int) (dataset, error) {
	d := dataset{blocks: n, first: b.fresh(n)}
	if s == b.reference {
		d.snapshot = fmt.Sprintf("snap-%017x", d.first) // it takes any name
		return d, nil
	}
	var err error
	d.snapshot, err = s.newSnapshot(n, "")
	return d, err
}

const mega = 1e6

// measurePut writes unique blocks to both servers, then to shale the same
// blocks once more and blocks of zeros, all over 16 connections.
func (b *bench) measurePut(ctx context.Context) error {
	var raw [2]float64
	for i := range raw {
		var err error
		if raw[i], err = rawWrite(filepath.Join(b.dir, "raw"), b.source, b.size.blocks/2, i == 1); err != nil {
			return err
		}
	}
	onShale, onReference, err := b.writeUnique(ctx, b.size.blocks, connections)
	if err != nil {
		return err
	}
	b.put.add(onShale.bytesPerSecond()/mega, onReference.bytesPerSecond()/mega)
	b.raw.add(onShale.bytesPerSecond()/mega, raw[0]/mega)
	b.rawDirect.add(onShale.bytesPerSecond()/mega, raw[1]/mega)
	b.putCPU.add(onShale.cpuPerGiB(), onReference.cpuPerGiB())

	again, zero := b.onShale, dataset{blocks: b.size.blocks, zero: true}
	for _, m := range []struct {
		*dataset
		*figure
		written *figure
	}{{&again, &b.dedup, &b.dedupWritten}, {&zero, &b.zero, &b.zeroWritten}} {
		if m.snapshot, err = b.shale.newSnapshot(m.blocks, ""); err != nil {
			return err
		}
		if err := b.shale.waitIdle(ctx); err != nil {
			return err
		}
		before, err := b.shale.written()
		if err != nil {
			return err
		}
		r, err := b.shale.write(ctx, b.source, m.dataset, m.all(), connections)
		if err != nil {
			return err
		}
		after, err := b.shale.written()
		if err != nil {
			return err
		}
		m.written.add(float64(after-before) / float64(m.blocks) / (1 << 10))
		m.add(r.bytesPerSecond()/mega, onReference.bytesPerSecond()/mega)
	}
	return nil
}

// measureLatency writes unique blocks one after the other.
func (b *bench) measureLatency(ctx context.Context) error {
	onShale, onReference, err := b.writeUnique(ctx, b.size.latencyBlocks, 1)
	if err != nil {
		return err
	}
	b.latency50.add(millis(onShale.percentile(50)), millis(onReference.percentile(50)))
	b.latency99.add(millis(onShale.percentile(99)), millis(onReference.percentile(99)))
	return nil
}

func millis(d time.Duration) float64 { return d.Seconds() * 1e3 }

// measureGet writes unique blocks and reads them, cached, in random order.
func (b *bench) measureGet(ctx context.Context) error {
	if _, _, err := b.writeUnique(ctx, b.size.blocks, connections); err != nil {
		return err
	}
	if err := b.shale.seal(ctx, &b.onShale); err != nil {
		return err
	}
	// The reference ignores the token, so any of the usual length will do.
	b.onReference.tokens = b.onShale.tokens
	if err := b.bringIn(); err != nil {
		return err
	}
	// All of it takes a second, in which a ratio varies by a tenth.
	const times = 5
	var onShale, onReference run
	for range times {
		s, r, err := b.readInTurns(ctx)
		if err != nil {
			return err
		}
		onShale.add(s)
		onReference.add(r)
	}
	b.get.add(onShale.bytesPerSecond()/mega, onReference.bytesPerSecond()/mega)
	b.getCPU.add(onShale.cpuPerGiB(), onReference.cpuPerGiB())
	return nil
}

// blockFiles gives the files of blocks: all servers' segments, each server's in a
// folder of its own, and the reference's file.
func (b *bench) blockFiles() ([]string, error) {
	segments, err := filepath.Glob(filepath.Join(b.dir, "*", "segments", "*"))
	return append(segments, b.referenceFile()), err
}

// forget drops what the page cache has of all that was written.
func (b *bench) forget() error {
	files, err := b.blockFiles()
	if err != nil {
		return err
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// bringIn brings all that was written into the page cache, in the same way: each
// file read once, from its beginning to its end.
func (b *bench) bringIn() error {
	if err := b.forget(); err != nil {
		return err
	}
	files, err := b.blockFiles()
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, piece)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// readInTurns reads what was written to both servers, in random order.
func (b *bench) readInTurns(ctx context.Context) (onShale, onReference run, err error) {
	order := rand.Perm(b.onShale.blocks)
	return b.inTurns(ctx, len(order), func(s *server, over span) (run, error) {
		return s.read(ctx, b.source, b.dataset(s), order, over, connections)
	})
}

// measureStart starts snapshots with and without a parent, in turn.
func (b *bench) measureStart(ctx context.Context) error {
	start := func(parent string) func(c *conn) error {
		return func(c *conn) error {
			_, err := c.start(gib(b.size.base), parent)
			return err
		}
	}
	with, without, err := b.alternate(ctx, start(b.large.base), start(""))
	if err != nil {
		return err
	}
	b.start.add(with, without)
	return nil
}

// measureDiff lists what differs between a snapshot and its child, for a large
// and a small one in turn.
func (b *bench) measureDiff(ctx context.Context) error {
	diff := func(p pair) func(c *conn) error {
		return func(c *conn) error {
			found := 0
			err := c.list("/snapshots/"+p.child+"/changedblocks", url.Values{"firstSnapshotId": {p.base}}, func(page []byte) error {
				found += bytes.Count(page, []byte(`"BlockIndex"`))
				return nil
			})
			if err == nil && found != changes {
				err = fmt.Errorf("%s lists %d changes, not %d", p.child, found, changes)
			}
			return err
		}
	}
	large, small, err := b.alternate(ctx, diff(b.large), diff(b.small))
	if err != nil {
		return err
	}
	b.diff.add(large, small)
	return nil
}

// measureList lists all blocks of the large snapshot.
func (b *bench) measureList(ctx context.Context) error {
	// The base has a million blocks of zeros, all different, as no real store has:
	// the count of usage after the start goes through them.
	if err := b.shale.waitIdle(ctx); err != nil {
		return err
	}
	found, began := 0, time.Now()
	err := b.shale.once(func(c *conn) error {
		return c.list("/snapshots/"+b.large.base+"/blocks", url.Values{}, func(page []byte) error {
			found += bytes.Count(page, []byte(`"BlockIndex"`))
			return nil
		})
	})
	if err == nil && found != b.size.base {
		err = fmt.Errorf("%s lists %d blocks, not %d", b.large.base, found, b.size.base)
	}
	b.listing.add(float64(found) / time.Since(began).Seconds())
	return err
}

// alternate calls first and second alternately over one connection to shale and
// returns the median time of each in milliseconds.
func (b *bench) alternate(ctx context.Context, first, second func(c *conn) error) (float64, float64, error) {
	times := make([][]float64, 2)
	err := b.shale.once(func(c *conn) error {
		for range b.size.calls {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for k, f := range []func(*conn) error{first, second} {
				began := time.Now()
				if err := f(c); err != nil {
					return err
				}
				times[k] = append(times[k], millis(time.Since(began)))
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return median(times[0]), median(times[1]), nil
}

// measureRestart stops shale, starts it again on its store and writes to the
// new process over 64 connections.
func (b *bench) measureRestart(ctx context.Context) error {
	if err := b.shale.stop(); err != nil {
		return err
	}
	var err error
	if b.shale, err = launchShale(b.shaleProgram, b.shaleDir(), b.log("shale")); err != nil {
		return err
	}
	b.ready.add(b.shale.readyAfter.Seconds())
	d, err := b.newDataset(b.shale, b.size.memoryBlocks)
	if err != nil {
		return err
	}
	if _, err := b.shale.write(ctx, b.source, &d, d.all(), memoryConnections); err != nil {
		return err
	}
	peak, err := b.shale.peakMemory()
	if err != nil {
		return err
	}
	b.memory.add(float64(peak) / (1 << 20))
	return nil
}
