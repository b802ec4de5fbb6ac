package trent_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/snapshot/snapshottest"
	"shale/internal/trent"
)

// Whatever the body, each operation answers or refuses, the log text of a
// refusal says nothing of what the model calls sensitive, and an answer is JSON
// or nothing.
func FuzzRequest(f *testing.F) {
	for _, op := range trent.Operations() {
		f.Add(op, `{"KeyId":"alias/aws/ebs","Plaintext":"AAAA","CiphertextBlob":"AAAA","KeySpec":"AES_256","Tags":[{"TagKey":"a"}],"TagKeys":["a"]}`)
		f.Add(op, `{"AliasName":"alias/a","TargetKeyId":"x","Policy":"{}","Limit":1,"Marker":"a","EncryptionContext":{"a":"b"}}`)
	}
	h := trent.New(openKMS(f, &snapshottest.Clock{}))
	f.Fuzz(func(t *testing.T, op, body string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header["X-Amz-Target"] = []string{trent.Prefix + op}
		w := httptest.NewRecorder()
		err := h.Serve(w, r, snapshottest.Caller, nil)
		if err != nil {
			w = httptest.NewRecorder()
			h.Refuse(w, r, err)
			if w.Code >= 500 {
				t.Errorf("%s %s: %v", op, body, err)
			}
		}
		if b := w.Body.String(); b != "" && (b[0] != '{' || b[len(b)-1] != '}') {
			t.Errorf("%s %s: answered %s", op, body, b)
		}
	})
}
