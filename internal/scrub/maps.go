package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
)

// writtenPage is how many rows of blocks written are read at a time.
const writtenPage = 4096

// A need is a stretch of a snapshot that cannot be read, for want of a record.
type need struct {
	blockmap.Range
	finding *Finding
}

// WalkMaps has the catalog check itself, and walks the map of everything that
// holds blocks. What a map shares
// with the one before, in the order of lineages, is not walked again. Records
// that are damaged or missing are named with the snapshots that need them.
func (w *Walk) WalkMaps(ctx context.Context) error {
	wrong, err := w.Catalog.Integrity(ctx)
	if err != nil {
		return err
	}
	for _, f := range wrong {
		w.found(f)
	}
	roots, err := w.Catalog.Roots(ctx)
	if err != nil {
		w.untold(err)
		return ctx.Err()
	}
	m := mapWalk{Walk: w, ctx: ctx}
	var last Root
	var before []need
	for i := range roots {
		r := &roots[i]
		other := last.Root
		if r.VolumeGiB < last.VolumeGiB || r.Domain != last.Domain {
			other = block.ID{} // what they share is to be looked at anew
		}
		m.root, m.before, m.needs = r, before, nil
		m.findings = nil
		if err := blockmap.Visit(ctx, &m, other, r.Root, &m); err != nil {
			return err
		}
		before = m.needs
		if r.Pending {
			if err := m.written(r); err != nil {
				return err
			}
		}
		if m.counted = m.counted && w.Count; w.Count {
			if err := m.count(&last, r); err != nil {
				return err
			}
		}
		if len(m.needs)+len(m.findings) > 0 {
			if holds, err := w.Catalog.Holds(ctx, *r); ctx.Err() != nil {
				return ctx.Err()
			} else if holds || err != nil {
				m.settle()
			}
		}
		w.Report.Snapshots++
		last = *r
	}
	return w.marked(ctx)
}

// marked takes in what is marked as damaged and no map needs.
func (w *Walk) marked(ctx context.Context) error {
	for after := (block.ID{}); ; {
		page, err := w.Catalog.DamagedRecords(ctx, after, writtenPage)
		if err != nil {
			w.untold(err)
			return ctx.Err()
		}
		for i := range page {
			w.damaged(&page[i], "it is marked as damaged")
			after = page[i].ID
		}
		if len(page) < writtenPage {
			return nil
		}
	}
}

// A mapWalk is the walk of one map; it is a blockmap.Visitor, and a
// blockmap.Reader that reads past the caches of the store.
type mapWalk struct {
	*Walk
	ctx    context.Context //nolint:containedctx // lives for one call of WalkMaps
	root   *Root
	before []need // of the map before
	needs  []need // of this one; findings of which there is none yet have a copy
	// findings are those about the map itself.
	findings []Finding
	// blocks is the number of those in the last map, if it was counted.
	blocks  int64
	counted bool
}

// ReadNode implements blockmap.Reader.
func (m *mapWalk) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	r, found, err := m.Catalog.Record(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, blockstore.ErrNotFound
	case r.Kind != blockstore.KindNode || r.Location.Length > block.Size:
		return nil, fmt.Errorf("it is no map node: it is a %v of %d bytes", r.Kind, r.Location.Length)
	}
	if err := m.wait(ctx, int64(r.Location.Length)+perRead); err != nil {
		return nil, err
	}
	b := make([]byte, r.Location.Length)
	read := m.Medium.ReadAt
	for range 2 {
		err = read(ctx, r.Location.Container, b, r.Location.Offset)
		if err == nil {
			if err = blockstore.Verify(&r, nil, b); err == nil {
				return b, nil
			}
		} else if !unreadable(err) {
			return nil, err
		}
		read = m.Medium.ReadAtSource // once more, from the disk itself
	}
	if moved, lost := m.moved(ctx, &r); moved || lost != nil {
		return nil, errors.Join(errMoved, lost)
	}
	m.mark(ctx, &r)
	return nil, &blockstore.DamagedError{ID: id, Location: r.Location, Why: err.Error()}
}

// errMoved says that a record was moved while it was read.
var errMoved = errors.New("it was moved in the meantime")

// Same implements blockmap.Visitor.
func (m *mapWalk) Same(r blockmap.Range) {
	i, _ := slices.BinarySearchFunc(m.before, r.First, func(n need, first block.Index) int { return int(int64(n.First) - int64(first)) })
	for ; i < len(m.before) && m.before[i].Last <= r.Last; i++ {
		m.needs = append(m.needs, m.before[i])
	}
}

