package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"shale/internal/snapshot"
)

// A limit is how many of an account's snapshots of a region a query may count.
type limit struct {
	code snapshot.Code
	most int64 // 0: any number
	// count has the account for ?1, the region for ?2 and now for ?3.
	count string
	// bound, if not empty, is quicker and counts no fewer.
	bound string
}

func snapshotLimit(most int64) limit {
	return limit{
		code: snapshot.TooManySnapshots, most: most,
		count: `SELECT count(*) FROM snapshots WHERE account = ?1 AND region = ?2
			AND state <> 5 AND (state <> 7 OR bin_exit_ms > ?3)`,
		// In the index snapshots_by_owner alone.
		bound: `SELECT count(*) FROM snapshots WHERE account = ?1 AND region = ?2 AND CAST(?3 AS BIGINT) > 0`,
	}
}

func pendingLimit(most int64) limit {
	return limit{code: snapshot.TooManyPending, most: most, count: countPending}
}

// countPending counts no snapshot whose time is over, whether that has been
// recorded yet or not.
const countPending = `
	SELECT (SELECT count(*) FROM snapshots WHERE state = 1 AND account = ?1 AND region = ?2 AND deadline_ms > ?3)
		+ (SELECT count(*) FROM snapshots WHERE state = 2 AND account = ?1 AND region = ?2)`

// CountPending counts the account's pending snapshots in the region.
func (c *Catalog) CountPending(ctx context.Context, account, region string) (n int64, err error) {
	err = c.reader.QueryRowContext(ctx, countPending, account, region, millis(c.now())).Scan(&n)
	if err != nil {
		err = fmt.Errorf("count pending snapshots: %w", err)
	}
	return n, err
}

func copyLimit(most int64) limit {
	return limit{
		code: snapshot.TooManyCopies, most: most,
		count: `SELECT count(*) FROM snapshots WHERE account = ?1 AND region = ?2 AND state = 6 AND CAST(?3 AS BIGINT) > 0`,
	}
}

// A querier is a database or a transaction on it.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// reached reports whether there is no room for one more.
func (l *limit) reached(ctx context.Context, in querier, account, region string, now int64) (bool, error) {
	if l.most == 0 {
		return false, nil
	}
	for _, query := range []string{l.bound, l.count} {
		if query == "" {
			continue
		}
		var n int64
		if err := in.QueryRowContext(ctx, query, account, region, now).Scan(&n); err != nil {
			return false, fmt.Errorf("count snapshots: %w", err)
		}
		if n < l.most {
			return false, nil
		}
	}
	return true, nil
}

// createWithin is update with something that makes a snapshot of the account's
// in the region, unless one of the limits is reached: then it fails with an
// *snapshot.Error. That is decided in the transaction, and writers take turns.
// It is looked at before as well, so that whoever goes on asking at a limit
// keeps no writer waiting.
func (c *Catalog) createWithin(ctx context.Context, limits []limit, account, region string, create func(*sql.Tx) error) error {
	now := millis(c.now())
	check := func(in querier) (full *snapshot.Error, err error) {
		for i := range limits {
			l := &limits[i]
			if reached, err := l.reached(ctx, in, account, region, now); err != nil {
				return nil, err
			} else if reached {
				return &snapshot.Error{Code: l.code, Value: strconv.FormatInt(l.most, 10)}, nil
			}
		}
		return nil, nil
	}
	full, err := check(c.reader)
	if err == nil && full == nil {
		err = c.update(ctx, func(tx *sql.Tx) (err error) {
			if full, err = check(tx); full != nil || err != nil {
				return err
			}
			return create(tx)
		})
	}
	if err == nil && full != nil {
		return full
	}
	return err
}
