// Package kms is the service that holds KMS keys and uses them: what AWS's Key
// Management Service is for EBS. Keys never leave it; what it gives out are
// data keys, in the clear for the moment and wrapped for keeping.
//
// It knows no dialect: the door trent turns KMS's JSON into calls and errors
// into its answers. It knows no snapshots either.
package kms

import "context"

// An Action is what a key's policy may allow: "kms:Decrypt".
type Action string

// The actions that the snapshot service needs of a key.
const (
	Decrypt         Action = "kms:Decrypt"
	DescribeKey     Action = "kms:DescribeKey"
	Encrypt         Action = "kms:Encrypt"
	GenerateDataKey Action = "kms:GenerateDataKey"
	ReEncryptFrom   Action = "kms:ReEncryptFrom"
	ReEncryptTo     Action = "kms:ReEncryptTo"
)

// A Manager is who manages a key.
type Manager string

// The managers. A key managed by AWS is made on demand, is used by its own
// account only and cannot be changed or deleted.
const (
	AWS      Manager = "AWS"
	Customer Manager = "CUSTOMER"
)

// A Key says what a caller that may use a key has to know of it.
type Key struct {
	ID      string // a UUID
	ARN     string // arn:aws:kms:REGION:ACCOUNT:key/ID
	Account string
	Region  string
	Manager Manager
}

// A DataKey is a key for data, and the same wrapped by a KMS key.
type DataKey struct {
	Plaintext [32]byte
	Wrapped   []byte // at most 6,144 bytes
}

// DefaultKeyAlias names the key of an account that EBS uses when none is
// named. It is made when it is asked for.
const DefaultKeyAlias = "alias/aws/ebs"

// A Provider holds keys: the Local service of this package, or a Remote one
// that speaks AWS's protocol. A key is named by its ID or ARN, or by the name
// or ARN of an alias. It is safe for concurrent use. Errors are *Error; any
// other means that the provider cannot answer now.
type Provider interface {
	// Key finds a key that is there and that the caller may use for all the
	// actions. If one of them is other than DescribeKey the key must be
	// enabled, too.
	Key(ctx context.Context, c Caller, name string, actions ...Action) (Key, error)
	// GenerateDataKey makes a data key and wraps it in the encryption context.
	GenerateDataKey(ctx context.Context, c Caller, arn string, encryption map[string]string) (DataKey, error)
	// Decrypt unwraps a data key that the key has wrapped in the same context.
	Decrypt(ctx context.Context, c Caller, arn string, wrapped []byte, encryption map[string]string) ([32]byte, error)
}

// A Code says why a request of KMS was refused, in KMS's words: it is the name
// of the exception.
type Code string

// The codes that callers tell apart. The door has a table of all.
const (
	AccessDenied Code = "AccessDeniedException"
	Disabled     Code = "DisabledException"
	InvalidARN   Code = "InvalidArnException"
	InvalidState Code = "KMSInvalidStateException"
	InvalidUsage Code = "InvalidKeyUsageException" // also: no symmetric key
	NotFound     Code = "NotFoundException"
	Throttled    Code = "ThrottlingException"
)

// An Error is a request that was refused.
type Error struct {
	Code Code
	Text string // what AWS says to the caller
}

// Error tells the code, and may be logged. The text is the caller's only: it
// quotes ARNs, aliases and whatever else was in the request; but why a policy
// is malformed is told without a word of it.
func (e *Error) Error() string {
	if e.Code == MalformedPolicy {
		return string(e.Code) + ": " + e.Text
	}
	return string(e.Code)
}
