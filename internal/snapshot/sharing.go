package snapshot

import (
	"context"
	"slices"
	"strings"

	"shale/internal/kms"
)

// Everybody stands in place of an account's number for all accounts: what is
// shared with it is public.
const Everybody = "all"

// Sharing is the part of a Catalog that keeps who may see a snapshot besides
// its owner. Of the public snapshots of an owner that hides them (BlockAll) no
// method but Grantees tells that they are public.
type Sharing interface {
	// Access tells by what right an account that is not the owner may see the
	// snapshot, as of the last change that was committed.
	Access(ctx context.Context, key int64, account string) (Access, error)
	// Shared gives the snapshots of other owners that the caller may see, by
	// start time and then ID, from after the cursor on.
	Shared(ctx context.Context, c Caller, after Cursor, limit int) ([]Snapshot, error)
	// Grants tells with which of the accounts, Everybody among them, each
	// snapshot of the list is shared, by the snapshot's Key.
	Grants(ctx context.Context, list []Snapshot, accounts []string) (map[int64][]string, error)
	// Grantees gives all with whom a snapshot is shared, Everybody first and
	// then by number.
	Grantees(ctx context.Context, key int64) ([]string, error)
	// Share shares a snapshot of the caller's own with more accounts. It is
	// not done if there is no such snapshot, or if Everybody is among them
	// while the caller blocks public access.
	Share(ctx context.Context, c Caller, id string, accounts []string) (done bool, err error)
	// Unshare takes back what Share gave, or with nil everything. It is not
	// done if the caller has no such snapshot.
	Unshare(ctx context.Context, c Caller, id string, accounts []string) (done bool, err error)
}

// Access is by what right an account may see a snapshot of another's.
type Access struct {
	Granted bool // shared with the account itself
	Public  bool // shared with everybody, and not hidden
}

// visible finds a snapshot that the caller may see in some way, as it stands
// at this moment: its own, or one that is shared or public. Its owner is found
// out about without a further look-up.
func (s *Service) visible(ctx context.Context, c Caller, id string) (Snapshot, Access, error) {
	snap, found, err := s.catalog.Snapshot(ctx, id)
	if err != nil {
		return Snapshot{}, Access{}, err
	}
	var access Access
	if found && snap.Region == c.Region && snap.Account != c.Account {
		if access, err = s.catalog.Access(ctx, snap.Key, c.Account); err != nil {
			return Snapshot{}, Access{}, err
		}
	}
	if !found || snap.Region != c.Region || snap.Account != c.Account && access == (Access{}) {
		return Snapshot{}, Access{}, &Error{Code: NotFound, Snapshot: id}
	}
	s.observe(&snap)
	if !s.veil(&snap) {
		return Snapshot{}, Access{}, &Error{Code: NotFound, Snapshot: id}
	}
	return snap, access, nil
}

// readable finds a snapshot whose blocks the caller may read. The right is
// looked up with each block: what is taken back ends at once, whatever tokens
// are about. Spec: ebs-direct §2.5.
func (s *Service) readable(ctx context.Context, c Caller, id string) (Snapshot, error) {
	snap, access, err := s.seen(ctx, c, id)
	switch {
	case err != nil:
		return Snapshot{}, err
	case snap.State != Completed, s.unreadable(id):
		return Snapshot{}, &Error{Code: NotFound, Snapshot: id}
	case access.Public:
		return Snapshot{}, &Error{Code: PublicUnsupported, Snapshot: id}
	}
	return snap, nil
}

// ShareRequest changes with whom a snapshot is shared.
type ShareRequest struct {
	SnapshotID string
	Accounts   []string // numbers, or Everybody
	DryRun     bool     // whose the snapshot is and whether the caller may, nothing changed
}

// admitShare finds the caller's own snapshot of which the request adds accounts
// to those that see it, or removes some, and is admit for that.
func (s *Service) admitShare(ctx context.Context, c Caller, r *ShareRequest, verb string) (Snapshot, error) {
	snap, err := s.own(ctx, c, r.SnapshotID)
	if err != nil {
		return Snapshot{}, s.storeError(err)
	}
	if c.free() {
		return snap, s.admit(ctx, c, &snap, need{action: ModifySnapshotAttribute})
	}
	accounts := slices.Clone(r.Accounts)
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	groups := slices.DeleteFunc(slices.Clone(accounts), func(a string) bool { return a != Everybody })
	users := slices.DeleteFunc(accounts, func(a string) bool { return a == Everybody })
	return snap, s.admit(ctx, c, &snap, need{action: ModifySnapshotAttribute, about: func(key string) []string {
		switch name, what, _ := strings.Cut(key, "/"); {
		case name != verb:
		case strings.EqualFold(what, "userId") && len(users) > 0:
			return users
		case strings.EqualFold(what, "group") && len(groups) > 0:
			return groups
		}
		return nil
	}})
}

// Prefixes of the condition keys of sharing. Spec: ec2-snapshots §6.1.
const (
	sharing   = "ec2:add"
	unsharing = "ec2:remove"
)

