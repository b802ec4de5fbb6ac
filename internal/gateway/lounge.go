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
// that follows does not close.

const (
	// idleTime is how long a connection may wait for its next request.
	idleTime = 3 * time.Minute
	// moment is how much of that it waits in net/http.
	moment = 200 * time.Millisecond
)

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
	if err := c.SetReadDeadline(time.Now().Add(moment)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && c.lounge.enter(c) {
		c.taken.Store(true)
		return 0, errTakenAway
	}
	return n, err
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
