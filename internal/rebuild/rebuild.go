// Package rebuild makes a catalog anew from the segments alone: where every
// block and map node is from the frames, and what each completed snapshot is
// from its newest manifest. It writes to the new catalog and to nothing else.
//
// What no segment holds is lost: snapshots that were pending, users and roles
// with their policies, access keys and bearer tokens, client tokens, the settings
// of accounts.
package rebuild

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/domain"
	"shale/internal/manifest"
	"shale/internal/snapshot"
	"shale/internal/vfs"
)

const (
	// recordPage is how many records are added in a transaction.
	recordPage = 10_000
	// maxDamage bounds the list of damage in a Report.
	maxDamage = 1000
	// tail is what is read of the end of the last segments in any case: a
	// crash may have torn it.
	tail = blockstore.MaxUncommitted
)

// Options are what a rebuild needs.
type Options struct {
	Segments vfs.FS
	Catalog  *catalog.Catalog // fresh and empty
	// AccessKey gives the access key of an account: the one that is known of an
	// account of the name, or a new one.
	AccessKey func(account, name string) (key catalog.AccessKey, known bool, err error)
	// HasDomain reports whether the key of an encryption domain is there.
	HasDomain func(domain.Number) (bool, error)
	// Verify reads all blocks. Otherwise only what a crash may have torn is
	// read of them, and damage in the rest shows when it is read.
	Verify bool
	// Progress, if not nil, is told how many bytes of how many have been gone
	// through.
	Progress func(done, total int64)
}

// A Report says what came back, and what did not.
type Report struct {
	Segments     int   `json:"segments"`
	SegmentBytes int64 `json:"segment_bytes"`
	Blocks       int64 `json:"blocks"` // records, copies included
	Nodes        int64 `json:"nodes"`
	Manifests    int64 `json:"manifests"`

	Snapshots int       `json:"snapshots"`
	Binned    int       `json:"in_recycle_bin"`
	Deleted   int       `json:"deleted"`
	Accounts  []Account `json:"accounts"`

	// Incomplete are the snapshots that came back with parts missing.
	Incomplete []Incomplete `json:"incomplete,omitempty"`
	// Keyless are domains of encrypted snapshots whose file is missing.
	Keyless []string `json:"missing_domains,omitempty"`
	// Damage is what was found to be damaged, up to 1,000 places; Damaged
	// counts all.
	Damage  []string `json:"damage,omitempty"`
	Damaged int64    `json:"damaged"`
	// Ignored are files that are no segments of this store.
	Ignored []string `json:"ignored,omitempty"`
}

// An Account is one that owns snapshots.
type Account struct {
	ID     string `json:"account"`
	Name   string `json:"name"`
	NewKey bool   `json:"new_access_key"` // its access key could not be found
	// PublicBlocked are the regions in which it has public snapshots, which
	// nobody else sees until its owner unblocks public access: whether it was
	// blocked before is not known.
	PublicBlocked []string `json:"public_access_blocked,omitempty"`
}

// An Incomplete is a snapshot of which parts are missing.
type Incomplete struct {
	Snapshot string `json:"snapshot"`
	Blocks   int64  `json:"missing_blocks"`
	Why      string `json:"why,omitempty"` // the first thing that is missing
}

type rebuilder struct {
	o      Options
	scan   *segment.Scan
	report Report
	store  [16]byte
	newest map[string]catalog.RestoredManifest
	page   []catalog.RestoredRecord
	done   int64
	total  int64
}

// Run fills the catalog. What it cannot bring back is in the report; an error
// means that it ended before it was through, and that the catalog is of no use.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &rebuilder{o: o, scan: segment.NewScan(o.Segments), newest: make(map[string]catalog.RestoredManifest)}
	err := r.run(ctx)
	if err = errors.Join(err, r.scan.Close()); err != nil {
		return nil, err
	}
	return &r.report, nil
}

