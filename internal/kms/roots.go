package kms

import (
	"errors"
	"fmt"
	"io/fs"

	"shale/internal/vfs"
)

// rootsFile says which root keys the folder's keys are wrapped by.
const rootsFile = "roots"

// A rootsRecord is the JSON of that file. While root keys are being exchanged
// it holds each of the two, wrapped by the other, so that whoever has one has
// both.
type rootsRecord struct {
	Current string `json:"current"`        // the id of the root key
	Next    string `json:"next,omitzero"`  // of the one that replaces it
	Under   []byte `json:"under,omitzero"` // next, wrapped by current
	Over    []byte `json:"over,omitzero"`  // current, wrapped by next
}

// Purposes of the wrapped root keys.
const (
	nextUnderCurrent = "shale kms rotation, next under current"
	currentUnderNext = "shale kms rotation, current under next"
)

// readRoots reads the file; ok is false if there is none.
func readRoots(f vfs.FS) (r rootsRecord, ok bool, err error) {
	_, err = readFile(f, rootsFile, rootsKind, maxKeyFile, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("the file keys/kms/%s: %w", rootsFile, err)
	}
	return r, true, nil
}

func writeRoots(f vfs.FS, r rootsRecord) error {
	data, err := encodeFile(rootsKind, file{}, r)
	if err != nil {
		return err
	}
	return vfs.Replace(f, rootsFile, data)
}

// ErrOtherRoot says that a root key is not the one of the folder.
var ErrOtherRoot = errors.New("this is not the root key that wraps the KMS keys here")

// other gives the second root key of an unfinished exchange, nil if there is
// none, and an error if root is neither.
func (r rootsRecord) other(root Root) (*Root, error) {
	switch root.ID.String() {
	case r.Current:
		if r.Next == "" {
			return nil, nil
		}
		return unwrapRoot(root, nextUnderCurrent, r.Under)
	case r.Next:
		return unwrapRoot(root, currentUnderNext, r.Over)
	}
	return nil, fmt.Errorf("%w: its id is %v, and %s is wanted; with it no key could be used", ErrOtherRoot, root.ID, r.wanted())
}

func (r rootsRecord) wanted() string {
	if r.Next == "" {
		return r.Current
	}
	return r.Current + " or " + r.Next
}

func unwrapRoot(by Root, purpose string, w []byte) (*Root, error) {
	if len(w) != wrappedSize {
		return nil, fmt.Errorf("the file keys/kms/%s: a root key is missing in it", rootsFile)
	}
	b, err := by.unwrap(purpose, wrapped(w))
	if err != nil {
		return nil, fmt.Errorf("the file keys/kms/%s: %w", rootsFile, err)
	}
	root, err := NewRoot(b)
	return &root, err
}

// openRoots checks that the root key is the right one, or begins the folder.
func (l *Local) openRoots(names []string) error {
	r, ok, err := readRoots(l.fs)
	if err != nil {
		return err
	}
	if !ok {
		for _, name := range names {
			if keyID.MatchString(name) {
				return fmt.Errorf("the file keys/kms/%s is missing, and there are KMS keys: put it back", rootsFile)
			}
		}
		return writeRoots(l.fs, rootsRecord{Current: l.root.ID.String()})
	}
	if l.other, err = r.other(l.root); err != nil {
		return err
	}
	if r.Next != "" {
		l.log.Warn("an exchange of the root key was interrupted; both are valid until it is repeated with: shale key rotate-root",
			"old", r.Current, "new", r.Next)
	}
	return nil
}

// Begun reports whether there were KMS keys, or their root key, in the folder.
func Begun(f vfs.FS) (bool, error) {
	names, err := f.List()
	for _, name := range names {
		if name == rootsFile || keyID.MatchString(name) {
			return true, err
		}
	}
	return false, err
}
