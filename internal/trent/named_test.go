package trent_test

import (
	"net/http/httptest"
	"testing"

	"shale/internal/kms"
	"shale/internal/trent"
)

// Every exception of KMS's that the server knows can be asked for by its name.
func TestNamed(t *testing.T) {
	h := trent.New(nil)
	names := map[string]int{
		"KMSInternalException": 500, "UnknownOperationException": 400, "SerializationException": 400,
		"InvalidSignatureException": 400, "IncompleteSignatureException": 400, "UnrecognizedClientException": 400,
		"MissingAuthenticationTokenException": 403, "RequestEntityTooLargeException": 413, "RequestAbortedException": 400,
		"MalformedHttpRequestException": 400,
	}
	for _, c := range kms.Codes {
		names[string(c)] = 400
	}
	for name, status := range names {
		err := h.Named(name, "")
		if err == nil {
			t.Errorf("%s: there is none", name)
			continue
		}
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("POST", "/", nil), err)
		if w.Code != status || w.Header().Get("X-Amzn-Errortype") != name {
			t.Errorf("%s: got %d %s %s, want %d", name, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body, status)
		}
	}
	for _, name := range []string{"", "Nope", "RequestThrottledException"} {
		if err := h.Named(name, ""); err != nil {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
