package manifest_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"shale/internal/manifest"
)

func full() *manifest.Manifest {
	description := "a disk"
	sum := manifest.HexID{9}
	return &manifest.Manifest{
		ID: "snap-0123456789abcdef0", Version: 7, State: manifest.Binned, Snapshot: &manifest.Snapshot{
			Key: 3, Lineage: 2, Account: "111122223333", AccountName: "default", Region: "us-east-1", ParentID: "snap-00000000000000000",
			Description: &description, VolumeGiB: 8, StartMS: 1, CompletedMS: 2, TimeoutMS: 3, CompletionMinutes: 15,
			Root: manifest.HexID{1}, Blocks: 5, ClaimBlocks: 4, ClaimChecksum: &sum, Domain: 77, KMSKeyARN: "arn:aws:kms:…", RootMAC: manifest.HexID{2},
			BinEnterMS: 4, BinExitMS: 5,
			Tags:   []manifest.Tag{{"111122223333", 0, "k", "v"}, {"444455556666", 2, "k", "é"}},
			Grants: []string{"444455556666", "all"},
			Lock:   &manifest.Lock{State: 2, CreatedMS: 1, Days: 2, StartMS: 3, ExpiresMS: 4, CoolOffHours: 5, CoolOffMS: 6}, LockTimeMS: 8,
		},
	}
}

func encode(t testing.TB, m *manifest.Manifest) []byte {
	t.Helper()
	_, data, _, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	for _, m := range []*manifest.Manifest{full(), {ID: "snap-0123456789abcdef0", Version: 2, State: manifest.Deleted}} {
		got, err := manifest.Decode(encode(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, want %+v", got, m)
		}
	}
}

// What is not as it was written, or is of another version, is refused.
func TestDecodeRefuses(t *testing.T) {
	good := encode(t, full())
	with := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"empty":                 nil,
		"cut":                   good[:len(good)-1],
		"header only":           good[:16],
		"longer":                append(bytes.Clone(good), ' '),
		"magic":                 with(func(b []byte) []byte { b[0]++; return b }),
		"reserved":              with(func(b []byte) []byte { b[10] = 1; return b }),
		"length":                with(func(b []byte) []byte { b[12]++; return b }),
		"unknown member":        with(func(b []byte) []byte { return bytes.Replace(b, []byte(`"days"`), []byte(`"dayz"`), 1) }),
		"a root without blocks": with(func(b []byte) []byte { return bytes.Replace(b, []byte(`"blocks":5`), []byte(`"blocks":0`), 1) }),
		"state":                 with(func(b []byte) []byte { return bytes.Replace(b, []byte(`recycle-bin`), []byte(`recycle-bim`), 1) }),
		"a tag twice": with(func(b []byte) []byte {
			return bytes.Replace(b, []byte(`{"account":"4444555566`), []byte(`{"account":"1111222233`), 1)
		}),
	} {
		if name == "a tag twice" {
			b = bytes.Replace(b, []byte("111122223366"), []byte("111122223333"), 1)
		}
		if m, err := manifest.Decode(b); err == nil {
			t.Errorf("%s: got %+v", name, m)
		}
	}
	newer := with(func(b []byte) []byte { binary.LittleEndian.PutUint16(b[8:], 2); return b })
	var version *manifest.VersionError
	if _, err := manifest.Decode(newer); !errors.As(err, &version) || version.Version != 2 {
		t.Errorf("a newer version: got %v", err)
	}
}

// What does not fit is left out: tags of others first, then grants, never what
// the owner put there.
func TestTooLong(t *testing.T) {
	m := full()
	for i := range 40 {
		m.Snapshot.Tags = append(m.Snapshot.Tags, manifest.Tag{"555566667777", int64(i), fmt.Sprint(i), strings.Repeat("x", 50_000)})
	}
	own := m.Snapshot.Tags[0]
	_, data, dropped, err := m.Encode()
	if err != nil || dropped == 0 || len(data) > manifest.MaxSize {
		t.Fatalf("got %d bytes, %d dropped, %v", len(data), dropped, err)
	}
	got, err := manifest.Decode(data)
	if err != nil || len(got.Snapshot.Tags) != 42-dropped || got.Snapshot.Tags[0] != own || len(got.Snapshot.Grants) != 2 {
		t.Errorf("got %d tags, %v", len(got.Snapshot.Tags), err)
	}
}

func TestNewer(t *testing.T) {
	at := func(version, lockTime int64) *manifest.Manifest {
		return &manifest.Manifest{Version: version, Snapshot: &manifest.Snapshot{LockTimeMS: lockTime}}
	}
	deleted := &manifest.Manifest{Version: 2}
	for i, c := range []struct {
		a, b *manifest.Manifest
		want bool
	}{
		{at(2, 1), at(1, 9), true},
		{at(1, 9), at(2, 1), false},
		{at(2, 5), at(2, 4), true},
		{at(2, 3), at(2, 4), false},
		{deleted, at(2, 4), true},
		{at(2, 4), deleted, false},
		{at(3, 0), deleted, true},
	} {
		if got := c.a.Newer(c.b); got != c.want {
			t.Errorf("case %d: got %v", i, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, full()))
	f.Add(encode(f, &manifest.Manifest{ID: "snap-0123456789abcdef0", Version: 2, State: manifest.Deleted}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := manifest.Decode(b)
		if err != nil {
			return
		}
		first := encode(t, m)
		again, err := manifest.Decode(first)
		if err != nil || !bytes.Equal(encode(t, again), first) {
			t.Errorf("%q: got %+v, then %+v, %v", b, m, again, err)
		}
	})
}
