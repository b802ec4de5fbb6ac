package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"shale/internal/audit"
	"shale/internal/quota"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

// dispatch finds the service and the dialect of the request, establishes who
// sent it, and has the door answer. An error is for the door that it left in
// x.door to tell. Spec: ebs-direct §1.1.
func (x *exchange) dispatch() error {
	path := x.r.URL.Path
	switch {
	case path == "/healthz", path == "/readyz", path == "/metrics":
		return x.serveProbe(path)
	case strings.HasPrefix(path, "/_test/"):
		return x.serveTest(path)
	case path == "/" && x.r.Method == http.MethodPost && x.r.Header.Get("X-Amz-Target") != "":
		return x.serveTarget()
	case path == "/" && (x.r.Method == http.MethodPost || x.r.URL.Query().Has("Action")):
		return x.serveQuery()
	case sigv4.Signed(x.r):
		return x.serveEBS()
	}
	return x.servePlain()
}

func (x *exchange) serveEBS() error {
	x.door = x.o.EBS
	put := x.note(rest.AWS)
	c, signed, err := x.authenticate("ebs", put)
	if err != nil {
		return err
	}
	return x.serve(x.o.EBS, c, signed)
}

func (x *exchange) servePlain() error {
	x.door = x.o.Plain
	x.note(rest.Plain)
	c, err := x.identify()
	if err != nil {
		return err
	}
	if !ofEBS(x.r) {
		if err := x.throttle(c, quota.EC2Rate); err != nil {
			return err
		}
	}
	return x.serve(x.o.Plain, c, nil)
}

// serveQuery serves the Query protocols: the service that a request is signed
// for decides. What is signed for another one, or cannot be read, is refused as
// EC2 would.
func (x *exchange) serveQuery() error {
	service, door := "ec2", x.o.EC2
	if s, err := sigv4.Parse(x.r); err == nil {
		switch s.Service {
		case "iam":
			service, door = s.Service, x.o.IAM
		case "sts":
			service, door = s.Service, x.o.STS
		}
	}
	x.door = door
	x.op = queryOperation(service, "")
	if !sigv4.Signed(x.r) {
		return &sigv4.Error{Kind: sigv4.Missing}
	}
	c, signed, err := x.authenticate(service, false)
	if err != nil {
		return err
	}
	x.op = queryOperation(service, x.action())
	rate := quota.IAMRate
	if service == "ec2" {
		rate = quota.EC2Rate
	}
	if err := x.throttle(c, rate); err != nil {
		return err
	}
	return x.serve(door, c, signed)
}

// action returns what the Query protocol calls the operation, for log and audit:
// the same that the door finds, however it is written. What the door makes of the
// parameters is its own.
func (x *exchange) action() string {
	for _, params := range []string{x.r.URL.RawQuery, string(x.inMemory)} {
		for pair := range strings.SplitSeq(params, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if name, err := url.QueryUnescape(name); err != nil || name != "Action" {
				continue
			}
			value, _ = url.QueryUnescape(value) // else the door refuses it
			return value
		}
	}
	return ""
}

// serveTarget serves the JSON 1.1 protocol. Of the services that speak it only
// KMS may be here.
func (x *exchange) serveTarget() error {
	if name, ok := strings.CutPrefix(x.r.Header.Get("X-Amz-Target"), "TrentService."); ok && x.o.KMS != nil {
		return x.serveKMS(name)
	}
	x.door = targetRefuser{}
	x.op = "json:unknown"
	if !sigv4.Signed(x.r) {
		return &sigv4.Error{Kind: sigv4.Missing}
	}
	return &sigv4.Error{Kind: sigv4.WrongService, Detail: "no service with X-Amz-Target is served here"}
}

func (x *exchange) serveKMS(name string) error {
	x.door = x.o.KMS
	x.op = "kms:" + opUnknown
	if !sigv4.Signed(x.r) {
		return &sigv4.Error{Kind: sigv4.Missing}
	}
	c, signed, err := x.authenticate("kms", false)
	if err != nil {
		return err
	}
	if slices.Contains(kmsOperations, name) {
		x.op = "kms:" + name
	}
	if err := x.throttle(c, quota.KMSRate); err != nil {
		return err
	}
	return x.serve(x.o.KMS, c, signed)
}

