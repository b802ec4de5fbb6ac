package blockstore

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/minio/crc64nvme"

	"shale/internal/block"
)

// standard is the same checksum by the standard library, byte by byte.
var standard = crc64.MakeTable(crc64nvme.NVME)

// An updater is one way to a checksum.
type updater struct {
	name   string
	from   int // the shortest that it can do
	update func(crc uint64, p []byte) uint64
}

// updaters are those that this processor has.
var updaters = []updater{{"updateCRC", 0, updateCRC}, {"library", 0, crc64nvme.Update}}

// The checksum of any length, from any place in memory and behind anything, is
// what the standard library says.
func TestUpdateCRC(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, block.Size+256)
	for i := range buf {
		buf[i] = byte(random.Uint32())
	}
	lengths := []int{0, 1, 127, 128, 129, 255, 256, 257, 1<<10 - 1, 1 << 10, 1<<10 + 1, block.Size - 1, block.Size}
	for range 500 {
		lengths = append(lengths, random.IntN(8<<10))
	}
	for _, u := range updaters {
		for _, n := range lengths {
			from, crc := random.IntN(256), random.Uint64()
			p := buf[from:][:n]
			if n < u.from {
				continue
			}
			if got, want := u.update(crc, p), crc64.Update(crc, standard, p); got != want {
				t.Errorf("%s, %d bytes, %d from a page's beginning, behind %x: got %x, want %x", u.name, n, from, crc, got, want)
			}
		}
	}
}

// A block's checksum.
func BenchmarkChecksum(b *testing.B) {
	payload := make([]byte, block.Size)
	for _, u := range updaters {
		b.Run(u.name, func(b *testing.B) {
			b.SetBytes(block.Size)
			for b.Loop() {
				u.update(0, payload)
			}
		})
	}
}
