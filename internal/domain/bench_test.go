package domain_test

import (
	"testing"

	"shale/internal/block"
	"shale/internal/domain"
)

// The bound is the processor's AES-GCM, some 5 GB/s a core.
func BenchmarkSealPayload(b *testing.B) {
	k := domain.New(vectorNumber, dataKey(0))
	id := k.ID(block.ZeroDigest)
	buf := make([]byte, block.Size, block.Size+domain.Overhead)
	b.SetBytes(block.Size)
	for b.Loop() {
		k.SealPayload(id, 0, buf)
	}
}

func BenchmarkOpenPayload(b *testing.B) {
	k := domain.New(vectorNumber, dataKey(0))
	id := k.ID(block.ZeroDigest)
	nonce, sealed := k.SealPayload(id, 0, make([]byte, block.Size, block.Size+domain.Overhead))
	kept := append([]byte(nil), sealed...)
	b.SetBytes(block.Size)
	for b.Loop() {
		copy(sealed, kept) // opened in place
		if _, err := k.OpenPayload(id, 0, &nonce, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

// What an operation costs beside the payload.
func BenchmarkDigest(b *testing.B) {
	k := domain.New(vectorNumber, dataKey(0))
	id := k.ID(block.ZeroDigest)
	sealed := k.SealDigest(id, block.ZeroDigest)
	for b.Loop() {
		if _, err := k.OpenDigest(id, &sealed); err != nil {
			b.Fatal(err)
		}
		k.ID(block.ZeroDigest)
	}
}
