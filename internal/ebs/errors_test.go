package ebs_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shale/internal/ebs"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// Every condition that can be told apart has a row of its own in the table.
func TestEveryErrorHasARow(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if status, code, _ := ebs.Row(err); status < 400 || code == "" {
			t.Errorf("%#v: got status %d, code %q", err, status, code)
		}
	}
	for c := range snapshot.NumCodes {
		check(&snapshot.Error{Code: c})
		if status, _, _ := ebs.Row(&snapshot.Error{Code: c}); status == 500 &&
			c != snapshot.Internal && c != snapshot.StorageFull && c != snapshot.StorageStopped && c != snapshot.Damaged && c != snapshot.DomainLost {
			t.Errorf("code %d is an internal error", c)
		}
	}
	for k := range rest.NumKinds {
		check(&rest.Error{Kind: k})
	}
	for k := range sigv4.NumKinds {
		check(&sigv4.Error{Kind: k})
	}
}

const (
	modelled  = "http://internal.amazon.com/coral/com.amazon.zeppelindataservice/"
	validate  = "http://internal.amazon.com/coral/com.amazon.coral.validate/"
	transport = "http://internal.amazon.com/coral/com.amazon.coral.service/"
)

func TestRefuse(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		typ    string
		body   string
	}{
		{
			"one violation", &snapshot.Error{Code: snapshot.InvalidRequest, Violations: []snapshot.Violation{
				{Field: "blockIndex", Value: new("-1"), Constraint: "Member must have value greater than or equal to 0"},
			}},
			400, "ValidationException:" + validate,
			`{"message":"1 validation error detected: Value '-1' at 'blockIndex' failed to satisfy constraint: Member must have value greater than or equal to 0"}`,
		},
		{
			"two violations", &snapshot.Error{Code: snapshot.InvalidRequest, Violations: []snapshot.Violation{
				{Field: "volumeSize", Constraint: "Member must not be null"},
				{Field: "clientToken", Value: new(""), Constraint: "Member must satisfy regular expression pattern: ^[\\S]+$"},
			}},
			400, "ValidationException:" + validate,
			`{"message":"2 validation errors detected: Value null at 'volumeSize' failed to satisfy constraint: Member must not be null; ` +
				`Value '' at 'clientToken' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\\S]+$"}`,
		},
		{
			"wrapped", fmt.Errorf("door: %w", &snapshot.Error{Code: snapshot.NotFound, Snapshot: "snap-0"}),
			404, "ResourceNotFoundException:" + modelled, `{"Message":"The snapshot 'snap-0' does not exist.","Reason":"SNAPSHOT_NOT_FOUND"}`,
		},
		{
			"conflict", &snapshot.Error{Code: snapshot.ClientTokenReused},
			409, "ConflictException:" + modelled, `{"Message":"Current request does not match request stored with this token."}`,
		},
		{
			"checksum", &snapshot.Error{Code: snapshot.ChecksumMismatch, Computed: "a=", Expected: "b="},
			403, "InvalidSignatureException:" + transport,
			`{"message":"The value passed in as x-amz-Checksum does not match the computed checksum. Computed checksum: a= expected checksum: b="}`,
		},
		{
			"hostile token", &snapshot.Error{Code: snapshot.InvalidBlockToken, Value: "\"\x00\xff"},
			400, "ValidationException:" + modelled, `{"Message":"The block token \"\u0000` + "\ufffd" + ` is invalid.","Reason":"INVALID_BLOCK_TOKEN"}`,
		},
		{
			"unknown key", &sigv4.Error{Kind: sigv4.UnknownKey, Detail: "not for the client"},
			403, "UnrecognizedClientException:" + transport, `{"message":"The security token included in the request is invalid."}`,
		},
		{
			"integer", &rest.Error{Kind: rest.NotAnInteger, Field: "blockIndex", Value: "abc"},
			400, "SerializationException:" + transport, `{"message":"The value \"abc\" of blockIndex is not a 32-bit integer"}`,
		},
		{ // Spec: ebs-direct §9.2 to §9.4.
			"the account too often", &snapshot.Error{Code: snapshot.AccountThrottled},
			400, "ThrottlingException:" + transport, `{"message":"Rate exceeded"}`,
		},
		{
			"the snapshot too often", &snapshot.Error{Code: snapshot.SnapshotThrottled, Snapshot: "snap-0"},
			400, "RequestThrottledException:" + modelled,
			`{"Message":"Rate exceeded for the snapshot. Reduce your request rate.","Reason":"RESOURCE_LEVEL_THROTTLE"}`,
		},
		{
			"pending snapshots", &snapshot.Error{Code: snapshot.TooManyPending, Value: "100"},
			400, "ConcurrentLimitExceededException:" + modelled,
			`{"Message":"You have reached the limit of 100 pending snapshots. Complete or delete some of them."}`,
		},
		{
			"snapshots", &snapshot.Error{Code: snapshot.TooManySnapshots, Value: "100000"},
			402, "ServiceQuotaExceededException:" + modelled,
			`{"Message":"You have reached the limit of 100000 snapshots.","Reason":"DEPENDENCY_SERVICE_QUOTA_EXCEEDED"}`,
		},
		{
			"long header", &rest.Error{Kind: rest.HeaderTooLong, Value: "65536"},
			431, "RequestEntityTooLargeException:" + transport,
			`{"message":"The request line and the header are longer than 65536 bytes together"}`,
		},
		{
			"hardly HTTP", &rest.Error{Kind: rest.Malformed, Value: "the header Host is missing"},
			400, "MalformedHttpRequestException:" + transport, `{"message":"The header Host is missing"}`,
		},
		{
			"anything else", errors.New("disk 7 is on fire"),
			500, "InternalServerException:" + modelled, `{"Message":"An internal error occurred."}`,
		},
		{
			"a code from the future", &snapshot.Error{Code: snapshot.NumCodes, Err: errors.New("secret")},
			500, "InternalServerException:" + modelled, `{"Message":"An internal error occurred."}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			ebs.New(nil).Refuse(w, httptest.NewRequest("GET", "/", nil), tt.err)
			if w.Code != tt.status || w.Header().Get("x-amzn-ErrorType") != tt.typ {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Header().Get("x-amzn-ErrorType"), tt.status, tt.typ)
			}
			if d := cmp.Diff(tt.body, w.Body.String()); d != "" {
				t.Errorf("body (-want +got):\n%s", d)
			}
			if c := w.Header().Get("Connection"); c != "" {
				t.Errorf("got Connection: %s", c)
			}
		})
	}
}

// Spec: ebs-direct §9.4.
func TestSignatureErrors(t *testing.T) {
	for kind, want := range map[sigv4.Kind]string{
		sigv4.Missing:         "MissingAuthenticationTokenException",
		sigv4.Malformed:       "IncompleteSignatureException",
		sigv4.Mismatch:        "InvalidSignatureException",
		sigv4.Expired:         "InvalidSignatureException",
		sigv4.UnknownKey:      "UnrecognizedClientException",
		sigv4.UnknownToken:    "UnrecognizedClientException",
		sigv4.WrongService:    "InvalidSignatureException",
		sigv4.WrongRegion:     "InvalidSignatureException",
		sigv4.PayloadMismatch: "InvalidSignatureException",
		sigv4.ForeignOrigin:   "AccessDeniedException",
	} {
		if status, code, reason := ebs.Row(&sigv4.Error{Kind: kind}); status != 403 || code != want || reason != "" {
			t.Errorf("%v: got %d %s %q, want 403 %s", kind, status, code, reason, want)
		}
	}
}

// Only where the rest of a body is not going to be read is the connection
// given up.
func TestRefuseHangsUp(t *testing.T) {
	for _, err := range []error{&snapshot.Error{Code: snapshot.BodyTooLong}, &rest.Error{Kind: rest.BodyTooLong}} {
		w := httptest.NewRecorder()
		ebs.New(nil).Refuse(w, httptest.NewRequest("GET", "/", nil), err)
		if w.Header().Get("Connection") != "close" {
			t.Errorf("%v: the connection stays open", err)
		}
	}
}
