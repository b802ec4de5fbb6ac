package trent_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/kms"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
	"shale/internal/trent"
)

// Every operation is judged by the caller's policies: one who may do nothing is
// refused, and so is one who may do all but it.
func TestEveryOperationIsJudged(t *testing.T) {
	local := openKMS(t, &snapshottest.Clock{})
	account := kms.Caller{Account: snapshottest.Account, Region: snapshottest.Region}
	k, err := local.CreateKey(t.Context(), account, kms.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := local.Seal(t.Context(), account, []byte("x"), kms.Request{Key: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := local.CreateAlias(t.Context(), account, "alias/x", k.ID); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{ // what any of them needs
		"KeyId": k.ID, "AliasName": "alias/x", "TargetKeyId": k.ID, "DestinationKeyId": k.ID, "NumberOfBytes": 16, "Description": "d",
		"CiphertextBlob": base64.StdEncoding.EncodeToString(sealed.Blob), "Plaintext": "eA==", "TagKeys": []string{"a"},
		"Tags": []map[string]string{{"TagKey": "a", "TagValue": "b"}}, "Policy": `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	door := trent.New(local)
	for _, operation := range trent.Operations() {
		action := "kms:" + strings.Replace(operation, "ReEncrypt", "ReEncryptFrom", 1)
		for _, c := range []snapshot.Caller{
			snapshottest.User(t, snapshottest.Caller, "nobody"),
			snapshottest.User(t, snapshottest.Caller, "almost", snapshottest.Allow("*"), snapshottest.Deny(action)),
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(string(body)))
			r.Header.Set("X-Amz-Target", trent.Prefix+operation)
			w := httptest.NewRecorder()
			err := door.Serve(w, r, c, nil)
			if err == nil {
				t.Errorf("%s by %s: answered with %d", operation, c.By.Name, w.Code)
				continue
			}
			if strings.Contains(err.Error(), "arn:") {
				t.Errorf("%s: the log gets %v", operation, err)
			}
			door.Refuse(w, r, err)
			want := `{"__type":"AccessDeniedException","message":"User: ` + c.By.ARN + ` is not authorized to perform: ` + action + ` on resource: `
			if operation == "Decrypt" || operation == "ReEncrypt" {
				want = `{"__type":"AccessDeniedException"`
			}
			if w.Code != http.StatusBadRequest || !strings.HasPrefix(w.Body.String(), want) {
				t.Errorf("%s by %s: %d %s", operation, c.By.Name, w.Code, w.Body)
			}
		}
	}
}
