package simulation_test

import (
	"time"

	"shale/internal/snapshot"
)

const (
	// binTime is how long the recycle bin keeps what was deleted, in half of the
	// histories.
	binTime = 20 * time.Minute
	day     = 24 * time.Hour
)

// seize draws a snapshot that nobody else locks, deletes or restores meanwhile.
// Those who do are one at a time, so that the model knows the outcome; all the
// rest goes on beside them.
func (c *client) seize(keep func(*modelled) bool) *modelled {
	s := c.pick(func(s *modelled) bool { return !s.busy && keep(s) })
	if s != nil {
		c.w.mu.Lock()
		s.busy = true
		c.w.mu.Unlock()
	}
	return s
}

// release is end for who has seized the snapshot, and gives it back. Without an
// answer it stays seized until the start finds out.
func (c *client) release(s *modelled, err error, f func(m *model)) {
	c.end(err, func(m *model, answered bool) {
		if answered {
			s.busy = false
			f(m)
		}
	})
}

// remove deletes a snapshot.
func (c *client) remove() {
	s := c.seize(present)
	if s == nil {
		return
	}
	began := c.begin("delete %s", s.name)
	c.w.mu.Lock()
	at, lock, unsure := time.Now(), s.locked, s.unsure
	s.deleted.began, s.removed[0] = began, at
	c.w.mu.Unlock()
	err := c.w.node.service.Delete(c.ctx, caller, s.id)
	c.release(s, err, func(m *model) {
		switch {
		case err == nil:
			s.deleted.ended, s.deleted.acked, s.removed[1] = m.now(), true, time.Now()
			if !lock.IsZero() && !unsure && time.Now().Before(lock) {
				c.violate("deleted %s, which is locked until %v", s.describe(), lock)
			}
		case codeOf(err) == snapshot.Locked && !lock.IsZero() && !at.After(lock.Add(time.Minute)):
			s.back(m)
		case m.excused(err, began):
			s.busy = true // whether it is deleted is not known until the next start
		default:
			c.violate("could not delete %s: %v", s.describe(), err)
		}
	})
}

// restore takes a snapshot out of the recycle bin.
func (c *client) restore() {
	s := c.seize(func(s *modelled) bool { return s.deleted.acked && s.outcome == snapshot.Completed && c.w.bin > 0 })
	if s == nil {
		return
	}
	began := c.begin("restore %s", s.name)
	c.w.mu.Lock()
	at := time.Now()
	s.restoring = true
	c.w.mu.Unlock()
	_, err := c.w.node.service.Restore(c.ctx, caller, snapshot.RestoreRequest{SnapshotID: s.id})
	c.release(s, err, func(m *model) {
		switch {
		case err == nil:
			if at.After(s.removed[1].Add(c.w.bin + time.Millisecond)) {
				c.violate("restored %s, whose time was over: deleted at %v, %v: %s", s.name, s.removed[0], s.removed[1], s.describe())
			}
			s.back(m)
		case codeOf(err) == snapshot.NotFound:
			s.restoring = false
			if time.Now().Before(s.removed[0].Add(c.w.bin).Truncate(time.Millisecond)) {
				c.violate("%s is not in the recycle bin: %s", s.name, s.describe())
			}
		case m.excused(err, began):
			s.busy = true
		default:
			c.violate("could not restore %s: %v", s.describe(), err)
		}
	})
}

// lock locks a completed snapshot for a day.
func (c *client) lock() {
	s := c.seize(func(s *modelled) bool { return completed(s) && s.locked.IsZero() })
	if s == nil {
		return
	}
	began := c.begin("lock %s", s.name)
	c.w.mu.Lock()
	s.locked, s.unsure = time.Now().Add(day), true
	c.w.mu.Unlock()
	_, err := c.w.node.service.Lock(c.ctx, caller, snapshot.LockRequest{SnapshotID: s.id, Days: ptr(int64(1))})
	c.release(s, err, func(m *model) {
		switch {
		case err == nil:
			s.unsure = false
		case m.excused(err, began):
		default:
			c.violate("could not lock %s: %v", s.describe(), err)
		}
	})
}

// unlock takes a lock away.
func (c *client) unlock() {
	s := c.seize(func(s *modelled) bool { return completed(s) && !s.locked.IsZero() && !s.unsure })
	if s == nil {
		return
	}
	began := c.begin("unlock %s", s.name)
	c.w.mu.Lock()
	s.unsure = true
	c.w.mu.Unlock()
	err := c.w.node.service.Unlock(c.ctx, caller, snapshot.UnlockRequest{SnapshotID: s.id})
	c.release(s, err, func(m *model) {
		switch {
		case err == nil:
			s.locked, s.unsure = time.Time{}, false
		case codeOf(err) == snapshot.NotLocked && time.Now().After(s.locked): // it has ended
			s.locked, s.unsure = time.Time{}, false
		case m.excused(err, began):
		default:
			c.violate("could not unlock %s: %v", s.describe(), err)
		}
	})
}

// count counts usage.
func (c *client) count() {
	began := c.begin("count usage")
	err := c.w.node.service.CountUsage(c.ctx)
	c.end(err, func(m *model, answered bool) {
		if answered && err != nil && m.faults < began && !m.rotten {
			c.violate("could not count usage: %v", err)
		}
	})
}
