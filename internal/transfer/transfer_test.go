package transfer_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shale/internal/block"
	"shale/internal/transfer"
)

// An image is a disk in the making: a length and the blocks that are no
// holes. A nil block is one of written zeros.
type image struct {
	length int64
	blocks map[block.Index][]byte
}

// write makes the image a sparse file.
func (m image) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(m.length); err != nil {
		t.Fatal(err)
	}
	for i, b := range m.blocks {
		if b == nil {
			b = make([]byte, block.Size)
		}
		at := int64(i) * block.Size
		if _, err := f.WriteAt(b[:min(block.Size, m.length-at)], at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// data returns a block of bytes that depend on the seed.
func data(seed byte) []byte {
	b := make([]byte, block.Size)
	if _, err := rand.NewChaCha8([32]byte{seed}).Read(b); err != nil {
		panic(err) // it never fails
	}
	return b
}

func upload(t *testing.T, c *transfer.Client, path, parent string) transfer.UploadResult {
	t.Helper()
	r, err := c.Upload(t.Context(), transfer.UploadRequest{Path: path, Parent: parent})
	if err != nil {
		t.Fatalf("Upload(%s): %v", path, err)
	}
	return r
}

// content is block i of the image, cut at its end.
func (m image) content(i block.Index) []byte {
	b := m.blocks[i]
	if b == nil {
		b = make([]byte, block.Size)
	}
	return b[:min(block.Size, m.length-int64(i)*block.Size)]
}

// checkDownload downloads a snapshot and compares it with the image that it
// was made of; of a large image only the blocks with data and the ends.
func checkDownload(t *testing.T, c *transfer.Client, id string, m image) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "back.img")
	if _, err := c.Download(t.Context(), transfer.DownloadRequest{Snapshot: id, Path: path}); err != nil {
		t.Fatalf("Download(%s): %v", id, err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != m.length {
		t.Fatalf("Download(%s): got %v, %v, want %d bytes", id, info, err, m.length)
	}
	got := make([]byte, block.Size)
	for i := range block.Index((m.length + block.Size - 1) / block.Size) {
		if _, written := m.blocks[i]; !written && i >= 128 && i != 2047 {
			continue
		}
		want := m.content(i)
		if n, err := f.ReadAt(got[:len(want)], int64(i)*block.Size); err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("Download(%s): block %d differs, or %v", id, i, err)
		}
	}
}

// There and back, for every shape of image.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		image image
		sent  int64
		gib   int64
	}{
		"empty":            {image{length: 0}, 0, 1},
		"one byte":         {image{1, map[block.Index][]byte{0: data(1)}}, 1, 1},
		"odd length":       {image{3*block.Size + 17, map[block.Index][]byte{0: data(1), 3: data(2)}}, 2, 1},
		"whole blocks":     {image{4 * block.Size, map[block.Index][]byte{0: data(1), 1: data(1), 3: data(2)}}, 3, 1},
		"only a hole":      {image{100 * block.Size, nil}, 0, 1},
		"written zeros":    {image{4 * block.Size, map[block.Index][]byte{0: nil, 1: data(1), 2: nil}}, 1, 1},
		"more than a GiB":  {image{1<<30 + 1, map[block.Index][]byte{0: data(1), 2048: data(2)}}, 2, 2},
		"hole at the end":  {image{64*block.Size + 5, map[block.Index][]byte{2: data(2)}}, 1, 1},
		"a sector of data": {image{8 * block.Size, map[block.Index][]byte{5: append(make([]byte, block.Size-1), 1)}}, 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c := f.client(t, t.TempDir())
			r := upload(t, c, test.image.write(t), "")
			if r.Sent != test.sent || r.VolumeSize != test.gib || r.Bytes != test.image.length || r.BytesSent != test.sent*block.Size {
				t.Errorf("Upload: got %+v, want %d blocks sent, %d GiB, %d bytes", r, test.sent, test.gib, test.image.length)
			}
			checkDownload(t, c, r.SnapshotID, test.image)
		})
	}
}

