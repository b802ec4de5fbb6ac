package ec2_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shale/internal/ec2"
	"shale/internal/query"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

func TestDecodeDescribe(t *testing.T) {
	const id = "snap-033d116c"
	tests := []struct {
		name, form string
		want       snapshot.DescribeRequest
	}{
		{"nothing", "", snapshot.DescribeRequest{}},
		{"list by number, not by text", "SnapshotId.10=" + id + "b&SnapshotId.9=" + id + "a", snapshot.DescribeRequest{}},
		{
			"owners", "Owner.2=self&Owner.1=amazon&Owner.3=111122223333",
			snapshot.DescribeRequest{Owners: []string{"amazon", "self", "111122223333"}},
		},
		{"restorable by", "RestorableBy.4=all&RestorableBy.40=self", snapshot.DescribeRequest{RestorableBy: []string{"all", "self"}}},
		{"numbers that are none", "Owner.=me&Owner.x=me&Owner.-1=me&Owner.99999999999=me&Owners.1=me", snapshot.DescribeRequest{}},
		{"a number written twice", "Owner.1=self&Owner.01=amazon", snapshot.DescribeRequest{Owners: []string{"amazon", "self"}}},
		{"a bare name comes first", "Owner.1=amazon&Owner=self", snapshot.DescribeRequest{Owners: []string{"self", "amazon"}}},
		{
			"filters", "Filter.2.Name=status&Filter.2.Value.3=b&Filter.2.Value.1=a&Filter.1.Name=tag%3Ak&Filter.1.Value.1=",
			snapshot.DescribeRequest{Filters: []snapshot.Filter{
				{Name: "tag:k", Values: []string{""}}, {Name: "status", Values: []string{"a", "b"}},
			}},
		},
		{"page", "MaxResults=5&NextToken=t", snapshot.DescribeRequest{MaxResults: new(int64(5)), NextToken: new("t")}},
		{"page too large", "MaxResults=1001", snapshot.DescribeRequest{MaxResults: new(int64(1000))}},
		{"token alone", "NextToken=t", snapshot.DescribeRequest{MaxResults: new(int64(1000)), NextToken: new("t")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ec2.DecodeDescribe(tt.form)
			if strings.Contains(tt.form, "SnapshotId") { // 9 digits
				if name, _ := ec2.Code(err); name != "InvalidSnapshotID.Malformed" || !strings.Contains(err.Error(), id+"a") {
					t.Errorf("got %v, want the ID of the lower number refused", err)
				}
				return
			}
			if d := cmp.Diff(tt.want, got); err != nil || d != "" {
				t.Errorf("error %v (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestFilterLimit(t *testing.T) {
	form := func(values int) string {
		var b strings.Builder
		b.WriteString("Filter.1.Name=status&Filter.2.Name=status&Filter.2.Value.1=x")
		for i := range values - 1 {
			fmt.Fprintf(&b, "&Filter.1.Value.%d=x", i)
		}
		return b.String()
	}
	if _, err := ec2.DecodeDescribe(form(200)); err != nil {
		t.Errorf("200 values: %v", err)
	}
	_, err := ec2.DecodeDescribe(form(201))
	if name, _ := ec2.Code(err); name != "FilterLimitExceeded" {
		t.Errorf("201 values: got %v", err)
	}
}

// The largest forms that are read, in the shapes that ask for most work.
func BenchmarkHostileForm(b *testing.B) {
	var filters strings.Builder
	for i := 0; filters.Len() < query.MaxForm; i++ {
		fmt.Fprintf(&filters, "Filter.%d.Name=a&", i)
	}
	for name, form := range map[string]string{
		"filters": filters.String(),
		"dots":    "Filter" + strings.Repeat(".1", query.MaxForm/2),
		"pairs":   strings.Repeat("&", query.MaxForm),
		"one":     strings.Repeat("a&", query.MaxForm/2),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(query.MaxForm)
			for b.Loop() {
				ec2.DecodeDescribe(form)
			}
		})
	}
}

// A form is decoded into values that the service may rely on, or refused with
// a code of EC2's.
func FuzzForm(f *testing.F) {
	f.Add("Action=DescribeSnapshots&SnapshotId.1=snap-033d116c0448c309d&MaxResults=5")
	f.Add("Filter.1.Name=tag:k&Filter.1.Value.1=a%2Bb+c&Filter.1.Value.10=&Filter.03.Name=x&Filter.3.Value=y")
	f.Add("Owner=self&Owner.1=111122223333&NextToken=&DryRun=true&%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		req, err := ec2.DecodeDescribe(raw)
		if err != nil {
			if name, status := ec2.Code(err); status < 400 || status >= 500 {
				t.Errorf("%q: %v is told as %d %s", raw, err, status, name)
			}
			return
		}
		for _, id := range req.IDs {
			if digits, ok := strings.CutPrefix(id, "snap-"); !ok || len(digits) != 8 && len(digits) != 17 {
				t.Errorf("%q gave the ID %q", raw, id)
			}
		}
		if n := req.MaxResults; n != nil && (*n < 5 || *n > 1000) {
			t.Errorf("%q gave MaxResults %d", raw, *n)
		}
		for _, filter := range req.Filters {
			if filter.Name == "" || len(filter.Values) == 0 {
				t.Errorf("%q gave the filter %+v", raw, filter)
			}
		}
	})
}

// Every condition that can be told apart has a code, and only faults of the
// server's own are told as such.
func TestEveryErrorHasACode(t *testing.T) {
	check := func(err error, fault bool) {
		t.Helper()
		name, status := ec2.Code(err)
		if name == "" || status < 400 || status > 599 || (status == 500) != fault {
			t.Errorf("%#v: got %q, status %d", err, name, status)
		}
	}
	for c := range snapshot.NumCodes {
		fault := c == snapshot.Internal || c == snapshot.StorageFull || c == snapshot.StorageStopped || c == snapshot.Damaged || c == snapshot.DomainLost
		check(&snapshot.Error{Code: c}, fault)
	}
	for k := range rest.NumKinds {
		check(&rest.Error{Kind: k}, false)
	}
	for k := range sigv4.NumKinds {
		check(&sigv4.Error{Kind: k}, false)
	}
	check(errors.New("anything else"), true)
	check(&snapshot.Error{Code: math.MaxInt}, true)
}

// A long header is told by its status, and a body by another.
func TestTooLong(t *testing.T) {
	for kind, want := range map[rest.Kind]int{rest.HeaderTooLong: 431, rest.BodyTooLong: 413} {
		if code, status := ec2.Code(&rest.Error{Kind: kind}); code != "InvalidRequest" || status != want {
			t.Errorf("kind %d: got %s %d, want InvalidRequest %d", kind, code, status, want)
		}
	}
}

// Spec: ec2-snapshots §1.3; ebs-direct §1.1.
func TestSignatureErrors(t *testing.T) {
	tests := []struct {
		kind   sigv4.Kind
		code   string
		status int
	}{
		{sigv4.Missing, "MissingAuthenticationToken", 403},
		{sigv4.Malformed, "IncompleteSignature", 400},
		{sigv4.Mismatch, "SignatureDoesNotMatch", 403},
		{sigv4.Expired, "RequestExpired", 400},
		{sigv4.UnknownKey, "AuthFailure", 401},
		{sigv4.WrongService, "SignatureDoesNotMatch", 403},
	}
	for _, tt := range tests {
		if code, status := ec2.Code(&sigv4.Error{Kind: tt.kind}); code != tt.code || status != tt.status {
			t.Errorf("%v: got %s %d, want %s %d", tt.kind, code, status, tt.code, tt.status)
		}
	}
}
