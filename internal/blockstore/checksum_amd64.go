package blockstore

import (
	"encoding/binary"

	"github.com/klauspost/cpuid/v2"
	"github.com/minio/crc64nvme"
)

// Vectors of 512 bits are the library's, and so are those of 128. Processors
// that have VPCLMULQDQ for 256, but not AVX-512 (AMD's Zen 3, many of
// Intel's), would be left with 128 and half of what they can do. For them a long
// payload is folded here into 128 bytes that have the same remainder, and the
// library does the rest (Gopal and others, "Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ Instruction", Intel, 2009).

const (
	// foldSize is how many bytes are folded at a time.
	foldSize = 128
	// foldFrom is the shortest payload that is worth it.
	foldFrom = 8 * foldSize
)

var folds = cpuid.CPU.Supports(cpuid.AVX2, cpuid.VPCLMULQDQ) && !cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512VL)

// foldBy moves 16 bytes on by foldSize: what to multiply their first eight with
// and their last eight, for each half of a vector.
var foldBy = [4]uint64{
	powerOfX(8*foldSize + 63), powerOfX(8*foldSize - 1),
	powerOfX(8*foldSize + 63), powerOfX(8*foldSize - 1),
}

// powerOfX is the remainder of x^n, its lowest power in the highest bit as in
// all of this CRC.
func powerOfX(n int) uint64 {
	v := uint64(1) << 63
	for range n {
		carry := v & 1
		v >>= 1
		if carry == 1 {
			v ^= crc64nvme.NVME
		}
	}
	return v
}

// updateCRC is the CRC-64/NVME of what crc is the checksum of, and p behind it.
func updateCRC(crc uint64, p []byte) uint64 {
	if !folds || len(p) < foldFrom {
		return crc64nvme.Update(crc, p)
	}
	return updateFolding(crc, p)
}

// updateFolding is updateCRC for at least two times foldSize, where the processor
// can do it.
func updateFolding(crc uint64, p []byte) uint64 {
	var state [foldSize]byte
	copy(state[:], p)
	le := binary.LittleEndian
	le.PutUint64(state[:], le.Uint64(state[:])^^crc)
	n := len(p) / foldSize
	fold(&state, &p[foldSize], n-1, &foldBy)
	// All ones are what the library turns into nothing to begin with.
	return crc64nvme.Update(crc64nvme.Update(^uint64(0), state[:]), p[n*foldSize:])
}

// fold folds n times foldSize bytes from p, at least one, into the state. It
// needs AVX2 and VPCLMULQDQ.
//
//go:noescape
func fold(state *[foldSize]byte, p *byte, n int, by *[4]uint64)
