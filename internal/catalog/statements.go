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
	putContainer, putRecord, holds, touch, putPending *sql.Stmt
	// of the readers
	locate, locateNodes, snapshotByID, access *sql.Stmt
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
		// The first location of an id stays, unless it is known to be bad.
		{&s.putRecord, writer, `INSERT INTO records (id, kind, container, pos, length, crc, codec, domain, cipher, nonce, sealed)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET container = excluded.container, pos = excluded.pos, length = excluded.length,
				crc = excluded.crc, codec = excluded.codec, domain = excluded.domain, cipher = excluded.cipher,
				nonce = excluded.nonce, sealed = excluded.sealed, damaged = 0 WHERE records.damaged = 1`},
		{&s.holds, writer, `SELECT 1 FROM records WHERE id = ? AND damaged = 0`},
		// An accepted write restarts the inactivity timer, which copies have
		// none of. Spec: ebs-direct §5.2.
		{&s.touch, writer, `UPDATE snapshots SET deadline_ms = ?1 + timeout_ms 
			WHERE key = ?2 AND (state = 1 AND deadline_ms > ?1 OR state = 6)`},
		{&s.putPending, writer, `INSERT INTO pending (snapshot, idx, id) VALUES (?, ?, ?)
			ON CONFLICT (snapshot, idx) DO UPDATE SET id = excluded.id`},
		{&s.locate, reader, `SELECT container, pos, length, crc, codec, damaged, domain, cipher, nonce, sealed FROM records WHERE id = ?`},
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
		s.putContainer, s.putRecord, s.holds, s.touch, s.putPending, s.locate, s.locateNodes, s.snapshotByID, s.access,
	} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}
