package blockstore

import (
	"context"

	"shale/internal/block"
)

// A Manifest is an encoded manifest; its ID is the SHA-256 of its bytes.
type Manifest struct {
	ID   block.ID
	Data []byte
}

// WriteManifests stores manifests in batches without blocks. On return they are
// durable and can be read with ReadNode, and are not reclaimed while the caller
// has the Hold that he took before. Errors as for Write.
func (s *Store) WriteManifests(ctx context.Context, manifests []Manifest) error {
	for len(manifests) > 0 {
		var records []record
		n := 0
		for size := 0; n < len(manifests) && size < MaxNodes; n++ {
			m := &manifests[n]
			records = append(records, record{kind: KindManifest, id: m.ID, raw: uint32(len(m.Data)), data: m.Data})
			size += len(m.Data) + entrySize
		}
		if err := s.writeNew(ctx, records); err != nil {
			return err
		}
		manifests = manifests[n:]
	}
	return nil
}
