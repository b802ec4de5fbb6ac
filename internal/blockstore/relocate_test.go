package blockstore_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"shale/internal/block"
	"shale/internal/blockstore"
)

// mapped is how much memory this process has asked for, in MiB.
func mapped(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\nVmSize:")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n >> 10
}

// Many blocks that are kept in little take little memory when they are moved.
func TestRelocateSmallBlocks(t *testing.T) {
	f := newFixture(t)
	var list []blockstore.Stored
	var blocks [][]byte
	for i := range block.Index(256) { // 128 MiB, if each had a buffer
		b := make([]byte, block.Size)
		binary.LittleEndian.PutUint64(b, uint64(i)+1)
		f.mustWrite(i, b)
		r, found, err := f.Catalog.Record(t.Context(), sha256.Sum256(b))
		if err != nil || !found || r.Location.Codec != blockstore.CodecS2 {
			t.Fatalf("Record: %+v, %v, %v", r, found, err)
		}
		list, blocks = append(list, r), append(blocks, b)
	}
	before := mapped(t)
	if err := f.Store.Relocate(t.Context(), list, 0); err != nil {
		t.Fatal(err)
	}
	if grown := mapped(t) - before; grown > 64 {
		t.Errorf("%d blocks took %d MiB", len(list), grown)
	}
	for _, b := range blocks {
		if err := f.read(b); err != nil {
			t.Fatal(err)
		}
	}
}
