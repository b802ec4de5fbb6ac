package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// user is a user of the first account.
func (f *fixture) user(statements ...string) snapshot.Caller {
	f.Helper()
	return snapshottest.User(f, caller, "uma", statements...)
}

var (
	allow     = snapshottest.Allow
	deny      = snapshottest.Deny
	statement = snapshottest.Statement
)

const anySnapshot = "arn:aws:ec2:us-east-1::snapshot/*"

// completed makes a completed snapshot with one block, and gives its token.
func (f *fixture) completed(parent string, tags ...snapshot.Tag) (id, token string) {
	f.Helper()
	r := snapshot.StartRequest{Tags: tags}
	if parent != "" {
		r.ParentSnapshotID = &parent
	}
	snap, err := f.startWith(r)
	if err != nil {
		f.Fatal(err)
	}
	f.mustPut(snap.ID, 0, data(1))
	f.complete(snap.ID, 1, nil)
	return snap.ID, f.token(snap.ID)
}

// wantDenied fails unless err says that the user may not do the action to the
// resource, for a reason that begins so.
func wantDenied(t testing.TB, err error, action, resource, why string) {
	t.Helper()
	d, ok := errors.AsType[*policy.Denied](err)
	if !ok || d.Action != action || resource != "" && d.Resource != resource || !strings.HasPrefix(d.Why, why) {
		t.Errorf("got %v, want %s on %s denied %s", err, action, resource, why)
	}
}

// A probe is an operation that is done on a service with a completed snapshot, a
// child of it, one that is pending, one that is locked and one in the bin.
type probe struct {
	f                                   *fixture
	done, token, child, pending, binned string
}

func newProbe(t testing.TB) *probe {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	p := &probe{f: f}
	p.done, p.token = f.completed("", snapshot.Tag{Key: "old", Value: "1"})
	p.child, _ = f.completed(p.done)
	p.binned, _ = f.completed("")
	p.pending = f.start("")
	if err := f.Service.Delete(t.Context(), caller, p.binned); err != nil {
		t.Fatal(err)
	}
	return p
}

