package kms_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"shale/internal/kms"
	"shale/internal/vfs"
	"shale/internal/vfs/errorfs"
)

// keysFolder has the root key and, below, the keys.
type keysFolder struct {
	path      string
	keys, kms *errorfs.FS
}

func newKeysFolder(t testing.TB) *keysFolder {
	t.Helper()
	k := &keysFolder{path: t.TempDir()}
	must(t, os.Mkdir(filepath.Join(k.path, "kms"), 0o700))
	k.keys, k.kms = errorfs.Wrap(vfs.Dir(k.path)), errorfs.Wrap(vfs.Dir(filepath.Join(k.path, "kms")))
	return k
}

func (k *keysFolder) fail(f func(errorfs.Op, string) error) {
	k.keys.Fail(f)
	k.kms.Fail(f)
}

// open opens the folder as the server does.
func (k *keysFolder) open() (*kms.Local, error) {
	begun, err := kms.Begun(k.kms)
	if err != nil {
		return nil, err
	}
	root, err := kms.LoadRoot(k.keys, !begun)
	if err != nil {
		return nil, err
	}
	return kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: root})
}

func TestLoadRoot(t *testing.T) {
	k := newKeysFolder(t)
	l := must2(k.open())
	created := must2(l.CreateKey(t.Context(), alice, kms.CreateRequest{}))
	l = must2(k.open())
	must(t, second(l.GenerateDataKey(t.Context(), alice, created.ARN, nil)))
	if info := must2(os.Stat(filepath.Join(k.path, "root"))); info.Mode() != 0o600 || info.Size() != kms.RootSize {
		t.Errorf("%v, %d bytes", info.Mode(), info.Size())
	}
	must(t, os.Remove(filepath.Join(k.path, "root")))
	if _, err := k.open(); err == nil {
		t.Error("a lost root key was replaced by a new one")
	}
	if _, err := os.Stat(filepath.Join(k.path, "root")); !os.IsNotExist(err) {
		t.Errorf("a new root key was made: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(k.path, "root"), []byte("short"), 0o600))
	if _, err := k.open(); err == nil {
		t.Error("a root key of five bytes was taken")
	}
}

// An exchange of the root key is interrupted at each call of the disk, in each
// way of saying where the keys are: the server starts with what it finds, every
// key works, and repeating the exchange finishes it.
func TestRotateRootInterrupted(t *testing.T) {
	t.Parallel()
	external := rootOf(t, "e")
	for name, where := range map[string]struct{ current, next *kms.Root }{
		"in the folder":    {nil, nil},
		"out of it":        {nil, &external},
		"between external": {new(rootOf(t, "o")), &external},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				k := newKeysFolder(t)
				open := func() (*kms.Local, error) { return k.open() }
				if where.current != nil {
					open = func() (*kms.Local, error) { return kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: *where.current}) }
				}
				l := must2(open())
				type sealed struct {
					key  kms.Metadata
					data kms.DataKey
				}
				var all []sealed
				for range 3 {
					m := must2(l.CreateKey(t.Context(), alice, kms.CreateRequest{}))
					all = append(all, sealed{m, must2(l.GenerateDataKey(t.Context(), alice, m.ARN, volume))})
				}
				check := func(l *kms.Local, when string) {
					t.Helper()
					for _, s := range all {
						if got, err := l.Decrypt(t.Context(), alice, s.key.ARN, s.data.Wrapped, volume); err != nil || got != s.data.Plaintext {
							t.Fatalf("call %d, %s: %v", n, when, err)
						}
					}
				}
				calls := 0
				k.fail(func(errorfs.Op, string) error {
					if calls++; calls >= n { // as after a crash: nothing works from then on
						return errors.New("crash")
					}
					return nil
				})
				_, _, failed := kms.RotateRoot(k.keys, k.kms, where.current, where.next)
				k.fail(nil)
				// The server starts with the old root key, or with the new one.
				var started []*kms.Local
				if l, err := open(); err == nil {
					started = append(started, l)
				} else if failed != nil && where.next == nil {
					t.Fatalf("call %d: %v", n, err)
				}
				if where.next != nil {
					if l, err := kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: *where.next}); err == nil {
						started = append(started, l)
					}
				}
				if len(started) == 0 {
					t.Fatalf("call %d: the server starts with neither root key", n)
				}
				for _, l := range started {
					check(l, "after the crash")
				}
				if failed != nil {
					// Repeated, with what the operator still has.
					_, _, err := kms.RotateRoot(k.keys, k.kms, where.current, where.next)
					if err != nil {
						if where.current == nil {
							t.Fatalf("call %d: repeated: %v", n, err)
						}
						l, err := kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: *where.next})
						if err != nil {
							t.Fatalf("call %d: repeated, and then: %v", n, err)
						}
						check(l, "with the new root key")
					}
				}
				if where.next != nil {
					l = must2(kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: *where.next}))
					if _, err := os.Stat(filepath.Join(k.path, "root")); !os.IsNotExist(err) {
						t.Errorf("call %d: the old root key is still in the folder: %v", n, err)
					}
				} else {
					l = must2(k.open())
				}
				check(l, "at last")
				if failed == nil {
					return
				}
			}
		})
	}
}

// Afterwards the old root key opens nothing, and is not in the folder.
func TestRotateRoot(t *testing.T) {
	k := newKeysFolder(t)
	l := must2(k.open())
	m := must2(l.CreateKey(t.Context(), alice, kms.CreateRequest{}))
	old := must2(os.ReadFile(filepath.Join(k.path, "root")))
	next, rewrapped, err := kms.RotateRoot(k.keys, k.kms, nil, nil)
	must(t, err)
	if rewrapped != 1 {
		t.Errorf("%d keys", rewrapped)
	}
	must(t, filepath.WalkDir(k.path, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && bytes.Contains(must2(os.ReadFile(path)), old) {
			t.Errorf("the old root key is in %s", path)
		}
		return err
	}))
	if _, err := kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: must2(kms.NewRoot(old))}); err == nil {
		t.Error("the old root key is still accepted")
	}
	l = must2(kms.OpenLocal(kms.LocalOptions{FS: k.kms, Root: next}))
	must(t, second(l.GenerateDataKey(t.Context(), alice, m.ARN, nil)))

	// An exchange to a second new one, before the first is finished, is refused.
	k.kms.Fail(func(op errorfs.Op, name string) error {
		if op == errorfs.Create && name != "roots"+vfs.Staged {
			return errors.New("crash")
		}
		return nil
	})
	if _, _, err := kms.RotateRoot(k.keys, k.kms, nil, new(rootOf(t, "a"))); err == nil {
		t.Fatal("it went through")
	}
	k.kms.Fail(nil)
	if _, _, err := kms.RotateRoot(k.keys, k.kms, nil, new(rootOf(t, "b"))); err == nil {
		t.Error("a third root key was taken")
	}
	must(t, third(kms.RotateRoot(k.keys, k.kms, nil, new(rootOf(t, "a")))))
}

func third[A, B any](_ A, _ B, err error) error { return err }
