package identity

import (
	"fmt"
)

// A Code says why a request was refused, in IAM's words: it is the code that is
// on the wire.
type Code string

// The codes.
const (
	AccessDenied        Code = "AccessDenied"
	DeleteConflict      Code = "DeleteConflict"
	EntityAlreadyExists Code = "EntityAlreadyExists"
	InvalidInput        Code = "ValidationError"
	LimitExceeded       Code = "LimitExceeded"
	MalformedPolicy     Code = "MalformedPolicyDocument"
	NoSuchEntity        Code = "NoSuchEntity"
	PolicyTooLarge      Code = "PackedPolicyTooLarge"
	// SessionRefused: the operation is not for the session that asks.
	SessionRefused Code = "InvalidClientTokenId"
)

// Codes are all codes, for tests of completeness.
var Codes = []Code{
	AccessDenied, DeleteConflict, EntityAlreadyExists, InvalidInput, LimitExceeded,
	MalformedPolicy, NoSuchEntity, PolicyTooLarge, SessionRefused,
}

// An Error is a request that was refused.
type Error struct {
	Code Code
	Text string // what AWS says to the caller
}

// Error tells the code, and may be logged. The text is the caller's only: it
// quotes names and policies.
func (e *Error) Error() string { return string(e.Code) }

func refuse(c Code, format string, args ...any) error {
	return &Error{c, fmt.Sprintf(format, args...)}
}