// operations are all of the service, with all the actions that each asks for.
// One that is there twice asks for other actions with other requests.
var operations = []struct {
	method  string
	actions string
	do      func(context.Context, *probe, snapshot.Caller) error
}{
	{"Start", "ebs:StartSnapshot", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Start(ctx, c, snapshot.StartRequest{VolumeSize: ptr(int64(1))})
		return err
	}},
	{"Start", "ebs:StartSnapshot,ec2:CreateTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Start(ctx, c, snapshot.StartRequest{VolumeSize: ptr(int64(1)), ParentSnapshotID: &p.done, Tags: []snapshot.Tag{{Key: "k"}}})
		return err
	}},
	{"PutBlock", "ebs:PutSnapshotBlock", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.PutBlock(ctx, c, snapshot.PutBlockRequest{SnapshotID: p.pending, ChecksumOptional: true, Body: bytes.NewReader(data(2))})
		return err
	}},
	{"ListPending", "ebs:ListSnapshotBlocks", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.ListPending(ctx, c, snapshot.ListBlocksRequest{SnapshotID: p.pending})
		return err
	}},
	{"Complete", "ebs:CompleteSnapshot", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Complete(ctx, c, snapshot.CompleteRequest{SnapshotID: p.pending, ChangedBlocks: ptr(int64(1))})
		return err
	}},
	{"ListBlocks", "ebs:ListSnapshotBlocks", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.ListBlocks(ctx, c, snapshot.ListBlocksRequest{SnapshotID: p.done})
		return err
	}},
	{"ListChangedBlocks", "ebs:ListChangedBlocks", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.ListChangedBlocks(ctx, c, snapshot.ListChangedRequest{FirstSnapshotID: &p.done, SecondSnapshotID: p.child})
		return err
	}},
	{"GetBlock", "ebs:GetSnapshotBlock", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		d, err := p.f.Service.GetBlock(ctx, c, snapshot.GetBlockRequest{SnapshotID: p.done, Token: &p.token})
		if err == nil {
			d.Release()
		}
		return err
	}},
	{"OpenImage", "ebs:ListSnapshotBlocks,ebs:GetSnapshotBlock", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.OpenImage(ctx, c, p.done)
		return err
	}},
	{"Extents", "ebs:ListSnapshotBlocks,ebs:GetSnapshotBlock", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		for _, err := range p.f.Service.Extents(ctx, c, p.done) {
			return err
		}
		return nil
	}},
	{"Diff", "ebs:ListChangedBlocks,ebs:GetSnapshotBlock", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		for _, err := range p.f.Service.Diff(ctx, c, p.done, p.child) {
			return err
		}
		return nil
	}},
	{"Describe", "ec2:DescribeSnapshots", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Describe(ctx, c, snapshot.DescribeRequest{})
		return err
	}},
	{"CreateTags", "ec2:CreateTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.CreateTags(ctx, c, snapshot.TagRequest{IDs: []string{p.done, p.child}, Tags: []snapshot.Tag{{Key: "k"}}})
	}},
	{"CheckTags", "ec2:CreateTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.CheckTags(ctx, c, snapshot.TagRequest{IDs: []string{p.done}, Tags: []snapshot.Tag{{Key: "k"}}})
	}},
	{"DeleteTags", "ec2:DeleteTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.DeleteTags(ctx, c, snapshot.UntagRequest{IDs: []string{p.done, p.child}, Matches: []snapshot.TagMatch{{Key: "k"}}})
	}},
	{"CheckUntag", "ec2:DeleteTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.CheckUntag(ctx, c, snapshot.UntagRequest{IDs: []string{p.done}})
	}},
	{"SetTags", "ec2:CreateTags,ec2:DeleteTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.SetTags(ctx, c, p.done, []snapshot.Tag{{Key: "new"}}) // in place of "old"
		return err
	}},
	{"SetTags", "ec2:CreateTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.SetTags(ctx, c, p.done, []snapshot.Tag{{Key: "new"}, {Key: "more"}}) // in place of "new"
		return err
	}},
	{"RemoveTag", "ec2:DeleteTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.RemoveTag(ctx, c, p.done, "new")
		return err
	}},
	{"ListTags", "ec2:DescribeTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.ListTags(ctx, c, snapshot.ListTagsRequest{})
		return err
	}},
	{"Share", "ec2:ModifySnapshotAttribute", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.Share(ctx, c, snapshot.ShareRequest{SnapshotID: p.done, Accounts: []string{other.Account}})
	}},
	{"Unshare", "ec2:ModifySnapshotAttribute", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.Unshare(ctx, c, snapshot.ShareRequest{SnapshotID: p.done, Accounts: []string{other.Account}})
	}},
	{"Grantees", "ec2:DescribeSnapshotAttribute", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Grantees(ctx, c, snapshot.AttributeRequest{SnapshotID: p.done})
		return err
	}},
	{"ResetSharing", "ec2:ResetSnapshotAttribute", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.ResetSharing(ctx, c, snapshot.AttributeRequest{SnapshotID: p.done})
	}},
	{"Copy", "ec2:CopySnapshot,ec2:CreateTags", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Copy(ctx, c, snapshot.CopyRequest{SourceRegion: c.Region, SourceID: p.done, Tags: []snapshot.Tag{{Key: "k"}}})
		return err
	}},
	{"Lock", "ec2:LockSnapshot", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Lock(ctx, c, snapshot.LockRequest{SnapshotID: p.done, Days: ptr(int64(1))})
		return err
	}},
	{"Locks", "ec2:DescribeLockedSnapshots", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Locks(ctx, c, snapshot.LocksRequest{})
		return err
	}},
	{"Unlock", "ec2:UnlockSnapshot", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.Unlock(ctx, c, snapshot.UnlockRequest{SnapshotID: p.done})
	}},
	{"Bin", "ec2:ListSnapshotsInRecycleBin", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Bin(ctx, c, snapshot.BinRequest{})
		return err
	}},
	{"Restore", "ec2:RestoreSnapshotFromRecycleBin", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.Restore(ctx, c, snapshot.RestoreRequest{SnapshotID: p.binned})
		return err
	}},
	{"PublicAccess", "ec2:GetSnapshotBlockPublicAccessState", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.PublicAccess(ctx, c)
		return err
	}},
	{"SetPublicAccess", "ec2:EnableSnapshotBlockPublicAccess", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.SetPublicAccess(ctx, c, snapshot.BlockAll)
	}},
	{"SetPublicAccess", "ec2:DisableSnapshotBlockPublicAccess", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.SetPublicAccess(ctx, c, snapshot.Unblocked)
	}},
	{"EncryptionByDefault", "ec2:GetEbsEncryptionByDefault", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.EncryptionByDefault(ctx, c)
		return err
	}},
	{"SetEncryptionByDefault", "ec2:EnableEbsEncryptionByDefault", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.SetEncryptionByDefault(ctx, c, true)
	}},
	{"SetEncryptionByDefault", "ec2:DisableEbsEncryptionByDefault", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.SetEncryptionByDefault(ctx, c, false)
	}},
	{"DefaultKey", "ec2:GetEbsDefaultKmsKeyId", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.DefaultKey(ctx, c)
		return err
	}},
	{"SetDefaultKey", "ec2:ModifyEbsDefaultKmsKeyId,kms:GenerateDataKey", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.SetDefaultKey(ctx, c, "alias/aws/ebs")
		return err
	}},
	{"ResetDefaultKey", "ec2:ResetEbsDefaultKmsKeyId,kms:GenerateDataKey", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		_, err := p.f.Service.ResetDefaultKey(ctx, c)
		return err
	}},
	{"CheckAction", "ec2:GetEbsDefaultKmsKeyId", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.CheckAction(ctx, c, snapshot.GetEbsDefaultKmsKeyID)
	}},
	{"CheckDelete", "ec2:DeleteSnapshot", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.CheckDelete(ctx, c, p.child)
	}},
	{"Delete", "ec2:DeleteSnapshot", func(ctx context.Context, p *probe, c snapshot.Caller) error {
		return p.f.Service.Delete(ctx, c, p.child)
	}},
}

