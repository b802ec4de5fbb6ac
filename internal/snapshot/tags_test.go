package snapshot_test

import (
	"fmt"
	"testing"
	"time"

	"shale/internal/snapshot"
)

// A dry run of CreateTags says what the call does. Spec: ec2-snapshots §4.
func TestCheckTagsIsAsCreateTags(t *testing.T) {
	f := newFixture(t)
	f.BinTime = time.Hour
	f.Restart(t)
	binned, full, shared, lost := f.made(nil), f.made(nil), f.made(nil), f.made(nil)
	if err := f.Service.Delete(t.Context(), caller, binned); err != nil {
		t.Fatal(err)
	}
	var most []snapshot.Tag
	for i := range 50 {
		most = append(most, snapshot.Tag{Key: fmt.Sprint(i)})
	}
	put := func(c snapshot.Caller, id string, tags ...snapshot.Tag) {
		t.Helper()
		if err := f.Service.CreateTags(t.Context(), c, snapshot.TagRequest{IDs: []string{id}, Tags: tags}); err != nil {
			t.Fatal(err)
		}
	}
	put(caller, full, most...)
	f.share(shared, other.Account)
	f.share(lost, other.Account)
	put(other, lost, snapshot.Tag{Key: "k"})
	if err := f.Service.Unshare(t.Context(), caller, snapshot.ShareRequest{SnapshotID: lost, Accounts: []string{other.Account}}); err != nil {
		t.Fatal(err)
	}
	const fine = snapshot.Code(-1)
	for _, tt := range []struct {
		name, id, key string
		by            snapshot.Caller
		want          snapshot.Code
	}{
		{"in the bin", binned, "k", caller, fine},
		{"in another's bin", binned, "k", other, snapshot.NotFound},
		{"shared", shared, "k", other, fine},
		{"not shared any more, and tagged", lost, "k", other, snapshot.NotFound},
		{"one tag too many", full, "k", caller, snapshot.TooManyTags},
		{"another value of one of the most", full, "7", caller, fine},
		{"unknown", "snap-0123456789abcdef0", "k", caller, snapshot.NotFound},
	} {
		r := snapshot.TagRequest{IDs: []string{tt.id}, Tags: []snapshot.Tag{{Key: tt.key, Value: "v"}}}
		for what, err := range map[string]error{
			"dry run": f.Service.CheckTags(t.Context(), tt.by, r), "call": f.Service.CreateTags(t.Context(), tt.by, r),
		} {
			if code(err) != tt.want || tt.want == fine && err != nil {
				t.Errorf("%s, %s: got %v", tt.name, what, err)
			}
		}
	}
}
