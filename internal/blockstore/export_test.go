package blockstore

// Encode exposes Frame.encode to tests.
func (f *Frame) Encode() []byte { return f.encode() }

// PageSize exposes the length of a page.
const PageSize = pageSize

// Compress and Decompress expose compress and decompress.
var (
	Compress   = compress
	Decompress = decompress
)
