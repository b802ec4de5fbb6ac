package ec2_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/ec2"
)

// Every error of the specification can be asked for by its name.
// Spec: ec2-snapshots §1.3.
func TestNamed(t *testing.T) {
	h := ec2.New(nil, nil)
	for name, status := range map[string]int{
		"DryRunOperation":                       412,
		"UnauthorizedOperation":                 403,
		"AuthFailure":                           401,
		"SignatureDoesNotMatch":                 403,
		"RequestExpired":                        400,
		"IncompleteSignature":                   400,
		"MissingAuthenticationToken":            403,
		"MalformedQueryString":                  404,
		"MissingAction":                         400,
		"InvalidAction":                         400,
		"MissingParameter":                      400,
		"InvalidParameterValue":                 400,
		"InvalidParameterCombination":           400,
		"InvalidSnapshot.NotFound":              400,
		"InvalidSnapshotID.Malformed":           400,
		"InvalidSnapshot.InUse":                 400,
		"IncorrectState":                        400,
		"OperationNotPermitted":                 400,
		"UnsupportedOperation":                  400,
		"InvalidRequest":                        400,
		"ResourceLimitExceeded":                 400,
		"SnapshotLimitExceeded":                 400,
		"PendingSnapshotLimitExceeded":          400,
		"ConcurrentSnapshotLimitExceeded":       400,
		"SnapshotCreationPerVolumeRateExceeded": 400,
		"SnapshotCopyUnsupported.InterRegion":   400,
		"TagLimitExceeded":                      400,
		"InvalidTagKey.Malformed":               400,
		"InvalidUserID.Malformed":               400,
		"InvalidMaxResults":                     400,
		"InvalidNextToken":                      400,
		"InvalidPaginationToken":                400,
		"RequestLimitExceeded":                  503,
		"InternalError":                         500,
		"Unavailable":                           503,
		"FilterLimitExceeded":                   400,
		"InvalidAMIAttributeItemValue":          400,
		"InvalidID":                             400,
		"InvalidRegion":                         400,
	} {
		err := h.Named(name, "snap-0a")
		if err == nil {
			t.Errorf("%s: there is none", name)
			continue
		}
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("POST", "/", nil), err)
		body := w.Body.String()
		if w.Code != status || !strings.Contains(body, "<Code>"+name+"</Code>") || strings.Contains(body, "<Message></Message>") {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, body, status)
		}
	}
	for name, want := range map[string]string{
		"RequestLimitExceeded":  "Request limit exceeded.",
		"SnapshotLimitExceeded": "You have reached the limit of 100000 snapshots.",
		"UnauthorizedOperation": "You are not authorized to perform this operation. User: arn:aws:iam::",
	} {
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("POST", "/", nil), h.Named(name, "snap-0a"))
		if !strings.Contains(w.Body.String(), "<Message>"+want) {
			t.Errorf("%s: got %s, want %s", name, w.Body, want)
		}
	}
	for _, name := range []string{"", "Nope", "ThrottlingException"} {
		if err := h.Named(name, ""); err != nil {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
