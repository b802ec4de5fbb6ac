package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shale/internal/block"
)

// A machine is where the figures were measured.
type machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGiB  float64 `json:"memory_gib"`
	Kernel     string  `json:"kernel"`
	FileSystem string  `json:"file_system"`
	Go         string  `json:"go"`
	// Load is the load average of the last minute before the run: what else
	// the machine had to do.
	Load string `json:"load"`
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GiB memory, Linux %s, %s, %s; load average before the run %s",
		m.CPU, m.Cores, m.MemoryGiB, m.Kernel, m.FileSystem, m.Go, m.Load)
}

// describe tells what the machine is that holds the folder dir.
func describe(dir string) (machine, error) {
	m := machine{CPU: "unknown processor", Cores: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(text), " ")
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, err
	}
	m.MemoryGiB = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(uname.Release[:])
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return m, err
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC:
		m.FileSystem = "ext4"
	case unix.XFS_SUPER_MAGIC:
		m.FileSystem = "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		m.FileSystem = "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		m.FileSystem = "overlayfs"
	case unix.TMPFS_MAGIC:
		m.FileSystem = "tmpfs (nothing here is durable; give -data-dir a folder on a disk)"
	default:
		m.FileSystem = fmt.Sprintf("file system %#x", fs.Type)
	}
	return m, nil
}

// rawWrite appends n blocks to a new file in batches of batchBlocks, each
// followed by an fdatasync, and returns the bytes per second: what the disk
// gives to one writer that does nothing else, past the page cache or through
// it.
func rawWrite(path string, source *blockSource, n int, direct bool) (float64, error) {
	const batchBlocks = 16 // 8 MiB
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if direct {
		flags |= unix.O_DIRECT
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	bufs := make([][]byte, batchBlocks)
	for i := range bufs {
		bufs[i] = make([]byte, block.Size) // of this size at a page's start
	}
	var elapsed time.Duration
	var offset int64
	for done := 0; done < n; done += batchBlocks {
		for i := range bufs {
			b := source.block(uint64(done + i))
			copy(bufs[i][copy(bufs[i], b.prefix):], b.tail[:])
		}
		began := time.Now()
		written, err := unix.Pwritev(int(f.Fd()), bufs, offset)
		if err != nil {
			return 0, fmt.Errorf("write %s: %w", path, err)
		}
		offset += int64(written)
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("sync %s: %w", path, err)
		}
		elapsed += time.Since(began)
	}
	return float64(offset) / elapsed.Seconds(), nil
}