// askless are the methods with a caller that ask nothing, because what they are
// given has been found by one that has.
var askless = []string{"Compare", "FillUsage"}

// Whatever the service does for a caller it asks the caller's policies for: with
// none it does nothing, with all but one of the actions neither, and with just
// those it does it.
func TestEveryOperationAsks(t *testing.T) {
	p := newProbe(t)
	for _, o := range operations {
		actions := strings.Split(o.actions, ",")
		wantDenied(t, o.do(t.Context(), p, p.f.user()), actions[0], "", "because no identity-based policy allows the "+actions[0]+" action")
		for _, action := range actions {
			if strings.HasPrefix(action, "kms:") {
				if err := o.do(t.Context(), p, p.f.user(allow("*"), deny(action))); code(err) != snapshot.InvalidKey {
					t.Errorf("%s without %s: got %v", o.method, action, err)
				}
				continue
			}
			wantDenied(t, o.do(t.Context(), p, p.f.user(allow("*"), deny(action))), action, "", "with an explicit deny in an identity-based policy")
		}
		if err := o.do(t.Context(), p, p.f.user(allow(o.actions))); err != nil {
			t.Errorf("%s, allowed: got %v", o.method, err)
		}
	}
	service, callers := reflect.TypeFor[*snapshot.Service](), reflect.TypeFor[snapshot.Caller]()
	for i := range service.NumMethod() {
		m := service.Method(i)
		takes := false
		for n := range m.Type.NumIn() {
			takes = takes || m.Type.In(n) == callers
		}
		known := slices.Contains(askless, m.Name)
		for _, o := range operations {
			known = known || o.method == m.Name
		}
		if takes && !known {
			t.Errorf("nobody knows whether %s asks the caller's policies", m.Name)
		}
	}
}

// The read set and the write set of the documentation do what they are for, and
// nothing else. Spec: ebs-direct §11.3.
func TestSets(t *testing.T) {
	read := statement("Allow", "ebs:ListSnapshotBlocks,ebs:ListChangedBlocks,ebs:GetSnapshotBlock", anySnapshot, "")
	write := statement("Allow", "ebs:StartSnapshot,ebs:PutSnapshotBlock,ebs:CompleteSnapshot", anySnapshot, "")
	for name, set := range map[string]struct{ policy, may string }{
		"read":  {read, "ListBlocks ListChangedBlocks GetBlock OpenImage Extents Diff ListPending"},
		"write": {write, "Start PutBlock Complete"},
		"all":   {allow("ebs:*"), "ListBlocks ListChangedBlocks GetBlock OpenImage Extents Diff ListPending Start PutBlock Complete"},
	} {
		p := newProbe(t)
		u := p.f.user(set.policy)
		for _, o := range operations {
			err := o.do(t.Context(), p, u)
			want := slices.Contains(strings.Fields(set.may), o.method) && !strings.Contains(o.actions, "ec2:")
			if _, denied := errors.AsType[*policy.Denied](err); denied == want || want && err != nil {
				t.Errorf("%s set: %s: got %v", name, o.method, err)
			}
		}
	}
}