// A child shows its image and nothing of its parent's, whether or not the
// parent's digests are at hand.
func TestChild(t *testing.T) {
	t.Parallel()
	parent := image{40*block.Size + 100, map[block.Index][]byte{
		0: data(0), 1: data(1), 2: data(2), 3: nil, 10: data(10), 11: data(11), 39: data(39), 40: data(40),
	}}
	tests := map[string]struct {
		child               image
		sent, zeroed, equal int64
	}{
		"the same":       {parent, 0, 0, 7},
		"one changed":    {image{parent.length, with(parent, 1, data(99))}, 1, 0, 6},
		"one new":        {image{parent.length, with(parent, 20, data(20))}, 1, 0, 7},
		"became zeros":   {image{parent.length, with(parent, 2, nil)}, 1, 1, 6},
		"became a hole":  {image{parent.length, without(parent, 2, 10)}, 2, 2, 5},
		"zeros, no data": {image{parent.length, with(parent, 30, nil)}, 0, 0, 7},
		"shorter":        {image{11*block.Size - 7, without(parent, 11, 39, 40)}, 4, 3, 3},
		"longer":         {image{1<<30 + 900, with(parent, 2048, data(7))}, 2, 0, 6},
		"empty":          {image{0, nil}, 7, 7, 0},
	}
	for name, test := range tests {
		for _, kept := range []bool{true, false} {
			t.Run(map[bool]string{true: "list/", false: "no list/"}[kept]+name, func(t *testing.T) {
				f := newFake(t)
				f.pageSize = 3
				folder := t.TempDir()
				c := f.client(t, folder)
				base := upload(t, c, parent.write(t), "")
				if !kept {
					os.RemoveAll(folder)
				}
				path := test.child.write(t)
				r := upload(t, c, path, base.SnapshotID)
				if r.Sent != test.sent || r.Zeroed != test.zeroed || r.Unchanged != test.equal {
					t.Errorf("Upload: got %d sent, %d zeroed, %d unchanged, want %d, %d, %d",
						r.Sent, r.Zeroed, r.Unchanged, test.sent, test.zeroed, test.equal)
				}
				if wanted := f.count("GetSnapshotBlock") == 0; wanted != kept {
					t.Errorf("Upload read %d blocks of the parent, with a digest list: %v", f.count("GetSnapshotBlock"), kept)
				}
				checkDownload(t, c, r.SnapshotID, test.child)

				// The list left behind must serve a grandchild, whichever way it
				// came to be.
				again := upload(t, c, path, r.SnapshotID)
				if again.Sent != 0 {
					t.Errorf("Upload of the same to a grandchild sent %d blocks", again.Sent)
				}
				checkDownload(t, c, again.SnapshotID, test.child)
			})
		}
	}
}

func with(m image, i block.Index, b []byte) map[block.Index][]byte {
	blocks := without(m)
	blocks[i] = b
	return blocks
}

func without(m image, indexes ...block.Index) map[block.Index][]byte {
	blocks := map[block.Index][]byte{}
	for i, b := range m.blocks {
		if !slices.Contains(indexes, i) {
			blocks[i] = b
		}
	}
	return blocks
}

// A volume never shrinks below its parent's.
func TestShorterChildKeepsVolumeSize(t *testing.T) {
	f := newFake(t)
	c := f.client(t, t.TempDir())
	base := upload(t, c, image{2<<30 + 1, map[block.Index][]byte{0: data(1)}}.write(t), "")
	child := image{block.Size, map[block.Index][]byte{0: data(1)}}
	r := upload(t, c, child.write(t), base.SnapshotID)
	if r.VolumeSize != 3 {
		t.Errorf("VolumeSize: got %d, want 3", r.VolumeSize)
	}
	checkDownload(t, c, r.SnapshotID, child)
}

func TestDownloadWithoutLengthTag(t *testing.T) {
	f := newFake(t)
	c := f.client(t, t.TempDir())
	r := upload(t, c, image{5, map[block.Index][]byte{0: data(1)}}.write(t), "")
	f.snaps[r.SnapshotID].tags = nil
	path := filepath.Join(t.TempDir(), "back.img")
	got, err := c.Download(t.Context(), transfer.DownloadRequest{Snapshot: r.SnapshotID, Path: path})
	if err != nil || got.Exact || got.Bytes != 1<<30 {
		t.Fatalf("Download: got %+v, %v, want the whole volume", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 1<<30 {
		t.Errorf("file: got %v, %v, want 1 GiB", info, err)
	}
}

func TestDownloadKeepsExistingFile(t *testing.T) {
	f := newFake(t)
	c := f.client(t, t.TempDir())
	original := image{5, map[block.Index][]byte{0: data(1)}}.write(t)
	r := upload(t, c, original, "")
	path := filepath.Join(t.TempDir(), "mine.img")
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := c.Download(t.Context(), transfer.DownloadRequest{Snapshot: r.SnapshotID, Path: path})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("Download onto a file: got %v, want %v", err, fs.ErrExist)
	}
	if got, _ := os.ReadFile(path); string(got) != "mine" {
		t.Errorf("the file now holds %q", got)
	}
	if _, err := c.Download(t.Context(), transfer.DownloadRequest{Snapshot: r.SnapshotID, Path: path, Replace: true}); err != nil {
		t.Errorf("Download with Replace: %v", err)
	}
	want, _ := os.ReadFile(original)
	if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
		t.Errorf("Download with Replace left other bytes")
	}
}

func TestDiff(t *testing.T) {
	f := newFake(t)
	f.pageSize = 1
	c := f.client(t, t.TempDir())
	a := image{8 * block.Size, map[block.Index][]byte{0: data(0), 1: data(1)}}
	first := upload(t, c, a.write(t), "")
	second := upload(t, c, image{a.length, with(image{blocks: without(a, 1)}, 5, data(5))}.write(t), first.SnapshotID)
	var got []transfer.Difference
	for d, err := range c.Diff(t.Context(), first.SnapshotID, second.SnapshotID) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d)
	}
	want := []transfer.Difference{
		{Index: 1, InFirst: true, InSecond: true}, // now written zeros
		{Index: 5, InSecond: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("Diff: got %+v, want %+v", got, want)
	}
}
