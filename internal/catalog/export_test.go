package catalog

import (
	"context"
	"database/sql"
	"time"
)

// SetFree makes the catalog believe that so many bytes are free.
func (c *Catalog) SetFree(n uint64) { c.free = func() (uint64, error) { return n, nil } }

// SetCounted says how many records are counted at a time.
func (c *Catalog) SetCounted(n int) { c.counted = n }

// SoughtQueries are those that must not look at all locks, or all snapshots.
var SoughtQueries = []string{cancelQuery, lockedQuery, regionsQuery}

// RegionsQuery sorts the regions that it finds.
const RegionsQuery = regionsQuery

// SetSettleTime bounds how long a catalog in PostgreSQL asks what became of a
// commit.
func (c *Catalog) SetSettleTime(d time.Duration) { c.db.(*postgres).settleTime = d }

// Update runs f in one transaction.
func (c *Catalog) Update(ctx context.Context, f func(*sql.Tx) error) error { return c.update(ctx, f) }

// Writer is what changes go through.
func (c *Catalog) Writer() *sql.DB { return c.writer }

// Reader is what the rest goes through.
func (c *Catalog) Reader() *sql.DB { return c.reader }

// Numbered writes a query's parameters as PostgreSQL does.
var Numbered = numbered
