package sigv4

import "fmt"

// A Kind is one way in which a request fails to show who sent it. Each dialect
// maps kinds to its own codes and texts, in one table.
type Kind int

// The kinds of Error.
const (
	// Missing: no credentials at all, or none of a sort that is accepted here.
	Missing Kind = iota
	// Malformed: a signature that cannot be read, or lacks a part.
	Malformed
	// Mismatch: the signature is not the one that this request and the key's
	// secret give, or it breaks a rule without which it proves nothing.
	Mismatch
	// Expired: signed too long ago, or too far in the future.
	Expired
	// UnknownKey: there is no such access key.
	UnknownKey
	// UnknownToken: a session token that this server did not issue, or that is
	// not the access key's.
	UnknownToken
	// ExpiredToken: the session has come to its end.
	ExpiredToken
	// WrongService: the scope names another service than the one asked.
	WrongService
	// WrongRegion: the region of the scope, or of the host name, is not served.
	WrongRegion
	// UnsupportedPayload: a payload hash that is not accepted for this request.
	UnsupportedPayload
	// PayloadMismatch: the body is not the one whose hash was signed.
	PayloadMismatch
	// ForeignOrigin: a web page of another origin, without credentials of its
	// own. Spec: plain-json, Which dialect a request gets.
	ForeignOrigin

	// NumKinds is the number of kinds, for tests of completeness.
	NumKinds
)

// An Error says why a request was not authenticated. Its text may be shown to
// the client and written to a log: it never holds a signature, a secret or a
// token.
type Error struct {
	Kind   Kind
	Detail string // what exactly was wrong, for people; may be empty
}

// Error tells a person what was wrong and what would be right.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Kind.String()
	}
	return e.Detail
}

// String returns the kind in a few words.
func (k Kind) String() string {
	switch k {
	case Missing:
		return "the request is missing an authentication token"
	case Malformed:
		return "the signature is incomplete or malformed"
	case Mismatch:
		return "the signature does not match the request; check the secret key and the signing method"
	case Expired:
		return "the signature has expired"
	case UnknownKey, UnknownToken:
		return "the security token included in the request is invalid"
	case ExpiredToken:
		return "the security token included in the request is expired"
	case WrongService:
		return "the credential is scoped to another service"
	case WrongRegion:
		return "the credential is scoped to a region that is not served here"
	case UnsupportedPayload:
		return "the payload hash is not supported for this operation"
	case PayloadMismatch:
		return "the body is not the one that was signed"
	case ForeignOrigin:
		return "requests from web pages of another origin are not accepted"
	}
	return fmt.Sprintf("sigv4.Kind(%d)", int(k))
}

func errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...)}
}
