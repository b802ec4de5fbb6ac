// Package crashfs is a disk in memory that loses power, for tests: what was not
// synced may be gone after a crash, or half there, and any operation can be
// made to fail. The segments, the keys and SQLite's files are on one such disk,
// so that there is one order of operations and one moment at which the power
// goes.
//
// It is stricter than file systems are. A write is kept as sectors of 512
// bytes, of which a crash keeps any; a new name, a rename and a removal are kept
// by a crash, each for itself or not, until the folder was synced; syncing a file makes
// neither its name durable nor another file. What file systems promise is
// promised here, too: a sector is written whole, and what was synced is there.
package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// A Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	Create   Kind = "create"
	Open     Kind = "open"
	Stat     Kind = "stat"
	Read     Kind = "read"
	Write    Kind = "write"
	Sync     Kind = "sync"
	Truncate Kind = "truncate"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	SyncDir  Kind = "syncdir"
)

// An Op is one operation on a Disk.
type Op struct {
	// N counts the operations from 1 on. A Read has the number of the operation
	// before it: how often something is read says nothing.
	N    int64
	Kind Kind
	// Name is the path of the file, with slashes; that of the file to be
	// replaced for a Rename, that of the folder for a SyncDir.
	Name   string
	Offset int64 // of a Read or a Write; the new length for a Truncate
	Length int64 // bytes of a Read or a Write
	// Grows says that the operation takes up space.
	Grows bool
}

func (o Op) String() string {
	return fmt.Sprintf("operation %d, %s %s at %d, %d bytes", o.N, o.Kind, o.Name, o.Offset, o.Length)
}

// Changes reports whether the operation changes what is on the disk, or what of
// that is durable.
func (o Op) Changes() bool { return o.Kind != Open && o.Kind != Stat && o.Kind != Read }

// A Torn is an error for a Write that is done in part: its first bytes are
// written, and then it fails.
type Torn struct {
	Bytes int64
	Err   error
}

func (t *Torn) Error() string { return fmt.Sprintf("after %d bytes: %v", t.Bytes, t.Err) }

// Unwrap returns the error that is reported.
func (t *Torn) Unwrap() error { return t.Err }

// ErrOff is what every operation returns once the power is off.
var ErrOff = errors.New("the power is off")

// A Disk is a disk. Its methods, and those of its files, may be called
// concurrently.
type Disk struct {
	mu    sync.Mutex
	files map[string]*inode // by path, as programs see them
	// durable is files as of the last syncs of folders, and changes is what has
	// happened to names since, in order.
	durable map[string]*inode
	changes []renaming
	n       int64
	off     bool
	free    int64 // bytes; negative for as many as anybody wants
	before  func(Op) error
	// lost draws what of the pages whose sync failed reached the disk.
	lost *survival

	shm string // a real folder, once SQLite uses the disk
}

// A renaming is a change of names in one folder that happens as a whole: nil
// takes the name away.
type renaming struct {
	folder string
	names  map[string]*inode
}

// New returns an empty disk with all the space that anybody wants.
func New() *Disk {
	return &Disk{files: map[string]*inode{}, durable: map[string]*inode{}, free: -1, lost: newSurvival(Survivors{Seed: 1})}
}

// Before sets what is called before each operation, in the goroutine that wants
// it, with no lock held: it may wait, and look at the disk. An error is what the
// operation then returns, without having been done; but see Torn, and a Sync
// that fails gives up the pages it was for, as Linux does: they are read as
// written, and were perhaps not. Nil ends it.
func (d *Disk) Before(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = f
}

// Ops is the number of operations so far.
func (d *Disk) Ops() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// PowerOff makes every further operation fail, with ErrOff.
func (d *Disk) PowerOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// SetFree leaves the number of bytes free; a negative one any number.
func (d *Disk) SetFree(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = bytes
}

// room is what Free says while nobody has called SetFree.
const room = 1 << 40

func (d *Disk) freeBytes() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free < 0 {
		return room
	}
	return uint64(d.free)
}

// begin announces an operation, and says what is to become of it.
func (d *Disk) begin(op Op) error {
	d.mu.Lock()
	if op.Kind != Read {
		d.n++
	}
	op.N = d.n
	before, off := d.before, d.off
	d.mu.Unlock()
	var err error
	if before != nil && !off {
		err = before(op)
		d.mu.Lock()
		off = d.off // it may have been the one to switch it off
		d.mu.Unlock()
	}
	if off {
		err = ErrOff
	}
	return err
}

