package blockstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/minio/crc64nvme"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/domain"
)

// text is a block that can be compressed, from words in random order.
func text(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	words := []string{"block ", "snapshot ", "volume ", "lineage ", "segment\n", "\x00\x00\x00\x00"}
	var b []byte
	for len(b) < block.Size {
		b = append(b, words[rng.IntN(len(words))]...)
	}
	return b[:block.Size]
}

// mixed is a block of which only the part shows that it can be compressed.
func mixed(compressible int) []byte {
	b := data(9)
	copy(b[:compressible], text(9))
	return b
}

func (f *fixture) locate(id block.ID) blockstore.Location {
	f.Helper()
	loc, found, err := f.Catalog.Locate(f.Context(), id)
	if !found || err != nil {
		f.Fatalf("Locate: %v, %v", found, err)
	}
	return loc
}

// Blocks are kept compressed where it pays, in every domain, and come back as
// they were, from memory and after a start.
func TestCompression(t *testing.T) {
	f := newFixture(t)
	key := sealer(3)
	for name, c := range map[string]struct {
		data []byte
		want blockstore.Codec
	}{
		"text":         {text(1), blockstore.CodecS2},
		"one byte":     {bytes.Repeat([]byte{7}, block.Size), blockstore.CodecS2},
		"random":       {data(1), blockstore.CodecRaw},
		"half text":    {mixed(block.Size / 2), blockstore.CodecS2},
		"a bit of it":  {mixed(block.Size / 16), blockstore.CodecRaw},
		"a lone 1":     {append(make([]byte, block.Size-1), 1), blockstore.CodecS2},
		"zeros at end": {append(data(5)[:block.Size*15/16], make([]byte, block.Size/16)...), blockstore.CodecRaw},
	} {
		t.Run(name, func(t *testing.T) {
			f.TB = t
			f.mustWrite(0, c.data)
			sealed := f.writeSealed(key, 1, slices.Clone(c.data))
			plain := f.locate(block.ID(sha256.Sum256(c.data)))
			if plain.Codec != c.want || f.locate(sealed).Codec != c.want {
				t.Errorf("codecs %d and, sealed, %d, want %d", plain.Codec, f.locate(sealed).Codec, c.want)
			}
			if c.want == blockstore.CodecS2 && plain.Length > block.Size*7/8 {
				t.Errorf("compressed it has %d bytes", plain.Length)
			}
			if got := f.locate(sealed).Length; got != plain.Length+domain.Overhead {
				t.Errorf("sealed it has %d bytes, plain %d", got, plain.Length)
			}
			if err := errors.Join(f.read(c.data), f.readSealed(key, sealed, c.data)); err != nil {
				t.Error(err)
			}
		})
	}
}

// What an index or a disk says of a compressed block is not believed, though
// checksums fit: it is damage, never other bytes, and no room is made for what
// is merely claimed.
func TestPackedBlockThatDoesNotUnpack(t *testing.T) {
	for name, change := range map[string]func(payload []byte) []byte{
		"cut":             func(p []byte) []byte { return p[:len(p)-1] },
		"more behind it":  func(p []byte) []byte { return append(p, 0) },
		"another length":  func(p []byte) []byte { return append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, p[3:]...) },
		"a shorter block": func(p []byte) []byte { p[0] ^= 1; return p },
		"nonsense":        func(p []byte) []byte { return append(p[:3], data(3)[:len(p)-3]...) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			want := text(1)
			f.mustWrite(0, want)
			id := block.ID(sha256.Sum256(want))
			loc := f.locate(id)
			payload := make([]byte, loc.Length)
			if err := (shared{f}).ReadAt(t.Context(), loc.Container, payload, loc.Offset); err != nil {
				t.Fatal(err)
			}
			payload = change(payload)
			e := f.over(t, payloads{shared{f}, loc.Offset, payload}, &lying{f.Catalog, func(l *blockstore.Location) {
				l.Length, l.CRC = uint32(len(payload)), crc64nvme.Update(crc64nvme.Checksum(id[:]), payload)
			}})
			var damaged *blockstore.DamagedError
			if err := e.read(want); !errors.As(err, &damaged) || damaged.Why != "payload does not unpack" {
				t.Errorf("Read: got %v, want *DamagedError", err)
			}
		})
	}
}

// payloads is a medium with another payload at one place.
type payloads struct {
	shared
	off     int64
	payload []byte
}

func (p payloads) ReadAt(ctx context.Context, c blockstore.ContainerID, b []byte, off int64) error {
	if off == p.off {
		copy(b, p.payload)
		return nil
	}
	return p.shared.ReadAt(ctx, c, b, off)
}

// FuzzDecompress: whatever is said to be a compressed block, nothing but a
// whole block comes out, and what was compressed comes back.
func FuzzDecompress(f *testing.F) {
	packed := text(1)
	f.Add(packed[:blockstore.Compress(packed)])
	f.Add([]byte{})
	f.Add([]byte{0x80, 0x80, 0x20, 0xfe, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		buf := make([]byte, block.Size, block.Size+1)
		buf[:block.Size+1][block.Size] = 42
		blockstore.Decompress(buf, b)
		if buf[:block.Size+1][block.Size] != 42 {
			t.Error("written behind the block")
		}
		whole := bytes.Repeat(append(b, 1), block.Size/(len(b)+1)+1)[:block.Size]
		packed := slices.Clone(whole)
		if n := blockstore.Compress(packed); n > 0 {
			if !blockstore.Decompress(buf, packed[:n]) || !bytes.Equal(buf, whole) {
				t.Error("other bytes came back")
			}
		} else if !bytes.Equal(packed, whole) {
			t.Error("a block that is not compressed was changed")
		}
	})
}