func (r *rebuilder) run(ctx context.Context) error {
	segments, err := r.find()
	if err != nil {
		return err
	}
	if _, _, err := r.o.Catalog.Setting(ctx, catalog.SettingStoreID, func() []byte { return r.store[:] }); err != nil {
		return err
	}
	lengths := make(map[blockstore.ContainerID]int64, len(segments))
	for i, f := range segments {
		if lengths[f.Container], err = r.segment(ctx, f, i >= len(segments)-2); err != nil {
			return err
		}
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := r.o.Catalog.Restorer().Containers(ctx, lengths); err != nil {
		return err
	}
	if err := r.snapshots(ctx); err != nil {
		return err
	}
	return r.check(ctx)
}

func (r *rebuilder) damaged(format string, args ...any) {
	if r.report.Damaged++; len(r.report.Damage) < maxDamage {
		r.report.Damage = append(r.report.Damage, fmt.Sprintf(format, args...))
	}
}

// find gives the segments of the store: of which there are most, if there are
// any of others.
func (r *rebuilder) find() ([]segment.Found, error) {
	found, others, err := r.scan.Segments()
	if err != nil {
		return nil, err
	}
	r.report.Ignored = others
	count := make(map[[16]byte]int)
	for _, f := range found {
		if f.Damaged == nil {
			count[f.Store]++
		}
	}
	if len(count) == 0 {
		_, _ = rand.Read(r.store[:]) // never fails
	}
	most := 0
	for _, f := range found {
		if f.Damaged == nil && count[f.Store] >= most { // of equals, that of the newest
			most, r.store = count[f.Store], f.Store
		}
	}
	found = slices.DeleteFunc(found, func(f segment.Found) bool {
		other := f.Damaged == nil && f.Store != r.store
		if other {
			r.report.Ignored = append(r.report.Ignored, fmt.Sprintf("segment %d, of another store", f.Container))
		}
		return other
	})
	for _, f := range found {
		r.total += f.Size
	}
	r.report.Segments, r.report.SegmentBytes = len(found), r.total
	return found, nil
}

// segment goes through a segment and gives the length up to which it is used.
func (r *rebuilder) segment(ctx context.Context, f segment.Found, last bool) (int64, error) {
	defer func(before int64) {
		r.done = before + f.Size
		r.progress(r.done)
	}(r.done)
	first := f.First
	if f.Damaged != nil {
		r.damaged("segment %d: %v", f.Container, f.Damaged)
		at, found, err := r.scan.FindFirst(ctx, f)
		if err != nil || !found {
			return max(f.Size&^4095, 4096), err
		}
		first = at
	}
	end := first.Offset
	var corrupt *blockstore.CorruptError // behind the last sound frame
	for frame, err := range blockstore.Frames(ctx, r.scan, first, f.Size) {
		if c, ok := errors.AsType[*blockstore.CorruptError](err); ok {
			corrupt = c
			continue
		}
		if err != nil {
			return 0, err
		}
		if corrupt != nil {
			r.damaged("%v", corrupt)
			corrupt = nil
		}
		verify := r.o.Verify || last && frame.Place.Offset >= f.Size-tail
		for i := range frame.Entries {
			if err := r.entry(ctx, f.Container, &frame.Entries[i], verify); err != nil {
				return 0, err
			}
		}
		end = frame.Place.Offset + frame.Length
		r.progress(r.done + end)
	}
	if corrupt != nil && (!last || f.Size-end > tail) { // else it is what a crash has left
		r.damaged("%v", corrupt)
	}
	if f.Size-end > tail {
		// More than a start cuts away as torn; it stays, and nothing more is
		// appended before it.
		end = f.Size &^ 4095
	}
	return end, nil
}

func (r *rebuilder) progress(done int64) {
	if r.o.Progress != nil {
		r.o.Progress(min(done, r.total), r.total)
	}
}

// entry takes in one record. What the map is made of, and what the snapshots
// are, is read in any case.
func (r *rebuilder) entry(ctx context.Context, c blockstore.ContainerID, e *blockstore.Entry, verify bool) error {
	rec := catalog.RestoredRecord{Stored: blockstore.Stored{Kind: e.Kind, ID: e.ID, Location: e.Location(c)}}
	var payload []byte
	var err error
	if verify || e.Kind != blockstore.KindBlock {
		payload, err = e.Verify(ctx, r.scan, c)
		if err == nil && e.Kind != blockstore.KindBlock && sha256.Sum256(payload) != e.ID {
			err = &blockstore.CorruptError{Container: c, Offset: e.Offset, Why: "it is not what its id names"}
		}
	}
	if corrupt, ok := errors.AsType[*blockstore.CorruptError](err); ok {
		r.damaged("%v", corrupt)
		rec.Damaged = true
	} else if err != nil {
		return err
	}
	switch e.Kind {
	case blockstore.KindBlock:
		r.report.Blocks++
	case blockstore.KindNode:
		r.report.Nodes++
	case blockstore.KindManifest:
		r.report.Manifests++
		if !rec.Damaged {
			if err := r.manifest(c, e, payload); err != nil {
				return err
			}
		}
	}
	if r.page = append(r.page, rec); len(r.page) < recordPage {
		return nil
	}
	return r.flush(ctx)
}

func (r *rebuilder) manifest(c blockstore.ContainerID, e *blockstore.Entry, payload []byte) error {
	m, err := manifest.Decode(payload)
	var version *manifest.VersionError
	if errors.As(err, &version) {
		return fmt.Errorf("container %d, offset %d: %w", c, e.Offset, err)
	}
	if err != nil {
		r.damaged("container %d, offset %d: %v", c, e.Offset, err)
		return nil
	}
	if old, found := r.newest[m.ID]; !found || m.Newer(old.Manifest) {
		r.newest[m.ID] = catalog.RestoredManifest{Manifest: m, Record: e.ID}
	}
	return nil
}

func (r *rebuilder) flush(ctx context.Context) error {
	// In the order of their ids, as the table is.
	slices.SortStableFunc(r.page, func(a, b catalog.RestoredRecord) int { return bytes.Compare(a.Stored.ID[:], b.Stored.ID[:]) })
	err := r.o.Catalog.Restorer().Records(ctx, r.page)
	r.page = r.page[:0]
	return err
}

// list gives the newest manifests in the order in which the snapshots were
// begun, each under a key of its own.
func (r *rebuilder) list() []catalog.RestoredManifest {
	list := slices.Collect(maps.Values(r.newest))
	key := func(m catalog.RestoredManifest) int64 {
		if m.Manifest.Snapshot == nil {
			return 0
		}
		return m.Manifest.Snapshot.Key
	}
	slices.SortFunc(list, func(a, b catalog.RestoredManifest) int {
		return cmp.Or(cmp.Compare(key(a), key(b)), cmp.Compare(a.Manifest.ID, b.Manifest.ID))
	})
	if len(list) == 0 {
		return nil
	}
	// Two have one key if a segment was away when the catalog was rebuilt
	// before, and is there again.
	next, last := key(list[len(list)-1])+1, int64(0)
	for _, m := range list {
		s := m.Manifest.Snapshot
		if s == nil {
			continue
		}
		if s.Key == last {
			s.Key = next
			next++
		} else {
			last = s.Key
		}
	}
	return list
}

// snapshots brings back accounts and snapshots.
func (r *rebuilder) snapshots(ctx context.Context) error {
	list := r.list()
	accounts := make(map[string]*Account)
	names := make(map[string]bool)
	domains := make(map[domain.Number]bool)
	for _, m := range list {
		s := m.Manifest.Snapshot
		switch m.Manifest.State {
		case manifest.Deleted:
			r.report.Deleted++
			continue
		case manifest.Binned:
			r.report.Binned++
		default:
			r.report.Snapshots++
		}
		a := accounts[s.Account]
		if a == nil {
			a = &Account{ID: s.Account, Name: s.AccountName}
			if a.Name == "" || names[a.Name] {
				a.Name = "account-" + a.ID
			}
			names[a.Name] = true
			accounts[s.Account] = a
			if err := r.account(ctx, a); err != nil {
				return err
			}
		}
		if slices.Contains(s.Grants, snapshot.Everybody) && !slices.Contains(a.PublicBlocked, s.Region) {
			a.PublicBlocked = append(a.PublicBlocked, s.Region)
			caller := snapshot.Caller{Account: s.Account, Region: s.Region}
			if err := r.o.Catalog.SetAccountSetting(ctx, caller, snapshot.SettingPublicAccess, string(snapshot.BlockAll)); err != nil {
				return err
			}
		}
		if s.Domain != domain.Unencrypted && !domains[s.Domain] {
			domains[s.Domain] = true
			there, err := r.o.HasDomain(s.Domain)
			if err != nil {
				return err
			}
			if !there {
				r.report.Keyless = append(r.report.Keyless, s.Domain.String())
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(accounts)) {
		r.report.Accounts = append(r.report.Accounts, *accounts[id])
	}
	for page := range slices.Chunk(list, 100) {
		if err := r.o.Catalog.Restorer().Snapshots(ctx, page); err != nil {
			return err
		}
	}
	return r.o.Catalog.Restorer().Families(ctx)
}

func (r *rebuilder) account(ctx context.Context, a *Account) error {
	key, known, err := r.o.AccessKey(a.ID, a.Name)
	if err != nil {
		return err
	}
	a.NewKey = !known
	return r.o.Catalog.CreateAccount(ctx, a.Name, key)
}

// check finds out which snapshots have parts missing. It goes from one to the
// next by what differs between them, if nothing of the one is missing.
func (r *rebuilder) check(ctx context.Context) error {
	var whole block.ID
	for _, m := range r.list() {
		s := m.Manifest.Snapshot
		if s == nil {
			continue
		}
		missing := Incomplete{Snapshot: m.Manifest.ID}
		for change, err := range blockmap.Diff(ctx, r, whole, block.ID(s.Root), 0) {
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				missing.Why = err.Error()
				break
			}
			if change.Second.IsZero() {
				continue
			}
			loc, found, err := r.o.Catalog.Locate(ctx, change.Second)
			if err != nil {
				return err
			}
			if !found || loc.Damaged {
				if missing.Blocks++; missing.Why == "" {
					missing.Why = fmt.Sprintf("block %d is missing or damaged", change.Index)
				}
			}
		}
		if missing.Why != "" {
			r.report.Incomplete = append(r.report.Incomplete, missing)
		} else {
			whole = block.ID(s.Root)
		}
	}
	return nil
}

// ReadNode implements blockmap.Reader.
func (r *rebuilder) ReadNode(ctx context.Context, id block.ID) ([]byte, error) {
	loc, found, err := r.o.Catalog.Locate(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !found || loc.Damaged:
		return nil, fmt.Errorf("map node %v is missing or damaged: %w", id, blockstore.ErrNotFound)
	}
	node := make([]byte, loc.Length)
	return node, r.scan.ReadAt(ctx, loc.Container, node, loc.Offset)
}
