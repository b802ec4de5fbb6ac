package blockmap

import (
	"context"

	"shale/internal/block"
)

// Reach goes to all that a map refers to. It calls enter with the id of each
// node, and leaves the node out with all that is below it if that is false; and
// reached with the blocks of each leaf, and with each node after all that is
// below it. It holds one path in memory. It ends with the first error, that of a
// node that cannot be read among them.
func Reach(ctx context.Context, r Reader, root block.ID, enter func(block.ID) (bool, error), reached func(...block.ID) error) error {
	return reach(ctx, r, root, rootLevel, enter, reached)
}

func reach(ctx context.Context, r Reader, id block.ID, level int, enter func(block.ID) (bool, error), reached func(...block.ID) error) error {
	if in, err := enter(id); err != nil || !in {
		return err
	}
	n, err := load(ctx, r, id, level)
	if err != nil {
		return err
	}
	var blocks []block.ID
	for s := n.next(&view{}, 0); s < maxFanout; s = n.next(&view{}, s+1) {
		child := block.ID(n.id(s))
		if level == 0 {
			blocks = append(blocks, child)
		} else if err := reach(ctx, r, child, level-1, enter, reached); err != nil {
			return err
		}
	}
	return reached(append(blocks, id)...)
}
