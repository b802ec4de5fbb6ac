package catalog

import (
	"context"
	"database/sql"
	"fmt"

	"shale/internal/domain"
	"shale/internal/scrub"
)

// An invariant is what no row may contradict: a query for those that do. Each
// row that it gives is a text and a name, an ID or the bytes of an id, or NULL.
// docs/formats.md, Invariants, has them by their numbers.
type invariant struct {
	number int
	query  string
}

// maxViolations bounds the rows that are named for one invariant.
const maxViolations = 1000

var invariants = []invariant{
	{3, `SELECT 'the setting store_id is not 16 bytes long, or not there', NULL
		WHERE NOT EXISTS (SELECT 1 FROM settings WHERE name = 'store_id' AND length(value) = 16)`},
	{3, `SELECT 'the setting token_key is not 32 bytes long, or not there', NULL
		WHERE NOT EXISTS (SELECT 1 FROM settings WHERE name = 'token_key' AND length(value) = 32)`},
	{3, `SELECT 'lock_time has not one row', NULL WHERE (SELECT count(*) FROM lock_time) <> 1`},
	{3, `SELECT 'scrub has not one row', NULL WHERE (SELECT count(*) FROM scrub) <> 1`},
	{3, `SELECT 'reclaim has not one row', NULL WHERE (SELECT count(*) FROM reclaim) <> 1`},
	{4, `SELECT 'segment ' || CAST(id AS TEXT) || ' has the committed length ' || CAST(length AS TEXT), NULL FROM containers
		WHERE id < 1 OR length < 4096 OR length % 4096 <> 0`},
	{7, `SELECT 'the row of a record has a kind, an offset, a length or an id that none can have', id FROM records
		WHERE length(id) <> 32 OR kind NOT IN (1, 2, 3) OR pos < 4096 OR length < 0 OR codec < 0 OR damaged NOT IN (0, 1)`},
	{7, `SELECT 'the row of a record contradicts itself about encryption', id FROM records
		WHERE domain = 0 AND (cipher <> 0 OR nonce IS NOT NULL OR sealed IS NOT NULL)
			OR domain <> 0 AND (kind <> 1 OR nonce IS NULL OR length(nonce) <> 12 OR sealed IS NULL OR length(sealed) <> 60)`},
	{7, `SELECT 'the row of a record is in no container, or goes on behind the committed length of its own', id FROM records r
		WHERE NOT EXISTS (SELECT 1 FROM containers c WHERE c.id = r.container AND r.pos + r.length <= c.length)`},
	{19, `SELECT 'the row of a record has a generation or a condemnation that none can have', id FROM records r
		WHERE generation < 0 OR generation > (SELECT generation FROM reclaim)
			OR condemned < 0 OR condemned > (SELECT generation FROM reclaim) OR condemned <> 0 AND condemned <= generation`},
	{19, `SELECT 'segment ' || CAST(id AS TEXT) || ' is to be removed, and has records, or is the last', NULL FROM containers c
		WHERE dropped NOT IN (0, 1) OR dropped = 1
			AND (EXISTS (SELECT 1 FROM records r WHERE r.container = c.id) OR id = (SELECT max(id) FROM containers))`},
	{19, `SELECT 'a block written to it is condemned', s.id FROM pending p JOIN snapshots s ON s.key = p.snapshot AND s.leftover = 0
		JOIN records r ON r.id = p.id WHERE r.condemned <> 0`},
	{19, `SELECT 'a root of its map is condemned', s.id FROM snapshots s JOIN records r ON r.id = s.root OR r.id = s.base
		WHERE r.condemned <> 0 AND (s.state IN (3, 7) AND r.id = s.root OR s.state IN (1, 2, 6) AND r.id = s.base)`},
	{13, `SELECT DISTINCT 'there are blocks written to the snapshot of key ' || CAST(p.snapshot AS TEXT) || ', which is not there', NULL
		FROM pending p WHERE NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.key = p.snapshot)`},
	{13, `SELECT DISTINCT 'it is closed, and blocks written to it have stayed', s.id FROM pending p JOIN snapshots s ON s.key = p.snapshot
		WHERE s.state NOT IN (1, 2, 6) AND s.leftover = 0`},
	{13, `SELECT 'a block written to it has an index or an id that none can have', s.id FROM pending p JOIN snapshots s ON s.key = p.snapshot
		WHERE length(p.id) <> 32 OR p.idx < 0 OR p.idx > 134217727 OR s.volume_gib > 0 AND p.idx >= s.volume_gib * 2048`},
	{14, `SELECT 'it has the state ' || CAST(state AS TEXT), id FROM snapshots WHERE state NOT IN (1, 2, 3, 4, 5, 6, 7)`},
	{14, `SELECT 'that is no ID of a snapshot', id FROM snapshots WHERE length(id) <> 22 OR substr(id, 1, 6) <> 'snap-0'`},
	{14, `SELECT 'it is not completed, and has what only a completed one has', id FROM snapshots
		WHERE state IN (1, 2, 4, 6) AND (root IS NOT NULL OR blocks <> 0 OR completed_ms <> 0)`},
	{14, `SELECT 'it is completed, and there is no time when', id FROM snapshots WHERE state IN (3, 7) AND completed_ms = 0`},
	{14, `SELECT 'its state and the time of its deletion contradict one another', id FROM snapshots
		WHERE state = 5 AND deleted_ms = 0 OR state <> 5 AND deleted_ms <> 0`},
	{14, `SELECT 'its state and its times in the recycle bin contradict one another', id FROM snapshots
		WHERE state = 7 AND (bin_enter_ms = 0 OR bin_exit_ms = 0) OR state NOT IN (5, 7) AND (bin_enter_ms <> 0 OR bin_exit_ms <> 0)`},
	{14, `SELECT 'it has failed, and there is no reason', id FROM snapshots WHERE state = 4 AND message = ''`},
	{14, `SELECT 'its volume has ' || CAST(volume_gib AS TEXT) || ' GiB', id FROM snapshots s WHERE volume_gib < 0 OR volume_gib > 65536
		OR volume_gib = 0 AND NOT (state IN (4, 5, 6) AND EXISTS (SELECT 1 FROM copies c WHERE c.snapshot = s.key))`},
	{14, `SELECT 'one of its roots has a length that none can have, or one that has no blocks', id FROM snapshots
		WHERE base IS NOT NULL AND (length(base) <> 32 OR base_blocks < 1) OR base IS NULL AND base_blocks <> 0
			OR root IS NOT NULL AND (length(root) <> 32 OR blocks < 1) OR root IS NULL AND blocks <> 0
			OR claim_checksum IS NOT NULL AND length(claim_checksum) <> 32`},
	{15, `SELECT 'it does not follow from its parent ' || p.id || ': lineage, domain, volume or base are others', s.id
		FROM snapshots s JOIN snapshots p ON p.id = s.parent_id
		WHERE s.lineage <> p.lineage OR s.domain <> p.domain OR s.volume_gib < p.volume_gib OR p.state NOT IN (3, 5, 7)
			OR s.base_blocks <> p.blocks OR coalesce(s.base <> p.root, (s.base IS NULL) <> (p.root IS NULL))`},
	{15, `SELECT 'it has no parent, and what only a child or a copy has', id FROM snapshots s
		WHERE parent_id = '' AND (base IS NOT NULL
			OR lineage <> key AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.snapshot = s.key))`},
	{16, `SELECT 'its domain, its KMS key and its MAC contradict one another', id FROM snapshots
		WHERE domain = 0 AND (kms_key_arn <> '' OR root_mac IS NOT NULL)
			OR domain <> 0 AND (kms_key_arn = '' OR root_mac IS NULL OR length(root_mac) <> 32)`},
	{17, `SELECT 'it is a copy in progress, and it is not known of what', id FROM snapshots s
		WHERE state = 6 AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.snapshot = s.key)`},
	{17, `SELECT 'its lock has a state or times that none can have', s.id FROM locks l JOIN snapshots s ON s.key = l.snapshot
		WHERE l.state NOT IN (1, 2, 3, 4) OR l.state = 2 AND l.cooloff_ms = 0 OR l.state < 4 AND s.state = 3 AND (l.start_ms = 0 OR l.expires_ms = 0)`},
	{17, `SELECT 'it is locked, and has failed or was deleted', s.id FROM locks l JOIN snapshots s ON s.key = l.snapshot
		WHERE l.state < 4 AND s.state IN (4, 5, 7)`},
	{18, `SELECT 'a grant of it has another region, start time or ID', s.id FROM grants g JOIN snapshots s ON s.key = g.snapshot
		WHERE g.region <> s.region OR g.start_ms <> s.start_ms OR g.id <> s.id`},
	{18, `SELECT 'its tag of the recycle bin contradicts its state', id FROM snapshots s WHERE state <> 5
		AND (CASE WHEN state = 7 THEN 1 ELSE 0 END) <> (SELECT count(*) FROM tags t WHERE t.snapshot = s.key AND t.key = 'aws:recycle-bin:resource-in-bin')`},
}

