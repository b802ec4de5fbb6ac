package gateway_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/rest"
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

// BenchmarkGet is all that net/http and the gateway do for a signed
// GetSnapshotBlock over a connection of loopback, its client's share included,
// but for finding the block and copying it: the answer has the headers alone.
func BenchmarkGet(b *testing.B) {
	f := newFixture(b, func(o *gateway.Options) {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	})
	f.ebs.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
		rt, err := rest.AWS.Match(r)
		if err != nil {
			return err
		}
		if _, err := rt.GetBlock(r); err != nil {
			return err
		}
		rest.SendBlock(w, nil, block.ZeroDigest)
		return nil
	}
	c, err := net.Dial("tcp", f.listen(b))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	target := "/snapshots/snap-00123456789abcdef/blocks/12345?blockToken=" + strings.Repeat("A", 107)
	var head bytes.Buffer
	if err := sign(b, request("GET", target, ""), signing{}).Write(&head); err != nil {
		b.Fatal(err)
	}
	answer := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(head.Bytes()); err != nil {
			b.Fatal(err)
		}
		n, err := c.Read(answer)
		if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer[:n], []byte("\r\n\r\n")) {
			b.Fatalf("%q, %v", answer[:n], err)
		}
	}
}
