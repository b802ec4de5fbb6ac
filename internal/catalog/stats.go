package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"shale/internal/blockstore"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
)

// Stats are sums over the whole store, as of one moment.
type Stats struct {
	Snapshots  []SnapshotStats // by state
	Pending    int64           // blocks written to snapshots that are not completed
	Records    []RecordStats   // by kind and codec
	Condemned  RecordStats     // others, of all kinds, that the next reclaim cycle removes
	Containers int64
	Bytes      int64 // of containers
	Dropped    int64 // containers whose files are still to be removed
	Damaged    int64 // records
	Reclaim    reclaim.Figures
}

// SnapshotStats are about the snapshots in one state.
type SnapshotStats struct {
	State     snapshot.State
	Count     int64
	VolumeGiB int64
	Blocks    int64 // of completed ones, inherited ones included
}

// RecordStats are about the records of one kind and codec.
type RecordStats struct {
	Kind  blockstore.Kind
	Codec blockstore.Codec
	Count int64
	Bytes int64 // stored
}

// Binned is the state of a snapshot in the recycle bin.
const Binned snapshot.State = 7

// A Size is what one snapshot has.
type Size struct {
	ID, Account, Region string
	State               snapshot.State
	VolumeGiB           int64
	Blocks              int64           // of a completed one all, else those written to it
	Usage               *snapshot.Usage // nil until it is counted
}

// Stats sums up.
func (c *Catalog) Stats(ctx context.Context) (s Stats, err error) {
	tx, err := c.reader.BeginTx(ctx, c.db.oneMoment())
	if err != nil {
		return Stats{}, fmt.Errorf("sum up: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was changed
	for _, step := range []func(context.Context, *sql.Tx, *Stats) error{sumSnapshots, sumRecords, sumRest} {
		if err := step(ctx, tx, &s); err != nil {
			return Stats{}, fmt.Errorf("sum up: %w", err)
		}
	}
	if s.Reclaim, err = c.Reclaimed(ctx); err != nil {
		return Stats{}, err
	}
	return s, nil
}

func sumSnapshots(ctx context.Context, tx *sql.Tx, s *Stats) error {
	return eachRow(ctx, tx, `SELECT state, count(*), sum(volume_gib), sum(blocks) FROM snapshots
		WHERE state NOT IN (4, 5) GROUP BY state ORDER BY state`, func(rows *sql.Rows) error {
		var x SnapshotStats
		err := rows.Scan(&x.State, &x.Count, &x.VolumeGiB, &x.Blocks)
		s.Snapshots = append(s.Snapshots, x)
		return err
	})
}

// sumRecords adds up row by row: SQLite would sort all rows in memory to group
// them.
func sumRecords(ctx context.Context, tx *sql.Tx, s *Stats) error {
	type group struct {
		kind  blockstore.Kind
		codec blockstore.Codec
	}
	sums := map[group]*RecordStats{}
	err := eachRow(ctx, tx, `SELECT kind, codec, length, damaged, condemned FROM records`, func(rows *sql.Rows) error {
		var g group
		var length, damaged, condemned int64
		if err := rows.Scan(&g.kind, &g.codec, &length, &damaged, &condemned); err != nil {
			return err
		}
		s.Damaged += damaged
		sum := &s.Condemned
		if condemned == 0 {
			if sum = sums[g]; sum == nil {
				sum = &RecordStats{Kind: g.kind, Codec: g.codec}
				sums[g] = sum
			}
		}
		sum.Count++
		sum.Bytes += length
		return nil
	})
	if err != nil {
		return err
	}
	for _, sum := range sums {
		s.Records = append(s.Records, *sum)
	}
	slices.SortFunc(s.Records, func(a, b RecordStats) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Codec, b.Codec)) })
	return nil
}

