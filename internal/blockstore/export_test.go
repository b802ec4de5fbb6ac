package blockstore

import "shale/internal/block"

// Encode exposes Frame.encode to tests.
func (f *Frame) Encode() []byte { return f.encode() }

// NodeMemory exposes the bound of the map nodes in memory.
const NodeMemory = maxNodes

// KeepNode exposes Store.keepNode.
func (s *Store) KeepNode(id block.ID, node []byte) { s.keepNode(id, node) }

// PageSize exposes the length of a page.
const PageSize = pageSize

// Compress and Decompress expose compress and decompress.
var (
	Compress   = compress
	Decompress = decompress
)
