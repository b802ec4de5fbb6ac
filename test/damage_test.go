package test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
)

// TestDamage spoils the segments of a stopped server: bytes that no commit
// covers are of no account, and a flipped bit costs its block and no other,
// until the same bytes are written again.
func TestDamage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	want := make(map[int][]byte)
	var image []byte
	for i := range 4 {
		want[i] = (&job{number: 1}).content(8*i+3, 1)
		image = append(image, want[i]...)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	snapshot, _ := uploader{s.ebs(t), s.ec2(t)}.upload(t, path, nil, "")
	if status := s.stop(t); status != 0 {
		t.Fatalf("exit status %d after SIGTERM", status)
	}

	segments, err := filepath.Glob(filepath.Join(s.dir, "segments", "*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v; want one", segments, err)
	}
	stored := readFile(t, segments[0])
	at := bytes.Index(stored, want[2])
	if at < 0 {
		t.Fatal("block 2 does not lie whole in the segment")
	}
	stored[at+blockSize/2] ^= 0x10
	torn := append(stored, bytes.Repeat([]byte("torn"), 50_000)...)
	if err := os.WriteFile(segments[0], torn, 0o600); err != nil {
		t.Fatal(err)
	}

	s.start(t)
	read := func() map[int][]byte {
		t.Helper()
		c := s.ebs(t)
		page, err := c.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(snapshot)})
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[int][]byte)
		for _, b := range page.Blocks {
			data, err := getBlock(t.Context(), c, snapshot, *b.BlockIndex, *b.BlockToken)
			switch {
			case err == nil:
				got[int(*b.BlockIndex)] = data
			case !isCode(err, "InternalServerException"):
				t.Errorf("block %d: %v", *b.BlockIndex, err)
			}
		}
		return got
	}
	sound := maps.Clone(want)
	delete(sound, 2)
	if got := read(); !maps.EqualFunc(got, sound, bytes.Equal) {
		t.Errorf("read %d blocks, want the three that are sound", len(got))
	}
	if err := putBlock(t.Context(), s.ebs(t), s.startSnapshot(t), 9, want[2]); err != nil {
		t.Fatal(err)
	}
	if got := read(); !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("read %d blocks, want all four after the lost one was written again", len(got))
	}
}
