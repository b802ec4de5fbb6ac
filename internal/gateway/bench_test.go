package gateway_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/block"
	"shale/internal/gateway"
)

// BenchmarkPut is what the gateway adds to a signed PutSnapshotBlock: routing,
// the signature, the log line and the counts, without body or door. The bound
// is the SHA-256 of the block, which takes some thirty times as long.
func BenchmarkPut(b *testing.B) {
	f := newFixture(b, func(o *gateway.Options) {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	})
	f.ebs.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		w.WriteHeader(http.StatusCreated)
		return nil
	}
	headers := []string{
		"x-amz-content-sha256: UNSIGNED-PAYLOAD", "x-amz-data-length: 524288",
		"x-amz-checksum-algorithm: SHA256", "x-amz-checksum: " + strings.Repeat("A", 43) + "=",
	}
	r := sign(b, request("PUT", putTarget, "", headers...), signing{hash: "UNSIGNED-PAYLOAD"})
	b.ReportAllocs()
	for b.Loop() {
		f.ServeHTTP(httptest.NewRecorder(), r)
	}
}
