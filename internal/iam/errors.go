package iam

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"shale/internal/audit"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/query"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

// A row is an error code with its status.
type row struct {
	code   string
	status int
}

var (
	accessDenied      = row{"AccessDenied", http.StatusForbidden}
	invalidSignature  = row{"SignatureDoesNotMatch", http.StatusForbidden}
	invalidClient     = row{"InvalidClientTokenId", http.StatusForbidden}
	invalidAction     = row{"InvalidAction", http.StatusBadRequest}
	invalidInput      = row{"ValidationError", http.StatusBadRequest}
	missingAction     = row{"MissingAction", http.StatusBadRequest}
	requestTooLarge   = row{"RequestEntityTooLarge", http.StatusRequestEntityTooLarge}
	internalFailure   = row{"InternalFailure", http.StatusInternalServerError}
	malformedQuery    = row{"MalformedQueryString", http.StatusNotFound}
	invalidParameters = row{"InvalidParameterCombination", http.StatusBadRequest}
	throttling        = row{"Throttling", http.StatusBadRequest}
)

// An actionError is a request for what is no operation here.
type actionError struct {
	row  row
	text string
}

func (e *actionError) Error() string { return e.row.code }

// serviceRows has the status of every code of the service; the codes are on the
// wire as they are. Source: IAM's and STS's models.
var serviceRows = map[identity.Code]int{
	identity.AccessDenied:        http.StatusForbidden,
	identity.DeleteConflict:      http.StatusConflict,
	identity.EntityAlreadyExists: http.StatusConflict,
	identity.InvalidInput:        http.StatusBadRequest,
	identity.LimitExceeded:       http.StatusConflict,
	identity.MalformedPolicy:     http.StatusBadRequest,
	identity.NoSuchEntity:        http.StatusNotFound,
	identity.PolicyTooLarge:      http.StatusBadRequest,
	identity.SessionRefused:      http.StatusForbidden,
}

// requestRows has a row for every request that could not be understood.
var requestRows = [rest.NumKinds]row{
	rest.UnknownPath:   invalidAction,
	rest.UnknownMethod: invalidAction,
	rest.NotServed:     invalidAction,
	rest.NotAnInteger:  invalidInput,
	rest.Repeated:      invalidParameters,
	rest.BadQuery:      malformedQuery,
	rest.BadEncoding:   invalidInput,
	rest.BadJSON:       invalidInput,
	rest.WrongType:     invalidInput,
	rest.BothSpellings: invalidParameters,
	rest.BodyTooLong:   requestTooLarge,
	rest.BodyUnread:    invalidInput,
	rest.HeaderTooLong: {"RequestEntityTooLarge", http.StatusRequestHeaderFieldsTooLarge},
	rest.Malformed:     invalidInput,
	rest.Busy:          throttling,
	rest.RateExceeded:  throttling,
}

// signatureRows has a row for every way in which a request fails to show who
// sent it. Source: Common error codes of IAM. Spec: ebs-direct §9.4.
var signatureRows = [sigv4.NumKinds]row{
	sigv4.Missing:            {"MissingAuthenticationToken", http.StatusForbidden},
	sigv4.Malformed:          {"IncompleteSignature", http.StatusForbidden},
	sigv4.Mismatch:           invalidSignature,
	sigv4.Expired:            invalidSignature,
	sigv4.UnknownKey:         invalidClient,
	sigv4.UnknownToken:       invalidClient,
	sigv4.ExpiredToken:       {"ExpiredToken", http.StatusForbidden},
	sigv4.WrongService:       invalidSignature,
	sigv4.WrongRegion:        invalidSignature,
	sigv4.UnsupportedPayload: invalidSignature,
	sigv4.PayloadMismatch:    invalidSignature,
	sigv4.ForeignOrigin:      accessDenied,
}

// Refuse writes err as AWS would: by its row, or as an internal error that tells
// nothing of its cause, which is for the log. Spec: ebs-direct §1.1.
func (h *Handler) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	to, text := explain(err)
	audit.Refused(r.Context(), to.code, text)
	if to == requestTooLarge {
		w.Header().Set("Connection", "close")
	}
	fault := "Sender"
	if to.status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	b := fmt.Appendf(nil, `<ErrorResponse xmlns="%s"><Error>`, h.namespace)
	b = query.AppendElement(b, "Type", fault)
	b = query.AppendElement(b, "Code", to.code)
	b = query.AppendElement(b, "Message", text)
	b = append(b, "</Error>"...)
	b = query.AppendElement(b, "RequestId", requestID(w))
	rest.Send(w, to.status, contentType, append(b, "</ErrorResponse>"...))
}

// explain finds the row of err and its message.
func explain(err error) (row, string) {
	if e, ok := errors.AsType[*identity.Error](err); ok && serviceRows[e.Code] != 0 {
		return row{string(e.Code), serviceRows[e.Code]}, e.Text
	}
	if e, ok := errors.AsType[*policy.Denied](err); ok {
		return accessDenied, strings.TrimSpace(e.Error())
	}
	if e, ok := errors.AsType[*invalidError](err); ok {
		return invalidInput, e.message()
	}
	if e, ok := errors.AsType[*actionError](err); ok {
		return e.row, e.text
	}
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Kind >= 0 && e.Kind < rest.NumKinds {
		return requestRows[e.Kind], rest.Sentence(e)
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok && e.Kind >= 0 && e.Kind < sigv4.NumKinds {
		if signatureRows[e.Kind] == invalidClient {
			return invalidClient, "The security token included in the request is invalid."
		}
		return signatureRows[e.Kind], rest.Sentence(e)
	}
	return internalFailure, "The request processing has failed because of an unknown error, exception or failure."
}