// Violations implements scrub.Proof.
func (c *Catalog) Violations(ctx context.Context) ([]scrub.Finding, error) {
	var list []scrub.Finding
	for _, i := range invariants {
		found, err := c.violations(ctx, i)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		list = append(list, found...)
		if err != nil {
			list = append(list, scrub.Finding{
				Invariant: scrub.Readable, Why: fmt.Sprintf("whether invariant %d holds cannot be told: %v", i.number, err),
			})
		}
	}
	return list, nil
}

func (c *Catalog) violations(ctx context.Context, i invariant) ([]scrub.Finding, error) {
	rows, err := c.reader.QueryContext(ctx, i.query+fmt.Sprintf(` LIMIT %d`, maxViolations))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []scrub.Finding
	for rows.Next() {
		var text string
		var name any
		if err := rows.Scan(&text, &name); err != nil {
			return list, err
		}
		switch name := name.(type) {
		case string:
			text = "snapshot " + name + ": " + text
		case []byte:
			text = fmt.Sprintf("%x: %s", name, text)
		}
		list = append(list, scrub.Finding{Invariant: i.number, Why: text})
	}
	return list, rows.Err()
}

// Integrity implements scrub.Catalog: SQLite checks its file, and that no row
// refers to one that is not there. PostgreSQL lets no such row be, and has tools
// of its own for its files.
func (c *Catalog) Integrity(ctx context.Context) ([]scrub.Finding, error) {
	if _, file := c.db.(*sqlite); !file {
		return nil, ctx.Err()
	}
	var list []scrub.Finding
	add := func(number int, query string, text func(*sql.Rows) (string, error)) {
		err := func() error {
			rows, err := c.reader.QueryContext(ctx, query)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				what, err := text(rows)
				if err != nil {
					return err
				}
				if what != "" {
					list = append(list, scrub.Finding{Invariant: number, Why: what})
				}
			}
			return rows.Err()
		}()
		if err != nil {
			list = append(list, scrub.Finding{Invariant: scrub.Readable, Why: fmt.Sprintf("whether invariant %d holds cannot be told: %v", number, err)})
		}
	}
	add(scrub.Readable, `PRAGMA integrity_check`, func(rows *sql.Rows) (what string, err error) {
		if err := rows.Scan(&what); err != nil || what == "ok" {
			return "", err
		}
		return "catalog: " + what, nil
	})
	add(scrub.Referring, `PRAGMA foreign_key_check`, func(rows *sql.Rows) (string, error) {
		var table, parent string
		var row, number any
		err := rows.Scan(&table, &row, &parent, &number)
		return fmt.Sprintf("a row of %s refers to one of %s that is not there", table, parent), err
	})
	return list, ctx.Err()
}

// SealedRoots implements scrub.Proof.
func (c *Catalog) SealedRoots(ctx context.Context) ([]scrub.SealedRoot, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT `+rootColumns+`, root_mac, kms_key_arn FROM snapshots
		WHERE domain <> 0 AND state NOT IN (4, 5) ORDER BY key`)
	if err != nil {
		return nil, fmt.Errorf("list roots of encrypted snapshots: %w", err)
	}
	defer rows.Close()
	var list []scrub.SealedRoot
	for rows.Next() {
		var s scrub.SealedRoot
		var mac []byte
		if s.Root, err = scanRoot(withMore{rows, []any{&mac, &s.KMSKeyARN}}); err != nil {
			return nil, fmt.Errorf("list roots of encrypted snapshots: %w", err)
		}
		if len(mac) == len(s.MAC) {
			s.MAC = domain.MAC(mac)
		}
		list = append(list, s)
	}
	return list, rows.Err()
}
