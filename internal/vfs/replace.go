package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Staged is the suffix of a file that Replace is writing. One that a crash left
// behind holds nothing that anybody was told of.
const Staged = ".new"

// Replace makes data the whole content of the file called name, which need not
// exist. On return it is durable; after a crash, or an error, the file is the
// old one or the new one. It is for one caller at a time for each name.
func Replace(f FS, name string, data []byte) error {
	staged := name + Staged
	if err := stage(f, staged, data); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), Wipe(f, staged))
	}
	if err := f.Rename(staged, name); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), Wipe(f, staged))
	}
	if err := f.SyncDir(); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return nil
}

func stage(f FS, name string, data []byte) error {
	file, err := f.Create(name)
	if errors.Is(err, fs.ErrExist) {
		if err := Wipe(f, name); err != nil {
			return err
		}
		file, err = f.Create(name)
	}
	if err != nil {
		return err
	}
	err = file.WriteAt([][]byte{data}, 0)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// Wipe overwrites a file with zeros, makes that durable, and removes it. One
// that does not exist is no error. What the file system has moved or copied by
// itself is beyond its reach.
func Wipe(f FS, name string) error {
	file, err := f.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = WipeFile(file)
	return errors.Join(err, file.Close(), f.Remove(name), f.SyncDir())
}

// WipeFile overwrites a file with zeros, durably, under whatever name it has.
func WipeFile(file File) error {
	size, err := file.Size()
	if err != nil {
		return err
	}
	if err := file.WriteAt([][]byte{make([]byte, size)}, 0); err != nil {
		return err
	}
	return file.Sync()
}

// ReadAll returns the whole content of the file called name, which may have at
// most limit bytes.
func ReadAll(f FS, name string, limit int64) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, size, limit)
	}
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil && size > 0 {
		return nil, err
	}
	return b, nil
}

// SizeOf is the length of the file called name in bytes, 0 if there is none.
func SizeOf(f FS, name string) (int64, error) {
	size, err := f.Size(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return size, err
}

// IsStaged reports whether name is that of a file that Replace was writing.
func IsStaged(name string) bool { return strings.HasSuffix(name, Staged) }
