package trent

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"

	"shale/internal/audit"
	"shale/internal/kms"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

// An operationError is a request for an operation that is not here.
type operationError struct {
	name  string
	known bool // the model has it
}

func (e *operationError) Error() string {
	if e.known {
		return e.name + " is not served by this version"
	}
	return "no operation of KMS has this name"
}

// A row is the name of an exception and its status.
type row struct {
	name   string
	status int
}

var (
	internalError      = row{"KMSInternalException", http.StatusInternalServerError}
	unknownOperation   = row{"UnknownOperationException", http.StatusBadRequest}
	unsupported        = row{string(kms.Unsupported), http.StatusBadRequest}
	invalid            = row{string(kms.InvalidValue), http.StatusBadRequest}
	unreadable         = row{"SerializationException", http.StatusBadRequest}
	tooLarge           = row{"RequestEntityTooLargeException", http.StatusRequestEntityTooLarge}
	aborted            = row{"RequestAbortedException", http.StatusBadRequest}
	badSignature       = row{"InvalidSignatureException", http.StatusBadRequest}
	malformedSignature = row{"IncompleteSignatureException", http.StatusBadRequest}
	unknownClient      = row{"UnrecognizedClientException", http.StatusBadRequest}
	expiredToken       = row{"ExpiredTokenException", http.StatusBadRequest}
	noCredentials      = row{"MissingAuthenticationTokenException", http.StatusForbidden}
)

// serviceRows has the status of every exception of the service; their names are
// on the wire as they are. Spec: ebs-direct §1.1.
var serviceRows = map[kms.Code]int{
	kms.AccessDenied:      http.StatusBadRequest,
	kms.AlreadyExists:     http.StatusBadRequest,
	kms.Disabled:          http.StatusBadRequest,
	kms.DryRunSucceeded:   http.StatusBadRequest,
	kms.IncorrectKey:      http.StatusBadRequest,
	kms.InvalidARN:        http.StatusBadRequest,
	kms.InvalidAliasName:  http.StatusBadRequest,
	kms.InvalidCiphertext: http.StatusBadRequest,
	kms.InvalidGrantToken: http.StatusBadRequest,
	kms.InvalidMarker:     http.StatusBadRequest,
	kms.InvalidState:      http.StatusBadRequest,
	kms.InvalidTag:        http.StatusBadRequest,
	kms.InvalidUsage:      http.StatusBadRequest,
	kms.InvalidValue:      http.StatusBadRequest,
	kms.LimitExceeded:     http.StatusBadRequest,
	kms.MalformedPolicy:   http.StatusBadRequest,
	kms.NotFound:          http.StatusBadRequest,
	kms.Throttled:         http.StatusBadRequest,
	kms.Unsupported:       http.StatusBadRequest,
}

// requestRows has a row for every request that could not be understood.
var requestRows = [rest.NumKinds]row{
	rest.UnknownPath:   unknownOperation,
	rest.UnknownMethod: unknownOperation,
	rest.NotServed:     unsupported,
	rest.NotAnInteger:  unreadable,
	rest.Repeated:      unreadable,
	rest.BadQuery:      unreadable,
	rest.BadEncoding:   invalid,
	rest.BadJSON:       unreadable,
	rest.WrongType:     unreadable,
	rest.BothSpellings: unreadable,
	rest.BodyTooLong:   tooLarge,
	rest.BodyUnread:    aborted,
	rest.HeaderTooLong: {"RequestEntityTooLargeException", http.StatusRequestHeaderFieldsTooLarge},
	rest.Malformed:     {"MalformedHttpRequestException", http.StatusBadRequest},
	rest.Busy:          {string(kms.Throttled), http.StatusBadRequest},
	rest.RateExceeded:  {string(kms.Throttled), http.StatusBadRequest},
}

// signatureRows has a row for every way in which a request fails to show who
// sent it. Spec: ebs-direct §1.1, §9.4.
var signatureRows = [sigv4.NumKinds]row{
	sigv4.Missing:            noCredentials,
	sigv4.Malformed:          malformedSignature,
	sigv4.Mismatch:           badSignature,
	sigv4.Expired:            badSignature,
	sigv4.UnknownKey:         unknownClient,
	sigv4.UnknownToken:       unknownClient,
	sigv4.ExpiredToken:       expiredToken,
	sigv4.WrongService:       badSignature,
	sigv4.WrongRegion:        badSignature,
	sigv4.UnsupportedPayload: badSignature,
	sigv4.PayloadMismatch:    badSignature,
	sigv4.ForeignOrigin:      badSignature,
}

// Refuse writes err as KMS would: by its row, or as an internal error that tells
// nothing of its cause, which is for the log.
func (h *Handler) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	to, text := explain(err)
	audit.Refused(r.Context(), to.name, text)
	if to == tooLarge {
		w.Header().Set("Connection", "close")
	}
	b, err := json.Marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message,omitzero"`
	}{to.name, text}, json.Deterministic(true))
	if err != nil { // what was sent is not UTF-8, and is quoted
		b = fmt.Appendf(nil, `{"__type":%q}`, to.name)
	}
	w.Header().Set("X-Amzn-Errortype", to.name)
	rest.Send(w, to.status, contentType, b)
}

// explain finds the row of err and its message.
func explain(err error) (row, string) {
	if e, ok := errors.AsType[*kms.Error](err); ok && serviceRows[e.Code] != 0 {
		return row{string(e.Code), serviceRows[e.Code]}, e.Text
	}
	if e, ok := errors.AsType[*invalidError](err); ok {
		return invalid, e.message()
	}
	if e, ok := errors.AsType[*operationError](err); ok {
		if e.known {
			return unsupported, rest.Sentence(e)
		}
		return unknownOperation, ""
	}
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Kind >= 0 && e.Kind < rest.NumKinds {
		return requestRows[e.Kind], rest.Sentence(e)
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok && e.Kind >= 0 && e.Kind < sigv4.NumKinds {
		return signatureRows[e.Kind], rest.Sentence(e)
	}
	return internalError, "An internal error occurred."
}
