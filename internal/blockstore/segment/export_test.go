package segment

import "shale/internal/blockstore"

// EncodeHeader and DecodeHeader expose the codec of headers to tests.
func EncodeHeader(c blockstore.ContainerID, salt, store [16]byte) []byte {
	return header{c, salt, store}.encode()
}

// DecodeHeader exposes decodeHeader.
func DecodeHeader(c blockstore.ContainerID, b []byte) (salt, store [16]byte, err error) {
	h, err := decodeHeader(c, b)
	return h.salt, h.store, err
}

// MaxHandles and HeaderSize are the constants of these names.
const (
	MaxHandles = maxHandles
	HeaderSize = headerSize
)
