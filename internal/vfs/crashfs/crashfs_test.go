package crashfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"shale/internal/vfs"
	"shale/internal/vfs/crashfs"
)

// tester makes what fails end the test.
type tester struct{ testing.TB }

func (t tester) create(f vfs.FS, name string) vfs.File {
	t.Helper()
	file, err := f.Create(name)
	t.ok(err)
	return file
}

func (t tester) write(f vfs.File, off int64, text string) {
	t.Helper()
	t.ok(f.WriteAt([][]byte{[]byte(text)}, off))
}

// synced makes a file that no crash takes away.
func (t tester) synced(f vfs.FS, name, text string) vfs.File {
	t.Helper()
	file := t.create(f, name)
	t.write(file, 0, text)
	t.ok(file.Sync())
	t.ok(f.SyncDir())
	return file
}

func (t tester) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is all of a file, or "-" if there is none.
func (t tester) content(f vfs.FS, name string) string {
	t.Helper()
	b, err := vfs.ReadAll(f, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	t.ok(err)
	return string(b)
}

// outcomes are all that the file is found to be after crashes at this moment.
func (t tester) outcomes(d *crashfs.Disk, folder, name string) []string {
	t.Helper()
	var all []string
	for seed := range uint64(400) {
		all = append(all, t.content(d.Crash(crashfs.Survivors{Seed: seed}).Folder(folder), name))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// What was synced, with its name, is there after every crash.
func TestSyncedSurvives(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("a/b")
	x.synced(f, "x", "hello")
	if got := x.outcomes(d, "a/b", "x"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("found %q", got)
	}
	for _, mode := range []crashfs.Mode{crashfs.Nothing, crashfs.Everything} {
		if got := x.content(d.Crash(crashfs.Survivors{Mode: mode}).Folder("a/b"), "x"); got != "hello" {
			t.Errorf("mode %v: found %q", mode, got)
		}
	}
}

// A file that was synced may still be without a name, and one with a name
// without its bytes.
func TestNameAndBytesAreApart(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	synced, named := x.create(d.Folder("a"), "x"), x.create(d.Folder("b"), "x")
	x.write(synced, 0, "hello")
	x.write(named, 0, "hello")
	x.ok(synced.Sync())
	x.ok(d.Folder("b").SyncDir())
	if got := x.outcomes(d, "a", "x"); !slices.Equal(got, []string{"-", "hello"}) {
		t.Errorf("synced without its folder: found %q", got)
	}
	got := x.outcomes(d, "b", "x")
	if slices.Contains(got, "-") || !slices.Contains(got, "") || !slices.Contains(got, "hello") {
		t.Errorf("not synced: found %q", got)
	}
}

// A write that was not synced is torn between sectors, never inside one.
func TestTornBetweenSectors(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("")
	file := x.synced(f, "x", strings.Repeat("o", 4*crashfs.SectorSize))
	x.write(file, 0, strings.Repeat("n", 4*crashfs.SectorSize))
	found := map[string]bool{}
	for _, got := range x.outcomes(d, "", "x") {
		var sectors string
		for s := range slices.Chunk([]byte(got), crashfs.SectorSize) {
			if !bytes.Equal(s, bytes.Repeat(s[:1], crashfs.SectorSize)) {
				t.Errorf("a torn sector: %q", s)
			}
			sectors += string(s[:1])
		}
		found[sectors] = true
	}
	if len(found) != 16 {
		t.Errorf("found %d of 16 states: %v", len(found), found)
	}
}

// Of two writes to a sector the later one is never there without the earlier.
func TestSectorIsWrittenAsItIs(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("")
	file := x.synced(f, "x", "....")
	x.write(file, 0, "a")
	x.write(file, 1, "b")
	if got := x.outcomes(d, "", "x"); !slices.Equal(got, []string{"....", "a...", "ab.."}) {
		t.Errorf("found %q", got)
	}
}

func TestRenamesAndRemovals(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("k")
	x.synced(f, "x", "old")
	file := x.create(f, "x.new")
	x.write(file, 0, "new")
	x.ok(file.Sync())
	x.ok(f.Rename("x.new", "x"))
	if got := x.outcomes(d, "k", "x"); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("renamed: found %q", got)
	}
	x.ok(f.SyncDir())
	if got := x.outcomes(d, "k", "x"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("renamed and synced: found %q", got)
	}
	x.ok(f.Remove("x"))
	if got := x.content(f, "x"); got != "-" {
		t.Errorf("removed, and found %q", got)
	}
	if got := x.outcomes(d, "k", "x"); !slices.Equal(got, []string{"-", "new"}) {
		t.Errorf("removed: found %q", got)
	}
	x.ok(f.SyncDir())
	if names, _ := d.Crash(crashfs.Survivors{}).Folder("k").List(); len(names) != 0 {
		t.Errorf("removed and synced: found %q", names)
	}
}

// A length that was not synced may be the old one, the new one, or between.
func TestLengths(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("")
	file := x.synced(f, "x", strings.Repeat("o", 2*crashfs.SectorSize))
	x.ok(file.Truncate(100))
	if got := x.outcomes(d, "", "x"); len(got) != 2 || len(got[0]) != 100 {
		t.Errorf("truncated: found %d states", len(got))
	}
	x.ok(file.Sync())
	x.write(file, 100, strings.Repeat("n", crashfs.SectorSize))
	lengths := map[int]bool{}
	for _, got := range x.outcomes(d, "", "x") {
		lengths[len(got)] = true
		if !strings.HasPrefix(got, strings.Repeat("o", 100)) {
			t.Errorf("what was synced has changed: %q", got[:100])
		}
	}
	if !lengths[100] || !lengths[crashfs.SectorSize] || !lengths[100+crashfs.SectorSize] || len(lengths) < 10 {
		t.Errorf("lengths found: %v", lengths)
	}
}

// After a failed sync reads show what was written, and no later sync makes it
// durable.
func TestFailedSyncLosesPages(t *testing.T) {
	x := tester{t}
	found := map[string]bool{}
	for seed := range uint64(20) {
		d := crashfs.New().Crash(crashfs.Survivors{Seed: seed})
		f := d.Folder("")
		file := x.synced(f, "x", "old")
		x.write(file, 0, "new")
		d.Before(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				return syscall.EIO
			}
			return nil
		})
		if err := file.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v", err)
		}
		d.Before(nil)
		if got := x.content(f, "x"); got != "new" {
			t.Errorf("read through the cache: %q", got)
		}
		x.ok(file.Sync())
		after := x.content(d.Crash(crashfs.Survivors{Mode: crashfs.Everything}).Folder(""), "x")
		found[after] = true
		source := make([]byte, 3)
		if _, err := file.ReadSource(source, 0); err != nil || string(source) != after {
			t.Errorf("from the disk itself: read %q, and after a crash %q", source, after)
		}
		if got := x.content(f, "x"); got != after {
			t.Errorf("past the cache: read %q, and after a crash %q", got, after)
		}
		x.write(file, 3, "!")
		x.ok(file.Sync())
		if got := x.content(d.Crash(crashfs.Survivors{}).Folder(""), "x"); got != after+"!" {
			t.Errorf("a later write: found %q, want %q", got, after+"!")
		}
	}
	if !found["old"] || !found["new"] || len(found) != 2 {
		t.Errorf("after a crash there was %v", found)
	}
}

