package kms

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"shale/internal/vfs"
)

// ExchangeRoot wraps all KMS keys in the folder by the root key next in place of
// current. Nobody else may use the folder meanwhile. However it ends, each of
// the two goes on being accepted until it has succeeded, and it can be repeated;
// before it takes the old one out of use it calls install, which has to make
// next the one that the server will find. Blocks are not touched.
func ExchangeRoot(f vfs.FS, current, next Root, install func() error) (keys int, err error) {
	r, ok, err := readRoots(f)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("there are no KMS keys here: the file keys/kms/%s is missing", rootsFile)
	}
	if current.ID == next.ID && r.Next == "" {
		return 0, fmt.Errorf("the new root key is the old one")
	}
	if r, err = begin(f, r, current, next); err != nil {
		return 0, err
	}
	l, err := OpenLocal(LocalOptions{FS: f, Root: next, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	for id, damage := range l.damaged {
		return 0, fmt.Errorf("the KMS key %s cannot be wrapped anew: %w; put its file right, or out of the folder, and repeat", id, damage)
	}
	for _, k := range l.keys {
		if k.material == nil {
			continue
		}
		if err := l.rewrap(k); err != nil {
			return keys, err
		}
		keys++
	}
	if err := install(); err != nil {
		return keys, err
	}
	return keys, finish(f, r)
}

// begin writes down that next replaces current. If that was written before,
// current may be either.
func begin(f vfs.FS, r rootsRecord, current, next Root) (rootsRecord, error) {
	other, err := r.other(current)
	if err != nil {
		return r, err
	}
	if other != nil {
		if next.ID.String() != r.Next {
			return r, fmt.Errorf("an earlier exchange of the root key was interrupted; finish it first, with the new root key of the id %s", r.Next)
		}
		return r, nil
	}
	under := current.wrap(nextUnderCurrent, next.key[:])
	over := next.wrap(currentUnderNext, current.key[:])
	r.Next, r.Under, r.Over = next.ID.String(), under[:], over[:]
	return r, writeRoots(f, r)
}

// rewrap wraps the material of k by the folder's root key.
func (l *Local) rewrap(k *key) error {
	if k.wrappedBy == l.root.ID {
		return nil
	}
	old, err := l.rootOf(k.wrappedBy)
	if err != nil {
		return err
	}
	material, err := old.unwrap(purpose(k.ID), k.wrapped)
	if err != nil {
		return fmt.Errorf("KMS key %s: %w", k.ID, err)
	}
	again := *k
	again.wrapped, again.wrappedBy = l.root.wrap(purpose(k.ID), material), l.root.ID
	l.change.Lock()
	defer l.change.Unlock()
	return l.store(&again)
}

// finish takes the old root key out of use, and wipes the file that had both.
func finish(f vfs.FS, r rootsRecord) error {
	old, err := f.OpenWrite(rootsFile)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := writeRoots(f, rootsRecord{Current: r.Next}); err != nil {
		return err
	}
	return vfs.WipeFile(old)
}

// nextFile holds, in the folder of keys, the root key that is to replace the
// one in rootFile.
const nextFile = "root.next"

// RotateRoot is ExchangeRoot with root keys that lie in the folder of keys
// itself: a nil current is the one there, a nil next a new one that takes its
// place. If only current is nil, the one in the folder is wiped in the end. It
// returns the root key that is valid from then on.
func RotateRoot(keys, f vfs.FS, current, next *Root) (_ Root, rewrapped int, err error) {
	switch {
	case current != nil && next != nil:
		rewrapped, err = ExchangeRoot(f, *current, *next, func() error { return nil })
		return *next, rewrapped, err
	case current != nil:
		return Root{}, 0, errors.New("it is not said where the new root key is")
	}
	if next != nil {
		done, err := movedOut(keys, f, *next)
		if err != nil {
			return Root{}, 0, err
		}
		if done { // all but the last step was done before
			return *next, 0, vfs.Wipe(keys, rootFile)
		}
	}
	old, err := LoadRoot(keys, false)
	if err != nil {
		return Root{}, 0, err
	}
	if next != nil {
		rewrapped, err = ExchangeRoot(f, old, *next, func() error { return nil })
		if err == nil {
			err = vfs.Wipe(keys, rootFile)
		}
		return *next, rewrapped, err
	}
	r, _, err := readRoots(f)
	if err != nil {
		return Root{}, 0, err
	}
	if old.ID.String() == r.Next { // all but the last step was done before
		rewrapped, err = ExchangeRoot(f, old, old, func() error { return nil })
		return old, rewrapped, err
	}
	made, err := loadNext(keys)
	if err != nil {
		return Root{}, 0, err
	}
	rewrapped, err = ExchangeRoot(f, old, made, func() error { return installNext(keys) })
	return made, rewrapped, err
}

// movedOut reports whether next is already the one that is valid, and another
// than what is left in rootFile.
func movedOut(keys, f vfs.FS, next Root) (bool, error) {
	r, _, err := readRoots(f)
	if err != nil || r.Current != next.ID.String() || r.Next != "" {
		return false, err
	}
	b, err := vfs.ReadAll(keys, rootFile, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && !bytes.Equal(b, next.key[:]), err
}

// loadNext gives the root key of nextFile, and makes it unless an earlier
// exchange has.
func loadNext(keys vfs.FS) (Root, error) {
	b, err := vfs.ReadAll(keys, nextFile, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		b = randomBytes(RootSize)
		err = vfs.Replace(keys, nextFile, b)
	}
	if err != nil {
		return Root{}, fmt.Errorf("new root key: %w", err)
	}
	root, err := NewRoot(b)
	if err != nil {
		return Root{}, fmt.Errorf("the file keys/%s: %w", nextFile, err)
	}
	return root, nil
}

// installNext makes nextFile the root key's file and wipes the old one.
func installNext(keys vfs.FS) error {
	old, err := keys.OpenWrite(rootFile)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := keys.Rename(nextFile, rootFile); err != nil {
		return err
	}
	if err := keys.SyncDir(); err != nil {
		return err
	}
	return vfs.WipeFile(old)
}
