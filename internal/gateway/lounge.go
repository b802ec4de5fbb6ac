package gateway

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// While a connection waits for its next request, net/http keeps two buffers and
// a deep stack for it, 18 KiB in all. One that waits for longer than a moment is
// taken away from it, to wait in the lounge with a few hundred bytes and a small
// stack, and given back like a new one when something comes.
//
// To take it away, Read fails while net/http has nothing in hand, and the Close
// that follows does not close. What a client sends ahead of its answer net/http
// may have in hand: all of the next request, or a part of it. Then it waits there.

const (
	// idleTime is how long a connection may wait for its next request.
	idleTime = 3 * time.Minute
	// moment is how much of that it waits in net/http.
	moment = 200 * time.Millisecond
	// emptyBuffer is how much net/http asks for when its buffer is empty; were
	// it another number, no connection would go to the lounge.
	emptyBuffer = 4 << 10
	// peeked is how many bytes of a request net/http has before it begins to
	// read it.
	peeked = 4
)

// Between two requests net/http sets a deadline for the next one to begin, reads
// until it has the first few bytes of it, if it has not, and sets the deadline for
// its header. A phase is how far it has come.
const (
	phaseRequest  = iota // it reads a request, or a handler has it
	phaseAnswered        // the answer went out
	phaseIdle            // it looks for the next request's first bytes
)

// SetReadDeadline is by what net/http's phases are told apart. It is the deadline
// of the connection, too.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.phase.CompareAndSwap(phaseAnswered, phaseIdle) {
		c.phase.Store(phaseRequest)
	}
	return c.Conn.SetReadDeadline(t)
}

// nothingInHand reports whether a read into p is one for the next request, of
// which net/http has nothing: it reads into what is free of its buffer.
func (c *conn) nothingInHand(p []byte) bool {
	return len(p) == emptyBuffer && c.phase.Load() == phaseIdle
}

// errTakenAway ends net/http's part in a connection.
var errTakenAway = errors.New("the connection waits elsewhere")

// A lounge is where connections wait. Those that something came for are what it
// accepts, as a net.Listener.
type lounge struct {
	addr   net.Addr
	ready  chan *conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	shut  bool
	guest map[*conn]struct{}
}

func newLounge() *lounge {
	return &lounge{ready: make(chan *conn), closed: make(chan struct{}), guest: make(map[*conn]struct{})}
}

// Accept waits for a connection with a request.
func (l *lounge) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr is the address of the listener that the connections came by.
func (l *lounge) Addr() net.Addr { return l.addr }

// Close closes all that wait, and has none wait here again.
func (l *lounge) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.mu.Lock()
	l.shut = true
	guests := l.guest
	l.guest = nil
	l.mu.Unlock()
	for c := range guests {
		c.shut() //nolint:errcheck // nobody is there
	}
	return nil
}

// enter lets c wait, and reports false if the lounge is closed.
func (l *lounge) enter(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return false
	}
	l.guest[c] = struct{}{}
	return true
}

func (l *lounge) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guest, c)
}

// readIdle reads the beginning of the next request. If that does not come soon,
// the connection is to go to the lounge.
func (c *conn) readIdle(p []byte) (int, error) {
	if _, ok := c.socket.(syscall.Conn); !ok {
		return c.Conn.Read(p)
	}
	if err := c.Conn.SetReadDeadline(time.Now().Add(moment)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && c.lounge.enter(c) {
		c.phase.Store(phaseRequest)
		c.taken.Store(true)
		return 0, errTakenAway
	}
	if err != nil || n >= peeked {
		return n, err
	}
	return n, c.Conn.SetReadDeadline(time.Now().Add(idleTime)) // for the rest of them
}

// wait waits in the lounge.
func (c *conn) wait() {
	if !c.await() {
		c.lounge.leave(c)
		c.shut() //nolint:errcheck // nobody is there
		return
	}
	c.lounge.leave(c)
	select {
	case c.lounge.ready <- c:
	case <-c.lounge.closed:
		c.shut() //nolint:errcheck // nobody is there
	}
}

// await reports whether there is something to read before the time is over. It
// reads nothing.
func (c *conn) await() bool {
	raw, err := c.socket.(syscall.Conn).SyscallConn()
	if err != nil || c.socket.SetReadDeadline(time.Now().Add(idleTime-moment)) != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return !errors.Is(err, unix.EAGAIN)
	})
	return err == nil
}
