package test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
)

// The SDK for Go waits by itself when it is told that it comes too fast, and
// finishes an upload from many goroutines under a tight quota. Spec: ebs-direct §9.3, §10.
func TestSDKBacksOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--quota", "put-block-rate-per-snapshot=6", "--quota", "put-block-rate=8")
	c := s.config(t)
	c.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = 12 })
	}
	image := filepath.Join(t.TempDir(), "image")
	var data []byte
	for i := range byte(20) {
		data = append(data, bytes.Repeat([]byte{i + 1}, blockSize)...)
	}
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
	u := uploader{ebs: ebs.NewFromConfig(c), ec2: s.ec2(t)}
	id, _ := u.upload(t, image, nil, "")
	if got := u.download(t, id); !bytes.Equal(got[:len(data)], data) {
		t.Error("the SDK's upload has other bytes")
	}
	answer, err := http.Get("http://" + s.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `shale_throttled_requests_total{operation="PutSnapshotBlock"}`) {
		t.Error("nothing was refused: that shows nothing")
	}
}
