package ec2_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"shale/internal/ec2"
	"shale/internal/rest"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// Whatever a form holds, each action answers it or refuses it as the client's
// fault, in XML that a parser takes, and nobody gets rid of another's snapshot.
func FuzzActions(f *testing.F) {
	env := snapshottest.New(f)
	snap, err := env.Service.Start(f.Context(), snapshottest.Other, snapshot.StartRequest{VolumeSize: new(int64(1))})
	if err != nil {
		f.Fatal(err)
	}
	door := ec2.New(env.Service, []string{snapshottest.Region})
	for _, form := range []string{
		"SnapshotId=" + snap.ID + "&Attribute=createVolumePermission",
		"SnapshotId=snap-033d116c&CreateVolumePermission.Add.1.UserId=111122223333&CreateVolumePermission.Add.01.Group=all&DryRun=false",
		"SnapshotId=snap-033d116c&Attribute=createVolumePermission&OperationType=remove&UserId=111122223333&UserGroup.2=all",
		"ResourceId.1=" + snap.ID + "&ResourceId.4=snap-033d116c&Tag.1.Key=a%00&Tag.1.Value=%F0%9F%98%80&Tag.9.Key=aws:x",
		"ResourceId=" + snap.ID + "&Tag.Key=x&Tag.-1.Key=y&Tag.1.Value=z&Tag.2147483647.Key=z",
		"Filter.1.Name=tag:k&Filter.1.Value.1=%2A\\&MaxResults=5&NextToken=AlMB",
		"State=block-all-sharing&KmsKeyId=alias/mine&DryRun=true",
		"Owner.1=self&RestorableBy.1=444455556666&SnapshotId.1=" + snap.ID,
	} {
		for i := range ec2.Actions() {
			f.Add(uint8(i), form)
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, form string) {
		actions := ec2.Actions()
		action := actions[int(n)%len(actions)]
		body := "Action=" + action + "&" + strings.ReplaceAll(form, "Action=", "")
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		w := httptest.NewRecorder()
		if err := door.Serve(w, r, snapshottest.Caller, nil); err != nil {
			if name, status := ec2.Code(err); status >= 500 {
				t.Errorf("%s: %v is told as %d %s", body, err, status, name)
			}
			door.Refuse(w, r, err)
		}
		d := xml.NewDecoder(w.Body)
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: answered with %v", body, err)
			}
		}
		if _, found, err := env.Catalog.Snapshot(t.Context(), snap.ID); err != nil || !found {
			t.Fatalf("%s: the other's snapshot is gone: %v", body, err)
		}
	})
}

// Numbers of lists ascend by value, may have gaps, and take what has one.
func TestTagForms(t *testing.T) {
	env := snapshottest.New(t)
	snap, err := env.Service.Start(t.Context(), snapshottest.Caller, snapshot.StartRequest{VolumeSize: new(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"Action": {"CreateTags"}, "ResourceId": {snap.ID}, "ResourceId.7": {snap.ID}}
	for _, n := range []string{"10", "9", "007", "1000000"} {
		form.Set("Tag."+n+".Key", "k"+n)
	}
	form.Set("Tag.8.Unknown", "x")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(form.Encode()))
	if err := ec2.New(env.Service, []string{snapshottest.Region}).Serve(httptest.NewRecorder(), r, snapshottest.Caller, nil); err != nil {
		t.Fatal(err)
	}
	page, err := env.Service.ListTags(t.Context(), snapshottest.Caller, snapshot.ListTagsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tag := range page.Tags {
		got = append(got, tag.Tag.Key)
	}
	if want := "[k007 k9 k10 k1000000]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// The texts of refusals that need an encrypted snapshot, or a quota.
// Spec: ec2-snapshots §1.3, §6.1, §7.
func TestTexts(t *testing.T) {
	for want, err := range map[string]error{
		"400 OperationNotPermitted: Encrypted snapshots cannot be shared publicly.":            &snapshot.Error{Code: snapshot.EncryptedPublic},
		"400 OperationNotPermitted: Encrypted snapshots with EBS default key cannot be shared": &snapshot.Error{Code: snapshot.DefaultKeyShared},
		"400 SnapshotLimitExceeded: You have reached the limit of 7 snapshots.":                &snapshot.Error{Code: snapshot.TooManySnapshots, Value: "7"},
		"503 RequestLimitExceeded: Request limit exceeded.":                                    &rest.Error{Kind: rest.RateExceeded},
	} {
		w := httptest.NewRecorder()
		ec2.New(nil, nil).Refuse(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), err)
		var answer struct {
			Code    string `xml:"Errors>Error>Code"`
			Message string `xml:"Errors>Error>Message"`
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := fmt.Sprintf("%d %s: %s", w.Code, answer.Code, answer.Message); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
