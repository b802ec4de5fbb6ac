package main

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	// minConnections is the least that --max-connections takes: a client of
	// shale's own uses 17.
	minConnections = 64
	// ownFiles is how many files the server has open beside connections: above
	// all 256 segments and the catalog's.
	ownFiles = 512
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
