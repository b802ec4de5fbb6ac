package gateway

import (
	"encoding/json"
	"net/http"

	"shale/internal/rest"
)

// serveProbe answers the server's own, unsigned paths.
func (x *exchange) serveProbe(path string) error {
	x.op, x.quiet = path, true
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return &rest.Error{Kind: rest.UnknownMethod, Value: x.r.Method, Allow: []string{http.MethodGet, http.MethodHead}}
	}
	switch path {
	case "/metrics":
		x.scrape.ServeHTTP(x.w, x.r)
	case "/healthz":
		writeJSON(x.w, http.StatusOK, jsonType, probe{Status: "ok"})
	default:
		p := probe{Status: "ready", TestControls: x.o.TestControls != nil}
		status := http.StatusOK
		if err := x.o.Ready(); err != nil {
			p.Status, p.Reason, status = "unavailable", err.Error(), http.StatusServiceUnavailable
		}
		writeJSON(x.w, status, jsonType, p)
	}
	return nil
}

// A probe is what /healthz and /readyz answer.
type probe struct {
	Status       string `json:"status"`
	Reason       string `json:"reason,omitempty"`
	TestControls bool   `json:"test_controls,omitempty"`
}

const jsonType = "application/json"

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // all that is passed can be marshalled
	}
	rest.Send(w, status, contentType, b)
}
