package crashfs

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// A Survivors says what a crash leaves of all that was not synced.
type Survivors struct {
	Mode Mode
	Seed uint64 // for Some: chooses
}

// A Mode is how much survives.
type Mode int

// The modes. Some draws from the seed: any sectors of any files, or those that
// were written until some moment; any changes of names, or those until some
// moment; lengths that grew with or without the bytes for them, then zeros or
// garbage in their place.
const (
	Some Mode = iota
	Nothing
	Everything
)

func (s Survivors) String() string {
	switch s.Mode {
	case Nothing:
		return "nothing"
	case Everything:
		return "everything"
	}
	return fmt.Sprintf("seed %d", s.Seed)
}

// Crash gives the disk as it is found when the power goes at this moment and
// comes back. The disk itself goes on as if nothing had happened, so that many
// crashes at one moment can be looked at.
func (d *Disk) Crash(s Survivors) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := New()
	found.free = d.free
	v := newSurvival(s)
	found.lost = newSurvival(Survivors{Seed: s.Seed + 1})
	names := make(map[string]*inode, len(d.durable))
	for name, n := range d.durable {
		names[name] = n
	}
	keep := v.order(len(d.changes))
	for i, r := range d.changes {
		if keep(i) {
			r.apply(names)
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted) // the same draws for the same seed
	for _, name := range sorted {
		c := v.content(names[name])
		n := &inode{disk: found, name: name, seen: c, durable: c.clone()}
		found.files[name], found.durable[name] = n, n
	}
	return found
}

// Kill gives the disk as it is found when the process ends at this moment and
// the machine goes on: all that was written is there, and what was not synced
// may still be lost. The disk itself goes on, too.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := New()
	found.free = d.free
	copies := map[*inode]*inode{}
	copied := func(n *inode) *inode {
		if n != nil && copies[n] == nil {
			copies[n] = &inode{
				disk: found, name: n.name, seen: n.seen.clone(), durable: n.durable.clone(), writes: slices.Clone(n.writes), lost: n.lost,
			}
		}
		return copies[n]
	}
	for name, n := range d.files {
		found.files[name] = copied(n)
	}
	for name, n := range d.durable {
		found.durable[name] = copied(n)
	}
	for _, r := range d.changes {
		names := make(map[string]*inode, len(r.names))
		for name, n := range r.names {
			names[name] = copied(n)
		}
		found.changes = append(found.changes, renaming{r.folder, names})
	}
	return found
}

// A survival draws what survives.
type survival struct {
	mode Mode
	rng  *rand.Rand
}

func newSurvival(s Survivors) *survival {
	return &survival{s.Mode, rand.New(rand.NewPCG(s.Seed, 0x7368616c65))} //nolint:gosec // repeatable on purpose
}

func (v *survival) coin() bool { return v.rng.IntN(2) == 0 }

// order says which of n things that happened one after another survive: until
// some moment all, or any of them.
func (v *survival) order(n int) func(int) bool {
	switch v.mode {
	case Nothing:
		return func(int) bool { return false }
	case Everything:
		return func(int) bool { return true }
	}
	if v.coin() {
		end := v.rng.IntN(n + 1)
		return func(i int) bool { return i < end }
	}
	return func(int) bool { return v.coin() }
}

// content is what is found of a file. disk.mu is held.
func (v *survival) content(n *inode) content {
	c := n.durable.clone()
	switch {
	case v.mode == Nothing || len(n.writes) == 0:
		return c
	case v.mode == Everything:
		return n.seen.clone()
	}
	written := v.sectors(n)
	for i, w := range n.writes {
		if w.truncate {
			if v.coin() {
				c.resize(w.off)
			}
			continue
		}
		for at := w.off; at < w.off+int64(len(w.data)); {
			end := min((at/SectorSize+1)*SectorSize, w.off+int64(len(w.data)))
			if written(i, at/SectorSize) {
				c.write(w.data[at-w.off:end-w.off], at)
			}
			at = end
		}
	}
	if n.seen.size > c.size && v.rng.IntN(3) == 0 {
		v.grow(&c, n.seen.size)
	}
	return c
}

// sectors says which writes have reached a sector when the power goes: all of
// them until one, as a sector is written with all that is in it.
func (v *survival) sectors(n *inode) func(write int, sector int64) bool {
	if v.rng.IntN(3) == 0 { // in the order in which it was written, up to the middle of a write
		last := v.rng.IntN(len(n.writes))
		w := n.writes[last]
		torn := w.off/SectorSize + v.rng.Int64N(int64(len(w.data))/SectorSize+2)
		return func(write int, sector int64) bool { return write < last || write == last && sector < torn }
	}
	chance := []float64{0.1, 0.5, 0.9, 0.99}[v.rng.IntN(4)]
	reached := map[int64]int{} // by sector: the writes below this number are in it
	return func(write int, sector int64) bool {
		end, drawn := reached[sector]
		if !drawn {
			switch {
			case v.rng.Float64() >= chance:
				end = 0
			case v.coin():
				end = len(n.writes)
			default:
				end = v.rng.IntN(len(n.writes)) + 1
			}
			reached[sector] = end
		}
		return write < end
	}
}

// grow makes a file longer, by up to what it has lost, without the bytes that
// were to be there.
func (v *survival) grow(c *content, size int64) {
	from := c.size
	to := from + v.rng.Int64N(size-from) + 1
	c.resize(to)
	if v.coin() {
		garbage := make([]byte, to-from)
		for i := range garbage {
			garbage[i] = byte(v.rng.Uint32())
		}
		c.write(garbage, from)
	}
}
