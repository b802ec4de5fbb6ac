package ebs_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/ebs"
)

// Every error of the specification can be asked for by its name.
// Spec: ebs-direct §9.2, §9.4.
func TestNamed(t *testing.T) {
	h := ebs.New(nil)
	for name, status := range map[string]int{
		"AccessDeniedException":               403,
		"ValidationException":                 400,
		"ResourceNotFoundException":           404,
		"RequestThrottledException":           400,
		"ServiceQuotaExceededException":       402,
		"ConcurrentLimitExceededException":    400,
		"ConflictException":                   409,
		"InternalServerException":             500,
		"ThrottlingException":                 400,
		"InvalidSignatureException":           403,
		"MissingAuthenticationTokenException": 403,
		"UnrecognizedClientException":         403,
		"ExpiredTokenException":               403,
		"IncompleteSignature":                 403,
		"IncompleteSignatureException":        403,
		"UnknownOperationException":           404,
		"SerializationException":              400,
		"RequestEntityTooLargeException":      413,
		"RequestTimeoutException":             408,
		"RequestAbortedException":             400,
		"MalformedHttpRequestException":       400,
		"ServiceUnavailable":                  503,
		"OptInRequired":                       403,
		"NotAuthorized":                       401,
		"InternalFailure":                     500,
		"ValidationError":                     400,
	} {
		err := h.Named(name, "snap-0a")
		if err == nil {
			t.Errorf("%s: there is none", name)
			continue
		}
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("GET", "/", nil), err)
		code, _, _ := strings.Cut(w.Header().Get("X-Amzn-Errortype"), ":")
		if w.Code != status || code != name {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, code, status)
		}
		if !strings.Contains(strings.ToLower(w.Body.String()), `"message":"`) || strings.Contains(w.Body.String(), `"message":""`) {
			t.Errorf("%s: got %s", name, w.Body)
		}
	}
	for name, want := range map[string]string{
		"ResourceNotFoundException": `{"Message":"The snapshot 'snap-0a' does not exist.","Reason":"SNAPSHOT_NOT_FOUND"}`,
		"ThrottlingException":       `{"message":"Rate exceeded"}`,
		"AccessDeniedException": `{"Message":"User: arn:aws:iam::123456789012:user/denied is not authorized to perform: this:Operation ` +
			`on resource: * because a rule of /_test/behaviour asks for this error"}`,
		"ConcurrentLimitExceededException": `{"Message":"You have reached the limit of 100 pending snapshots. Complete or delete some of them."}`,
		"ServiceQuotaExceededException": `{"Message":"You have reached the limit of 100000 snapshots.",` +
			`"Reason":"DEPENDENCY_SERVICE_QUOTA_EXCEEDED"}`,
	} {
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("GET", "/", nil), h.Named(name, "snap-0a"))
		if got := w.Body.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, name := range []string{"", "Nope", "validationexception", "VALIDATION_ERROR", "RequestLimitExceeded"} {
		if err := h.Named(name, ""); err != nil {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
