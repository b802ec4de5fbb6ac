// Package buffer lends the memory in which blocks are on their way between
// clients and the disk.
//
// It lies in huge pages, where the system has them. A disk moves bytes between
// itself and memory in pieces that are contiguous in physical memory: a block in
// ordinary pages is 128 of them, each with its own entry in the request, in a huge
// page it is one or two. On a virtual disk that is most of what a request costs
// (docs/performance.md, Huge pages).
package buffer

import (
	"sync"
	"time"
	"unsafe"

	"shale/internal/block"
)

// PageSize is the alignment of a Buffer in memory, in bytes.
const PageSize = 4096

// A Buffer begins at a page. It has room for a block and a page more, for what
// sealing adds to it: a block can be sealed and opened in place.
type Buffer [block.Size + PageSize]byte

// Block is the part of the buffer that a plain block has. Its capacity is all of
// the buffer.
func (b *Buffer) Block() []byte { return b[:block.Size] }

// Get lends a buffer, with anything in it, until it is given to Put. How many are
// lent at a time is for the callers to bound. It may be called concurrently.
func Get() *Buffer { return buffers.get() }

// Put takes a buffer back. Nobody may use it, nor slices of it, from then on.
func Put(b *Buffer) { buffers.put(b) }

// Huge reports whether buffers lie in huge pages, as far as the system has enough
// contiguous memory.
func Huge() bool { return huge() }

var huge = sync.OnceValue(hugePages)

var buffers = pool{rest: 5 * time.Second}

const (
	hugePage   = 2 << 20
	regionSize = 8 * hugePage
	perRegion  = regionSize / len(Buffer{})
)

// A pool has regions of memory, as many as are needed at a time.
type pool struct {
	// rest is how often the pool looks for regions that nobody has used since it
	// looked last, to give them back to the system.
	rest time.Duration

	mu      sync.Mutex
	regions []*region // buffers are taken from the first that has one
	looking bool
}

// A region is cut into buffers.
type region struct {
	memory []byte
	first  uintptr // address of the first buffer
	free   []*Buffer
	used   bool // since the pool looked last
}

func (p *pool) get() *Buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.regions {
		if len(r.free) > 0 {
			return r.take()
		}
	}
	memory, err := allocate(regionSize + hugePage)
	if err != nil {
		return new(Buffer) // which begins at a page of Go's, of 8 KiB
	}
	r := newRegion(memory)
	p.regions = append(p.regions, r)
	if !p.looking {
		p.looking = true
		time.AfterFunc(p.rest, p.look)
	}
	return r.take()
}

// take takes a buffer out, of which there must be one.
func (r *region) take() *Buffer {
	n := len(r.free) - 1
	b := r.free[n]
	r.free, r.used = r.free[:n], true
	return b
}

// newRegion cuts memory, which may begin anywhere, into buffers.
func newRegion(memory []byte) *region {
	skip := -uintptr(unsafe.Pointer(&memory[0])) % hugePage
	aligned := memory[skip:][:regionSize]
	inHugePages(aligned)
	r := &region{memory: memory, first: uintptr(unsafe.Pointer(&aligned[0]))}
	// The first one is lent first: of a huge page that nobody touches there is
	// none.
	for i := perRegion - 1; i >= 0; i-- {
		r.free = append(r.free, (*Buffer)(aligned[i*len(Buffer{}):]))
	}
	return r
}

func (p *pool) put(b *Buffer) {
	at := uintptr(unsafe.Pointer(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.regions {
		if r.first <= at && at < r.first+regionSize {
			r.free = append(r.free, b)
			return
		}
	}
	// One of Go's, to be collected.
}

// look gives regions back that nobody has used for some time, and comes again
// while there are others.
func (p *pool) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.regions[:0]
	for _, r := range p.regions {
		if !r.used && len(r.free) == perRegion {
			release(r.memory)
			continue
		}
		r.used = false
		kept = append(kept, r)
	}
	clear(p.regions[len(kept):])
	p.regions = kept
	if p.looking = len(kept) > 0; p.looking {
		time.AfterFunc(p.rest, p.look)
	}
}
