package simulation_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"shale/internal/block"
	"shale/internal/snapshot"
)

// A content is one of the blocks that clients write; 0 is the one of zeros.
type content int

// hole is what an index has that nobody wrote.
const hole content = -1

// numContents is how many there are. A third of the writes each is of the first
// few, so that equal blocks meet; of some, which come and go; and of any, which
// are new for a while.
const (
	numContents  = 400
	someContents = 40
	fewContents  = 4
)

// indexes are those that clients write to: in two leaves of the map, at their
// edges.
var indexes = []block.Index{0, 1, 63, 64, 127, 2047}

// bytes are those of the block.
func (c content) bytes() []byte {
	b := make([]byte, block.Size)
	if c > 0 {
		// Nothing that could be compressed: whether it is depends on what else
		// is being compressed at that moment, which no seed decides.
		_, _ = rand.NewChaCha8([32]byte{byte(c), byte(c >> 8)}).Read(b)
	}
	return b
}

var (
	digests   [numContents]block.Digest
	contentOf = func() map[block.Digest]content {
		all := make(map[block.Digest]content, numContents)
		for c := range digests {
			digests[c] = sha256.Sum256(content(c).bytes())
			all[digests[c]] = content(c)
		}
		return all
	}()
)

// ever is the end of what has not ended.
const ever = math.MaxInt

// A write is one call of Put: it takes place between began and ended, if it was
// acknowledged, and otherwise perhaps.
type write struct {
	index        block.Index
	content      content
	began, ended int // ticks of the model
	acked        bool
	at, until    time.Time // the same by the clock; until is zero while it goes on
}

// A change is a call that takes place at most once, between began and ended.
type change struct {
	began, ended int // ever if not
	acked        bool
}

func none() change { return change{began: ever, ended: ever} }

// may reports whether it may have taken place by the tick.
func (c change) may(by int) bool { return c.began <= by }

// must reports whether it had taken place at the tick.
func (c change) must(at int) bool { return c.acked && c.ended <= at }

// A modelled is a snapshot as a map in memory would keep it.
type modelled struct {
	name   string // its description, by which it is found when nobody learnt its ID
	id     string // empty if nobody has
	arn    string // of its KMS key; empty if it is not encrypted
	base   *modelled
	copied bool // made by CopySnapshot of base
	made   change
	writes []*write

	timeout time.Duration // 0 for a copy
	started time.Time     // the earliest and the latest moment at which its timer began
	born    time.Time

	seal    change
	claim   []content // what was claimed, by the order of indexes; nil for nothing but the count
	claimed int
	deleted change
	// removed is when it was deleted by the clock, at the earliest and at the
	// latest, and absent the last tick at which it may have been in the recycle
	// bin.
	removed [2]time.Time
	absent  int
	// locked is until when a lock on it may be in force, zero for none, and
	// unsure says that it may not be.
	locked time.Time
	unsure bool

	// outcome is Completed or Failed once somebody saw it, else 0.
	outcome snapshot.State
	seen    int // when
	// fixed is what it was seen to hold, nil before.
	fixed map[block.Index]content
	// restoring says that it may have been taken out of the recycle bin.
	restoring bool
	busy      bool // somebody locks, deletes or restores it
}

// A model is what all snapshots are, as far as those know who were answered.
type model struct {
	tick  int
	snaps []*modelled
	// faults is the last tick at which a call may have failed for a reason of
	// the disk, and keyless that for one of a KMS key; ever while it may.
	faults, keyless int
	// rotten says that bits have flipped: what was stored may fail to read. It
	// never reads wrong.
	rotten bool
}

func (m *model) now() int { m.tick++; return m.tick }