// Spec: ebs-direct §11.2, §11.3.
func TestPatterns(t *testing.T) {
	f := newFixture(t)
	red, redToken := f.completed("", snapshot.Tag{Key: "Team", Value: "RED"})
	blue, _ := f.completed("", snapshot.Tag{Key: "Team", Value: "blue"})
	child, _ := f.completed(red, snapshot.Tag{Key: "Team", Value: "blue"})
	list := func(c snapshot.Caller, id string) error {
		_, err := f.Service.ListBlocks(t.Context(), c, snapshot.ListBlocksRequest{SnapshotID: id})
		return err
	}
	start := func(r snapshot.StartRequest) func(snapshot.Caller) error {
		r.VolumeSize = ptr(int64(3))
		return func(c snapshot.Caller) error { _, err := f.Service.Start(t.Context(), c, r); return err }
	}
	lists := func(id string) func(snapshot.Caller) error {
		return func(c snapshot.Caller) error { return list(c, id) }
	}
	changed := func(c snapshot.Caller) error {
		_, err := f.Service.ListChangedBlocks(t.Context(), c, snapshot.ListChangedRequest{FirstSnapshotID: &red, SecondSnapshotID: child})
		return err
	}
	get := func(c snapshot.Caller) error {
		d, err := f.Service.GetBlock(t.Context(), c, snapshot.GetBlockRequest{SnapshotID: red, Token: &redToken})
		if err == nil {
			d.Release()
		}
		return err
	}
	tagged := snapshot.StartRequest{Tags: []snapshot.Tag{{Key: "Team", Value: "red"}, {Key: "Cost", Value: "1"}}}
	child1 := snapshot.StartRequest{ParentSnapshotID: &red}
	arn := func(id string) string { return strings.Replace(anySnapshot, "*", id, 1) }
	gate := func(actions string) string {
		return statement("Allow", actions, anySnapshot, `{"StringEqualsIgnoreCase":{"aws:ResourceTag/Team":"red"}}`)
	}
	onlyChildren := statement("Allow", "ebs:StartSnapshot", "*", `{"StringLike":{"ebs:ParentSnapshot":"arn:aws:ec2:*::snapshot/*"}}`)
	onlyKeys := statement("Allow", "ebs:StartSnapshot,ec2:CreateTags", "*", `{"ForAllValues:StringEquals":{"aws:TagKeys":["Team","Cost"]}}`)
	window := statement("Allow", "ebs:*", "*", `{"DateGreaterThan":{"aws:CurrentTime":"2026-09-25T00:00:00Z"},"DateLessThan":{"aws:CurrentTime":"2026-09-26T00:00:00Z"}}`)
	for _, tt := range []struct {
		name     string
		policies []string
		do       func(snapshot.Caller) error
		action   string // that is denied; empty if none is
		resource string
	}{
		{"one snapshot", []string{statement("Allow", "ebs:*", arn(red), "")}, lists(red), "", ""},
		{"another", []string{statement("Allow", "ebs:*", arn(red), "")}, lists(blue), "ebs:ListSnapshotBlocks", arn(blue)},
		{"an ARN with the account", []string{statement("Allow", "ebs:*", "arn:aws:ec2:us-east-1:"+caller.Account+":snapshot/*", "")}, lists(red), "ebs:ListSnapshotBlocks", arn(red)},
		{"tag gate", []string{gate("ebs:*")}, lists(red), "", ""},
		{"tag gate, another value", []string{gate("ebs:*")}, lists(blue), "ebs:ListSnapshotBlocks", arn(blue)},
		{"tag gate, the key in another case", []string{strings.Replace(gate("ebs:*"), "/Team", "/team", 1)}, lists(red), "", ""},
		{"tag gate, each block", []string{gate("ebs:*")}, get, "", ""},
		{"changes need both", []string{gate("ebs:*")}, changed, "ebs:ListChangedBlocks", arn(child)},
		{"changes need both, the first", []string{statement("Allow", "ebs:*", arn(child), "")}, changed, "ebs:ListChangedBlocks", arn(red)},
		{"changes of both", []string{statement("Allow", "ebs:*", arn(child)+","+arn(red), "")}, changed, "", ""},
		{"a token in hand needs no listing", []string{allow("ebs:*"), deny("ebs:ListSnapshotBlocks")}, get, "", ""},
		{"nor a description", []string{allow("ebs:*"), deny("ec2:DescribeSnapshots")}, lists(red), "", ""},
		{"within the time window", []string{window}, lists(red), "", ""},
		{"outside", []string{strings.ReplaceAll(window, "2026-09-2", "2027-09-2")}, lists(red), "ebs:ListSnapshotBlocks", arn(red)},

		{"start, anywhere", []string{allow("ebs:StartSnapshot")}, start(snapshot.StartRequest{}), "", ""},
		{"start, any snapshot", []string{statement("Allow", "ebs:StartSnapshot", anySnapshot, "")}, start(snapshot.StartRequest{}), "", ""},
		{"start, one snapshot", []string{statement("Allow", "ebs:StartSnapshot", arn(red), "")}, start(snapshot.StartRequest{}), "ebs:StartSnapshot", arn("null")},
		{"a child, one snapshot", []string{statement("Allow", "ebs:StartSnapshot", arn(red), "")}, start(child1), "", ""},
		{"a child, another", []string{statement("Allow", "ebs:StartSnapshot", arn(blue), "")}, start(child1), "ebs:StartSnapshot", arn(red)},
		{"a child, the parent's tags", []string{gate("ebs:StartSnapshot")}, start(child1), "", ""},
		{"a child needs no right to read", []string{allow("ebs:StartSnapshot"), deny("ebs:ListSnapshotBlocks,ebs:GetSnapshotBlock")}, start(child1), "", ""},
		{"no parent: the request's tags", []string{gate("ebs:StartSnapshot"), allow("ec2:CreateTags")}, start(tagged), "", ""},
		{"no parent, no tags", []string{gate("ebs:StartSnapshot"), allow("ec2:CreateTags")}, start(snapshot.StartRequest{}), "ebs:StartSnapshot", arn("null")},
		{"only with a parent", []string{onlyChildren}, start(child1), "", ""},
		{"only with a parent, without", []string{onlyChildren}, start(snapshot.StartRequest{}), "ebs:StartSnapshot", arn("null")},
		{"only with that parent", []string{statement("Allow", "ebs:StartSnapshot", "*", `{"ArnLike":{"ebs:ParentSnapshot":"`+arn(blue)+`"}}`)}, start(child1), "ebs:StartSnapshot", arn(red)},
		{"only these tag keys", []string{onlyKeys}, start(tagged), "", ""},
		{"only these tag keys, another", []string{onlyKeys}, start(snapshot.StartRequest{Tags: []snapshot.Tag{{Key: "x"}}}), "ebs:StartSnapshot", arn("null")},
		{"a request tag", []string{statement("Allow", "ebs:StartSnapshot", "*", `{"StringEquals":{"aws:RequestTag/Cost":"1"}}`), allow("ec2:CreateTags")}, start(tagged), "", ""},
		{"tags need CreateTags", []string{allow("ebs:*")}, start(tagged), "ec2:CreateTags", anySnapshot},
		{"tags under CreateAction", []string{allow("ebs:*"), statement("Allow", "ec2:CreateTags", "*", `{"StringEquals":{"ec2:CreateAction":["CreateSnapshot","StartSnapshot"]}}`)}, start(tagged), "ec2:CreateTags", anySnapshot},
		{"volume size", []string{statement("Allow", "ebs:StartSnapshot", "*", `{"NumericLessThanEquals":{"ebs:VolumeSize":"3"}}`)}, start(snapshot.StartRequest{}), "", ""},
		{"volume size, too large", []string{statement("Allow", "ebs:StartSnapshot", "*", `{"NumericLessThan":{"ebs:VolumeSize":"3"}}`)}, start(snapshot.StartRequest{}), "ebs:StartSnapshot", arn("null")},
		{"description", []string{statement("Allow", "ebs:StartSnapshot", "*", `{"StringLike":{"ebs:Description":"nightly*"}}`)}, start(snapshot.StartRequest{Description: ptr("nightly 1")}), "", ""},
		{"description, none", []string{statement("Allow", "ebs:StartSnapshot", "*", `{"StringLike":{"ebs:Description":"nightly*"}}`)}, start(snapshot.StartRequest{}), "ebs:StartSnapshot", arn("null")},
	} {
		err := tt.do(f.user(tt.policies...))
		if tt.action == "" && err != nil {
			t.Errorf("%s: got %v", tt.name, err)
		} else if tt.action != "" {
			if _, ok := errors.AsType[*policy.Denied](err); !ok {
				t.Errorf("%s: got %v, want a denial", tt.name, err)
			} else {
				wantDenied(t, err, tt.action, tt.resource, "")
			}
		}
	}
}

