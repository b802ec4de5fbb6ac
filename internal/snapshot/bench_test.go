package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"shale/internal/block"
	"shale/internal/snapshot"
)

// unique is a source of incompressible blocks, each of them new.
type unique struct {
	pool []byte
	next atomic.Uint64
}

func newUnique() *unique {
	u := &unique{pool: make([]byte, block.Size)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(u.pool)
	return u
}

func (u *unique) fill(b []byte) {
	copy(b, u.pool)
	binary.LittleEndian.PutUint64(b, u.next.Add(1))
}

// The bound is the disk's, or that of SHA-256 (about 1.7 GB/s a core).
func BenchmarkPutBlock(b *testing.B) {
	f := newFixture(b)
	size := int64(1024)
	snap, err := f.Service.Start(b.Context(), caller, snapshot.StartRequest{VolumeSize: &size})
	if err != nil {
		b.Fatal(err)
	}
	u := newUnique()
	var index atomic.Int64
	b.SetBytes(block.Size)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		data := make([]byte, block.Size)
		for pb.Next() {
			u.fill(data)
			_, err := f.Service.PutBlock(b.Context(), caller, snapshot.PutBlockRequest{
				SnapshotID: snap.ID, Index: index.Add(1), ChecksumOptional: true, Body: bytes.NewReader(data),
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// From the page cache the bound is CRC-32C (about 20 GB/s a core) and memory.
func BenchmarkGetBlock(b *testing.B) {
	f := newFixture(b)
	id := f.start("")
	const n = 512
	u := newUnique()
	data := make([]byte, block.Size)
	for i := range int64(n) {
		u.fill(data)
		f.mustPut(id, i, data)
	}
	f.complete(id, n, nil)
	page, err := f.Service.ListBlocks(b.Context(), caller, snapshot.ListBlocksRequest{SnapshotID: id})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(block.Size)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			l := page.Blocks[i*7%n]
			d, err := f.Service.GetBlock(b.Context(), caller, snapshot.GetBlockRequest{SnapshotID: id, Index: int64(l.Index), Token: &l.Token})
			if err != nil {
				b.Error(err)
				return
			}
			d.Release()
		}
	})
}
