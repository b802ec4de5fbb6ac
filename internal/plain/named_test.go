package plain_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/plain"
)

// Every code of the specification can be asked for. Spec: plain-json, Bodies.
func TestNamed(t *testing.T) {
	h := plain.New(nil)
	for name, status := range map[string]int{
		"VALIDATION_ERROR":   400,
		"UNAUTHENTICATED":    401,
		"ACCESS_DENIED":      403,
		"NOT_FOUND":          404,
		"CONFLICT":           409,
		"THROTTLED":          429,
		"CHECKSUM_MISMATCH":  403,
		"METHOD_NOT_ALLOWED": 405,
		"INTERNAL_ERROR":     500,
	} {
		err := h.Named(name, "snap-0a")
		if err == nil {
			t.Errorf("%s: there is none", name)
			continue
		}
		w := httptest.NewRecorder()
		h.Refuse(w, httptest.NewRequest("GET", "/", nil), err)
		if w.Code != status || !strings.Contains(w.Body.String(), `"code":"`+name+`"`) {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, status)
		}
	}
	for _, name := range []string{"", "Nope", "ThrottlingException"} {
		if err := h.Named(name, ""); err != nil {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