// allowed are the contents that an index of the snapshot may have.
func (m *modelled) allowed(i block.Index) []content {
	if m.fixed != nil {
		if c, found := m.fixed[i]; found {
			return []content{c}
		}
		return []content{hole}
	}
	var out []content
	acked := false
	for _, w := range m.writes {
		if w.index != i {
			continue
		}
		acked = acked || w.acked
		overwritten := slices.ContainsFunc(m.writes, func(v *write) bool {
			return v.index == i && v.acked && v.began > w.ended
		})
		if !overwritten && !slices.Contains(out, w.content) {
			out = append(out, w.content)
		}
	}
	switch {
	case acked:
	case m.base != nil:
		for _, c := range m.base.allowed(i) {
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	case !slices.Contains(out, hole):
		out = append(out, hole)
	}
	return out
}

// own are the blocks written to the snapshot itself; certain is false if that
// depends on who came first, or on what nobody was told of.
func (m *modelled) own() (own map[block.Index]content, certain bool) {
	own = make(map[block.Index]content)
	for _, i := range indexes {
		acked, possible := false, 0
		for _, w := range m.writes {
			if w.index == i {
				possible++
				acked = acked || w.acked
			}
		}
		if possible == 0 {
			continue
		}
		if !acked {
			return nil, false
		}
		c := m.allowed(i)
		if len(c) != 1 {
			return nil, false
		}
		own[i] = c[0]
	}
	return own, true
}

// check says what is wrong with what was read of a completed snapshot.
func (m *modelled) check(got map[block.Index]content) error {
	for _, i := range indexes {
		c, found := got[i]
		if !found {
			c = hole
		}
		if allowed := m.allowed(i); !slices.Contains(allowed, c) {
			return fmt.Errorf("%s has content %d at index %d, which may have %v: %s", m.name, c, i, allowed, m.describe())
		}
	}
	for i := range got {
		if !slices.Contains(indexes, i) {
			return fmt.Errorf("%s has a block at index %d, which nobody wrote", m.name, i)
		}
	}
	return nil
}

// deadline is when the snapshot fails for inactivity: at the earliest and at the
// latest.
func (m *modelled) deadline() (earliest, latest time.Time) {
	earliest, latest = m.started.Add(m.timeout), m.born.Add(m.timeout)
	for _, w := range m.writes {
		if t := w.at.Add(m.timeout); w.acked && t.After(earliest) {
			earliest = t
		}
		until := w.until
		if until.IsZero() {
			until = time.Now()
		}
		if t := until.Add(m.timeout); t.After(latest) {
			latest = t
		}
	}
	return earliest.Truncate(time.Millisecond), latest.Add(time.Millisecond)
}

// mayExpire and mustExpire say whether it may by now, or must at that time, have
// failed for inactivity, unless it was sealed.
func (m *modelled) mayExpire() bool {
	earliest, _ := m.deadline()
	return m.timeout > 0 && !time.Now().Before(earliest)
}

func (m *modelled) mustExpire(at time.Time) bool {
	_, latest := m.deadline()
	return m.timeout > 0 && !at.Before(latest)
}

// mayEnd says whether the snapshot may have come to the state, seen now.
func (m *modelled) mayEnd(state snapshot.State, in *model) error {
	switch {
	case m.outcome != 0 && m.outcome != state:
		return fmt.Errorf("%s is %v, and was seen %v: %s", m.name, state, m.outcome, m.describe())
	case m.outcome != 0:
		return nil
	}
	if m.copied {
		// It fails if its source went away, or if its key could not be used when it
		// was asked for.
		if state == snapshot.Failed && m.base.outcome == snapshot.Completed && m.base.deleted.began == ever && m.base.absent == 0 && !in.rotten && in.keyless < m.made.began {
			return fmt.Errorf("copy %s failed, and its source is there: %s", m.name, m.describe())
		}
		return nil
	}
	own, certain := m.own()
	right := len(own) == m.claimed
	if m.claim != nil {
		// The aggregate is of the blocks in their order, and does not say at which
		// indexes they are. Spec: ebs-direct §7.
		var blocks []content
		for _, i := range indexes {
			if c, written := own[i]; written {
				blocks = append(blocks, c)
			}
		}
		right = right && slices.Equal(blocks, slices.DeleteFunc(slices.Clone(m.claim), func(c content) bool { return c == hole }))
	}
	sealed := m.seal.began != ever
	switch state {
	case snapshot.Completed:
		if !sealed {
			return fmt.Errorf("%s is completed, and nobody asked for it", m.name)
		}
		if certain && !right {
			return fmt.Errorf("%s is completed, and what was claimed is wrong: %s", m.name, m.describe())
		}
	case snapshot.Failed:
		wrong := sealed && (!certain || !right)
		expired := !m.seal.acked && m.mayExpire()
		if !wrong && !expired && !in.rotten {
			return fmt.Errorf("%s failed for no reason: %s", m.name, m.describe())
		}
	}
	return nil
}

// back notes that the snapshot is out of the recycle bin, or was never deleted.
func (m *modelled) back(of *model) {
	m.deleted, m.absent, m.restoring = none(), of.now(), false
}

// miss reports whether a call that began at the tick may not find the snapshot
// now.
func (m *modelled) miss(began, now int) bool { return m.deleted.may(now) || began <= m.absent }

func (m *modelled) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", m.name, m.id)
	if m.base != nil {
		fmt.Fprintf(&b, " on %s", m.base.name)
	}
	fmt.Fprintf(&b, ", seal %v, claim %d %v, deleted %v, outcome %d, fixed %v, writes", m.seal, m.claimed, m.claim, m.deleted, m.outcome, m.fixed)
	for _, w := range m.writes {
		fmt.Fprintf(&b, " %d=%d(%d-%d %v)", w.index, w.content, w.began, w.ended, w.acked)
	}
	return b.String()
}
