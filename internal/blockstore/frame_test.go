package blockstore_test

import (
	"errors"
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
	payloads := at.Offset + blockstore.PageSize
	return blockstore.Frame{
		Place: at, Length: 3*blockstore.PageSize + block.Size,
		Entries: []blockstore.Entry{
			{Kind: blockstore.KindBlock, ID: block.ID{1}, Offset: payloads, Length: block.Size, Raw: block.Size, CRC: 42},
			{Kind: blockstore.KindBlock, Codec: blockstore.CodecZero, ID: block.ID{2}, Offset: payloads, Raw: block.Size, CRC: 43},
			{
				Kind: blockstore.KindBlock, Codec: blockstore.CodecZero, ID: block.ID{4}, Offset: payloads, Raw: block.Size, CRC: 45,
				Sealing: &blockstore.Sealing{Domain: 7, Digest: domain.SealedDigest{1, 59: 2}},
			},
			{
				Kind: blockstore.KindBlock, ID: block.ID{5}, Offset: payloads, Length: block.Size + domain.Overhead, Raw: block.Size, CRC: 46,
				Sealing: &blockstore.Sealing{Domain: 7, Cipher: blockstore.CipherGCM, Nonce: domain.Nonce{3}, Digest: domain.SealedDigest{1, 59: 2}},
			},
			{Kind: blockstore.KindBlock, Codec: blockstore.CodecS2, ID: block.ID{6}, Offset: payloads, Length: 99, Raw: block.Size, CRC: 47},
			{
				Kind: blockstore.KindBlock, Codec: blockstore.CodecS2, ID: block.ID{7}, Offset: payloads, Length: 99 + domain.Overhead, Raw: block.Size, CRC: 48,
				Sealing: &blockstore.Sealing{Domain: 7, Cipher: blockstore.CipherGCM, Nonce: domain.Nonce{3}, Digest: domain.SealedDigest{1, 59: 2}},
			},
			{Kind: blockstore.KindNode, ID: block.ID{3}, Offset: payloads + block.Size, Length: 56, Raw: 56, CRC: 44},
		},
	}
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
		last.Offset = (f.Place.Offset + f.Length) - 56
		f.Entries = append(f.Entries, last)
		if len(f.Entries) > 25 {
			f.Length = 10*blockstore.PageSize + block.Size
			for i := range f.Entries {
				f.Entries[i].Offset = f.Place.Offset + 9*blockstore.PageSize
			}
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
