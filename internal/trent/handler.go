// Package trent is the door of AWS's Key Management Service: JSON 1.1 over POST
// with the header X-Amz-Target: TrentService.OPERATION. It turns requests into
// calls of kms.Local and its errors into KMS's. Shapes and constraints are those
// of KMS's model, 2014-11-01, which is what "the model" means here; what the
// operations do is kms's to say.
//
// Spec: ebs-direct §1.1, §9.4.
package trent

import (
	"context"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"shale/internal/block"
	"shale/internal/kms"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// Prefix is what the header X-Amz-Target begins with.
const Prefix = "TrentService."

// A Handler serves KMS's protocol. It has no state and is safe for concurrent
// use.
type Handler struct {
	kms *kms.Local
}

// New returns a Handler over k.
func New(k *kms.Local) *Handler { return &Handler{kms: k} }

// A call is one request: the operation's input is decoded from its body.
type call struct {
	context.Context
	kms    *kms.Local
	caller kms.Caller
	body   []byte
}

// An operation answers a call with what is to be sent, nil for an empty body.
type operation func(*call) (any, error)

// operations are those that are served.
var operations = map[string]operation{
	"CancelKeyDeletion":               cancelKeyDeletion,
	"CreateAlias":                     createAlias,
	"CreateKey":                       createKey,
	"Decrypt":                         decrypt,
	"DeleteAlias":                     deleteAlias,
	"DescribeKey":                     describeKey,
	"DisableKey":                      disableKey,
	"EnableKey":                       enableKey,
	"Encrypt":                         encrypt,
	"GenerateDataKey":                 generateDataKey,
	"GenerateDataKeyWithoutPlaintext": generateDataKeyWithoutPlaintext,
	"GetKeyPolicy":                    getKeyPolicy,
	"GetKeyRotationStatus":            getKeyRotationStatus,
	"ListAliases":                     listAliases,
	"ListKeyPolicies":                 listKeyPolicies,
	"ListKeys":                        listKeys,
	"ListResourceTags":                listResourceTags,
	"PutKeyPolicy":                    putKeyPolicy,
	"ReEncrypt":                       reEncrypt,
	"ScheduleKeyDeletion":             scheduleKeyDeletion,
	"TagResource":                     tagResource,
	"UntagResource":                   untagResource,
	"UpdateAlias":                     updateAlias,
	"UpdateKeyDescription":            updateKeyDescription,
}

// notServed are the operations of the model that this server does not have.
var notServed = map[string]bool{
	"ConnectCustomKeyStore": true, "CreateCustomKeyStore": true, "CreateGrant": true, "Decapsulate": true,
	"DeleteCustomKeyStore": true, "DeleteImportedKeyMaterial": true, "DeriveSharedSecret": true,
	"DescribeCustomKeyStores": true, "DisableKeyRotation": true, "DisconnectCustomKeyStore": true,
	"EnableKeyRotation": true, "Encapsulate": true, "GenerateDataKeyPair": true,
	"GenerateDataKeyPairWithoutPlaintext": true, "GenerateMac": true, "GenerateRandom": true,
	"GetKeyLastUsage": true, "GetParametersForImport": true, "GetPublicKey": true, "ImportKeyMaterial": true,
	"ListGrants": true, "ListKeyRotations": true, "ListRetirableGrants": true, "ReplicateKey": true,
	"RetireGrant": true, "RevokeGrant": true, "RotateKeyOnDemand": true, "Sign": true,
	"UpdateCustomKeyStore": true, "UpdatePrimaryRegion": true, "Verify": true, "VerifyMac": true,
}

// Serve answers r on behalf of c. Its body has been checked against the
// signature by then. It returns an error, for Refuse, only if it has written
// nothing.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, _ *block.Digest) error {
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), Prefix)
	op, ok := operations[name]
	if !ok {
		return &operationError{name: name, known: notServed[name]}
	}
	if err := rest.CheckEncoding(r); err != nil {
		return err
	}
	body, err := rest.ReadBody(r, rest.MaxJSON)
	if err != nil {
		return err
	}
	auditInput(r.Context(), body)
	out, err := op(&call{r.Context(), h.kms, kms.Caller{Account: c.Account, Region: c.Region, By: c.By}, body})
	if err != nil {
		return err
	}
	var b []byte
	if out != nil {
		if b, err = json.Marshal(out); err != nil {
			return err
		}
	}
	auditAnswer(r.Context(), name, b)
	rest.Send(w, http.StatusOK, contentType, b)
	return nil
}

const contentType = "application/x-amz-json-1.1"
