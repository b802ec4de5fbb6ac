package trent_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"shale/internal/kms"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/trent"
)

// What one shale asks of a KMS elsewhere another one answers, through AWS's SDK
// for Go: here are the refusals that other servers of the protocol leave out.
func TestRemote(t *testing.T) {
	local := openKMS(t, &snapshottest.Clock{})
	h := trent.New(local)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.Serve(w, r, snapshottest.Caller, nil); err != nil {
			h.Refuse(w, r, err)
		}
	}))
	defer server.Close()
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_ACCESS_KEY_ID", snapshottest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", snapshottest.Secret)
	remote, err := kms.NewRemote(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	caller := kms.Caller{Account: snapshottest.Account, Region: snapshottest.Region}
	k, err := remote.Key(t.Context(), caller, kms.DefaultKeyAlias, kms.GenerateDataKey)
	if err != nil || k.Manager != kms.AWS || k.Account != caller.Account {
		t.Fatalf("%+v, %v", k, err)
	}
	m, err := local.CreateKey(t.Context(), caller, kms.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	// There it is the account that asks; what a user of it may is judged here.
	for policy, ok := range map[string]bool{snapshottest.Allow("kms:GenerateDataKey"): true, snapshottest.Allow("kms:Encrypt"): false} {
		u := caller
		u.By = snapshottest.User(t, snapshottest.Caller, "uma", policy).By
		_, err := remote.Key(t.Context(), u, m.ARN, kms.GenerateDataKey)
		if e, refused := errors.AsType[*kms.Error](err); ok && err != nil || !ok && (!refused || e.Code != kms.AccessDenied) {
			t.Errorf("%s: got %v", policy, err)
		}
	}
	context := map[string]string{"aws:ebs:id": "vol-1"}
	d, err := remote.GenerateDataKey(t.Context(), caller, m.ARN, context)
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func() error {
		got, err := remote.Decrypt(t.Context(), caller, m.ARN, d.Wrapped, context)
		if err == nil && got != d.Plaintext {
			t.Error("another data key came back")
		}
		return err
	}
	want := func(code kms.Code, text string) {
		t.Helper()
		err := decrypt()
		if e, ok := errors.AsType[*kms.Error](err); !ok || e.Code != code || e.Text != text {
			t.Errorf("got %v, want %s: %s", err, code, text)
		}
	}
	if err := decrypt(); err != nil {
		t.Error(err)
	}
	if err := local.DisableKey(t.Context(), caller, m.ID); err != nil {
		t.Fatal(err)
	}
	want(kms.Disabled, m.ARN+" is disabled.")
	if _, err := local.ScheduleDeletion(t.Context(), caller, m.ID, nil); err != nil {
		t.Fatal(err)
	}
	want(kms.InvalidState, m.ARN+" is pending deletion.")
	context["aws:ebs:id"] = "vol-2"
	if _, err := local.CancelDeletion(t.Context(), caller, m.ID); err != nil {
		t.Fatal(err)
	}
	if err := local.EnableKey(t.Context(), caller, m.ID); err != nil {
		t.Fatal(err)
	}
	want(kms.InvalidCiphertext, "")
}
