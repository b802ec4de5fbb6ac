package reclaim

import (
	"testing"

	"pgregory.net/rapid"

	"shale/internal/block"
)

// What is said to have been passed was; what was passed a moment ago is known;
// and so is an inner node, however many leaves have come since.
func TestPassedTakesNoneForAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPassed(rapid.Int64Range(0, 20).Draw(t, "records"))
		added := [2]map[block.ID]bool{{}, {}} // inner nodes, leaves
		node := rapid.Custom(func(t *rapid.T) block.ID { return id(rapid.Uint64Range(0, 200).Draw(t, "node")) })
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			n, kind := node.Draw(t, "node"), rapid.IntRange(0, 1).Draw(t, "kind")
			leaf := kind == 1
			if p.has(n, leaf) {
				if !added[kind][n] {
					t.Fatalf("node %v was never passed", n)
				}
				continue
			}
			p.add(n, leaf)
			added[kind][n] = true
			if !p.has(n, leaf) {
				t.Fatalf("node %v is forgotten at once", n)
			}
		}
	})
}

func TestPassedKeepsInnerNodes(t *testing.T) {
	p := newPassed(1)
	p.add(id(0), false)
	for n := range uint64(1000) {
		p.add(id(n), true)
	}
	if !p.has(id(0), false) {
		t.Error("leaves have taken the place of an inner node")
	}
	if p.has(id(1), true) {
		t.Error("a leaf is known for ever: what bounds the memory?")
	}
}
