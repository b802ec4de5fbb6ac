//go:build !race

package buffer

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// hugePages reports whether the system has them for those who ask.
func hugePages() bool {
	modes, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled") // "always [madvise] never"
	return err == nil && !bytes.Contains(modes, []byte("[never]"))
}

// allocate gives memory of which nothing is in use before it is touched.
func allocate(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

// inHugePages asks for huge pages. Without them all is as well, and slower.
func inHugePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

// release gives memory back to the system.
func release(b []byte) {
	if err := unix.Munmap(b); err != nil {
		panic("buffer: " + err.Error()) // it is not what allocate gave
	}
}