func sumRest(ctx context.Context, tx *sql.Tx, s *Stats) error {
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM pending`).Scan(&s.Pending); err != nil {
		return err
	}
	return tx.QueryRowContext(ctx, `SELECT coalesce(sum(1 - dropped), 0), coalesce(sum((1 - dropped) * length), 0), coalesce(sum(dropped), 0)
		FROM containers`).Scan(&s.Containers, &s.Bytes, &s.Dropped)
}

func eachRow(ctx context.Context, tx *sql.Tx, query string, each func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Sizes gives what each snapshot has that is there, in the order in which they
// were started, to each.
func (c *Catalog) Sizes(ctx context.Context, each func(Size) error) error {
	rows, err := c.reader.QueryContext(ctx, `SELECT s.id, s.account, s.region, s.state, s.volume_gib,
		CASE WHEN s.state IN (3, 7) THEN s.blocks ELSE (SELECT count(*) FROM pending p WHERE p.snapshot = s.key) END,
		u.unique_bytes, u.shared_bytes, u.counted_ms
		FROM snapshots s LEFT JOIN usage u ON u.snapshot = s.key WHERE s.state NOT IN (4, 5) ORDER BY s.start_ms, s.key`)
	if err != nil {
		return fmt.Errorf("list sizes: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var x Size
		var unique, shared, counted sql.NullInt64
		if err := rows.Scan(&x.ID, &x.Account, &x.Region, &x.State, &x.VolumeGiB, &x.Blocks, &unique, &shared, &counted); err != nil {
			return fmt.Errorf("list sizes: %w", err)
		}
		if counted.Valid {
			x.Usage = &snapshot.Usage{Unique: unique.Int64, Shared: shared.Int64, CountedAt: fromMillis(counted.Int64)}
		}
		if err := each(x); err != nil {
			return err
		}
	}
	return rows.Err()
}

// AccountStats are about what an account has in a region.
type AccountStats struct {
	Account, Name, Region string
	Completed             int64 // snapshots
	Pending               int64
	Failed                int64
	Binned                int64
	VolumeGiB             int64 // of all but the failed ones
	Blocks                int64 // of completed and binned ones, inherited ones included
	Written               int64 // blocks, to pending ones
	// Unique is the sum of what deleting each completed snapshot alone would
	// free, in bytes, as far as it has been counted: of so many of them.
	Unique, Counted int64
}

// AccountStats gives what each account has in each region in which it has any
// snapshots, by account and region.
func (c *Catalog) AccountStats(ctx context.Context) (list []AccountStats, err error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT s.account, a.name, s.region,
			sum(CASE WHEN s.state = 3 THEN 1 ELSE 0 END), sum(CASE WHEN s.state IN (1, 2, 6) THEN 1 ELSE 0 END),
			sum(CASE WHEN s.state = 4 THEN 1 ELSE 0 END), sum(CASE WHEN s.state = 7 THEN 1 ELSE 0 END),
			sum(CASE WHEN s.state = 4 THEN 0 ELSE s.volume_gib END), sum(CASE WHEN s.state IN (3, 7) THEN s.blocks ELSE 0 END),
			sum(CASE WHEN s.state IN (1, 2, 6) THEN coalesce(p.n, 0) ELSE 0 END),
			sum(CASE WHEN s.state = 3 THEN coalesce(u.unique_bytes, 0) ELSE 0 END),
			sum(CASE WHEN s.state = 3 AND u.snapshot IS NOT NULL THEN 1 ELSE 0 END)
		FROM snapshots s JOIN accounts a ON a.id = s.account LEFT JOIN usage u ON u.snapshot = s.key
			LEFT JOIN (SELECT snapshot, count(*) AS n FROM pending GROUP BY snapshot) p ON p.snapshot = s.key
		WHERE s.state <> 5 GROUP BY s.account, a.name, s.region ORDER BY s.account, s.region`)
	if err != nil {
		return nil, fmt.Errorf("sum up accounts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var x AccountStats
		if err := rows.Scan(&x.Account, &x.Name, &x.Region, &x.Completed, &x.Pending, &x.Failed, &x.Binned,
			&x.VolumeGiB, &x.Blocks, &x.Written, &x.Unique, &x.Counted); err != nil {
			return nil, fmt.Errorf("sum up accounts: %w", err)
		}
		list = append(list, x)
	}
	return list, rows.Err()
}
