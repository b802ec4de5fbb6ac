package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// MaxFile is the length at which a File is closed and the next one begun, in
// bytes: some 150,000 lines.
const MaxFile = 100 << 20

// A File is a file of lines. When it is full it becomes FILE.1, what was that
// becomes FILE.2, and so on; a number of them are kept. It is for one goroutine
// at a time.
//
// A line that was written survives the end of the process. It survives one of
// the machine once the file was rotated or closed, or when the kernel has seen
// to that.
type File struct {
	path string
	keep int
	max  int64
	log  *slog.Logger

	file    *os.File
	regular bool  // else it is a device, and is not rotated
	size    int64 // of the whole lines in it
	full    int64 // the size from which on it is to be rotated
}

// OpenFile opens the file at path to append to it; what it makes has mode 0600.
// keep is how many full files stay beside it, at least one. A file that another
// process writes is refused. log gets what goes wrong with rotating.
func OpenFile(path string, keep int, log *slog.Logger) (*File, error) {
	f := &File{path: path, keep: keep, max: MaxFile, log: log}
	if err := f.begin(path); err != nil {
		return nil, fmt.Errorf("open the audit file: %w", err)
	}
	return f, f.endLine()
}

// begin opens the file at path and makes it the one that is written.
func (f *File) begin(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			err = fmt.Errorf("%s is written by another process", path)
		}
	}
	if err != nil {
		file.Close()
		return err
	}
	f.file, f.size, f.full, f.regular = file, info.Size(), f.max, info.Mode().IsRegular()
	return nil
}

// endLine ends a line that a crash of the machine has cut short, so that it
// spoils no other.
func (f *File) endLine() error {
	if !f.regular || f.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.file.ReadAt(last[:], f.size-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err := f.Write([]byte("\n"))
	return err
}

// Write appends a line, whole or not at all.
func (f *File) Write(line []byte) (int, error) {
	if f.regular && f.size > 0 && f.size+int64(len(line)) > f.full {
		if err := f.rotate(); err != nil {
			f.log.Error("the audit file cannot be rotated and grows on", "err", err)
			f.full = f.size + f.max // and then again
		}
	}
	n, err := f.file.Write(line)
	if err == nil {
		f.size += int64(n)
		return n, nil
	}
	if n > 0 {
		err = errors.Join(err, f.file.Truncate(f.size))
	}
	return 0, fmt.Errorf("write the audit file: %w", err)
}

// rotate begins the next file. Until that has its name, the present one is
// written on. It moves names from the oldest to the newest, so a crash in
// between leaves a gap among the numbers, and no line is lost.
func (f *File) rotate() error {
	if err := f.file.Sync(); err != nil {
		return err
	}
	for n := f.keep + 1; os.Remove(f.numbered(n)) == nil; n++ { // more were kept once
	}
	for n := f.keep; n > 0; n-- {
		if err := os.Rename(f.numbered(n-1), f.numbered(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	old := f.file
	if err := f.begin(f.path); err != nil {
		return err
	}
	old.Close()
	return syncDir(filepath.Dir(f.path))
}

// numbered is the name of the nth full file; the present one is number 0.
func (f *File) numbered(n int) string {
	if n == 0 {
		return f.path
	}
	return f.path + "." + strconv.Itoa(n)
}

// Close makes what was written survive the end of the machine, too.
func (f *File) Close() error {
	var err error
	if f.regular {
		err = f.file.Sync()
	}
	return errors.Join(err, f.file.Close())
}

// syncDir makes the names in a folder durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