// Of a shared snapshot a user sees his own account's tags and the owner's number.
// Spec: ebs-direct §11.2.
func TestPatternsOfShared(t *testing.T) {
	f := newFixture(t)
	id, _ := f.completed("", snapshot.Tag{Key: "Team", Value: "red"})
	f.share(id, other.Account)
	list := func(condition string) error {
		_, err := f.Service.ListBlocks(t.Context(), snapshottest.User(t, other, "bill", statement("Allow", "ebs:*", "*", condition)), snapshot.ListBlocksRequest{SnapshotID: id})
		return err
	}
	byTag := `{"StringEquals":{"aws:ResourceTag/Team":"red"}}`
	wantDenied(t, list(byTag), "ebs:ListSnapshotBlocks", strings.Replace(anySnapshot, "*", id, 1), "because no identity-based policy")
	if err := f.Service.CreateTags(t.Context(), other, snapshot.TagRequest{IDs: []string{id}, Tags: []snapshot.Tag{{Key: "Team", Value: "red"}}}); err != nil {
		t.Fatal(err)
	}
	for condition, ok := range map[string]bool{
		byTag: true,
		`{"StringEquals":{"aws:ResourceAccount":"` + caller.Account + `"}}`: true,
		`{"StringEquals":{"aws:ResourceAccount":"` + other.Account + `"}}`:  false,
	} {
		if err := list(condition); (err == nil) != ok {
			t.Errorf("%s: got %v", condition, err)
		}
	}
}

