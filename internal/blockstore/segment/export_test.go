package segment

import "shale/internal/blockstore"

// Header is the header of a segment, for tests of its codec.
type Header struct{ header }

// NewHeader gives a header of this version.
func NewHeader(c blockstore.ContainerID, salt, store [16]byte) Header {
	return Header{header{version, c, salt, store}}
}

// Encode exposes encode.
func (h Header) Encode() []byte { return h.encode() }

// DecodeHeader exposes decodeHeader.
func DecodeHeader(c blockstore.ContainerID, b []byte) (Header, error) {
	h, err := decodeHeader(c, b)
	return Header{h}, err
}

// MaxHandles and HeaderSize are the constants of these names.
const (
	MaxHandles = maxHandles
	HeaderSize = headerSize
)
