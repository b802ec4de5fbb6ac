package simulation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"shale/internal/block"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

var caller = snapshottest.Caller

func ptr[T any](v T) *T { return &v }

// A client does one operation after another.
type client struct {
	w   *world
	ctx context.Context //nolint:containedctx // it says who acts
	rng *rand.Rand
	// epoch is that of the server the client talks to: once it has crashed, no
	// answer arrives.
	epoch int64
}

func (w *world) client(number int) {
	c := &client{
		w: w, ctx: as(context.Background(), fmt.Sprintf("client %d", number)), epoch: w.epoch.Load(),
		rng: rand.New(rand.NewPCG(w.seed, uint64(number)<<32|uint64(w.epoch.Load()))),
	}
	for {
		w.s.point(c.ctx, "next")
		if w.stopping.Load() {
			return
		}
		c.operate()
		w.totals.operations.Add(1)
	}
}

// operations are drawn as often as each stands here.
var operations = func() (list []func(*client)) {
	for _, o := range []struct {
		times   int
		operate func(*client)
	}{
		{8, (*client).start},
		{40, (*client).put},
		{10, (*client).complete},
		{10, (*client).look},
		{10, (*client).read},
		{4, (*client).diff},
		{9, (*client).remove},
		{3, (*client).copySnapshot},
		{3, (*client).restore},
		{1, (*client).lock},
		{1, (*client).unlock},
		{1, (*client).count},
	} {
		for range o.times {
			list = append(list, o.operate)
		}
	}
	return list
}()

func (c *client) operate() { operations[c.rng.IntN(len(operations))](c) }

// pick draws a snapshot that is to be kept, if there is one.
func (c *client) pick(keep func(*modelled) bool) *modelled {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	var from []*modelled
	for _, s := range c.w.model.snaps {
		if s.id != "" && keep(s) {
			from = append(from, s)
		}
	}
	if len(from) == 0 {
		return nil
	}
	return from[c.rng.IntN(len(from))]
}

func present(s *modelled) bool { return s.deleted.began == ever }

func open(s *modelled) bool {
	return present(s) && !s.copied && s.seal.began == ever && s.outcome == 0
}

func completed(s *modelled) bool { return present(s) && s.outcome == snapshot.Completed }

// begin notes that an operation begins, and gives the tick.
func (c *client) begin(format string, args ...any) int {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.s.note("  "+actorOf(c.ctx)+" begins to "+format, args...)
	return c.w.model.now()
}

