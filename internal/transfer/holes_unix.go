//go:build linux || darwin || freebsd

package transfer

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns the next run of bytes at or after at that are no hole:
// [start, end), greater than at. It returns io.EOF if there is none, and
// errors.ErrUnsupported where holes cannot be told. It moves f's offset.
func nextData(f *os.File, at int64) (start, end int64, err error) {
	fd := int(f.Fd())
	start, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENODEV):
		return 0, 0, errors.ErrUnsupported
	case err != nil:
		return 0, 0, err
	}
	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	if err != nil || end <= start {
		// Someone punched the run away meanwhile. To read a hole is safe, to
		// skip data is not.
		return 0, 0, errors.ErrUnsupported
	}
	return start, end, nil
}
