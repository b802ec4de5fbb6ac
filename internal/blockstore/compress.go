package blockstore

import (
	"runtime"

	"github.com/klauspost/compress/s2"

	"shale/internal/buffer"
	"shale/internal/domain"
)

const (
	// A block is probed in a few places before all of it is compressed, so that
	// one that does not give way costs next to nothing.
	probes    = 4
	probeSize = 4096
	// worthwhile is what must be left of n bytes, in eighths, for them to be
	// kept compressed: less is not worth unpacking them at each read.
	worthwhile = 7
)

// packing has room for the blocks that are probed and compressed at a time: half
// as many as there are processors. One that finds none is kept as it is, so that
// compression never takes more than half of the machine from its writers.
var packing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// compress compresses the block in its place, and gives how many bytes it then
// has; 0 if it stays as it is.
func compress(data []byte) int {
	select {
	case packing <- struct{}{}:
		defer func() { <-packing }()
	default:
		return 0
	}
	tmp := buffer.Get()
	defer buffer.Put(tmp)
	sampled := 0
	for i := range probes {
		from := i * (len(data) - probeSize) / (probes - 1)
		sampled += len(s2.Encode(tmp[:], data[from:from+probeSize]))
	}
	if sampled > probes*probeSize*worthwhile/8 {
		return 0
	}
	packed := s2.Encode(tmp[:], data)
	if len(packed) > len(data)*worthwhile/8 {
		return 0
	}
	return copy(data, packed)
}

// decompress fills buf, of block.Size bytes, from what compress made. Of packed
// nothing is believed: if it does not give exactly that many bytes, false.
func decompress(buf, packed []byte) bool {
	if n, err := s2.DecodedLen(packed); err != nil || n != len(buf) {
		return false
	}
	got, err := s2.Decode(buf, packed)
	return err == nil && len(got) == len(buf) && &got[0] == &buf[0]
}

// validLength reports whether a payload of raw bytes can have the length as it
// is stored.
func validLength(c Codec, raw, length uint32, s *Sealing) bool {
	if c == CodecZero {
		return length == 0
	}
	if s != nil {
		if length < domain.Overhead {
			return false
		}
		length -= domain.Overhead
	}
	if c == CodecS2 {
		return 0 < length && length < raw
	}
	return length == raw
}
