package snapshot_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shale/internal/kms"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

var other = snapshottest.Other

func (f *fixture) share(id string, accounts ...string) {
	f.Helper()
	if err := f.Service.Share(f.Context(), caller, snapshot.ShareRequest{SnapshotID: id, Accounts: accounts}); err != nil {
		f.Fatalf("Share(%s, %v): %v", id, accounts, err)
	}
}

// From the moment that Unshare has returned no read begins that succeeds, for
// whoever has a token, and readers at the time get the right bytes or NotFound.
func TestRevokeAgainstReaders(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	f.mustPut(id, 0, data(1))
	f.complete(id, 1, nil)
	f.share(id, other.Account)
	page, err := f.Service.ListBlocks(t.Context(), other, snapshot.ListBlocksRequest{SnapshotID: id})
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		d, err := f.Service.GetBlock(t.Context(), other, snapshot.GetBlockRequest{SnapshotID: id, Index: 0, Token: &page.Blocks[0].Token})
		if err != nil {
			return err
		}
		defer d.Release()
		if digest(d.Bytes) != digest(data(1)) {
			return errors.New("other bytes")
		}
		return nil
	}
	for round := range 20 {
		var revoked sync.WaitGroup
		began, done := make(chan struct{}, 100), make(chan struct{})
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for {
					after := false
					select {
					case <-done:
						after = true
					default:
					}
					err := read()
					if err != nil && code(err) != snapshot.NotFound || after && err == nil {
						t.Errorf("round %d: read begun after the revocation: %v: got %v", round, after, err)
					}
					if after {
						return
					}
					select {
					case began <- struct{}{}:
					default:
					}
				}
			})
		}
		revoked.Go(func() {
			<-began
			if err := f.Service.Unshare(t.Context(), caller, snapshot.ShareRequest{SnapshotID: id, Accounts: []string{other.Account}}); err != nil {
				t.Error(err)
			}
			close(done)
		})
		revoked.Wait()
		readers.Wait()
		f.share(id, other.Account)
		if err := read(); err != nil {
			t.Fatalf("round %d: shared again: %v", round, err)
		}
	}
}

