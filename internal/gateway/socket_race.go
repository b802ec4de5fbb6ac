//go:build race

package gateway

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// rawMove is for the race detector, which sees only what the standard library
// does: that p is read or written, and that what happened before a write to a
// connection happened before the read at its other end.
func rawMove(call, fd uintptr, p []byte) (int, syscall.Errno) {
	move := syscall.Read
	if call == unix.SYS_WRITE {
		move = syscall.Write
	}
	n, err := move(int(fd), p)
	if err != nil {
		return 0, err.(syscall.Errno)
	}
	return n, 0
}
