package transfer

import (
	"crypto/sha256"
	"hash"
	"sync"

	"shale/internal/block"
)

// A ledger takes outcomes from workers in any order and books them by
// ascending sequence number, without gaps. The outcomes that wait for an
// earlier one are few: about as many as there are workers. Safe for concurrent
// use.
type ledger struct {
	mu        sync.Mutex
	next      int
	waiting   map[int]outcome
	list      *listDraft // nil keeps no list
	aggregate hash.Hash
	stats     ledgerStats
}

// ledgerStats are counts of blocks.
type ledgerStats struct {
	stored    int64 // in the snapshot, inherited ones included
	sent      int64
	zeroed    int64 // sent as zeros over a parent's data
	unchanged int64 // inherited, because equal
}

func newLedger(list *listDraft) *ledger {
	return &ledger{waiting: make(map[int]outcome), list: list, aggregate: sha256.New()}
}

func (l *ledger) book(o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[o.seq] = o
	for {
		o, ok := l.waiting[l.next]
		if !ok {
			return
		}
		delete(l.waiting, l.next)
		l.next++
		l.enter(o)
	}
}

func (l *ledger) enter(o outcome) {
	if !o.stored {
		return
	}
	l.stats.stored++
	if l.list != nil {
		l.list.add(o.known)
	}
	if !o.sent {
		l.stats.unchanged++
		return
	}
	l.stats.sent++
	l.aggregate.Write(o.known.digest[:])
	if o.zero {
		l.stats.zeroed++
	}
}

// checksum is the aggregate over the raw digests of the blocks sent, by
// ascending index. Spec: ebs-direct §7.1 (LINEAR).
func (l *ledger) checksum() block.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return block.Digest(l.aggregate.Sum(nil))
}
