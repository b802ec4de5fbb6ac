package rest

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Kind is one way in which a request fails before the service sees it.
type Kind int

// The kinds of Error.
const (
	// UnknownPath: no operation has this path.
	UnknownPath Kind = iota
	// UnknownMethod: the path exists, but not with this method. Error.Allow.
	UnknownMethod
	// NotServed: an operation of the dialect that this version does not have.
	NotServed
	// NotAnInteger: Error.Value of Error.Field is not a 32-bit integer.
	NotAnInteger
	// Repeated: the header or query parameter Error.Field is given twice.
	Repeated
	// BadQuery: the query string has a broken percent-escape.
	BadQuery
	// BadEncoding: the body's Content-Encoding, Error.Value, is not identity.
	BadEncoding
	// BadJSON: the body is not one JSON object.
	BadJSON
	// WrongType: the JSON value of Error.Field has the wrong type.
	WrongType
	// BothSpellings: Error.Field is given in both of its spellings.
	BothSpellings
	// BodyTooLong: the body is longer than its operation admits.
	BodyTooLong
	// BodyUnread: the client stopped sending before the end of the body.
	BodyUnread
	// HeaderTooLong: request line and header are longer than Error.Value bytes.
	HeaderTooLong
	// Malformed: the request cannot be read as HTTP. Error.Value says why and
	// what would be right.
	Malformed
	// Busy: as many long headers and bodies are being read as there is room for.
	Busy
	// RateExceeded: the account sends more requests of this service than it may
	// a second.
	RateExceeded

	// NumKinds is the number of kinds, for tests of completeness.
	NumKinds
)

// An Error says why a request could not be understood.
type Error struct {
	Kind  Kind
	Field string   // the member at fault, as its dialect spells it
	Value string   // what was sent
	Allow []string // the methods that the path has
	Err   error    // the cause, where there is one
}

// Error tells a person what was wrong and what would be right.
func (e *Error) Error() string {
	switch e.Kind {
	case UnknownPath:
		return fmt.Sprintf("no operation has the path %s", e.Value)
	case UnknownMethod:
		return fmt.Sprintf("the path does not have the method %s, only %s", e.Value, strings.Join(e.Allow, ", "))
	case NotServed:
		return fmt.Sprintf("%s is not served by this version", e.Value)
	case NotAnInteger:
		return fmt.Sprintf("the value %q of %s is not a 32-bit integer", e.Value, e.Field)
	case Repeated:
		return fmt.Sprintf("the parameter %s is given more than once", e.Field)
	case BadQuery:
		return fmt.Sprintf("the query string is malformed: %v", e.Err)
	case BadEncoding:
		return fmt.Sprintf("the content encoding %q is not supported, send the body as it is", e.Value)
	case BadJSON:
		return fmt.Sprintf("the body is not a valid JSON object: %v", e.Err)
	case WrongType:
		return fmt.Sprintf("the member %s has the wrong type: %v", e.Field, e.Err)
	case BothSpellings:
		return fmt.Sprintf("the member %s is given in both of its spellings", e.Field)
	case BodyTooLong:
		return fmt.Sprintf("the body is longer than %s bytes", e.Value)
	case HeaderTooLong:
		return fmt.Sprintf("the request line and the header are longer than %s bytes together", e.Value)
	case Malformed:
		return e.Value
	case Busy:
		return "too many long requests are on their way at the moment; try again"
	case RateExceeded:
		return "the account sends too many requests; send fewer of them a second"
	default:
		return fmt.Sprintf("the body ended early: %v", e.Err)
	}
}

// Unwrap returns the cause, if one is known.
func (e *Error) Unwrap() error { return e.Err }

// Sentence returns err's text with a capital letter, as AWS's messages have it.
func Sentence(err error) string {
	s := err.Error()
	_, size := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:size]) + s[size:]
}
