package quota

import (
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// maxBuckets bounds the buckets in memory, at some 300 bytes each. Those that are
// asked for least are forgotten, and full when they are asked for again. A
// bucket fills within a second, so that matters only to who has more of them in
// use within one, which takes as many snapshots; his account's own, asked for
// with each of those, stay.
const maxBuckets = 1 << 14

// Quotas are those of a server, with what has been used of the rates. It is
// safe for concurrent use.
type Quotas struct {
	config  Config
	now     func() time.Time
	buckets *otter.Cache[bucket, *rate.Limiter]
}

// A bucket is what a rate is kept of.
type bucket struct {
	name       Name
	region, of string
}

// New makes Quotas whose rates go by the clock now. It starts nothing.
func New(c Config, now func() time.Time) *Quotas {
	return &Quotas{
		config: c, now: now,
		buckets: otter.Must(&otter.Options[bucket, *rate.Limiter]{MaximumSize: maxBuckets}),
	}
}

// Limit gives a quota in a region; 0 for none.
func (q *Quotas) Limit(n Name, region string) int64 { return q.config.Limit(n, region) }

// Take takes one request from the rate n of an account, or of a snapshot, in a
// region. ok is false if there is none left. As many as a second has may come
// at once.
func (q *Quotas) Take(n Name, region, of string) (ok bool) {
	limit := q.config.Limit(n, region)
	if limit == 0 {
		return true
	}
	b := bucket{n, region, of}
	tokens, found := q.buckets.GetIfPresent(b)
	if !found {
		tokens, _ = q.buckets.SetIfAbsent(b, rate.NewLimiter(rate.Limit(limit), int(limit)))
	}
	return tokens.AllowN(q.now(), 1)
}
