package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// statements are those of the block path, prepared once. The other queries
// are rare enough to be prepared each time.
type statements struct {
	// of the writer
	putContainer, putRecord, moveRecord, renew, touch, putPending, putHit *sql.Stmt
	// of the readers
	locate, locateNodes, record, snapshotByID, access *sql.Stmt
}

const snapshotColumns = `key, id, account, region, state, message, parent_id, lineage, description, volume_gib,
	start_ms, completed_ms, timeout_ms, deadline_ms, base, root, base_blocks, blocks, claim_blocks, claim_checksum,
	domain, kms_key_arn, root_mac, completion_minutes`

func (s *statements) prepare(ctx context.Context, writer, reader *sql.DB) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&s.putContainer, writer, `INSERT INTO containers (id, length) VALUES (?, ?)
			ON CONFLICT (id) DO UPDATE SET length = excluded.length`},
		// The first location of an id stays, unless it is known to be bad or
		// about to be removed.
		{&s.putRecord, writer, `INSERT INTO records (id, kind, container, pos, length, crc, codec, domain, cipher, nonce, sealed, generation)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT generation FROM reclaim))
			ON CONFLICT (id) DO UPDATE SET container = excluded.container, pos = excluded.pos, length = excluded.length,
				crc = excluded.crc, codec = excluded.codec, domain = excluded.domain, cipher = excluded.cipher,
				nonce = excluded.nonce, sealed = excluded.sealed, damaged = 0, generation = excluded.generation, condemned = 0
			WHERE records.damaged = 1 OR records.condemned <> 0`},
		{&s.moveRecord, writer, `UPDATE records SET container = ?, pos = ? WHERE id = ? AND container = ? AND pos = ? AND damaged = 0`},
		// What is condemned counts as not stored, and so is not named.
		{&s.renew, writer, `UPDATE records SET generation = (SELECT generation FROM reclaim)
			WHERE id = ? AND condemned = 0 AND generation < (SELECT generation FROM reclaim)`},
		// An accepted write restarts the inactivity timer, which copies have
		// none of. Spec: ebs-direct §5.2.
		{&s.touch, writer, `UPDATE snapshots SET deadline_ms = ?1 + timeout_ms 
			WHERE key = ?2 AND (state = 1 AND deadline_ms > ?1 OR state = 6)`},
		{&s.putPending, writer, `INSERT INTO pending (snapshot, idx, id) VALUES (?, ?, ?)
			ON CONFLICT (snapshot, idx) DO UPDATE SET id = excluded.id`},
		// A hit is recorded only if its block is stored and sound.
		{&s.putHit, writer, `INSERT INTO pending (snapshot, idx, id)
			SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM records WHERE id = ?3 AND damaged = 0 AND condemned = 0)
			ON CONFLICT (snapshot, idx) DO UPDATE SET id = excluded.id`},
		{&s.locate, reader, `SELECT container, pos, length, crc, codec, damaged, domain, cipher, nonce, sealed FROM records WHERE id = ?`},
		{&s.record, reader, `SELECT ` + storedColumns + ` FROM records WHERE id = ?`},
		{&s.locateNodes, reader, locateNodes},
		{&s.snapshotByID, reader, `SELECT ` + snapshotColumns + ` FROM snapshots WHERE id = ?`},
		{&s.access, reader, accessQuery},
	} {
		stmt, err := p.db.PrepareContext(ctx, p.text)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", p.text, err)
		}
		*p.stmt = stmt
	}
	return nil
}

func (s *statements) close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{
		s.putContainer, s.putRecord, s.moveRecord, s.renew, s.touch, s.putPending, s.putHit, s.locate, s.locateNodes, s.record, s.snapshotByID, s.access,
	} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}
