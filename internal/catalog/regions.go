package catalog

import (
	"context"
	"fmt"
)

// A Region is one that there are snapshots in.
type Region struct {
	Name      string
	Snapshots int64 // those in the recycle bin too
}

// Regions gives the regions that there are snapshots in, by name.
func (c *Catalog) Regions(ctx context.Context) ([]Region, error) {
	rows, err := c.reader.QueryContext(ctx, `SELECT region, count(*) FROM snapshots WHERE state <> 5 GROUP BY region ORDER BY region`)
	if err != nil {
		return nil, fmt.Errorf("list regions: %w", err)
	}
	defer rows.Close()
	var list []Region
	for rows.Next() {
		var r Region
		if err := rows.Scan(&r.Name, &r.Snapshots); err != nil {
			return nil, fmt.Errorf("list regions: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
