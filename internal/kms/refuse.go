package kms

import (
	"fmt"

	"shale/internal/policy"
)

// The codes of operations that manage keys, besides those of kms.go. The names
// are those of KMS's model, 2014-11-01.
const (
	AlreadyExists     Code = "AlreadyExistsException"
	DryRunSucceeded   Code = "DryRunOperationException"
	IncorrectKey      Code = "IncorrectKeyException"
	InvalidAliasName  Code = "InvalidAliasNameException"
	InvalidCiphertext Code = "InvalidCiphertextException"
	InvalidGrantToken Code = "InvalidGrantTokenException"
	InvalidMarker     Code = "InvalidMarkerException"
	InvalidTag        Code = "TagException"
	InvalidValue      Code = "ValidationException"
	LimitExceeded     Code = "LimitExceededException"
	MalformedPolicy   Code = "MalformedPolicyDocumentException"
	Unsupported       Code = "UnsupportedOperationException"
)

// Codes are all that an *Error of this package may have, for tests of
// completeness.
var Codes = []Code{
	AccessDenied, AlreadyExists, Disabled, DryRunSucceeded, IncorrectKey, InvalidARN, InvalidAliasName,
	InvalidCiphertext, InvalidGrantToken, InvalidMarker, InvalidState, InvalidTag, InvalidUsage, InvalidValue,
	LimitExceeded, MalformedPolicy, NotFound, Throttled, Unsupported,
}

func refuse(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

func noSuchKey(arn string) *Error { return refuse(NotFound, "Key '%s' does not exist", arn) }

func noSuchAlias(arn string) *Error { return refuse(NotFound, "Alias %s is not found.", arn) }

// denied tells a caller that he may not do something.
func denied(c Caller, a Action, arn, why string) *Error {
	d := policy.Denied{Principal: c.arn(), Action: string(a), Resource: arn, Why: why}
	return &Error{Code: AccessDenied, Text: d.Error()}
}

// deniedAbroad is the answer about keys of other accounts, whether there are
// such or not: who may not use one does not learn that it is there.
func deniedAbroad(c Caller, a Action, arn string) *Error {
	return denied(c, a, arn, "because the resource does not exist in this Region, no resource-based policies allow access, "+
		"or a resource-based policy explicitly denies access")
}