// allocate takes space for a file that is to have size bytes, or gives some
// back. It reports how many bytes the file can have. d.mu is held.
func (d *Disk) allocate(from, size int64) int64 {
	if d.free < 0 {
		return size
	}
	size = min(size, from+d.free)
	d.free -= size - from
	return size
}

// create makes a name; exclusive fails if it is there.
func (d *Disk) create(name string, exclusive bool) (*inode, error) {
	d.mu.Lock()
	n := d.files[name]
	d.mu.Unlock()
	if n != nil && exclusive {
		return nil, pathError("create", name, fs.ErrExist)
	}
	if n != nil {
		return d.open(name)
	}
	if err := d.begin(Op{Kind: Create, Name: name, Grows: true}); err != nil {
		return nil, pathError("create", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free == 0 {
		return nil, pathError("create", name, syscall.ENOSPC)
	}
	n = &inode{disk: d, name: name}
	d.files[name] = n
	d.change(renaming{path.Dir(name), map[string]*inode{name: n}})
	return n, nil
}

func (d *Disk) open(name string) (*inode, error) {
	d.mu.Lock()
	n := d.files[name]
	d.mu.Unlock()
	if n == nil {
		return nil, pathError("open", name, fs.ErrNotExist)
	}
	if err := d.begin(Op{Kind: Open, Name: name}); err != nil {
		return nil, pathError("open", name, err)
	}
	return n, nil
}

// stat is the length of a file.
func (d *Disk) stat(name string) (int64, error) {
	d.mu.Lock()
	n := d.files[name]
	d.mu.Unlock()
	if n == nil {
		return 0, pathError("stat", name, fs.ErrNotExist)
	}
	if err := d.begin(Op{Kind: Stat, Name: name}); err != nil {
		return 0, pathError("stat", name, err)
	}
	return n.size(), nil
}

func (d *Disk) exists(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[name] != nil
}

func (d *Disk) remove(name string) error {
	if !d.exists(name) {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if err := d.begin(Op{Kind: Remove, Name: name}); err != nil {
		return pathError("remove", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(d.files[name])
	delete(d.files, name)
	d.change(renaming{path.Dir(name), map[string]*inode{name: nil}})
	return nil
}

// drop gives back the space of a file that has lost its name. d.mu is held.
func (d *Disk) drop(n *inode) {
	if n != nil && d.free >= 0 {
		d.free += n.seen.size
	}
}

func (d *Disk) rename(from, to string) error {
	if !d.exists(from) {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if err := d.begin(Op{Kind: Rename, Name: to}); err != nil {
		return pathError("rename", to, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.files[from]
	d.drop(d.files[to])
	delete(d.files, from)
	d.files[to] = n
	n.name = to
	d.change(renaming{path.Dir(to), map[string]*inode{from: nil, to: n}})
	return nil
}

// change notes a change of names. d.mu is held.
func (d *Disk) change(r renaming) { d.changes = append(d.changes, r) }

func (d *Disk) syncDir(folder string) error {
	if err := d.begin(Op{Kind: SyncDir, Name: folder}); err != nil {
		if !errors.Is(err, ErrOff) {
			d.loseNames(folder)
		}
		return pathError("sync", folder, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(folder, func() bool { return true })
	return nil
}

// loseNames ends a sync of a folder that has failed: nobody tries again to make
// the changes durable that it was for.
func (d *Disk) loseNames(folder string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(folder, d.lost.coin)
}

// settle makes those of the folder's changes durable that keep chooses, and
// forgets the others. d.mu is held.
func (d *Disk) settle(folder string, keep func() bool) {
	d.changes = slices.DeleteFunc(d.changes, func(r renaming) bool {
		if r.folder != folder {
			return false
		}
		if keep() {
			r.apply(d.durable)
		}
		return true
	})
}

func (r renaming) apply(names map[string]*inode) {
	for name, n := range r.names {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

// list gives the names in a folder, in order.
func (d *Disk) list(folder string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.files {
		if path.Dir(name) == folder {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

// Close removes what of the disk is not in memory. SQLite must not use it any
// more.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	shm := d.shm
	d.shm = ""
	if shm == "" {
		return nil
	}
	return os.RemoveAll(shm)
}

// clean gives the path of a file on the disk, which has no folder above its
// root.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}