// Public access is blocked before a share or after it, never passed by.
func TestBlockAgainstPublicShare(t *testing.T) {
	f := newFixture(t)
	id := f.start("")
	stranger := snapshot.Caller{Account: "555566667777", Region: caller.Region}
	for range 20 {
		var both sync.WaitGroup
		both.Go(func() {
			err := f.Service.Share(t.Context(), caller, snapshot.ShareRequest{SnapshotID: id, Accounts: []string{snapshot.Everybody}})
			if err != nil && code(err) != snapshot.PublicBlocked {
				t.Errorf("Share: %v", err)
			}
		})
		both.Go(func() {
			if err := f.Service.SetPublicAccess(t.Context(), caller, snapshot.BlockAll); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if _, err := f.Service.Describe(t.Context(), stranger, snapshot.DescribeRequest{IDs: []string{id}}); code(err) != snapshot.NotFound {
			t.Errorf("while public access is blocked: got %v, want NotFound", err)
		}
		err := errors.Join(f.Service.SetPublicAccess(t.Context(), caller, snapshot.Unblocked),
			f.Service.ResetSharing(t.Context(), caller, snapshot.AttributeRequest{SnapshotID: id}))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Spec: ec2-snapshots §6.1.
func TestShareEncrypted(t *testing.T) {
	f := newFixture(t)
	arn := f.KMS.Create(caller.Account, caller.Region)
	encrypted := func(r snapshot.StartRequest) string {
		r.VolumeSize = new(int64(1))
		s, err := f.Service.Start(t.Context(), caller, r)
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	own := encrypted(snapshot.StartRequest{KMSKeyARN: &arn})
	managed := encrypted(snapshot.StartRequest{Encrypted: new(true)})
	for _, tt := range []struct {
		name     string
		id       string
		accounts []string
		want     snapshot.Code
	}{
		{"publicly", own, []string{snapshot.Everybody}, snapshot.EncryptedPublic},
		{"publicly and with an account", own, []string{other.Account, snapshot.Everybody}, snapshot.EncryptedPublic},
		{"publicly under the managed key", managed, []string{snapshot.Everybody}, snapshot.EncryptedPublic},
		{"with an account under the managed key", managed, []string{other.Account}, snapshot.DefaultKeyShared},
		{"with oneself under the managed key", managed, []string{caller.Account}, -1},
		{"with an account", own, []string{other.Account}, -1},
	} {
		err := f.Service.Share(t.Context(), caller, snapshot.ShareRequest{SnapshotID: tt.id, Accounts: tt.accounts})
		if code(err) != tt.want || tt.want == -1 && err != nil {
			t.Errorf("%s: got %v, want code %d", tt.name, err, tt.want)
		}
	}
	got, err := f.Service.Grantees(t.Context(), caller, snapshot.AttributeRequest{SnapshotID: own})
	if err != nil || !slices.Equal(got, []string{other.Account}) {
		t.Errorf("shared with %v, %v; want %s alone", got, err, other.Account)
	}
}

// Settings are of one account in one region, and outlive the process.
func TestSettings(t *testing.T) {
	f := newFixture(t)
	elsewhere := snapshot.Caller{Account: caller.Account, Region: "eu-west-1"}
	arn := f.KMS.Create(caller.Account, caller.Region)
	err := errors.Join(f.Service.SetPublicAccess(t.Context(), caller, snapshot.BlockNew),
		f.Service.SetEncryptionByDefault(t.Context(), caller, true), second(f.Service.SetDefaultKey(t.Context(), caller, arn)))
	if err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	for _, tt := range []struct {
		c      snapshot.Caller
		access snapshot.PublicAccess
		on     bool
		key    string
	}{
		{caller, snapshot.BlockNew, true, arn},
		{other, snapshot.Unblocked, false, kms.DefaultKeyAlias},
		{elsewhere, snapshot.Unblocked, false, kms.DefaultKeyAlias},
	} {
		access, err1 := f.Service.PublicAccess(t.Context(), tt.c)
		on, err2 := f.Service.EncryptionByDefault(t.Context(), tt.c)
		key, err3 := f.Service.DefaultKey(t.Context(), tt.c)
		if err := errors.Join(err1, err2, err3); err != nil || access != tt.access || on != tt.on || key != tt.key {
			t.Errorf("%+v: got %v %v %v %v", tt, access, on, key, err)
		}
	}
}

// A sharedModel is what one of the snapshots of TestSharingModel should be.
type sharedModel struct {
	id     string
	owner  string
	start  time.Time
	grants map[string]bool
	tags   map[string][]snapshot.Tag // by account
	gone   bool
}

// sharingMachine does random operations of three accounts on the service and
// on a model, and compares what each account then sees.
type sharingMachine struct {
	*fixture
	t         *rapid.T
	snapshots []*sharedModel
	access    map[string]snapshot.PublicAccess
}

var (
	modelAccounts = []string{caller.Account, other.Account, "555566667777"}
	modelKeys     = []string{"a", "b", "c", "d"}
)

func (m *sharingMachine) as(account string) snapshot.Caller {
	return snapshot.Caller{Account: account, Region: caller.Region}
}

func (m *sharingMachine) account() string {
	return rapid.SampledFrom(modelAccounts).Draw(m.t, "account")
}

func (m *sharingMachine) pick() *sharedModel {
	if len(m.snapshots) == 0 {
		m.t.Skip("no snapshots")
	}
	return rapid.SampledFrom(m.snapshots).Draw(m.t, "snapshot")
}

func (m *sharingMachine) visible(s *sharedModel, account string) bool {
	public := s.grants[snapshot.Everybody] && m.access[s.owner] != snapshot.BlockAll
	return !s.gone && (s.owner == account || s.grants[account] || public)
}

func (m *sharingMachine) expect(what string, err error, want snapshot.Code) {
	if code(err) != want || want == -1 && err != nil {
		m.t.Fatalf("%s: got %v, want code %d", what, err, want)
	}
}

func (m *sharingMachine) Start(t *rapid.T) {
	m.t = t
	owner := rapid.SampledFrom(modelAccounts[:2]).Draw(t, "owner")
	if rapid.Bool().Draw(t, "later") { // or at the same moment as the last
		m.Clock.Advance(time.Millisecond)
	}
	s, err := m.Service.Start(m.Context(), m.as(owner), snapshot.StartRequest{VolumeSize: ptr(int64(1)), Timeout: ptr(int64(4320))})
	m.expect("Start", err, -1)
	m.snapshots = append(m.snapshots, &sharedModel{
		id: s.ID, owner: owner, start: s.StartTime, grants: map[string]bool{}, tags: map[string][]snapshot.Tag{},
	})
}

func (m *sharingMachine) Share(t *rapid.T) {
	m.t = t
	s, by := m.pick(), m.account()
	with := rapid.SliceOfNDistinct(rapid.SampledFrom(append([]string{snapshot.Everybody}, modelAccounts...)), 1, 3, rapid.ID).Draw(t, "with")
	want := snapshot.Code(-1)
	switch {
	case s.gone || s.owner != by:
		want = snapshot.NotFound
	case slices.Contains(with, snapshot.Everybody) && m.access[by] != "":
		want = snapshot.PublicBlocked
	default:
		for _, a := range with {
			if a != by {
				s.grants[a] = true
			}
		}
	}
	m.expect("Share", m.Service.Share(m.Context(), m.as(by), snapshot.ShareRequest{SnapshotID: s.id, Accounts: with}), want)
}

func (m *sharingMachine) Unshare(t *rapid.T) {
	m.t = t
	s, by := m.pick(), m.account()
	var with []string
	if rapid.Bool().Draw(t, "some") {
		with = []string{rapid.SampledFrom(append([]string{snapshot.Everybody}, modelAccounts...)).Draw(t, "with")}
	}
	want := snapshot.Code(-1)
	if s.gone || s.owner != by {
		want = snapshot.NotFound
	} else {
		maps.DeleteFunc(s.grants, func(a string, _ bool) bool { return with == nil || slices.Contains(with, a) })
	}
	if with == nil {
		m.expect("ResetSharing", m.Service.ResetSharing(m.Context(), m.as(by), snapshot.AttributeRequest{SnapshotID: s.id}), want)
		return
	}
	m.expect("Unshare", m.Service.Unshare(m.Context(), m.as(by), snapshot.ShareRequest{SnapshotID: s.id, Accounts: with}), want)
}

func (m *sharingMachine) Block(t *rapid.T) {
	m.t = t
	by := m.account()
	p := rapid.SampledFrom([]snapshot.PublicAccess{snapshot.Unblocked, snapshot.BlockNew, snapshot.BlockAll}).Draw(t, "access")
	m.access[by] = p
	if p == snapshot.Unblocked {
		delete(m.access, by)
	}
	m.expect("SetPublicAccess", m.Service.SetPublicAccess(m.Context(), m.as(by), p), -1)
}

func (m *sharingMachine) Delete(t *rapid.T) {
	m.t = t
	s, by := m.pick(), m.account()
	want := snapshot.Code(-1)
	if s.gone || s.owner != by {
		want = snapshot.NotFound
	} else {
		s.gone = true
	}
	m.expect("Delete", m.Service.Delete(m.Context(), m.as(by), s.id), want)
}

func (m *sharingMachine) Tag(t *rapid.T) {
	m.t = t
	a, b, by := m.pick(), m.pick(), m.account()
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom(modelKeys), 1, 3, rapid.ID).Draw(t, "keys")
	var tags []snapshot.Tag
	for _, k := range keys {
		tags = append(tags, snapshot.Tag{Key: k, Value: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "value")})
	}
	err := m.Service.CreateTags(m.Context(), m.as(by), snapshot.TagRequest{IDs: []string{a.id, b.id}, Tags: tags})
	if !m.visible(a, by) || !m.visible(b, by) {
		m.expect("CreateTags", err, snapshot.NotFound)
		return
	}
	m.expect("CreateTags", err, -1)
	for _, s := range []*sharedModel{a, b} {
		for _, tag := range tags {
			if i := slices.IndexFunc(s.tags[by], func(t snapshot.Tag) bool { return t.Key == tag.Key }); i >= 0 {
				s.tags[by][i].Value = tag.Value
			} else {
				s.tags[by] = append(s.tags[by], tag)
			}
		}
	}
}

func (m *sharingMachine) Untag(t *rapid.T) {
	m.t = t
	s, by := m.pick(), m.account()
	var matches []snapshot.TagMatch
	if rapid.Bool().Draw(t, "some") {
		matches = append(matches, snapshot.TagMatch{Key: rapid.SampledFrom(modelKeys).Draw(t, "key")})
		if rapid.Bool().Draw(t, "with a value") {
			matches[0].Value = ptr(rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "value"))
		}
	}
	err := m.Service.DeleteTags(m.Context(), m.as(by), snapshot.UntagRequest{IDs: []string{s.id}, Matches: matches})
	if s.gone || !m.visible(s, by) && len(s.tags[by]) == 0 {
		m.expect("DeleteTags", err, snapshot.NotFound)
		return
	}
	m.expect("DeleteTags", err, -1)
	s.tags[by] = slices.DeleteFunc(s.tags[by], func(t snapshot.Tag) bool {
		return matches == nil || t.Key == matches[0].Key && (matches[0].Value == nil || *matches[0].Value == t.Value)
	})
}

// Restart opens the catalog again, now and then.
func (m *sharingMachine) Restart(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
		m.Env.Restart(m.TB)
	}
}

// Check compares what an account sees, selected in one of the ways that there
// are, and page by page.
func (m *sharingMachine) Check(t *rapid.T) {
	m.t = t
	account := m.account()
	m.compare(account, snapshot.DescribeRequest{MaxResults: ptr(int64(rapid.IntRange(1, 4).Draw(t, "page")))}, "")
	m.compare(account, snapshot.DescribeRequest{}, rapid.SampledFrom(append([]string{"self", "all"}, modelAccounts...)).Draw(t, "by"))
	m.compareTags(account)
}

func (m *sharingMachine) compare(account string, r snapshot.DescribeRequest, by string) {
	type seen struct {
		ID   string
		Tags []snapshot.Tag
	}
	all := slices.Clone(m.snapshots)
	slices.SortFunc(all, func(a, b *sharedModel) int { return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.id, b.id)) })
	var want, got []seen
	for _, s := range all {
		mine, public := s.owner == account, s.grants[snapshot.Everybody] && m.access[s.owner] != snapshot.BlockAll
		keep := m.visible(s, account)
		switch by {
		case "":
		case "self", account:
			keep = keep && (mine || s.grants[account])
		case snapshot.Everybody:
			keep = keep && public
		default:
			keep = keep && mine && s.grants[by]
		}
		if keep {
			want = append(want, seen{s.id, s.tags[account]})
		}
	}
	if by != "" {
		r.RestorableBy = []string{by}
	}
	for {
		page, err := m.Service.Describe(m.Context(), m.as(account), r)
		m.expect("Describe", err, -1)
		for _, s := range page.Snapshots {
			got = append(got, seen{s.ID, s.Tags})
		}
		if page.NextToken == "" {
			break
		}
		if len(page.Snapshots) != int(*r.MaxResults) {
			m.t.Fatalf("a page of %d, not %d", len(page.Snapshots), *r.MaxResults)
		}
		r.NextToken = &page.NextToken
	}
	normal := func(list []seen) string { return fmt.Sprint(list) } // nil tags are no tags
	if normal(got) != normal(want) {
		m.t.Fatalf("%s, restorable by %q (-want +got):\n%s", account, by, gocmp.Diff(want, got))
	}
}

