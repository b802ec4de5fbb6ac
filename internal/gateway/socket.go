package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket is a TCP connection that moves its bytes without telling Go's
// scheduler. A system call of the standard library's might wait, so the
// scheduler hands the processor to another thread when one takes longer than
// some 20 µs, as a copy of a block does. Then two threads are where there was
// one, and the goroutine goes on wherever it finds a place, far from its cache.
// But a call on a socket does not wait: it copies what there is or what there is
// room for, and for more the goroutine parks as on any other connection.
//
// Nothing else is different: deadlines, errors, and that it is safe for
// concurrent use.
type socket struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out flow
}

// A flow is one direction of a socket.
type flow struct {
	mu   sync.Mutex // held by whoever moves bytes
	call uintptr    // SYS_READ or SYS_WRITE
	all  bool       // whether to go on until all are moved
	step func(fd uintptr) (done bool)

	p     []byte // what is being moved
	moved int
	err   error // of the system
}

// newSocket makes c a socket, or gives it back if it is no TCP connection.
func newSocket(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	s := &socket{TCPConn: tcp, raw: raw}
	s.in.call, s.in.step = unix.SYS_READ, s.in.move
	s.out.call, s.out.step, s.out.all = unix.SYS_WRITE, s.out.move, true
	return s
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.in.run(s.raw.Read, p)
	switch {
	case err != nil:
		return n, s.explain("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.out.run(s.raw.Write, p)
	if err != nil {
		return n, s.explain("write", err)
	}
	return n, nil
}

// explain is what *net.TCPConn says of an error, which net/http looks at.
func (s *socket) explain(op string, err error) error {
	if raw, ok := errors.AsType[*net.OpError](err); ok { // of the wait: "raw-read"
		err = raw.Err
	} else {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

// run moves p, with wait to wait until more can be moved.
func (f *flow) run(wait func(func(fd uintptr) bool) error, p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.p, f.moved, f.err = p, 0, nil
	err := wait(f.step)
	if err == nil {
		err = f.err
	}
	f.p = nil
	return f.moved, err
}

// move moves what can be moved now, and reports whether that is enough.
func (f *flow) move(fd uintptr) bool {
	for len(f.p) > 0 {
		n, errno := rawMove(f.call, fd, f.p)
		switch errno {
		case 0:
			f.moved += n
			f.p = f.p[n:]
			if !f.all {
				return true
			}
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			f.err = errno
			return true
		}
	}
	return true
}
