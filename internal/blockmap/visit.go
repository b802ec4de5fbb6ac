package blockmap

import (
	"context"
	"crypto/sha256"

	"shale/internal/block"
)

// A Range is a run of block indexes, both ends included.
type Range struct{ First, Last block.Index }

// A Visitor is told what Visit meets, by ascending index.
type Visitor interface {
	// Same says that the other map is the same in the range.
	Same(r Range)
	// Node says that the node with the id, which covers the range, could not be
	// read, or is not one of its place. What is below it is left out.
	Node(id block.ID, r Range, err error)
	// Block names a block of a leaf that the other map does not have.
	Block(e Entry)
}

// Visit goes through the whole map with the root but for the subtrees that the
// other map has in the same place, and past nodes that are damaged: it is for
// those who look for damage. It holds one path in memory. An error is that of
// ctx.
func Visit(ctx context.Context, r Reader, other, root block.ID, v Visitor) error {
	return (&visit{r, v}).walk(ctx, other, root, rootLevel, 0)
}

type visit struct {
	r Reader
	v Visitor
}

// walk visits the node with the id, of which base is the first index.
func (t *visit) walk(ctx context.Context, other, id block.ID, level int, base block.Index) error {
	all := Range{base, base + 1<<shift(level)*block.Index(fanout(level)) - 1}
	switch {
	case id.IsZero():
		return nil
	case id == other:
		t.v.Same(all)
		return nil
	}
	n, err := load(ctx, t.r, id, level)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		t.v.Node(id, all, err)
		return nil
	}
	o, err := load(ctx, t.r, other, level)
	if err != nil {
		o = view{} // then all of this one is visited
	}
	for s := n.next(&view{}, 0); s < maxFanout; s = n.next(&view{}, s+1) {
		i := base + block.Index(s)<<shift(level)
		child, there := block.ID(n.id(s)), block.ID{}
		if id := o.id(s); id != nil {
			there = block.ID(id)
		}
		switch {
		case level > 0:
			if err := t.walk(ctx, there, child, level-1, i); err != nil {
				return err
			}
		case child == there:
			t.v.Same(Range{i, i})
		default:
			t.v.Block(Entry{i, child})
		}
	}
	return nil
}

// Check decodes the bytes of the node with the id, whatever its level: the
// error is a *CorruptError if they are not those of a node.
func Check(id block.ID, encoded []byte) error {
	if len(encoded) < headerSize || encoded[1] > rootLevel {
		return &CorruptError{id, "it is no node"}
	}
	if sha256.Sum256(encoded) != id {
		return &CorruptError{id, "its bytes do not have its hash"}
	}
	_, err := decode(id, int(encoded[1]), encoded)
	return err
}
