package blockstore

import "github.com/klauspost/cpuid/v2"

func init() {
	// Also where the library has wider vectors, and it is not used.
	if cpuid.CPU.Supports(cpuid.AVX2, cpuid.VPCLMULQDQ) {
		updaters = append(updaters, updater{"updateFolding", 2 * foldSize, updateFolding})
	}
}
