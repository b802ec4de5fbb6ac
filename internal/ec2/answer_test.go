package ec2_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/ec2"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// A writer fails once so many writes have been done, and then does then.
type writer struct {
	*httptest.ResponseRecorder
	fails  int
	writes int
	then   func()
}

func (w *writer) Write(p []byte) (int, error) {
	if w.writes++; w.writes == w.fails {
		if w.then == nil {
			return 0, http.ErrHandlerTimeout
		}
		w.then()
	}
	return w.ResponseRecorder.Write(p)
}

// A long list that is asked for whole is sent in parts, which together are the
// list; one that breaks off in the middle does not look whole.
func TestListInParts(t *testing.T) {
	env := snapshottest.New(t)
	for range 7 {
		if _, err := env.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: new(int64(1))}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(batch int64, w *writer, form string) error {
		door := ec2.New(env.Service, []string{snapshottest.Region})
		door.SetBatch(batch)
		w.ResponseRecorder = httptest.NewRecorder()
		w.Header().Set("X-Amzn-Requestid", "id")
		body := "Action=DescribeSnapshots" + form
		return door.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)), snapshottest.Caller, nil)
	}
	whole := &writer{}
	if err := ask(1000, whole, ""); err != nil || whole.writes != 1 || whole.Header().Get("Content-Length") == "" {
		t.Fatalf("%v, in %d writes", err, whole.writes)
	}
	want := whole.Body.String()
	if n := strings.Count(want, "<item>"); n != 7 {
		t.Fatalf("%d snapshots are listed", n)
	}
	for batch := int64(1); batch <= 8; batch++ {
		parts := &writer{}
		if err := ask(batch, parts, ""); err != nil {
			t.Fatal(err)
		}
		if got := parts.Body.String(); got != want {
			t.Errorf("in batches of %d: %s, want %s", batch, got, want)
		}
		if n := (7 + int(batch) - 1) / int(batch); parts.writes != n {
			t.Errorf("in batches of %d: %d writes, want %d", batch, parts.writes, n)
		}
		for name := range whole.Header() {
			if name != "Content-Length" && parts.Header().Get(name) != whole.Header().Get(name) {
				t.Errorf("%s: %q", name, parts.Header().Get(name))
			}
		}
	}
	dry := &writer{}
	if err := ask(2, dry, "&DryRun=true"); err == nil || dry.writes > 0 {
		t.Errorf("a dry run: %v, %d writes", err, dry.writes)
	}
	gone := &writer{fails: 2}
	if err := ask(2, gone, ""); err != nil || gone.writes != 2 {
		t.Errorf("the client is gone: %v, %d writes", err, gone.writes)
	}
	broken := &writer{fails: 2, then: func() {
		if err := env.Catalog.Close(); err != nil {
			t.Error(err)
		}
	}}
	if err := ask(2, broken, ""); err == nil || strings.Contains(broken.Body.String(), "</snapshotSet>") {
		t.Errorf("the catalog is gone: %v, %s", err, broken.Body)
	}
	for range 16 { // as many as there are
		if _, err := env.Service.TakePlace(t.Context(), nil); err != nil {
			t.Errorf("a place is still taken: %v", err)
		}
	}
}

// A long list for which there is no room is a throttle, which SDKs repeat, before
// any of it is sent. Spec: ec2-snapshots §1.3.
func TestListWithoutRoom(t *testing.T) {
	env := snapshottest.New(t)
	for range 3 {
		if _, err := env.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: new(int64(1))}); err != nil {
			t.Fatal(err)
		}
	}
	for range 16 { // as many as there are
		if _, err := env.Service.TakePlace(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	door := ec2.New(env.Service, []string{snapshottest.Region})
	door.SetBatch(2)
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("Action=DescribeSnapshots"))
	door.Refuse(w, r, door.Serve(w, r, snapshottest.Caller, nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "<Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message>") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// Every kind of list is the same in parts as it is whole.
func TestListsInParts(t *testing.T) {
	env := snapshottest.New(t)
	env.Busy(t)
	for _, action := range []string{"DescribeSnapshots", "DescribeTags", "DescribeLockedSnapshots", "ListSnapshotsInRecycleBin"} {
		var want string
		for _, batch := range []int64{1000, 1, 2, 3} {
			door := ec2.New(env.Service, []string{snapshottest.Region})
			door.SetBatch(batch)
			w := &writer{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("Action="+action))
			if err := door.Serve(w, r, snapshottest.Caller, nil); err != nil {
				t.Fatalf("%s: %v", action, err)
			}
			got := w.Body.String()
			if want == "" {
				want = got
				if !strings.Contains(want, "<item>") {
					t.Errorf("%s: there is none", action)
				}
			}
			if got != want {
				t.Errorf("%s in batches of %d: %s, want %s", action, batch, got, want)
			}
		}
	}
}
