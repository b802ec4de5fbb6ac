package crashfs

import (
	"errors"
	"io"
	"slices"
	"syscall"

	"github.com/ncruces/go-sqlite3/vfs"
)

// SectorSize is what the disk writes as a whole, in bytes.
const SectorSize = 512

// pageSize is what a file's content is kept in.
const pageSize = 4096

// A content is the bytes of a file. Its pages never change, they are replaced,
// so that copies share them; nil is a page of zeros.
type content struct {
	pages []*[pageSize]byte
	size  int64
}

func (c content) clone() content { return content{slices.Clone(c.pages), c.size} }

// resize sets the length; what is new is zero.
func (c *content) resize(size int64) {
	if pages := int((size + pageSize - 1) / pageSize); pages < len(c.pages) {
		clear(c.pages[pages:])
		c.pages = c.pages[:pages]
	}
	if at := size % pageSize; size < c.size && at != 0 && len(c.pages) == int(size/pageSize)+1 {
		if last := c.pages[len(c.pages)-1]; last != nil {
			cut := new([pageSize]byte)
			copy(cut[:at], last[:])
			c.pages[len(c.pages)-1] = cut
		}
	}
	c.size = size
}

func (c *content) write(b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	c.size = max(c.size, off+int64(len(b)))
	for pages := int((c.size + pageSize - 1) / pageSize); len(c.pages) < pages; {
		c.pages = append(c.pages, nil)
	}
	for len(b) > 0 {
		page := new([pageSize]byte)
		if old := c.pages[off/pageSize]; old != nil {
			*page = *old
		}
		n := copy(page[off%pageSize:], b)
		c.pages[off/pageSize] = page
		b, off = b[n:], off+int64(n)
	}
}

func (c *content) readAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < c.size {
		end := min(pageSize, c.size-off+off%pageSize)
		part := p[n:min(len(p), n+int(end-off%pageSize))]
		if off/pageSize < int64(len(c.pages)) && c.pages[off/pageSize] != nil {
			copy(part, c.pages[off/pageSize][off%pageSize:])
		} else {
			clear(part)
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// An inode is a file, whatever its name. disk.mu guards all of it.
type inode struct {
	disk *Disk
	name string // the last one it had

	seen    content // what reads see
	durable content
	writes  []change // since the last sync, in order
	lost    bool     // a sync has failed: what reads see may never be durable

	locks locks
}

// A change is one that is not durable yet: bytes written, or a new length.
type change struct {
	data     []byte
	off      int64
	truncate bool // to off
}

func (n *inode) readAt(p []byte, off int64) (int, error) {
	if err := n.disk.begin(Op{Kind: Read, Name: n.path(), Offset: off, Length: int64(len(p))}); err != nil {
		return 0, pathError("read", n.path(), err)
	}
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return n.seen.readAt(p, off)
}

func (n *inode) path() string {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return n.name
}

func (n *inode) size() int64 {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return n.seen.size
}

func (n *inode) writeAt(b []byte, off int64) error {
	end := off + int64(len(b))
	err := n.disk.begin(Op{Kind: Write, Name: n.path(), Offset: off, Length: int64(len(b)), Grows: end > n.size()})
	var torn *Torn
	if errors.As(err, &torn) {
		b = b[:min(torn.Bytes, int64(len(b)))]
	} else if err != nil {
		return pathError("write", n.path(), err)
	}
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if end := off + int64(len(b)); end > n.seen.size {
		can := n.disk.allocate(n.seen.size, end)
		if can < end {
			b, err = b[:max(0, can-off)], syscall.ENOSPC
		}
	}
	b = slices.Clone(b)
	n.seen.write(b, off)
	n.writes = append(n.writes, change{data: b, off: off})
	if err != nil {
		return pathError("write", n.name, err)
	}
	return nil
}

func (n *inode) truncate(size int64) error {
	if err := n.disk.begin(Op{Kind: Truncate, Name: n.path(), Offset: size, Grows: size > n.size()}); err != nil {
		return pathError("truncate", n.path(), err)
	}
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.allocate(n.seen.size, size) < size {
		return pathError("truncate", n.name, syscall.ENOSPC)
	}
	n.seen.resize(size)
	n.writes = append(n.writes, change{off: size, truncate: true})
	return nil
}

func (n *inode) sync() error {
	err := n.disk.begin(Op{Kind: Sync, Name: n.path()})
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	switch {
	case errors.Is(err, ErrOff):
		return pathError("sync", n.name, err)
	case err != nil:
		// The pages count as clean from here on: reads see them, and no later
		// sync tries again.
		n.durable, n.writes, n.lost = n.disk.lost.content(n), nil, true
		return pathError("sync", n.name, err)
	}
	if n.lost {
		for _, w := range n.writes {
			n.durable.apply(w)
		}
	} else {
		n.durable = n.seen.clone()
	}
	n.writes = nil
	return nil
}

func (c *content) apply(w change) {
	if w.truncate {
		c.resize(w.off)
	} else {
		c.write(w.data, w.off)
	}
}

// forget drops what is clean from the page cache, in whole pages.
func (n *inode) forget(off, length int64) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if len(n.writes) > 0 {
		return
	}
	for page := off / pageSize; page*pageSize < off+length && page < int64(len(n.seen.pages)); page++ {
		if page < int64(len(n.durable.pages)) {
			n.seen.pages[page] = n.durable.pages[page]
		} else {
			n.seen.pages[page] = nil
		}
	}
}

// locks are SQLite's on one file.
type locks struct {
	shared            int
	pending, reserved bool
}

// lock takes a lock for who has held one. disk.mu is held.
func (l *locks) lock(held, want vfs.LockLevel) (vfs.LockLevel, bool) {
	switch want {
	case vfs.LOCK_SHARED:
		if l.pending {
			return held, false
		}
		l.shared++
	case vfs.LOCK_RESERVED:
		if l.reserved {
			return held, false
		}
		l.reserved = true
	case vfs.LOCK_EXCLUSIVE:
		if held < vfs.LOCK_PENDING {
			if l.pending || l.reserved && held < vfs.LOCK_RESERVED {
				return held, false
			}
			l.pending = true
			held = vfs.LOCK_PENDING
		}
		if l.shared > 1 {
			return held, false
		}
	}
	return want, true
}

// unlock goes back from one lock to a lower one. disk.mu is held.
func (l *locks) unlock(held, to vfs.LockLevel, reserved bool) {
	if reserved {
		l.reserved = false
	}
	if held >= vfs.LOCK_PENDING {
		l.pending = false
	}
	if to < vfs.LOCK_SHARED && held >= vfs.LOCK_SHARED {
		l.shared--
	}
}