// end stops once more, so that answers arrive one at a time, and runs f with the
// model. answered is false if the server is gone meanwhile.
func (c *client) end(err error, f func(m *model, answered bool)) {
	if err == nil {
		c.w.s.point(c.ctx, "answered")
	} else {
		c.w.s.point(c.ctx, "refused, code %d", codeOf(err))
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	f(&c.w.model, !c.w.dying.Load() && c.epoch == c.w.epoch.Load())
}

// violate is world.violate for those who have the model.
func (c *client) violate(format string, args ...any) {
	if c.w.violated == nil {
		c.w.violated = fmt.Errorf("%s: "+format, append([]any{actorOf(c.ctx)}, args...)...)
	}
}

// codeOf is the code of a refusal; NumCodes for none.
func codeOf(err error) snapshot.Code {
	if err == nil {
		return snapshot.NumCodes
	}
	var e *snapshot.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return snapshot.Internal
}

// excused reports whether the disk, or the KMS, is to blame for an error of a call
// that began at the tick.
func (m *model) excused(err error, began int) bool {
	switch codeOf(err) {
	case snapshot.StorageFull, snapshot.StorageStopped:
		return m.faults >= began
	case snapshot.Internal, snapshot.Damaged:
		return m.faults >= began || m.rotten
	case snapshot.KeyRefused:
		return m.keyless >= began
	}
	return false
}

func (c *client) start() {
	s := &modelled{made: none(), seal: none(), deleted: none(), timeout: time.Duration(c.rng.IntN(20)+10) * time.Minute}
	r := snapshot.StartRequest{VolumeSize: ptr(int64(1)), Timeout: ptr(int64(s.timeout / time.Minute))}
	if c.rng.IntN(3) > 0 {
		s.base = c.pick(completed)
	}
	if s.base != nil {
		s.arn = s.base.arn
		r.ParentSnapshotID = &s.base.id
	} else if s.arn = c.w.keys[c.rng.IntN(len(c.w.keys))]; s.arn != "" {
		r.KMSKeyARN = &s.arn
	}
	c.add(s, "start")
	r.Description = &s.name
	snap, err := c.w.node.service.Start(c.ctx, caller, r)
	c.made(s, snap.ID, err)
}

// add puts a snapshot into the model that is about to be made.
func (c *client) add(s *modelled, how string) {
	c.w.mu.Lock()
	s.name = fmt.Sprintf("s%d", len(c.w.model.snaps)+1)
	s.started = time.Now()
	c.w.model.snaps = append(c.w.model.snaps, s)
	c.w.mu.Unlock()
	parent := ""
	if s.base != nil {
		parent = s.base.name
	}
	s.made.began = c.begin("%s %s of %s", how, s.name, parent)
}

// made notes the answer about a snapshot that was to be made.
func (c *client) made(s *modelled, id string, err error) {
	c.end(err, func(m *model, answered bool) {
		s.made.ended, s.born = m.now(), time.Now()
		if !answered {
			return
		}
		switch {
		case err == nil:
			s.made.acked, s.id = true, id
			if s.base != nil && !s.copied && s.base.deleted.must(s.made.began) {
				c.violate("started %s on %s, which is deleted", s.name, s.base.name)
			}
		case codeOf(err) == snapshot.NotFound && s.base != nil && s.base.miss(s.made.began, s.made.ended):
			s.gone(m)
		case m.excused(err, s.made.began):
		default:
			c.violate("%s could not be made: %v", s.name, err)
		}
	})
}

// gone notes that the snapshot is not there.
func (s *modelled) gone(m *model) {
	s.deleted = change{began: s.made.began, ended: m.now(), acked: true}
}

func (c *client) put() {
	s := c.pick(open)
	if c.rng.IntN(15) == 0 {
		s = c.pick(present)
	}
	if s == nil {
		return
	}
	w := &write{index: indexes[c.rng.IntN(len(indexes))], ended: ever, at: time.Now()}
	w.content = content(c.rng.IntN([]int{fewContents, someContents, numContents}[c.rng.IntN(3)]))
	w.began = c.begin("put %d at %d of %s", w.content, w.index, s.name)
	c.w.mu.Lock()
	s.writes = append(s.writes, w)
	c.w.mu.Unlock()
	_, err := c.w.node.service.PutBlock(c.ctx, caller, snapshot.PutBlockRequest{
		SnapshotID: s.id, Index: int64(w.index), DataLength: ptr(int64(block.Size)), Checksum: ptr(digests[w.content].Base64()),
		Algorithm: ptr("SHA256"), Body: bytes.NewReader(w.content.bytes()),
	})
	c.end(err, func(m *model, answered bool) {
		w.ended, w.until = m.now(), time.Now()
		if !answered || m.excused(err, w.began) {
			return
		}
		switch code := codeOf(err); {
		case err == nil:
			w.acked = true
			if s.seal.must(w.began) || s.deleted.must(w.began) || s.copied {
				c.violate("took a write to %s", s.describe())
			}
			return
		case code == snapshot.AlreadyCompleted && s.seal.may(w.ended):
		case code == snapshot.NotFound && (s.miss(w.began, w.ended) || s.outcome == snapshot.Failed || s.copied || s.mayExpire() || s.seal.may(w.ended)):
			// One that was sealed may have failed already.
		case code == snapshot.AlreadyCompleted && s.copied:
		default:
			c.violate("refused a write to %s: %v", s.describe(), err)
		}
		c.w.totals.refused.Add(1)
		s.writes = slices.DeleteFunc(s.writes, func(x *write) bool { return x == w })
	})
}

// claim is what a client believes that it wrote.
func (c *client) claim(s *modelled) snapshot.CompleteRequest {
	h := sha256.New()
	claim := make([]content, len(indexes))
	count := 0
	for at, i := range indexes {
		claim[at] = hole
		if !slices.ContainsFunc(s.writes, func(w *write) bool { return w.index == i }) {
			continue
		}
		allowed := s.allowed(i)
		if claim[at] = allowed[c.rng.IntN(len(allowed))]; claim[at] == hole {
			continue
		}
		count++
		h.Write(digests[claim[at]][:])
	}
	r := snapshot.CompleteRequest{SnapshotID: s.id, ChangedBlocks: ptr(int64(count))}
	s.claim, s.claimed = nil, count
	switch n := c.rng.IntN(20); {
	case n == 0:
		*r.ChangedBlocks++
		s.claimed++
	case n < 11:
		s.claim = claim
		r.Checksum = ptr(block.Digest(h.Sum(nil)).Base64())
		r.Algorithm, r.AggregationMethod = ptr("SHA256"), ptr("LINEAR")
	}
	return r
}

func (c *client) complete() {
	s := c.pick(open)
	if s == nil {
		return
	}
	c.w.mu.Lock()
	r := c.claim(s)
	c.w.mu.Unlock()
	began := c.begin("complete %s", s.name)
	c.w.mu.Lock()
	s.seal.began = began
	c.w.mu.Unlock()
	_, err := c.w.node.service.Complete(c.ctx, caller, r)
	c.end(err, func(m *model, answered bool) {
		if !answered || m.excused(err, began) {
			return // it may have been sealed
		}
		s.seal.ended = m.now()
		switch {
		case err == nil:
			s.seal.acked = !s.mayExpire() // else the answer may have been that it has failed
		case codeOf(err) == snapshot.NotFound && s.miss(began, s.seal.ended):
		default:
			c.violate("refused to complete %s: %v", s.describe(), err)
		}
	})
}

// look asks for the state of a snapshot.
func (c *client) look() {
	s := c.pick(present)
	if s == nil {
		return
	}
	began := c.begin("look at %s", s.name)
	at := time.Now()
	page, err := c.w.node.service.Describe(c.ctx, caller, snapshot.DescribeRequest{IDs: []string{s.id}})
	c.end(err, func(m *model, answered bool) {
		switch {
		case !answered || m.excused(err, began):
		case codeOf(err) == snapshot.NotFound && s.miss(began, m.now()):
		case err != nil || len(page.Snapshots) != 1:
			c.violate("did not find %s: %v", s.describe(), err)
		default:
			if err := s.see(m, &page.Snapshots[0], began, at); err != nil {
				c.violate("%v", err)
			}
		}
	})
}

// see takes note of a snapshot as it was shown to a call that began at the tick,
// and by the clock at that time.
func (s *modelled) see(m *model, shown *snapshot.Snapshot, began int, at time.Time) error {
	ended := s.outcome != 0 && s.seen < began
	switch shown.State {
	case snapshot.Completed, snapshot.Failed:
		if err := s.mayEnd(shown.State, m); err != nil {
			return err
		}
		if s.outcome == 0 {
			s.outcome, s.seen = shown.State, m.now()
		}
	case snapshot.Open:
		if ended {
			return fmt.Errorf("%s is open, and was seen %v", s.name, s.outcome)
		}
		if s.seal.began == ever && s.mustExpire(at) {
			_, latest := s.deadline()
			return fmt.Errorf("%s is open at %v, its time was over at %v", s.name, at, latest)
		}
	default:
		if ended {
			return fmt.Errorf("%s is pending, and was seen %v", s.name, s.outcome)
		}
	}
	return nil
}

// read reads all of a snapshot.
func (c *client) read() {
	s := c.pick(completed)
	if s == nil {
		return
	}
	began := c.begin("read %s", s.name)
	got, err := c.contents(s)
	c.end(err, func(m *model, answered bool) {
		switch {
		case !answered || m.excused(err, began):
		case codeOf(err) == snapshot.NotFound && s.miss(began, m.now()):
		case err != nil:
			c.violate("could not read %s: %v", s.describe(), err)
		default:
			c.w.totals.reads.Add(1)
			if err := s.check(got); err != nil {
				c.violate("%v", err)
			}
			s.fixed = got
			if s.deleted.must(began) {
				c.violate("read %s, which is deleted", s.name)
			}
		}
	})
}

// contents reads all of a snapshot.
func (c *client) contents(s *modelled) (map[block.Index]content, error) {
	page, err := c.w.node.service.ListBlocks(c.ctx, caller, snapshot.ListBlocksRequest{SnapshotID: s.id})
	if err != nil {
		return nil, err
	}
	got := make(map[block.Index]content)
	for _, b := range page.Blocks {
		d, err := c.w.node.service.GetBlock(c.ctx, caller, snapshot.GetBlockRequest{SnapshotID: s.id, Index: int64(b.Index), Token: &b.Token})
		if err != nil {
			return nil, err
		}
		x, known := contentOf[d.Digest]
		if !known || !bytes.Equal(d.Bytes, x.bytes()) {
			c.w.violate("wrong bytes of %s at index %d, said to be content %d", s.name, b.Index, x)
		}
		d.Release()
		got[b.Index] = x
	}
	return got, nil
}

// diff compares a snapshot with what it was made from.
func (c *client) diff() {
	s := c.pick(func(s *modelled) bool {
		return completed(s) && s.base != nil && completed(s.base) && !s.copied && s.fixed != nil && s.base.fixed != nil
	})
	if s == nil {
		return
	}
	began := c.begin("compare %s and %s", s.base.name, s.name)
	page, err := c.w.node.service.ListChangedBlocks(c.ctx, caller, snapshot.ListChangedRequest{FirstSnapshotID: &s.base.id, SecondSnapshotID: s.id})
	c.end(err, func(m *model, answered bool) {
		var got, want []block.Index
		for _, b := range page.Blocks {
			got = append(got, b.Index)
		}
		for _, i := range indexes {
			x, in := s.fixed[i]
			y, also := s.base.fixed[i]
			if in != also || x != y {
				want = append(want, i)
			}
		}
		now := m.now()
		switch {
		case !answered || m.excused(err, began):
		case codeOf(err) == snapshot.NotFound && (s.miss(began, now) || s.base.miss(began, now)):
		case err != nil:
			c.violate("could not compare %s and %s: %v", s.base.name, s.name, err)
		case !slices.Equal(got, want):
			c.violate("%s and %s differ at %v, want %v", s.base.name, s.name, got, want)
		}
	})
}

func (c *client) copySnapshot() {
	source := c.pick(completed)
	if source == nil || c.pick(func(s *modelled) bool { return s.copied && s.outcome == 0 && present(s) }) != nil {
		// Of two that are going on it would be left to chance who comes first.
		return
	}
	s := &modelled{made: none(), seal: none(), deleted: none(), base: source, copied: true}
	r := snapshot.CopyRequest{SourceRegion: snapshottest.Region, SourceID: source.id}
	if s.arn = c.w.keys[c.rng.IntN(len(c.w.keys))]; s.arn != "" {
		r.KMSKey, r.Encrypted = &s.arn, ptr(true)
	} else if source.arn != "" {
		s.arn = "the account's default" // what is encrypted stays so
	}
	c.add(s, "copy")
	r.Description = &s.name
	snap, err := c.w.node.service.Copy(c.ctx, caller, r)
	c.made(s, snap.ID, err)
}

// reconcile compares what a start has found with what clients were told, and
// learns what became of calls that were not answered.
func (w *world) reconcile() error {
	page, err := w.node.service.Describe(context.Background(), caller, snapshot.DescribeRequest{})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	shown := make(map[string]*snapshot.Snapshot)
	for i := range page.Snapshots {
		shown[*page.Snapshots[i].Description] = &page.Snapshots[i]
	}
	m := &w.model
	m.faults = -1
	for _, s := range m.snaps {
		for _, x := range s.writes {
			if x.ended == ever {
				x.ended, x.until = m.now(), time.Now()
			}
		}
		if s.born.IsZero() {
			s.born = time.Now()
		}
		s.busy = false
		found := shown[s.name]
		delete(shown, s.name)
		switch {
		case found == nil && s.made.acked && s.deleted.began == ever:
			return fmt.Errorf("%s is gone: %s", s.name, s.describe())
		case found == nil:
			if s.deleted.began == ever || !s.made.acked {
				s.gone(m)
			} else if !s.deleted.acked {
				s.deleted.ended, s.deleted.acked, s.removed[1] = m.now(), true, time.Now()
			}
			continue
		case s.deleted.acked && !s.restoring:
			return fmt.Errorf("%s is back: %s", s.name, s.describe())
		}
		s.made.acked, s.id = true, found.ID
		s.made.ended = min(s.made.ended, m.now())
		if s.deleted.began != ever {
			s.back(m)
		}
		if found.State == snapshot.Open {
			if s.seal.acked {
				return fmt.Errorf("%s is not sealed any more: %s", s.name, s.describe())
			}
			s.seal, s.claim = none(), nil
		}
		if found.State == snapshot.Completing {
			s.seal.acked, s.seal.ended = true, min(s.seal.ended, m.now())
		}
		if err := s.see(m, found, m.now(), time.Now()); err != nil {
			return err
		}
	}
	for name := range shown {
		return fmt.Errorf("there is a snapshot %s that nobody asked for", name)
	}
	return nil
}

// inspect completes and reads everything, and then deletes it.
func (w *world) inspect() error {
	c := &client{w: w, ctx: context.Background(), rng: w.rng, epoch: w.epoch.Load()}
	var left []*modelled
	for _, s := range w.model.snaps {
		if s.deleted.began != ever {
			continue
		}
		left = append(left, s)
		if open(s) {
			s.seal.began = w.model.now()
			if _, err := w.node.service.Complete(c.ctx, caller, c.claim(s)); err != nil {
				return fmt.Errorf("complete %s at the end: %w", s.describe(), err)
			}
			s.seal.acked, s.seal.ended = !s.mayExpire(), w.model.now()
		}
	}
	if err := w.node.service.Settle(c.ctx); err != nil {
		return err
	}
	for _, s := range left {
		page, err := w.node.service.Describe(c.ctx, caller, snapshot.DescribeRequest{IDs: []string{s.id}})
		if err != nil {
			return fmt.Errorf("look at %s at the end: %w", s.describe(), err)
		}
		if err := s.see(&w.model, &page.Snapshots[0], w.model.now(), time.Now()); err != nil {
			return err
		}
		if s.outcome != snapshot.Completed {
			continue
		}
		got, err := c.contents(s)
		if w.model.excused(err, w.model.tick) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s at the end: %w", s.describe(), err)
		}
		if err := s.check(got); err != nil {
			return err
		}
		s.fixed = got
	}
	return w.violated
}
