package segment

// For tests.
var (
	EncodeHeader = encodeHeader
	DecodeHeader = decodeHeader
)

// MaxHandles and HeaderSize are the constants of these names.
const (
	MaxHandles = maxHandles
	HeaderSize = headerSize
)