// Share shares a snapshot of the caller's own, in any state, with more
// accounts; that it is shared with one already, or that one is the owner, is no
// error. All of it is durable on return, or nothing. An encrypted snapshot is
// never public, and under a key that AWS manages it is nobody else's: no other
// account could use the key. Spec: ec2-snapshots §6.1.
func (s *Service) Share(ctx context.Context, c Caller, r ShareRequest) error {
	snap, err := s.admitShare(ctx, c, &r, sharing)
	if err != nil || r.DryRun {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(r.Accounts), func(a string) bool { return a == c.Account })
	if len(others) == 0 {
		return nil
	}
	public := slices.Contains(others, Everybody)
	if public && snap.KMSKeyARN != "" {
		return &Error{Code: EncryptedPublic, Snapshot: snap.ID}
	}
	if public {
		if err := s.checkPublic(ctx, c, snap.ID); err != nil {
			return err
		}
	}
	if snap.KMSKeyARN != "" {
		key, err := s.keyring.Check(ctx, c.kms(snap.ID), snap.KMSKeyARN, kms.DescribeKey)
		if err != nil {
			return s.storeError(keyError(err, useRead, c, snap.KMSKeyARN))
		}
		if key.Manager == kms.AWS {
			return &Error{Code: DefaultKeyShared, Snapshot: snap.ID}
		}
	}
	done, err := s.catalog.Share(ctx, c, snap.ID, others)
	if err == nil && !done { // it raced with a deletion, or with a block
		if _, err = s.own(ctx, c, snap.ID); err == nil {
			err = &Error{Code: PublicBlocked, Snapshot: snap.ID}
		}
	}
	if err == nil {
		err = s.describe(ctx, snap.ID)
	}
	return s.storeError(err)
}

func (s *Service) checkPublic(ctx context.Context, c Caller, id string) error {
	state, err := s.publicAccess(ctx, c)
	if err == nil && state != Unblocked {
		err = &Error{Code: PublicBlocked, Snapshot: id}
	}
	return err
}

// Unshare takes the right to see a snapshot of the caller's own back from the
// accounts. From its durable return on none of them reads a block, also not with
// a token that it has. Spec: ec2-snapshots §6.1.
func (s *Service) Unshare(ctx context.Context, c Caller, r ShareRequest) error {
	if _, err := s.admitShare(ctx, c, &r, unsharing); err != nil || r.DryRun {
		return err
	}
	if len(r.Accounts) == 0 { // which would be all
		return nil
	}
	return s.unshare(ctx, c, r.SnapshotID, r.Accounts)
}

func (s *Service) unshare(ctx context.Context, c Caller, id string, accounts []string) error {
	done, err := s.catalog.Unshare(ctx, c, id, accounts)
	if err == nil && !done {
		err = &Error{Code: NotFound, Snapshot: id}
	}
	if err == nil {
		err = s.describe(ctx, id)
	}
	return s.storeError(err)
}

// AttributeRequest is about all with whom a snapshot is shared.
type AttributeRequest struct {
	SnapshotID string
	DryRun     bool // whether the caller may, before the snapshot is looked for
}

// ResetSharing takes the right to see a snapshot of the caller's own back from
// all, like Unshare. Spec: ec2-snapshots §6.3.
func (s *Service) ResetSharing(ctx context.Context, c Caller, r AttributeRequest) error {
	if _, err := s.attribute(ctx, c, &r, ResetSnapshotAttribute); err != nil || r.DryRun {
		return err
	}
	return s.unshare(ctx, c, r.SnapshotID, nil)
}

// attribute finds the caller's own snapshot of a request that its policies judge
// first, whether there is such a snapshot or not. Spec: ec2-snapshots §1.5.
func (s *Service) attribute(ctx context.Context, c Caller, r *AttributeRequest, a Action) (Snapshot, error) {
	missing := error(&Error{Code: NotFound, Snapshot: r.SnapshotID})
	snap := Snapshot{ID: r.SnapshotID, Account: c.Account, Region: c.Region}
	if snapshotIDPattern.match(r.SnapshotID) {
		found, err := s.own(ctx, c, r.SnapshotID)
		if missing = err; err == nil {
			snap = found
		} else if !gone(err) {
			return Snapshot{}, s.storeError(err)
		}
	}
	if err := s.admit(ctx, c, &snap, need{action: a}); err != nil || r.DryRun {
		return Snapshot{}, err
	}
	return snap, missing
}

// Grantees gives all with whom a snapshot of the caller's own is shared,
// Everybody first and then by number. Spec: ec2-snapshots §6.2.
func (s *Service) Grantees(ctx context.Context, c Caller, r AttributeRequest) ([]string, error) {
	snap, err := s.attribute(ctx, c, &r, DescribeSnapshotAttribute)
	if err != nil || r.DryRun {
		return nil, err
	}
	list, err := s.catalog.Grantees(ctx, snap.Key)
	return list, s.storeError(err)
}
