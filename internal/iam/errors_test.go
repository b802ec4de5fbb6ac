package iam

import (
	"errors"
	"testing"

	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

// Every condition that can be told apart has a code, and only faults of the
// server's own are told as such.
func TestEveryErrorHasACode(t *testing.T) {
	check := func(err error, fault bool) {
		t.Helper()
		row, text := explain(err)
		if row.code == "" || row.status < 400 || row.status > 599 || (row.status == 500) != fault {
			t.Errorf("%#v: got %+v, %q", err, row, text)
		}
	}
	for _, c := range identity.Codes {
		check(&identity.Error{Code: c}, false)
	}
	for k := range rest.NumKinds {
		check(&rest.Error{Kind: k}, false)
	}
	for k := range sigv4.NumKinds {
		check(&sigv4.Error{Kind: k}, false)
	}
	check(&policy.Denied{}, false)
	check(errors.New("anything else"), true)
	check(&identity.Error{Code: "Unheard"}, true)
	if len(serviceRows) != len(identity.Codes) {
		t.Errorf("%d codes, %d rows", len(identity.Codes), len(serviceRows))
	}
}
