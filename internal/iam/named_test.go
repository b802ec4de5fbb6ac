package iam_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/iam"
)

// Every error of the two services can be asked for by its name.
// Source: IAM's and STS's models; Common errors of IAM.
func TestNamed(t *testing.T) {
	for _, h := range []*iam.Handler{iam.New(nil), iam.NewSTS(nil)} {
		for name, status := range map[string]int{
			"AccessDenied":                403,
			"DeleteConflict":              409,
			"EntityAlreadyExists":         409,
			"ExpiredToken":                403,
			"IncompleteSignature":         403,
			"InternalFailure":             500,
			"InvalidAction":               400,
			"InvalidClientTokenId":        403,
			"InvalidParameterCombination": 400,
			"LimitExceeded":               409,
			"MalformedPolicyDocument":     400,
			"MalformedQueryString":        404,
			"MissingAction":               400,
			"MissingAuthenticationToken":  403,
			"NoSuchEntity":                404,
			"PackedPolicyTooLarge":        400,
			"RequestEntityTooLarge":       413,
			"SignatureDoesNotMatch":       403,
			"Throttling":                  400,
			"ValidationError":             400,
		} {
			err := h.Named(name, "")
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
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("POST", "/", nil), h.Named("AccessDenied", ""))
		if want := "<Message>User: arn:aws:iam::"; !strings.Contains(w.Body.String(), want) {
			t.Errorf("got %s, want %s", w.Body, want)
		}
		for _, name := range []string{"", "Nope", "ThrottlingException", "UnauthorizedOperation"} {
			if err := h.Named(name, ""); err != nil {
				t.Errorf("%q: got %v", name, err)
			}
		}
	}
}