// A full disk takes what fits and then says so, and gives back what is removed.
func TestFullDisk(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("")
	file := x.create(f, "x")
	d.SetFree(6)
	x.write(file, 0, "1234")
	if free, err := f.Free(); err != nil || free != 2 {
		t.Errorf("Free: %d, %v", free, err)
	}
	if err := file.WriteAt([][]byte{[]byte("5678")}, 4); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	if got := x.content(f, "x"); got != "123456" {
		t.Errorf("found %q", got)
	}
	x.write(file, 0, "abcdef") // takes no space
	if _, err := f.Create("y"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Create: got %v, want ENOSPC", err)
	}
	x.ok(file.Truncate(1))
	x.ok(f.Remove("x"))
	if free, _ := f.Free(); free != 6 {
		t.Errorf("Free: %d after all was removed", free)
	}
}

// Every operation is announced, in order, and can be made to fail.
func TestBefore(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("a")
	var seen []crashfs.Op
	fail := crashfs.Kind("")
	d.Before(func(op crashfs.Op) error {
		seen = append(seen, op)
		switch {
		case op.Kind != fail:
			return nil
		case op.Kind == crashfs.Write:
			return &crashfs.Torn{Bytes: 2, Err: syscall.EIO}
		}
		return syscall.EIO
	})
	file := x.create(f, "x")
	x.write(file, 0, "old")
	x.ok(file.Sync())
	x.ok(f.SyncDir())
	want := []crashfs.Op{
		{N: 1, Kind: crashfs.Create, Name: "a/x", Grows: true},
		{N: 2, Kind: crashfs.Write, Name: "a/x", Length: 3, Grows: true},
		{N: 3, Kind: crashfs.Sync, Name: "a/x"},
		{N: 4, Kind: crashfs.SyncDir, Name: "a"},
	}
	if !slices.Equal(seen, want) || d.Ops() != 4 {
		t.Errorf("announced: %v", seen)
	}
	for kind, do := range map[crashfs.Kind]func() error{
		crashfs.Create:   func() error { _, err := f.Create("y"); return err },
		crashfs.Open:     func() error { _, err := f.OpenWrite("x"); return err },
		crashfs.Stat:     func() error { _, err := f.Size("x"); return err },
		crashfs.Read:     func() error { _, err := file.ReadAt(make([]byte, 1), 0); return err },
		crashfs.Write:    func() error { return file.WriteAt([][]byte{[]byte("new")}, 0) },
		crashfs.Truncate: func() error { return file.Truncate(0) },
		crashfs.Rename:   func() error { return f.Rename("x", "z") },
		crashfs.Remove:   func() error { return f.Remove("x") },
		crashfs.SyncDir:  f.SyncDir,
	} {
		fail = kind
		if err := do(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: got %v", kind, err)
		}
		fail = ""
	}
	if got := x.content(f, "x"); got != "ned" {
		t.Errorf("after a write that failed half way: %q", got)
	}
	d.PowerOff()
	if err := file.Sync(); !errors.Is(err, crashfs.ErrOff) {
		t.Errorf("with the power off: %v", err)
	}
}

