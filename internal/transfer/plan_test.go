package transfer

import (
	"crypto/sha256"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"shale/internal/block"
)

func indexes(list ...block.Index) iter.Seq2[block.Index, error] {
	return func(yield func(block.Index, error) bool) {
		for _, i := range list {
			if !yield(i, nil) {
				return
			}
		}
	}
}

func knowns(list ...known) iter.Seq2[known, error] {
	return func(yield func(known, error) bool) {
		for _, k := range list {
			if !yield(k, nil) {
				return
			}
		}
	}
}

// The plan visits every index that either side has, once, in order, and knows
// which sides they are.
func TestPlanMerges(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		var data []block.Index
		var parent []known
		var want []step
		for i := range block.Index(rnd.IntN(30)) {
			s := step{seq: len(want), index: i, read: rnd.IntN(2) == 0, inParent: rnd.IntN(2) == 0}
			if s.read {
				data = append(data, i)
			}
			if s.inParent {
				s.parent = block.Digest{byte(i), 1}
				parent = append(parent, known{i, s.parent})
			}
			if s.read || s.inParent {
				want = append(want, s)
			}
		}
		var got []step
		for s, err := range plan(indexes(data...), knowns(parent...)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: plan(%v, %v): got %+v, want %+v", seed, data, parent, got, want)
		}
	}
}

func TestPlanStopsAtErrors(t *testing.T) {
	broken := errors.New("broken")
	bad := func(yield func(block.Index, error) bool) {
		if yield(1, nil) {
			yield(0, broken)
		}
	}
	badKnown := func(yield func(known, error) bool) { yield(known{}, broken) }
	for name, steps := range map[string]iter.Seq2[step, error]{
		"image":  plan(bad, knowns(known{index: 7})),
		"parent": plan(indexes(1, 2), badKnown),
	} {
		var last error
		for _, last = range steps {
		}
		if !errors.Is(last, broken) {
			t.Errorf("%s: the plan ended with %v, want %v", name, last, broken)
		}
	}
}

// All that can be at an index, in the image and in the parent.
func TestDecide(t *testing.T) {
	a, b, zero := block.Digest{1}, block.Digest{2}, block.ZeroDigest
	tests := map[string]struct {
		parent               *block.Digest // nil: a hole
		image                block.Digest
		stored, sent, zeroed bool
	}{
		"hole, stays":              {nil, zero, false, false, false},
		"hole, written":            {nil, a, true, true, false},
		"data, same":               {&a, a, true, false, false},
		"data, other":              {&a, b, true, true, false},
		"data, became zeros":       {&a, zero, true, true, true},
		"written zeros, stay":      {&zero, zero, true, false, false},
		"written zeros, now data":  {&zero, b, true, true, false},
		"data, the same as before": {&b, b, true, false, false},
	}
	for name, test := range tests {
		s := step{seq: 5, index: 3, inParent: test.parent != nil}
		if s.inParent {
			s.parent = *test.parent
		}
		want := outcome{seq: 5, known: known{3, test.image}, stored: test.stored, sent: test.sent, zero: test.zeroed}
		if got := s.decide(test.image); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

// Workers finish in any order; the aggregate is that of the spec's vectors.
// Spec: ebs-direct §7.2.
func TestLedgerChecksum(t *testing.T) {
	digest := func(c byte) block.Digest {
		b := make([]byte, block.Size)
		for i := range b {
			b[i] = c
		}
		return block.Digest(sha256.Sum256(b))
	}
	a, b := digest('A'), digest('B')
	tests := map[string]struct {
		outcomes []outcome
		want     string
	}{
		"nothing": {nil, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		"A, B": {[]outcome{
			{seq: 0, known: known{0, a}, stored: true, sent: true},
			{seq: 1, known: known{5, b}, stored: true, sent: true},
		}, "y70dliekiWXwOuHPNk95FPMloOXDcF2KlCJ45WXZyH4="},
		"A, inherited, zeros, hole, B": {[]outcome{
			{seq: 0, known: known{0, a}, stored: true, sent: true},
			{seq: 1, known: known{1, b}, stored: true},
			{seq: 2, known: known{2, block.ZeroDigest}, stored: true, sent: true, zero: true},
			{seq: 3, known: known{3, block.ZeroDigest}},
			{seq: 4, known: known{5, b}, stored: true, sent: true},
		}, "674e4dnNzz7UCdkVsWlb7bmKd4rpW8aEngI6g0m+rLk="},
	}
	for name, test := range tests {
		for range 20 {
			l := newLedger(nil)
			for _, i := range rand.Perm(len(test.outcomes)) {
				l.book(test.outcomes[i])
			}
			if got := l.checksum().Base64(); got != test.want {
				t.Fatalf("%s: got %s, want %s", name, got, test.want)
			}
		}
	}
}
