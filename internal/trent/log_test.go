package trent_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/snapshot/snapshottest"
	"shale/internal/trent"
)

// The error of a refused request, which gets into the log, has neither a key's
// ARN in it nor anything else that the client sent. Spec: ebs-direct §2.4.
func TestErrorsAreFitForTheLog(t *testing.T) {
	h := trent.New(openKMS(t, &snapshottest.Clock{}))
	const id = "arn:aws:kms:us-east-1:444455556666:key/00000000-1111-4222-8333-444444444444"
	for operation, body := range map[string]string{
		"Decrypt":      `{"CiphertextBlob":"AXNlY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3JldA==","KeyId":"` + id + `"}`,
		"DescribeKey":  `{"KeyId":"` + id + `"}`,
		"Encrypt":      `{"KeyId":"secret","Plaintext":"c2VjcmV0"}`,
		"DisableKey":   `{"KeyId":"alias/secret"}`,
		"CreateAlias":  `{"AliasName":"alias/aws/secret","TargetKeyId":"` + id + `"}`,
		"ListKeys":     `{"Marker":"secret"}`,
		"TagResource":  `{"KeyId":"` + id + `","Tags":[{"TagKey":"secret","TagValue":""},{"TagKey":"secret","TagValue":""}]}`,
		"PutKeyPolicy": `{"KeyId":"` + id + `","Policy":"secret"}`,
		"CreateKey":    `{"Policy":"{\"secret\":1}"}`,
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header.Set("X-Amz-Target", trent.Prefix+operation)
		err := h.Serve(httptest.NewRecorder(), r, snapshottest.Caller, nil)
		if err == nil || strings.Contains(err.Error(), "arn:") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", operation, err)
		}
	}
}
