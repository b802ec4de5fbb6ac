// Package behaviour has the rules by which a server misbehaves on request, for
// people who test their own tools: which requests are struck, and by what. How
// an effect is brought about is for whoever asks; what is stored is never
// affected by one.
//
// Rules are safe for concurrent use. Which requests a rule strikes follows from
// the order of the requests that it matches alone, never from chance or, but for
// over_per_second, from the clock; over_pending looks at what there is.
//
// Spec: test-controls, Behaviour.
package behaviour

import (
	"sync"
	"sync/atomic"
	"time"
)

// Rules are a list of rules, of which the first that matches a request strikes.
type Rules struct {
	Preset  string // the one that they come from; empty for rules of somebody's own
	entries []*entry
}

// A Rule says which requests are struck, and by what.
type Rule struct {
	Operation string `json:"operation"`          // "*" for every one
	Snapshot  string `json:"snapshot,omitempty"` // that the request names; empty for any
	Account   string `json:"account,omitempty"`  // that asks; empty for any
	When      *When  `json:"when,omitempty"`     // nil for always
	Effect    Effect `json:"effect"`
}

// A When says which of the requests that a rule matches are struck. One form of
// it is set. Requests are counted from one, those that an earlier rule struck
// left out.
type When struct {
	First       int64   `json:"first,omitempty"` // the first so many
	Every       int64   `json:"every,omitempty"` // each whose number it divides
	After       int64   `json:"after,omitempty"` // all but the first so many
	Probability float64 `json:"probability,omitempty"`
	Seed        int64   `json:"seed,omitempty"` // of Probability: it alone decides which requests those are
	// OverPerSecond strikes what is more than so many requests a second, of each
	// account or, as Each says, to each snapshot.
	OverPerSecond int64  `json:"over_per_second,omitempty"`
	Each          string `json:"each,omitempty"`
	// OverPending strikes a StartSnapshot of an account that has so many pending
	// snapshots already.
	OverPending int64 `json:"over_pending,omitempty"`
}

// An Effect is what becomes of a request that is struck. One member is set.
type Effect struct {
	DelayMS    int64  `json:"delay_ms,omitempty"`     // answered so much later
	Error      string `json:"error,omitempty"`        // refused with the error of this name
	SilentMS   int64  `json:"silent_ms,omitempty"`    // no answer for so long, and then none
	Cut        string `json:"cut,omitempty"`          // CutRequest, CutResponse
	LagMS      int64  `json:"lag_ms,omitempty"`       // what it does is seen so much later
	CompleteAs string `json:"complete_as,omitempty"`  // AsError
	Page       string `json:"page,omitempty"`         // ShortPage, EmptyPage
	TokenLifeS int64  `json:"token_life_s,omitempty"` // of the tokens in the answer
	Corrupt    bool   `json:"corrupt,omitempty"`      // one bit of the block is wrong
}

// The words of effects and of When.Each.
const (
	CutRequest  = "request"
	CutResponse = "response"
	AsError     = "error"
	ShortPage   = "short"
	EmptyPage   = "empty"
	EachAccount = "account"
	EachSnap    = "snapshot"
)

// The operations that only some effects are for.
const (
	start    = "StartSnapshot"
	complete = "CompleteSnapshot"
	list     = "ListSnapshotBlocks"
	changed  = "ListChangedBlocks"
	read     = "GetSnapshotBlock"
	remove   = "ec2:DeleteSnapshot"
)

// operations gives those that the effect is for; nil for all.
func (e *Effect) operations() []string {
	switch {
	case e.LagMS > 0:
		return []string{start, complete, remove}
	case e.CompleteAs != "":
		return []string{complete}
	case e.Page != "", e.TokenLifeS > 0:
		return []string{list, changed}
	case e.Corrupt:
		return []string{read}
	}
	return nil
}

// A Request is what rules look at.
type Request struct {
	Operation string // as in Vocabulary.Operations
	Account   string
	Snapshot  string    // the one that it is about; empty if none, or several
	Now       time.Time // by the server's clock
	// Names reports whether the request names the snapshot.
	Names func(snapshot string) bool
	// Tells reports whether the error can be told in the request's dialect.
	Tells func(name string) bool
	// Pending counts the pending snapshots of the account.
	Pending func() int64
}

// A Strike is a rule that strikes a request.
type Strike struct {
	Number int // of the rule in its list, from one
	Effect Effect
}

// Strike finds the rule that strikes the request, and counts. Each request is
// to be asked about once.
func (r *Rules) Strike(q *Request) (Strike, bool) {
	for i, e := range r.entries {
		if e.matches(q) && e.due(q) {
			e.struck.Add(1)
			return Strike{i + 1, e.rule.Effect}, true
		}
	}
	return Strike{}, false
}

// A Count is a rule with how often it has struck.
type Count struct {
	Rule
	Struck int64 `json:"struck"`
}

// Counts gives all rules in their order.
func (r *Rules) Counts() []Count {
	counts := make([]Count, len(r.entries))
	for i, e := range r.entries {
		counts[i] = Count{e.rule, e.struck.Load()}
	}
	return counts
}

// An entry is a rule and what has become of it.
type entry struct {
	rule      Rule            // immutable
	operation string          // immutable; as in Request
	only      map[string]bool // immutable; the operations that the effect is for, nil for all

	seen, struck atomic.Int64

	mu      sync.Mutex
	buckets map[string]bucket // of When.OverPerSecond, by account or snapshot
}

func (e *entry) matches(q *Request) bool {
	r := &e.rule
	return (e.operation == q.Operation || e.operation == everyOperation) &&
		(e.only == nil || e.only[q.Operation]) &&
		(r.Account == "" || r.Account == q.Account) &&
		(r.Snapshot == "" || q.Names(r.Snapshot)) &&
		(r.Effect.Error == "" || q.Tells(r.Effect.Error))
}

// due counts a request that the rule matches, and reports whether it is struck.
func (e *entry) due(q *Request) bool {
	n, w := e.seen.Add(1), e.rule.When
	switch {
	case w == nil:
		return true
	case w.First > 0:
		return n <= w.First
	case w.Every > 0:
		return n%w.Every == 0
	case w.After > 0:
		return n > w.After
	case w.OverPerSecond > 0:
		return e.over(q)
	case w.OverPending > 0:
		return q.Pending() >= w.OverPending
	}
	return chance(w.Seed, n) < w.Probability
}

// chance gives the number that stands for the n-th request, from 0 up to 1:
// SplitMix64 of the seed.
func chance(seed, n int64) float64 {
	z := uint64(seed) + uint64(n)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}

// A bucket has room for the requests of a second, and is filled again within
// one.
type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds what one rule remembers. Past it all begin anew, full.
const maxBuckets = 10_000

func (e *entry) over(q *Request) bool {
	key := q.Account
	if e.rule.When.Each == EachSnap {
		key = q.Snapshot
	}
	rate := float64(e.rule.When.OverPerSecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	b, known := e.buckets[key]
	if !known {
		if e.buckets == nil || len(e.buckets) >= maxBuckets {
			e.buckets = make(map[string]bucket)
		}
		b = bucket{rate, q.Now}
	}
	b.left = min(rate, b.left+max(0, q.Now.Sub(b.at).Seconds())*rate)
	b.at = q.Now
	over := b.left < 1
	if !over {
		b.left--
	}
	e.buckets[key] = b
	return over
}
