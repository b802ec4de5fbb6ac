package transfer

import (
	"iter"

	"shale/internal/block"
)

// A step is one index of the new snapshot about which something must be
// decided. All other indexes are holes in image and parent alike.
type step struct {
	seq   int // 0, 1, 2, … in the order of the plan
	index block.Index
	// read says that the image has data there; else its content is zeros, by
	// a hole or because the image ends before.
	read bool
	// parent is what the parent holds there, if inParent.
	parent   block.Digest
	inParent bool
}

// plan merges the image's blocks with data and the parent's blocks, both by
// ascending index, into the steps of an upload, by ascending index.
func plan(data iter.Seq2[block.Index, error], parent iter.Seq2[known, error]) iter.Seq2[step, error] {
	return func(yield func(step, error) bool) {
		nextData, stopData := iter.Pull2(data)
		defer stopData()
		nextKnown, stopKnown := iter.Pull2(parent)
		defer stopKnown()

		index, dataErr, haveData := nextData()
		p, knownErr, haveKnown := nextKnown()
		for seq := 0; haveData || haveKnown; seq++ {
			if haveData && dataErr != nil {
				yield(step{}, dataErr)
				return
			}
			if haveKnown && knownErr != nil {
				yield(step{}, knownErr)
				return
			}
			s := step{seq: seq}
			switch {
			case !haveKnown || haveData && index < p.index:
				s.index, s.read = index, true
			case !haveData || p.index < index:
				s.index, s.parent, s.inParent = p.index, p.digest, true
			default:
				s.index, s.read, s.parent, s.inParent = index, true, p.digest, true
			}
			if !yield(s, nil) {
				return
			}
			if s.read {
				index, dataErr, haveData = nextData()
			}
			if s.inParent {
				p, knownErr, haveKnown = nextKnown()
			}
		}
	}
}

// An outcome is what became of a step.
type outcome struct {
	seq    int
	known  known // what the snapshot holds at the index, if it does
	stored bool  // it holds a block there, sent or inherited
	sent   bool  // the block had to travel
	zero   bool  // and was sent only because the parent held data there
}

// decide tells what must become of the step's index, given the digest of its
// content in the image. A block of zeros is sent only where the child would
// otherwise show the parent's bytes.
func (s step) decide(content block.Digest) outcome {
	o := outcome{seq: s.seq, known: known{index: s.index, digest: content}}
	switch {
	case s.inParent && content == s.parent:
		o.stored = true
	case s.inParent:
		o.stored, o.sent, o.zero = true, true, content == block.ZeroDigest
	case content != block.ZeroDigest:
		o.stored, o.sent = true, true
	}
	return o
}