// What a caller cannot see is not there, whatever his policies say; what he can
// see and may not touch is denied before its state is told. Spec: ebs-direct
// §11.2, ec2-snapshots §1.5.
func TestOrder(t *testing.T) {
	f := newFixture(t)
	nobody := f.user()
	foreign, err := f.Service.Start(t.Context(), other, snapshot.StartRequest{VolumeSize: ptr(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	done, _ := f.completed("")
	pending := f.start("")
	for _, id := range []string{foreign.ID, "snap-00000000000000000"} {
		_, err := f.Service.PutBlock(t.Context(), nobody, snapshot.PutBlockRequest{SnapshotID: id, ChecksumOptional: true})
		wantCodes(t, "PutBlock", err, snapshot.NotFound)
		_, err = f.Service.Complete(t.Context(), nobody, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: ptr(int64(0))})
		wantCodes(t, "Complete", err, snapshot.NotFound)
		_, err = f.Service.ListBlocks(t.Context(), nobody, snapshot.ListBlocksRequest{SnapshotID: id})
		wantCodes(t, "ListBlocks", err, snapshot.NotFound)
		_, err = f.Service.Start(t.Context(), nobody, snapshot.StartRequest{VolumeSize: ptr(int64(1)), ParentSnapshotID: &id})
		wantCodes(t, "Start", err, snapshot.NotFound)
		wantCodes(t, "Delete", f.Service.Delete(t.Context(), nobody, id), snapshot.NotFound)
		wantCodes(t, "Share", f.Service.Share(t.Context(), nobody, snapshot.ShareRequest{SnapshotID: id, Accounts: []string{other.Account}}), snapshot.NotFound)
		_, err = f.Service.Grantees(t.Context(), nobody, snapshot.AttributeRequest{SnapshotID: id})
		wantDenied(t, err, "ec2:DescribeSnapshotAttribute", "", "")
		wantDenied(t, f.Service.ResetSharing(t.Context(), nobody, snapshot.AttributeRequest{SnapshotID: id}), "ec2:ResetSnapshotAttribute", "", "")
	}
	_, err = f.Service.ListBlocks(t.Context(), nobody, snapshot.ListBlocksRequest{SnapshotID: pending}) // which nobody can read
	wantCodes(t, "ListBlocks", err, snapshot.NotFound)
	_, err = f.Service.ListBlocks(t.Context(), nobody, snapshot.ListBlocksRequest{SnapshotID: done, PageToken: ptr("x")})
	wantDenied(t, err, "ebs:ListSnapshotBlocks", "", "")
	_, err = f.Service.PutBlock(t.Context(), nobody, snapshot.PutBlockRequest{SnapshotID: done, ChecksumOptional: true}) // nor is a body read
	wantDenied(t, err, "ebs:PutSnapshotBlock", "", "")
	_, err = f.Service.Start(t.Context(), nobody, snapshot.StartRequest{VolumeSize: ptr(int64(1)), ParentSnapshotID: &pending})
	wantDenied(t, err, "ebs:StartSnapshot", "", "")
	_, err = f.Service.PutBlock(t.Context(), nobody, snapshot.PutBlockRequest{SnapshotID: "x", ChecksumOptional: true})
	wantCodes(t, "PutBlock", err, snapshot.InvalidRequest)
}

func wantCodes(t testing.TB, what string, err error, want snapshot.Code) {
	t.Helper()
	if code(err) != want {
		t.Errorf("%s: got %v, want code %d", what, err, want)
	}
}

// A client token gives nobody an answer that he may not have. Spec: ebs-direct
// §3.
func TestReplayIsAsked(t *testing.T) {
	f := newFixture(t)
	parent, _ := f.completed("")
	r := snapshot.StartRequest{VolumeSize: ptr(int64(1)), ParentSnapshotID: &parent, ClientToken: ptr("t")}
	first, err := f.Service.Start(t.Context(), f.user(allow("ebs:StartSnapshot")), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = f.Service.Start(t.Context(), f.user(), r)
		wantDenied(t, err, "ebs:StartSnapshot", strings.Replace(anySnapshot, "*", parent, 1), "")
		other := r
		other.Description = ptr("x")
		_, err = f.Service.Start(t.Context(), f.user(), other)
		wantDenied(t, err, "ebs:StartSnapshot", "", "")
		again, err := f.Service.Start(t.Context(), f.user(allow("ebs:StartSnapshot")), r)
		if err != nil || again.ID != first.ID {
			t.Errorf("got %s, %v, want %s again", again.ID, err, first.ID)
		}
		if err := f.Service.Delete(t.Context(), caller, parent); err != nil && code(err) != snapshot.NotFound {
			t.Fatal(err)
		}
	}
}

// EC2's condition keys. Spec: ec2-snapshots §4, §5, §6.1, §8.3.
func TestPatternsOfEC2(t *testing.T) {
	f := newFixture(t)
	id, _ := f.completed("", snapshot.Tag{Key: "Team", Value: "red"})
	child, _ := f.completed(id)
	share := func(accounts ...string) func(snapshot.Caller) error {
		return func(c snapshot.Caller) error {
			return f.Service.Share(t.Context(), c, snapshot.ShareRequest{SnapshotID: id, Accounts: accounts, DryRun: true})
		}
	}
	unshare := func(c snapshot.Caller) error {
		return f.Service.Unshare(t.Context(), c, snapshot.ShareRequest{SnapshotID: id, Accounts: []string{other.Account}, DryRun: true})
	}
	lock := func(r snapshot.LockRequest) func(snapshot.Caller) error {
		r.SnapshotID, r.DryRun = id, true
		return func(c snapshot.Caller) error { _, err := f.Service.Lock(t.Context(), c, r); return err }
	}
	copies := func(tags ...snapshot.Tag) func(snapshot.Caller) error {
		return func(c snapshot.Caller) error {
			_, err := f.Service.Copy(t.Context(), c, snapshot.CopyRequest{SourceRegion: c.Region, SourceID: id, Tags: tags, DryRun: true})
			return err
		}
	}
	deletes := func(id string) func(snapshot.Caller) error {
		return func(c snapshot.Caller) error { return f.Service.CheckDelete(t.Context(), c, id) }
	}
	tag := func(c snapshot.Caller) error {
		return f.Service.CheckTags(t.Context(), c, snapshot.TagRequest{IDs: []string{id}, Tags: []snapshot.Tag{{Key: "Cost", Value: "1"}}})
	}
	untag := func(c snapshot.Caller) error {
		return f.Service.CheckUntag(t.Context(), c, snapshot.UntagRequest{IDs: []string{id}, Matches: []snapshot.TagMatch{{Key: "Cost"}}})
	}
	days := func(n int64) snapshot.LockRequest { return snapshot.LockRequest{Days: &n} }
	cool := snapshot.LockRequest{Days: ptr(int64(1)), Compliance: true, CoolOffHours: ptr(int64(48))}
	arn := func(id string) string { return strings.Replace(anySnapshot, "*", id, 1) }
	k := snapshot.Tag{Key: "k"}
	for _, tt := range []struct {
		policy string
		do     func(snapshot.Caller) error
		ok     bool
	}{
		{statement("Allow", "ec2:*", "*", `{"StringEquals":{"ec2:Add/userId":"`+other.Account+`"}}`), share(other.Account), true},
		{statement("Allow", "ec2:*", "*", `{"StringEquals":{"ec2:Add/userId":"555566667777"}}`), share(other.Account), false},
		{statement("Allow", "ec2:*", "*", `{"ForAllValues:StringEquals":{"ec2:Add/userId":"`+other.Account+`"}}`), share(other.Account, "555566667777"), false},
		{statement("Allow", "ec2:*", "*", `{"Null":{"ec2:Add/group":"true"}}`), share(other.Account), true},
		{statement("Allow", "ec2:*", "*", `{"Null":{"ec2:Add/group":"true"}}`), share(other.Account, snapshot.Everybody), false},
		{statement("Allow", "ec2:*", "*", `{"StringEquals":{"ec2:Add/userId":"`+other.Account+`"}}`), unshare, false},
		{statement("Allow", "ec2:*", "*", `{"StringEquals":{"ec2:Remove/userId":"`+other.Account+`"}}`), unshare, true},
		{statement("Allow", "ec2:*", "*", `{"NumericLessThanEquals":{"ec2:SnapshotLockDuration":"7"}}`), lock(days(7)), true},
		{statement("Allow", "ec2:*", "*", `{"NumericLessThanEquals":{"ec2:SnapshotLockDuration":"7"}}`), lock(days(8)), false},
		{statement("Allow", "ec2:*", "*", `{"NumericEquals":{"ec2:SnapshotLockDuration":"3"}}`), lock(snapshot.LockRequest{Until: ptr(f.Clock.Now().Add(50 * time.Hour))}), true},
		{statement("Allow", "ec2:*", "*", `{"NumericGreaterThanEquals":{"ec2:CoolOffPeriod":"24"}}`), lock(cool), true},
		{statement("Allow", "ec2:*", "*", `{"NumericGreaterThanEquals":{"ec2:SnapshotCoolOffPeriod":"72"}}`), lock(cool), false},
		{statement("Allow", "ec2:*", "*", `{"Null":{"ec2:CoolOffPeriod":"false"}}`), lock(days(7)), false},
		{statement("Allow", "ec2:CopySnapshot", anySnapshot, ""), copies(), true},
		{statement("Allow", "ec2:CopySnapshot", arn(id), ""), copies(), false},
		{statement("Allow", "ec2:CopySnapshot", arn(child), ""), copies(), false},
		{statement("Allow", "ec2:CopySnapshot", anySnapshot, ""), copies(k), false},
		{allow("ec2:CopySnapshot") + "," + statement("Allow", "ec2:CreateTags", anySnapshot, `{"StringEquals":{"ec2:CreateAction":"CopySnapshot"}}`), copies(k), true},
		{allow("ec2:CopySnapshot") + "," + statement("Allow", "ec2:CreateTags", anySnapshot, `{"StringEquals":{"ec2:CreateAction":"CreateSnapshot"}}`), copies(k), false},
		{statement("Allow", "ec2:DeleteSnapshot", arn(id), ""), deletes(id), true},
		{statement("Allow", "ec2:DeleteSnapshot", arn(id), ""), deletes(child), false},
		{statement("Allow", "ec2:*", "*", `{"StringEquals":{"ec2:ResourceTag/Team":"red","ec2:Owner":"`+caller.Account+`","ec2:Region":"us-east-1"}}`), deletes(id), true},
		{statement("Allow", "ec2:*", "*", `{"StringEquals":{"ec2:ResourceTag/Team":"red"}}`), deletes(child), false},
		{statement("Allow", "ec2:*", "*", `{"ArnEquals":{"ec2:ParentSnapshot":"`+arn(id)+`"}}`), deletes(child), true},
		{statement("Allow", "ec2:*", "*", `{"Bool":{"ec2:Encrypted":"false"},"NumericEquals":{"ec2:VolumeSize":"1"}}`), deletes(id), true},
		{statement("Allow", "ec2:*", "*", `{"Bool":{"ec2:Encrypted":"true"}}`), deletes(id), false},
		{statement("Allow", "ec2:CreateTags", "*", `{"StringEquals":{"aws:RequestTag/Cost":"1","aws:ResourceTag/Team":"red"}}`), tag, true},
		{statement("Allow", "ec2:CreateTags", "*", `{"StringEquals":{"aws:RequestTag/Cost":"2"}}`), tag, false},
		{statement("Allow", "ec2:CreateTags", "*", `{"Null":{"ec2:CreateAction":"false"}}`), tag, false},
		{statement("Allow", "ec2:DeleteTags", "*", `{"ForAllValues:StringEquals":{"aws:TagKeys":"Cost"}}`), untag, true},
		{statement("Allow", "ec2:DeleteTags", "*", `{"ForAllValues:StringEquals":{"aws:TagKeys":"Team"}}`), untag, false},
	} {
		if err := tt.do(f.user(tt.policy)); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want allowed %v", tt.policy, err, tt.ok)
		}
	}
}

// For callers whom no policy binds nothing is made on the way of a block.
func TestAccountsAreNotJudged(t *testing.T) {
	f := newFixture(t)
	root := caller
	root.By = &policy.Subject{Principal: &policy.Principal{Account: caller.Account, ARN: "arn:aws:iam::" + caller.Account + ":root", Kind: policy.Account}}
	for name, c := range map[string]snapshot.Caller{"nobody in particular": caller, "the root user": root} {
		if n := testing.AllocsPerRun(100, func() {
			var snap snapshot.Snapshot
			if err := snapshot.Admit(t.Context(), f.Service, c, &snap); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	// But a session of an account is bound by its policies.
	session := *root.By.Principal
	session.Session = f.user(allow("ebs:GetSnapshotBlock")).By.Policies
	root.By = &policy.Subject{Principal: &session}
	wantDenied(t, snapshot.Admit(t.Context(), f.Service, root, &snapshot.Snapshot{ID: "snap-1", Region: "us-east-1"}), "ebs:PutSnapshotBlock",
		"arn:aws:ec2:us-east-1::snapshot/snap-1", "because no session policy allows the ebs:PutSnapshotBlock action")
}

// What ten policies of ten statements cost, the last of which allows it, and what
// an account's own request does.
func BenchmarkAdmit(b *testing.B) {
	f := newFixture(b)
	statements := make([]string, 10)
	for i := range statements {
		statements[i] = statement("Allow", "ebs:Get*,ebs:List*", "arn:aws:ec2:us-east-1::snapshot/snap-0"+string(rune('a'+i))+"*", `{"StringEquals":{"aws:RequestedRegion":"us-east-1"}}`)
	}
	one := f.user(statements...).By.Policies[0]
	u := f.user(allow("ebs:PutSnapshotBlock"))
	for range 9 {
		u.By.Policies = append([]*policy.Policy{one}, u.By.Policies...)
	}
	snap := snapshot.Snapshot{ID: "snap-0123456789abcdef0", Account: caller.Account, Region: caller.Region}
	for name, c := range map[string]snapshot.Caller{"account": caller, "user": u} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := snapshot.Admit(b.Context(), f.Service, c, &snap); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
