package blockmap

import (
	"context"

	"shale/internal/block"
)

// Reach goes to all that a map refers to: it calls reached with the ids of its
// nodes and blocks, of each node after all that is below it. Nodes of which
// enter is false are left out with all that is below them. It holds one path in
// memory. It ends with the first error, that of a node that cannot be read
// among them.
func Reach(ctx context.Context, r Reader, root block.ID, enter func(block.ID) (bool, error), reached func(block.ID) error) error {
	return reach(ctx, r, root, rootLevel, enter, reached)
}

func reach(ctx context.Context, r Reader, id block.ID, level int, enter func(block.ID) (bool, error), reached func(block.ID) error) error {
	if in, err := enter(id); err != nil || !in {
		return err
	}
	n, err := load(ctx, r, id, level)
	if err != nil {
		return err
	}
	for s := range fanout(level) {
		child := n.slots[s]
		switch {
		case child.IsZero():
			continue
		case level > 0:
			err = reach(ctx, r, child, level-1, enter, reached)
		default:
			err = reached(child)
		}
		if err != nil {
			return err
		}
	}
	return reached(id)
}
