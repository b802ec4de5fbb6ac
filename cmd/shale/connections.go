package main

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// minConnections is the least that --max-connections takes: a client of
	// shale's own uses 17.
	minConnections = 64
	// ownFiles is how many files the server has open beside connections: above
	// all 256 segments, twice each, and the catalog's.
	ownFiles = 768
)

// connectionLimit is how many connections can be served: as many as are wanted,
// unless the system's limit of open files, which Go has raised as far as it may,
// does not allow it.
func connectionLimit(wanted int, log *slog.Logger) int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return wanted
	}
	possible := max(int(min(files.Cur, 1<<30))-ownFiles, minConnections)
	if possible >= wanted {
		return wanted
	}
	log.Warn("fewer connections than --max-connections, because of the limit of open files (ulimit -n)", "connections", possible, "files", files.Cur)
	return possible
}

// allowMemory raises the goal of the collector by what connections need, for as
// long as there are thousands of them: else it would hardly pause. It returns when
// ctx ends.
func allowMemory(ctx context.Context, open func() int) {
	const step, each = 1000, 16 << 10
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for allowed := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if steps := open() / step; steps != allowed { // not each time: it stops the world
			allowed = steps
			debug.SetMemoryLimit(heapGoal + int64(steps)*step*each)
		}
	}
}
