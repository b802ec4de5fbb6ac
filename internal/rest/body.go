package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxJSON is the longest JSON body that is read, in bytes. A StartSnapshot
// with 50 tags at their limits, all of characters that JSON escapes in twelve
// bytes, needs 230,000.
const MaxJSON = 256 << 10

// CheckEncoding refuses a body that is encoded in any way.
// Spec: ebs-direct §1.1.
func CheckEncoding(r *http.Request) error {
	for _, v := range r.Header.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(v, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return &Error{Kind: BadEncoding, Value: coding}
			}
		}
	}
	return nil
}

// ReadBody reads r's body whole. A body longer than limit bytes is an *Error
// of kind BodyTooLong, one that cannot be read of kind BodyUnread, unless reading it
// fails with an *Error of its own.
func ReadBody(r *http.Request, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	if e, ok := errors.AsType[*Error](err); ok {
		return nil, e
	}
	if err != nil {
		return nil, &Error{Kind: BodyUnread, Err: err}
	}
	if len(b) > limit {
		return nil, &Error{Kind: BodyTooLong, Value: strconv.Itoa(limit)}
	}
	return b, nil
}

// DecodeObject decodes b, which must be one JSON object with nothing after it,
// no member twice and valid UTF-8 throughout, into the struct or map that v
// points to. Names are case-sensitive, null is the same as absent, unknown
// members are ignored. Anything else is an *Error of kind BadJSON or, naming
// the member, WrongType. Spec: ebs-direct §2.2.
func DecodeObject(b []byte, v any) error {
	if b := bytes.TrimLeft(b, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return &Error{Kind: BadJSON, Err: errors.New("it does not begin with {")}
	}
	return decodeError(json.Unmarshal(b, v))
}

// DecodeValue decodes b, the value of the member called field, into v. An
// error is an *Error as DecodeObject returns it, with field for its Field.
func DecodeValue(field string, b jsontext.Value, v any) error {
	err := decodeError(json.Unmarshal(b, v))
	if e, ok := errors.AsType[*Error](err); ok {
		e.Field = field
	}
	return err
}

// decodeError turns an error of package json into one of this package. Its
// texts are our own: those of the package may change, ours are on the wire.
func decodeError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok { // of a method called by package json
		return e
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return &Error{Kind: BadJSON, Err: syntaxError(err)}
	}
	field := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
	return &Error{Kind: WrongType, Field: field, Err: fmt.Errorf("got %s, want %s",
		kindName(semantic), typeName(semantic.GoType))}
}

func syntaxError(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return errors.New("it has a member twice")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends early")
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("it is wrong at byte %d", syntactic.ByteOffset)
	}
	return errors.New("it cannot be parsed")
}

func kindName(e *json.SemanticError) string {
	switch e.JSONKind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		if e.JSONValue != nil { // one out of range
			return "the number " + string(e.JSONValue)
		}
		return "a number"
	case 't', 'f':
		return "a boolean"
	}
	return "another value"
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "another"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes in base64"
		}
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a %d-bit integer", t.Bits())
	}
	return "another"
}
