//go:build !race

package gateway

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawMove moves bytes of p, which is not empty, to or from fd, by SYS_WRITE or
// SYS_READ. Go's scheduler is not told.
func rawMove(call, fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
