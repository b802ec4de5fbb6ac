package catalog

// SetFree makes the catalog believe that so many bytes are free.
func (c *Catalog) SetFree(n uint64) { c.free = func() (uint64, error) { return n, nil } }

// LockQueries are those that must not look at all locks.
var LockQueries = []string{cancelQuery, lockedQuery}
