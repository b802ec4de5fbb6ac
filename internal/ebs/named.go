package ebs

import (
	"net/http"

	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// typical is the condition that a name stands for where several have it and the
// first of them is not the one that clients meet.
var typical = map[string]error{
	"AccessDeniedException":            rest.ErrDenied,
	"ConcurrentLimitExceededException": &snapshot.Error{Code: snapshot.TooManyPending, Value: "100"},
	"InvalidSignatureException":        &sigv4.Error{Kind: sigv4.Mismatch},
	"RequestEntityTooLargeException":   &rest.Error{Kind: rest.BodyTooLong, Value: "1048576"},
	"RequestThrottledException":        &snapshot.Error{Code: snapshot.Throttled},
	"SerializationException":           &rest.Error{Kind: rest.BadJSON, Err: rest.ErrAsked},
	"ServiceQuotaExceededException":    &snapshot.Error{Code: snapshot.TooManySnapshots, Value: "100000"},
	"UnknownOperationException":        &rest.Error{Kind: rest.NotServed, Value: "this operation"},
	"ValidationException":              &snapshot.Error{Code: snapshot.BodyIncomplete},
}

// unraised has the errors of AWS's that no condition here leads to.
// Spec: ebs-direct §9.2, §9.4.
var unraised = []row{
	forbidden("IncompleteSignature").says("The request signature does not conform to AWS standards."),
	atLarge(http.StatusInternalServerError, "InternalFailure").says("The request processing has failed because of an unknown error."),
	atLarge(http.StatusUnauthorized, "NotAuthorized").says("You do not have permission to perform this action."),
	forbidden("OptInRequired").says("The AWS access key ID needs a subscription for the service."),
	atLarge(http.StatusRequestTimeout, "RequestTimeoutException").says("The request was not received in time."),
	atLarge(http.StatusServiceUnavailable, "ServiceUnavailable").says("The request has failed due to a temporary failure of the server."),
	atLarge(http.StatusBadRequest, "ValidationError").says("The input fails to satisfy the constraints specified by an AWS service."),
}

// atLarge is an error of AWS's request handling.
func atLarge(status int, code string) row {
	return row{status: status, code: code, family: transport}
}

// An askedError is one of those in unraised.
type askedError struct{ row row }

func (e *askedError) Error() string { return e.row.text(nil) }

// Named returns an error that Refuse tells by the name on the wire, about the
// snapshot if it is about one; nil if there is none of that name here.
func (h *Handler) Named(name, id string) error {
	if err := typical[name]; err != nil {
		return err
	}
	for c, r := range serviceRows {
		if r.code == name {
			return &snapshot.Error{Code: snapshot.Code(c), Snapshot: id}
		}
	}
	for _, r := range unraised {
		if r.code == name {
			return &askedError{r}
		}
	}
	for k, r := range requestRows {
		if r.code == name {
			return &rest.Error{Kind: rest.Kind(k), Value: rest.ErrAsked.Error(), Err: rest.ErrAsked}
		}
	}
	for k, r := range signatureRows {
		if r.code == name {
			return &sigv4.Error{Kind: sigv4.Kind(k)}
		}
	}
	return nil
}
