package blockstore_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/domain"
)

// frame is a batch of a block, a block of zeros, the same two of a domain, and
// a node.
func frame() blockstore.Frame {
	at := blockstore.Place{Container: 7, Offset: 3 * blockstore.PageSize, Salt: [16]byte{1, 2, 3}}
	entries := []blockstore.Entry{
		{Kind: blockstore.KindBlock, ID: block.ID{1}, Length: block.Size, Raw: block.Size, CRC: 42},
		{Kind: blockstore.KindBlock, Codec: blockstore.CodecZero, ID: block.ID{2}, Raw: block.Size, CRC: 43},
		{
			Kind: blockstore.KindBlock, Codec: blockstore.CodecZero, ID: block.ID{4}, Raw: block.Size, CRC: 45,
			Sealing: &blockstore.Sealing{Domain: 7, Digest: domain.SealedDigest{1, 59: 2}},
		},
		{
			Kind: blockstore.KindBlock, ID: block.ID{5}, Length: block.Size + domain.Overhead, Raw: block.Size, CRC: 46,
			Sealing: &blockstore.Sealing{Domain: 7, Cipher: blockstore.CipherGCM, Nonce: domain.Nonce{3}, Digest: domain.SealedDigest{1, 59: 2}},
		},
		{Kind: blockstore.KindBlock, Codec: blockstore.CodecS2, ID: block.ID{6}, Length: 99, Raw: block.Size, CRC: 47},
		{
			Kind: blockstore.KindBlock, Codec: blockstore.CodecS2, ID: block.ID{7}, Length: 99 + domain.Overhead, Raw: block.Size, CRC: 48,
			Sealing: &blockstore.Sealing{Domain: 7, Cipher: blockstore.CipherGCM, Nonce: domain.Nonce{3}, Digest: domain.SealedDigest{1, 59: 2}},
		},
		{Kind: blockstore.KindNode, ID: block.ID{3}, Length: 56, Raw: 56, CRC: 44},
	}
	f := blockstore.Frame{Place: at, Length: 8*blockstore.PageSize + 2*block.Size, Entries: entries}
	next := at.Offset + blockstore.PageSize
	for i := range f.Entries {
		f.Entries[i].Offset = next
		next += int64(f.Entries[i].Length)
	}
	return f
}

func TestFrameRoundTrip(t *testing.T) {
	f := frame()
	for len(f.Entries) < 100 { // several pages
		got, err := blockstore.DecodeFrame(f.Place, f.Encode())
		if err != nil {
			t.Fatalf("%d entries: %v", len(f.Entries), err)
		}
		if d := cmp.Diff(f, got); d != "" {
			t.Fatalf("%d entries (-want +got):\n%s", len(f.Entries), d)
		}
		last := f.Entries[len(f.Entries)-1]
		last.Offset += int64(last.Length)
		f.Entries = append(f.Entries, last)
		if len(f.Entries) == 26 { // the frame needs more pages
			const more = 8 * blockstore.PageSize
			f.Length += more
			for i := range f.Entries {
				f.Entries[i].Offset += more
			}
		}
	}
}

// Payloads lie in their batch, in the order of their entries.
func TestFrameOfDisorder(t *testing.T) {
	for name, spoil := range map[string]func(*blockstore.Frame){
		"out of order":   func(f *blockstore.Frame) { f.Entries[0], f.Entries[3] = f.Entries[3], f.Entries[0] },
		"overlap":        func(f *blockstore.Frame) { f.Entries[3].Offset-- },
		"in the frame":   func(f *blockstore.Frame) { f.Entries[0].Offset = f.Place.Offset },
		"behind the end": func(f *blockstore.Frame) { f.Entries[6].Offset = f.Place.Offset + f.Length - 55 },
		"far behind it":  func(f *blockstore.Frame) { f.Entries[6].Offset = math.MaxInt64 - 10 },
	} {
		f := frame()
		spoil(&f)
		if _, err := blockstore.DecodeFrame(f.Place, f.Encode()); !errors.As(err, new(*blockstore.CorruptError)) {
			t.Errorf("%s: got %v, want a *CorruptError", name, err)
		}
	}
}

// Any one flipped bit must be noticed, and blamed on the right place.
func TestFrameFlippedBit(t *testing.T) {
	f := frame()
	good := f.Encode()
	for bit := range len(good) * 8 {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := blockstore.DecodeFrame(f.Place, bad)
		var corrupt *blockstore.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Container != f.Place.Container || corrupt.Offset != f.Place.Offset {
			t.Fatalf("bit %d flipped: got %v, want a *CorruptError at %+v", bit, err, f.Place)
		}
	}
}

// A frame is good in its own place only.
func TestFrameOfAnotherPlace(t *testing.T) {
	f := frame()
	b := f.Encode()
	for name, at := range map[string]blockstore.Place{
		"container": {Container: 8, Offset: f.Place.Offset, Salt: f.Place.Salt},
		"offset":    {Container: 7, Offset: 0, Salt: f.Place.Salt},
		"salt":      {Container: 7, Offset: f.Place.Offset},
	} {
		if _, err := blockstore.DecodeFrame(at, b); err == nil {
			t.Errorf("a frame of another %s was accepted", name)
		}
	}
}

// FuzzFrame gives the decoder any bytes: it must refuse or decode what encodes
// to the same bytes.
func FuzzFrame(f *testing.F) {
	good := frame()
	f.Add(good.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := blockstore.FrameLength(good.Place, b)
		if err != nil || int64(len(b)) < n {
			return
		}
		got, err := blockstore.DecodeFrame(good.Place, b[:n])
		if err == nil && !slices.Equal(got.Encode(), b[:n]) {
			t.Error("decoded frame encodes differently")
		}
	})
}
