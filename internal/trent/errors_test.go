package trent_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/kms"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/trent"
)

// Every error has a row of its own: none falls through to the internal one.
func TestTablesAreComplete(t *testing.T) {
	var all []error
	for _, c := range kms.Codes {
		all = append(all, &kms.Error{Code: c, Text: "text"})
	}
	for k := range rest.NumKinds {
		all = append(all, &rest.Error{Kind: k, Err: errors.New("cause")})
	}
	for k := range sigv4.NumKinds {
		all = append(all, &sigv4.Error{Kind: k})
	}
	h := trent.New(nil)
	for _, err := range all {
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody), err)
		name := w.Header().Get("X-Amzn-Errortype")
		if w.Code < 400 || w.Code >= 500 || !strings.Contains(w.Body.String(), `{"__type":"`+name+`"`) {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
		if e, ok := errors.AsType[*kms.Error](err); ok && name != string(e.Code) {
			t.Errorf("%v: %s", err, name)
		}
	}
}

// Too many requests are an error that AWS's SDKs wait after.
// Spec: ebs-direct §9.3.
func TestRateExceeded(t *testing.T) {
	w := httptest.NewRecorder()
	trent.New(nil).Refuse(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody), &rest.Error{Kind: rest.RateExceeded})
	if w.Code != 400 || w.Body.String() != `{"__type":"ThrottlingException","message":"The account sends too many requests; send fewer of them a second"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// What is wrong here is told to the log, not to the caller.
func TestInternalError(t *testing.T) {
	w := httptest.NewRecorder()
	trent.New(nil).Refuse(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody), errors.New("the disk is on fire"))
	if w.Code != 500 || w.Body.String() != `{"__type":"KMSInternalException","message":"An internal error occurred."}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
