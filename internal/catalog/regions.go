package catalog

import (
	"context"
	"fmt"
	"slices"
)

// A Region is one that there are snapshots in.
type Region struct {
	Name      string
	Snapshots int64 // those in the recycle bin too
}

// regionsQuery goes from each owner's region to his next one, in the index
// snapshots_by_owner: a start asks for it, and there may be millions of
// snapshots.
const regionsQuery = `
	WITH RECURSIVE owned (account, region) AS (
		SELECT id, (SELECT min(region) FROM snapshots WHERE account = accounts.id) FROM accounts
		UNION ALL
		SELECT account, (SELECT min(region) FROM snapshots WHERE account = owned.account AND region > owned.region)
			FROM owned WHERE region IS NOT NULL)
	SELECT DISTINCT region FROM owned WHERE region IS NOT NULL ORDER BY region`

// RegionsBut gives the regions, by name, that there are snapshots in, but for
// those that are named. Only the snapshots of the regions given are counted.
func (c *Catalog) RegionsBut(ctx context.Context, named []string) ([]Region, error) {
	names, err := c.regions(ctx)
	if err != nil {
		return nil, fmt.Errorf("list regions: %w", err)
	}
	var list []Region
	for _, name := range names {
		if slices.Contains(named, name) {
			continue
		}
		r := Region{Name: name}
		if err := c.reader.QueryRowContext(ctx, `SELECT count(*) FROM snapshots WHERE region = ? AND state <> 5`, name).Scan(&r.Snapshots); err != nil {
			return nil, fmt.Errorf("count the snapshots of a region: %w", err)
		}
		if r.Snapshots > 0 { // else those that there were are deleted
			list = append(list, r)
		}
	}
	return list, nil
}

func (c *Catalog) regions(ctx context.Context) ([]string, error) {
	rows, err := c.reader.QueryContext(ctx, regionsQuery)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