// A crash is the same for the same seed, and leaves the disk alone.
func TestCrashIsRepeatable(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("")
	for _, name := range []string{"a", "b", "c", "d"} {
		x.write(x.create(f, name), 0, strings.Repeat(name, 10*crashfs.SectorSize))
	}
	for seed := range uint64(50) {
		one, two := d.Crash(crashfs.Survivors{Seed: seed}), d.Crash(crashfs.Survivors{Seed: seed})
		for _, name := range []string{"a", "b", "c", "d"} {
			a, b := x.content(one.Folder(""), name), x.content(two.Folder(""), name)
			if a != b {
				t.Errorf("seed %d: %s is found in two ways", seed, name)
			}
		}
	}
	if got := x.content(f, "d"); got != strings.Repeat("d", 10*crashfs.SectorSize) {
		t.Error("the disk has changed")
	}
}

// What a process leaves that is killed is all there, and still not durable.
func TestKill(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	f := d.Folder("")
	file := x.create(f, "x.new")
	x.write(file, 0, "new")
	x.ok(f.Rename("x.new", "x"))
	killed := d.Kill()
	x.write(file, 0, "NEW") // the other disk goes on
	f = killed.Folder("")
	if got := x.content(f, "x"); got != "new" {
		t.Errorf("found %q", got)
	}
	if got := x.outcomes(killed, "", "x"); !slices.Contains(got, "-") || !slices.Contains(got, "") || !slices.Contains(got, "new") {
		t.Errorf("then the power went: found %q", got)
	}
	again, err := f.OpenWrite("x")
	x.ok(err)
	x.ok(again.Sync())
	x.ok(f.SyncDir())
	if got := x.outcomes(killed, "", "x"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("then all was synced: found %q", got)
	}
}