// Node implements blockmap.Visitor.
func (m *mapWalk) Node(id block.ID, r blockmap.Range, err error) {
	f := Finding{Invariant: Resolves, Kind: blockstore.KindNode, ID: id, Why: err.Error()}
	var damaged *blockstore.DamagedError
	switch {
	case errors.As(err, &damaged):
		l := damaged.Location
		f.Invariant, f.Container, f.Offset, f.Length, f.Why = Sound, l.Container, l.Offset, l.Length, damaged.Why
	case errors.Is(err, blockstore.ErrNotFound):
		f.Missing, f.Why = true, "there is no such record"
	}
	m.needs = append(m.needs, need{r, &f})
}

// Block implements blockmap.Visitor.
func (m *mapWalk) Block(e blockmap.Entry) { m.block(e) }

// block looks at one block that the snapshot has.
func (m *mapWalk) block(e blockmap.Entry) {
	if m.root.VolumeGiB > 0 && int64(e.Index) >= m.root.VolumeGiB*block.PerGiB {
		m.findings = append(m.findings, Finding{
			Invariant: Resolves, Why: fmt.Sprintf("%s has a block at %d, beyond its volume of %d GiB", m.root.ID, e.Index, m.root.VolumeGiB),
		})
	}
	f := Finding{Invariant: Resolves, Kind: blockstore.KindBlock, ID: e.ID}
	r, found, err := m.Catalog.Record(m.ctx, e.ID)
	if l := r.Location; found {
		f.Container, f.Offset, f.Length = l.Container, l.Offset, l.Length
	}
	switch {
	case err != nil:
		f.Why = "the catalog cannot tell where it is: " + err.Error()
	case !found:
		f.Missing, f.Why = true, "there is no such record"
	case r.Kind != blockstore.KindBlock:
		f.Why = fmt.Sprintf("the record is a %v", r.Kind)
	case r.Location.Damaged || m.Report.byID[e.ID] != nil:
		f.Invariant, f.Why = Sound, "it is marked as damaged"
	case r.Location.Domain() != m.root.Domain:
		f.Why = fmt.Sprintf("the record is of domain %v, and %s of %v", r.Location.Domain(), m.root.ID, m.root.Domain)
	default:
		return
	}
	m.needs = append(m.needs, need{blockmap.Range{First: e.Index, Last: e.Index}, &f})
}

// written looks at the blocks that were written to a pending snapshot.
func (m *mapWalk) written(r *Root) error {
	for from := block.Index(0); ; {
		page, err := m.Catalog.Written(m.ctx, r.Key, from, writtenPage)
		if err != nil {
			m.untold(err)
			return m.ctx.Err()
		}
		for _, e := range page {
			m.block(e)
		}
		if len(page) < writtenPage || page[len(page)-1].Index >= block.MaxIndex {
			return nil
		}
		from = page[len(page)-1].Index + 1
	}
}

// count counts the blocks of a map that resolves, from what it has more and less
// than the one before; from nothing, if that one was not counted.
func (m *mapWalk) count(last, r *Root) error {
	from, total := last.Root, m.blocks
	if !m.counted {
		from, total = block.ID{}, 0
	}
	m.counted = false
	for change, err := range blockmap.Diff(m.ctx, m, from, r.Root, 0) {
		if err != nil {
			return m.ctx.Err() // it has changed since it was walked
		}
		if !change.First.IsZero() {
			total--
		}
		if !change.Second.IsZero() {
			total++
		}
	}
	m.counted, m.blocks = true, total
	if total != r.Blocks {
		m.findings = append(m.findings, Finding{
			Invariant: BlockCount, Why: fmt.Sprintf("%s is said to have %d blocks, and its map has %d", r.ID, r.Blocks, total),
		})
	}
	return nil
}

// settle takes in what was found about one snapshot.
func (m *mapWalk) settle() {
	for _, f := range m.findings {
		m.found(f)
	}
	for i := range m.needs {
		n := &m.needs[i]
		n.finding = m.found(*n.finding)
		n.finding.affect(m.root.ID, n.Range)
	}
}

// affect adds that a snapshot needs a record in the range.
func (f *Finding) affect(snapshot string, r blockmap.Range) {
	n := len(f.Affects)
	if n == 0 || f.Affects[n-1].Snapshot != snapshot {
		if n >= maxAffected {
			return
		}
		f.Affects = append(f.Affects, Affected{Snapshot: snapshot})
		n++
	}
	a := &f.Affects[n-1]
	if k := len(a.Ranges); k > 0 && a.Ranges[k-1].Last+1 == r.First {
		a.Ranges[k-1].Last = r.Last
	} else if k < maxRanges {
		a.Ranges = append(a.Ranges, r)
	}
}