// A targetRefuser tells failures in the shape of AWS's JSON 1.1 protocol.
// Spec: ebs-direct §1.1, §9.4.
type targetRefuser struct{}

// Refuse writes err, a *sigv4.Error or one of the server's own.
func (targetRefuser) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, body := http.StatusInternalServerError, targetError{"InternalFailure", "An internal error occurred."}
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		status, body = http.StatusBadRequest, targetError{"InvalidSignatureException", e.Error()}
		if e.Kind == sigv4.Missing {
			status, body.Type = http.StatusForbidden, "MissingAuthenticationTokenException"
		}
	}
	audit.Refused(r.Context(), body.Type, body.Message)
	w.Header().Set("X-Amzn-Errortype", body.Type)
	writeJSON(w, status, "application/x-amz-json-1.1", body)
}

type targetError struct {
	Type    string `json:"__type"`
	Message string `json:"message"`
}

// note remembers which operation of t is asked for, and for which snapshot. It
// reports whether it is the one whose body is a block.
func (x *exchange) note(t rest.Table) (put bool) {
	rt, err := t.Match(x.r)
	if err != nil {
		return false // for the door to tell, once it is known who asks
	}
	x.op = rt.Op.String()
	x.snapshot = rt.SnapshotID[:min(len(rt.SnapshotID), maxSnapshotID)]
	if put = rt.Op == rest.PutSnapshotBlock; put && x.r.Body != http.NoBody {
		x.r.Body = x.body // which the service has room for
	}
	return put
}

// maxSnapshotID is the model's limit. Spec: ebs-direct §2.4.
const maxSnapshotID = 64

// opUnknown stands for requests that are no operation.
const opUnknown = "unknown"

// queryOperations are the actions of each service that logs and metrics tell
// apart.
var queryOperations = map[string][]string{
	"ec2": {
		"CopySnapshot", "CreateSnapshot", "CreateTags", "DeleteSnapshot", "DeleteTags",
		"DescribeLockedSnapshots", "DescribeSnapshotAttribute", "DescribeSnapshotTierStatus", "DescribeSnapshots", "DescribeTags",
		"DisableEbsEncryptionByDefault", "DisableSnapshotBlockPublicAccess",
		"EnableEbsEncryptionByDefault", "EnableSnapshotBlockPublicAccess",
		"GetEbsDefaultKmsKeyId", "GetEbsEncryptionByDefault", "GetSnapshotBlockPublicAccessState",
		"ListSnapshotsInRecycleBin", "LockSnapshot", "ModifyEbsDefaultKmsKeyId", "ModifySnapshotAttribute", "ModifySnapshotTier",
		"ResetEbsDefaultKmsKeyId", "ResetSnapshotAttribute", "RestoreSnapshotFromRecycleBin", "RestoreSnapshotTier", "UnlockSnapshot",
	},
	"iam": {
		"CreateAccessKey", "CreateRole", "CreateUser", "DeleteAccessKey", "DeleteRole", "DeleteRolePolicy",
		"DeleteUser", "DeleteUserPolicy", "GetRole", "GetRolePolicy", "GetUser", "GetUserPolicy", "ListAccessKeys",
		"ListRolePolicies", "ListRoles", "ListUserPolicies", "ListUsers", "PutRolePolicy", "PutUserPolicy",
		"UpdateAccessKey", "UpdateAssumeRolePolicy",
	},
	"sts": {"AssumeRole", "GetCallerIdentity", "GetSessionToken"},
}

// kmsOperations are the operations of KMS that logs and metrics tell apart.
var kmsOperations = []string{
	"CancelKeyDeletion", "CreateAlias", "CreateKey", "Decrypt", "DeleteAlias", "DescribeKey", "DisableKey",
	"EnableKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GetKeyPolicy",
	"GetKeyRotationStatus", "ListAliases", "ListKeyPolicies", "ListKeys", "ListResourceTags", "PutKeyPolicy",
	"ReEncrypt", "ScheduleKeyDeletion", "TagResource", "UntagResource", "UpdateAlias", "UpdateKeyDescription",
}

func queryOperation(service, action string) string {
	if slices.Contains(queryOperations[service], action) {
		return service + ":" + action
	}
	return service + ":" + opUnknown
}
