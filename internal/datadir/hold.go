package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Hold keeps the segments of the folder from being removed until release is
// called or the process ends: it holds DIR/hold with a shared flock. Whoever
// removes segments takes an exclusive one for as long, and does without if it
// cannot have it.
func Hold(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "hold"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("hold the segments of %s: %w", dir, err)
	}
	return f.Close, nil
}

// Alone keeps others from holding the folder's segments until release is called
// or the process ends. It reports false if one does already.
func Alone(dir string) (release func() error, alone bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "hold"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("hold the segments of %s: %w", dir, err)
	}
	return f.Close, true, nil
}
