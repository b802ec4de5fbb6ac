package scrub

import (
	"context"
	"fmt"

	"shale/internal/blockstore"
	"shale/internal/domain"
)

// More invariants. docs/formats.md, Invariants.
const (
	Referring = 2
	Files     = 5
	MAC       = 12
	Domain    = 16
)

// A Proof is what a check asks a catalog besides.
type Proof interface {
	Containers(ctx context.Context) (map[blockstore.ContainerID]int64, error)
	// Dropped gives the containers that are to be removed.
	Dropped(ctx context.Context) ([]blockstore.ContainerID, error)
	// Violations gives what in the catalog alone is not as it has to be. The
	// error is that of ctx.
	Violations(ctx context.Context) ([]Finding, error)
	// SealedRoots gives the roots of encrypted snapshots that hold blocks.
	SealedRoots(ctx context.Context) ([]SealedRoot, error)
}

// A SealedRoot is the root of an encrypted snapshot.
type SealedRoot struct {
	Root
	MAC       domain.MAC // none if it has not the length of one
	KMSKeyARN string
}

// CheckOptions say what Check is about.
type CheckOptions struct {
	Catalog Proof
	Medium  interface {
		// Unknown names the containers that the catalog does not know.
		Unknown(known map[blockstore.ContainerID]int64) ([]string, error)
	}
	// FileName is the name that a container has.
	FileName func(blockstore.ContainerID) string
	// Key gives the key of a domain if it is at hand, else nil.
	Key func(context.Context, domain.Number) *domain.Key
	// ARN gives the ARN in a domain's file.
	ARN func(domain.Number) (string, error)
}

// Check proves those invariants of a store at rest that a Walk does not. Notes
// are about what is no violation and worth to be known.
func Check(ctx context.Context, o CheckOptions) (found []Finding, notes []string, err error) {
	if found, err = o.Catalog.Violations(ctx); err != nil {
		return nil, nil, err
	}
	files, notes, err := o.files(ctx)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := o.sealed(ctx)
	return append(append(found, files...), sealed...), notes, err
}

// files compares the files with the containers.
func (o *CheckOptions) files(ctx context.Context) (found []Finding, notes []string, err error) {
	committed, err := o.Catalog.Containers(ctx)
	if err != nil {
		return []Finding{{Invariant: Readable, Why: err.Error()}}, nil, ctx.Err()
	}
	dropped, err := o.Catalog.Dropped(ctx)
	if err != nil {
		return []Finding{{Invariant: Readable, Why: err.Error()}}, nil, ctx.Err()
	}
	known, last := make(map[blockstore.ContainerID]int64, len(committed)), blockstore.ContainerID(0)
	for c, length := range committed {
		known[c], last = length, max(last, c)
	}
	for _, c := range dropped {
		known[c] = 0
	}
	unknown, err := o.Medium.Unknown(known)
	if err != nil {
		return nil, nil, err
	}
	if len(unknown) == 1 && unknown[0] == o.FileName(last+1) {
		return nil, []string{fmt.Sprintf("segment %s was begun before a crash, and the next start removes it", unknown[0])}, nil
	}
	for _, name := range unknown {
		found = append(found, Finding{Invariant: Files, Why: fmt.Sprintf("segment %s is not in the catalog", name)})
	}
	return found, nil, nil
}

// sealed checks the MACs of roots, and the files of domains.
func (o *CheckOptions) sealed(ctx context.Context) (found []Finding, err error) {
	roots, err := o.Catalog.SealedRoots(ctx)
	if err != nil {
		return []Finding{{Invariant: Readable, Why: err.Error()}}, ctx.Err()
	}
	type named struct {
		domain domain.Number
		arn    string
	}
	known := make(map[named]bool)
	for _, r := range roots {
		if n := (named{r.Domain, r.KMSKeyARN}); !known[n] {
			known[n] = true
			arn, err := o.ARN(r.Domain)
			switch {
			case err != nil:
				found = append(found, Finding{Invariant: Domain, Why: fmt.Sprintf("%s and others: %v", r.ID, err)})
			case arn != r.KMSKeyARN:
				found = append(found, Finding{Invariant: Domain, Why: fmt.Sprintf("%s and others: domain %v belongs to another KMS key", r.ID, r.Domain)})
			}
		}
		key := o.Key(ctx, r.Domain)
		if key == nil {
			continue
		}
		kind := domain.OwnMap
		if r.Pending {
			kind = domain.BaseMap
		}
		if key.Verify(r.MAC, kind, r.ID, r.VolumeGiB, r.Root.Root) != nil {
			found = append(found, Finding{Invariant: MAC, Why: fmt.Sprintf("%s: the root of its map is not the one that was recorded with its key", r.ID)})
		}
	}
	return found, nil
}

// Include takes findings in.
func (r *Report) Include(found []Finding) {
	for _, f := range found {
		r.add(f)
	}
}
