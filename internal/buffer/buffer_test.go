package buffer

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"shale/internal/block"
)

// Buffers that are lent at a time do not overlap, begin at pages, and have the
// size that they say.
func TestBuffersAreApart(t *testing.T) {
	p := pool{rest: time.Hour}
	const n = 2*perRegion + 1
	var lent []*Buffer
	for i := range n {
		b := p.get()
		if uintptr(unsafe.Pointer(b))%PageSize != 0 {
			t.Fatalf("a buffer at %p", b)
		}
		for j := range b {
			b[j] = byte(i)
		}
		lent = append(lent, b)
	}
	slices.Reverse(p.regions) // the system often gives lower addresses later
	for i, b := range lent {
		for j := range b {
			if b[j] != byte(i) {
				t.Fatalf("buffer %d has a byte of buffer %d", i, b[j])
			}
		}
		p.put(b)
	}
	if len(p.regions) != 3 {
		t.Errorf("%d regions for %d buffers", len(p.regions), n)
	}
	for _, r := range p.regions {
		if len(r.free) != perRegion {
			t.Errorf("%d buffers in a region of %d", len(r.free), perRegion)
		}
	}
	if b := new(Buffer).Block(); len(b) != block.Size || cap(b) != len(Buffer{}) {
		t.Errorf("a block of %d bytes, with room for %d", len(b), cap(b))
	}
}

// What nobody uses goes back to the system, and nothing that somebody has.
func TestMemoryGoesBack(t *testing.T) {
	p := pool{rest: time.Hour}
	var lent []*Buffer
	for range perRegion + 1 {
		lent = append(lent, p.get())
	}
	last := lent[perRegion]
	for _, b := range lent[:perRegion] {
		p.put(b)
	}
	regions := func(want int, when string) {
		t.Helper()
		if len(p.regions) != want {
			t.Errorf("%d regions %s, want %d", len(p.regions), when, want)
		}
	}
	p.look()
	regions(2, "right after their use")
	p.look()
	regions(1, "with one buffer lent")
	last[0], last[len(last)-1] = 1, 2 // would be a fault
	b := p.get()
	p.put(last)
	p.look()
	p.look()
	regions(1, "with another buffer lent")
	b[0] = 3
	p.put(b)
	p.put(p.get())
	p.look()
	regions(1, "right after the use of the last")
	p.look()
	regions(0, "at last")
	if p.looking {
		t.Error("it looks on for what is not there")
	}
	p.put(p.get())
	if regions(1, "after a new beginning"); !p.looking {
		t.Error("it does not look for what can go back")
	}
}

// Without memory from the system there is Go's.
func TestMemoryOfGo(t *testing.T) {
	p := pool{rest: time.Hour}
	b := new(Buffer)
	p.put(b)
	if len(p.regions) != 0 {
		t.Error("it has a region")
	}
	if at := uintptr(unsafe.Pointer(b)); at%PageSize != 0 {
		t.Errorf("Go's memory begins at %x", at)
	}
}

func BenchmarkBuffer(b *testing.B) {
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			Put(Get())
		}
	})
}
