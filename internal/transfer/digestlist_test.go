package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"shale/internal/block"
)

var update = flag.Bool("update", false, "rewrite golden files")

var (
	someKey  = listKey(sha256.Sum256([]byte("a snapshot")))
	someList = []known{{0, block.Digest{1}}, {1, block.ZeroDigest}, {700, block.Digest{2}}, {block.MaxIndex, block.Digest{3}}}
)

// encode gives the bytes of a list.
func encode(t testing.TB, key listKey, list []known) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newListWriter(&b)
	for _, k := range list {
		w.add(k)
	}
	if err := w.finish(key); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decode reads the bytes of a list as an upload would.
func decode(t testing.TB, key listKey, data []byte) ([]known, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := readList(f, key)
	if err != nil {
		return nil, err
	}
	var list []known
	for k, err := range l.all() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list, nil
}

func TestDigestListRoundTrip(t *testing.T) {
	for _, want := range [][]known{nil, someList[:1], someList} {
		got, err := decode(t, someKey, encode(t, someKey, want))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

// The golden file binds the format: lists outlive the program that wrote them.
func TestDigestListGolden(t *testing.T) {
	const golden = "testdata/digestlist.hex"
	got := hex.Dump(encode(t, someKey, someList))
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the format has changed: got\n%s\nwant\n%s", got, want)
	}
}

// Any one flipped bit, any cut and any appended byte makes the list no list.
func TestDigestListDamage(t *testing.T) {
	good := encode(t, someKey, someList)
	refused := func(what string, at int, data []byte) {
		t.Helper()
		_, err := verifyList(bytes.NewReader(data), int64(len(data)), someKey)
		var corrupt *CorruptListError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s %d: got %v, want a *CorruptListError", what, at, err)
		}
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		refused("flipped bit", bit, bad)
	}
	for n := range good {
		refused("cut at", n, good[:n])
	}
	refused("appended to", len(good), append(bytes.Clone(good), 0))
	refused("other key, byte", 0, encode(t, listKey{1}, someList))
}

func TestDigestListRefusesDisorder(t *testing.T) {
	for _, list := range [][]known{{{5, block.Digest{}}, {5, block.Digest{}}}, {{5, block.Digest{}}, {4, block.Digest{}}}} {
		w := newListWriter(&bytes.Buffer{})
		for _, k := range list {
			w.add(k)
		}
		if err := w.finish(someKey); err == nil {
			t.Errorf("a list of %v was written", list)
		}
	}
}

// Whatever the decoder accepts, the encoder would have written.
func FuzzDigestList(f *testing.F) {
	f.Add(encode(f, someKey, nil))
	f.Add(encode(f, someKey, someList))
	f.Add([]byte(listMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		// Give the fuzzer a way past the checksum.
		if n := len(data) - sha256.Size; n >= listHeaderSize {
			sum := sha256.Sum256(data[:n])
			copy(data[n:], sum[:])
		}
		count, err := verifyList(bytes.NewReader(data), int64(len(data)), someKey)
		if err != nil {
			var corrupt *CorruptListError
			if !errors.As(err, &corrupt) {
				t.Fatalf("got %v, want a *CorruptListError", err)
			}
			return
		}
		list := make([]known, count)
		for i := range list {
			record := data[listHeaderSize+i*listRecordSize:]
			list[i] = known{block.Index(binary.LittleEndian.Uint32(record)), block.Digest(record[4:listRecordSize])}
		}
		if !bytes.Equal(encode(t, someKey, list), data) {
			t.Errorf("accepted what no encoder writes: %x", data)
		}
	})
}

// A store gives out a list only for the very snapshot that it was made of.
func TestDigestStore(t *testing.T) {
	folder := t.TempDir()
	full := int64(len(someList)) * block.Size
	s := Snapshot{ID: "snap-0123456789abcdef0", StartTime: time.UnixMilli(1790337440328), FullBytes: &full}
	store := digestStore{folder: folder, endpoint: "http://127.0.0.1:8484"}
	draft, err := store.draft()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range someList {
		draft.add(k)
	}
	list, err := draft.finish(&store, s)
	if err != nil {
		t.Fatal(err)
	}
	list.Close()

	elsewhere := digestStore{folder: folder, endpoint: "http://127.0.0.1:8485"}
	later, other, grown := s, s, s
	later.StartTime = s.StartTime.Add(time.Millisecond)
	other.ID = "snap-0123456789abcdef1"
	more := full + block.Size
	grown.FullBytes = &more
	tests := map[string]struct {
		store digestStore
		s     Snapshot
		found bool
	}{
		"itself":         {store, s, true},
		"other server":   {elsewhere, s, false},
		"other ID":       {store, other, false},
		"other start":    {store, later, false},
		"other contents": {store, grown, false},
		"a path as ID":   {store, Snapshot{ID: "../" + s.ID, StartTime: s.StartTime}, false},
	}
	for name, test := range tests {
		l, err := test.store.open(test.s)
		if (err == nil) != test.found {
			t.Errorf("%s: got %v, found should be %v", name, err, test.found)
		}
		if l != nil {
			l.Close()
		}
	}
	info, err := os.Stat(store.path(s.ID))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the list's file: %v, %v, want mode 0600", info, err)
	}
	store.remove(s.ID)
	if _, err := store.open(s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after remove: got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(store.path(s.ID)), ".*")); len(left) != 0 {
		t.Errorf("drafts are left: %v", left)
	}
}