func (m *sharingMachine) compareTags(account string) {
	var want, got []string
	for _, s := range m.snapshots { // in the order of their keys
		for _, t := range s.tags[account] {
			if !s.gone {
				want = append(want, s.id+" "+t.Key+"="+t.Value)
			}
		}
	}
	r := snapshot.ListTagsRequest{MaxResults: ptr(int64(rapid.IntRange(1, 4).Draw(m.t, "page of tags")))}
	for {
		page, err := m.Service.ListTags(m.Context(), m.as(account), r)
		m.expect("ListTags", err, -1)
		for _, t := range page.Tags {
			got = append(got, t.SnapshotID+" "+t.Tag.Key+"="+t.Tag.Value)
		}
		if page.NextToken == "" {
			break
		}
		r.NextToken = &page.NextToken
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("tags of %s (-want +got):\n%s", account, gocmp.Diff(want, got))
	}
}

// Whatever accounts do to one another, each sees what is its own, shared with
// it or public, with its own tags. Spec: ec2-snapshots §2, §4, §6.
func TestSharingModel(t *testing.T) {
	beside(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := &sharingMachine{fixture: newFixture(t), t: rt, access: map[string]snapshot.PublicAccess{}}
		defer m.Stop(t)
		rt.Repeat(map[string]func(*rapid.T){
			"Start": m.Start, "Share": m.Share, "Unshare": m.Unshare, "Block": m.Block, "Delete": m.Delete,
			"Tag": m.Tag, "Untag": m.Untag, "Restart": m.Restart, "": m.Check,
		})
	})
}

// A recipient is not told what the owner's snapshot was made from.
func TestParentIsTheOwnersAffair(t *testing.T) {
	f := newFixture(t)
	parent := f.start("")
	f.complete(parent, 0, nil)
	child := f.start(parent)
	f.share(child, other.Account)
	for c, want := range map[snapshot.Caller]int{caller: 1, other: 0} {
		page, err := f.Service.Describe(t.Context(), c, snapshot.DescribeRequest{
			Filters: []snapshot.Filter{{Name: "parent-snapshot-id", Values: []string{"snap-*"}}},
		})
		if err != nil || len(page.Snapshots) != want {
			t.Errorf("%s finds %d children, %v; want %d", c.Account, len(page.Snapshots), err, want)
		}
		page, err = f.Service.Describe(t.Context(), c, snapshot.DescribeRequest{IDs: []string{child}})
		if err != nil || (page.Snapshots[0].ParentID == parent) != (want == 1) {
			t.Errorf("%s sees the parent %q, %v", c.Account, page.Snapshots[0].ParentID, err)
		}
	}
}
