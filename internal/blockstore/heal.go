package blockstore

import (
	"context"
	"slices"
)

// Heal stores a record anew, as it is: its payload comes from another store,
// which has it under the same id, sealed under the same key if it is sealed. It
// takes the place of one that is damaged or missing; beside a sound one it is
// dead space. It is durable on return. Verify the payload before. Errors as for
// Write.
func (s *Store) Heal(ctx context.Context, r *Stored, payload []byte) error {
	healed := record{kind: r.Kind, id: r.ID, codec: r.Location.Codec, raw: r.raw(), sealing: r.Location.Sealing}
	if r.Location.Codec != CodecZero {
		healed.data = slices.Clone(payload)
	}
	err := s.enqueue(ctx, &job{records: []record{healed}, done: make(chan error, 1)})
	s.located.Invalidate(r.ID)
	return err
}
