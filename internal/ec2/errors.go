package ec2

import (
	"errors"
	"fmt"
	"net/http"

	"shale/internal/audit"
	"shale/internal/policy"
	"shale/internal/query"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// A code is an error code of EC2 with its status. Spec: ec2-snapshots §1.3.
type code struct {
	name   string
	status int
}

var (
	authFailure          = code{"AuthFailure", http.StatusUnauthorized}
	dryRunOperation      = code{"DryRunOperation", http.StatusPreconditionFailed}
	filterLimit          = code{"FilterLimitExceeded", http.StatusBadRequest}
	headerTooLarge       = code{"InvalidRequest", http.StatusRequestHeaderFieldsTooLarge}
	incorrectState       = code{"IncorrectState", http.StatusBadRequest}
	incompleteSignature  = code{"IncompleteSignature", http.StatusBadRequest}
	internalError        = code{"InternalError", http.StatusInternalServerError}
	invalidAction        = code{"InvalidAction", http.StatusBadRequest}
	invalidCombination   = code{"InvalidParameterCombination", http.StatusBadRequest}
	invalidGrantee       = code{"InvalidAMIAttributeItemValue", http.StatusBadRequest}
	invalidID            = code{"InvalidID", http.StatusBadRequest}
	invalidRegion        = code{"InvalidRegion", http.StatusBadRequest}
	invalidRequest       = code{"InvalidRequest", http.StatusBadRequest}
	invalidValue         = code{"InvalidParameterValue", http.StatusBadRequest}
	malformedID          = code{"InvalidSnapshotID.Malformed", http.StatusBadRequest}
	malformedQuery       = code{"MalformedQueryString", http.StatusNotFound}
	malformedUser        = code{"InvalidUserID.Malformed", http.StatusBadRequest}
	missingAction        = code{"MissingAction", http.StatusBadRequest}
	missingCredentials   = code{"MissingAuthenticationToken", http.StatusForbidden}
	missingParameter     = code{"MissingParameter", http.StatusBadRequest}
	resourceLimit        = code{"ResourceLimitExceeded", http.StatusBadRequest}
	notFound             = code{"InvalidSnapshot.NotFound", http.StatusBadRequest}
	notPermitted         = code{"OperationNotPermitted", http.StatusBadRequest}
	requestLimit         = code{"RequestLimitExceeded", http.StatusServiceUnavailable}
	snapshotLimit        = code{"SnapshotLimitExceeded", http.StatusBadRequest}
	requestExpired       = code{"RequestExpired", http.StatusBadRequest}
	signatureMismatch    = code{"SignatureDoesNotMatch", http.StatusForbidden}
	tagLimit             = code{"TagLimitExceeded", http.StatusBadRequest}
	tooLarge             = code{"InvalidRequest", http.StatusRequestEntityTooLarge}
	unauthorized         = code{"UnauthorizedOperation", http.StatusForbidden}
	unsupportedOperation = code{"UnsupportedOperation", http.StatusBadRequest}
)

// A queryError is a request that this door refuses by itself.
type queryError struct {
	code code
	text string
}

func (e *queryError) Error() string { return e.code.name + ": " + e.text }

func refuse(c code, format string, args ...any) error {
	return &queryError{c, fmt.Sprintf(format, args...)}
}

// errDryRun is how a dry run succeeds.
var errDryRun = refuse(dryRunOperation, "Request would have succeeded, but DryRun flag is set.")

// A row says how one condition looks on the wire.
type row struct {
	code code
	// text is the message; nil stands for the error's own.
	text func(*snapshot.Error) string
}

// rateExceeded is EC2's text for what is too much, whatever that is.
const rateExceeded = "Request limit exceeded."

// unreachable is the row of what no operation of this protocol runs into.
var unreachable = row{code: invalidRequest}

// serviceRows has a row for every code of the service.
var serviceRows = [snapshot.NumCodes]row{
	snapshot.Internal:       {internalError, func(*snapshot.Error) string { return "An internal error has occurred" }},
	snapshot.InvalidRequest: {code: invalidValue},
	snapshot.NotFound: {notFound, func(e *snapshot.Error) string {
		return fmt.Sprintf("The snapshot '%s' does not exist.", e.Snapshot)
	}},
	snapshot.InvalidPageToken: {invalidValue, func(*snapshot.Error) string {
		return "Unable to parse pagination token"
	}},
	snapshot.InvalidFilter: {invalidValue, func(e *snapshot.Error) string {
		return fmt.Sprintf("The filter '%s' is invalid", e.Field)
	}},
	snapshot.KeyNotFound:  {code: invalidValue},
	snapshot.KeyRefused:   {code: invalidValue},
	snapshot.KeyThrottled: {code: requestLimit},
	snapshot.DomainLost:   {code: internalError},

	snapshot.StorageFull:    {code: internalError},
	snapshot.StorageStopped: {code: internalError},
	snapshot.Damaged:        {code: internalError},
	snapshot.Throttled:      {requestLimit, func(*snapshot.Error) string { return rateExceeded }},

	snapshot.AccountThrottled:  unreachable,
	snapshot.SnapshotThrottled: unreachable,
	snapshot.TooManyPending:    unreachable,
	snapshot.TooManySnapshots: {snapshotLimit, func(e *snapshot.Error) string {
		return fmt.Sprintf("You have reached the limit of %s snapshots.", e.Value)
	}},

	snapshot.PublicBlocked: {notPermitted, func(*snapshot.Error) string {
		return "Public sharing of snapshots is blocked for this account."
	}},
	snapshot.EncryptedPublic: {notPermitted, func(*snapshot.Error) string {
		return "Encrypted snapshots cannot be shared publicly."
	}},
	snapshot.DefaultKeyShared: {notPermitted, func(*snapshot.Error) string {
		return "Encrypted snapshots with EBS default key cannot be shared"
	}},
	snapshot.InvalidKey: {invalidValue, func(*snapshot.Error) string {
		return "The specified KMS key does not exist or cannot be used"
	}},
	snapshot.InvalidTag: {code: invalidValue},
	snapshot.ReservedTagKey: {invalidValue, func(*snapshot.Error) string {
		return "Tag keys starting with 'aws:' are reserved for internal use"
	}},
	snapshot.TooManyTags:       {code: tagLimit},
	snapshot.PublicUnsupported: unreachable,

	snapshot.ParentIncomplete:        unreachable,
	snapshot.VolumeTooLarge:          unreachable,
	snapshot.VolumeSmallerThanParent: unreachable,
	snapshot.ParentWithKey:           unreachable,
	snapshot.ParentWithEncrypted:     unreachable,
	snapshot.KeyWithoutEncryption:    {code: invalidValue},
	snapshot.EncryptionRequired:      unreachable,
	snapshot.ParentUnencrypted:       unreachable,
	snapshot.ClientTokenReused:       unreachable,
	snapshot.BlockBeyondVolume:       unreachable,
	snapshot.BodyIncomplete:          unreachable,
	snapshot.BodyTooLong:             unreachable,
	snapshot.DataLengthInvalid:       unreachable,
	snapshot.AlgorithmUnsupported:    unreachable,
	snapshot.ChecksumMismatch:        unreachable,
	snapshot.SignedDigestMismatch:    unreachable,
	snapshot.AlreadyCompleted:        unreachable,
	snapshot.ChecksumIncomplete:      unreachable,
	snapshot.FirstSnapshotMissing:    unreachable,
	snapshot.Unrelated:               unreachable,
	snapshot.InvalidBlockToken:       unreachable,
	snapshot.NotPending:              unreachable,

	snapshot.TooManyCopies: {resourceLimit, func(e *snapshot.Error) string {
		return fmt.Sprintf("Too many snapshot copies in progress. The limit is %s for this destination region.", e.Value)
	}},
	snapshot.Locked: {notPermitted, func(e *snapshot.Error) string {
		return fmt.Sprintf("The snapshot '%s' is locked and can't be deleted.", e.Snapshot)
	}},
	snapshot.LockForbidden: {code: notPermitted},
	snapshot.NotLocked:     {code: incorrectState},
	snapshot.NotLockable:   {code: incorrectState},
	snapshot.InvalidText:   {code: invalidValue},
}

// requestRows has a code for every request that could not be understood.
var requestRows = [rest.NumKinds]code{
	rest.UnknownPath:   invalidRequest,
	rest.UnknownMethod: unsupportedOperation,
	rest.NotServed:     invalidAction,
	rest.NotAnInteger:  invalidValue,
	rest.Repeated:      invalidCombination,
	rest.BadQuery:      malformedQuery,
	rest.BadEncoding:   invalidRequest,
	rest.BadJSON:       invalidRequest,
	rest.WrongType:     invalidValue,
	rest.BothSpellings: invalidCombination,
	rest.BodyTooLong:   tooLarge,
	rest.BodyUnread:    invalidRequest,
	rest.HeaderTooLong: headerTooLarge,
	rest.Malformed:     invalidRequest,
	rest.Busy:          requestLimit,
	rest.RateExceeded:  requestLimit,
}

// signatureRows has a code for every way in which a request fails to show who
// sent it.
var signatureRows = [sigv4.NumKinds]code{
	sigv4.Missing:            missingCredentials,
	sigv4.Malformed:          incompleteSignature,
	sigv4.Mismatch:           signatureMismatch,
	sigv4.Expired:            requestExpired,
	sigv4.UnknownKey:         authFailure,
	sigv4.UnknownToken:       authFailure,
	sigv4.ExpiredToken:       requestExpired,
	sigv4.WrongService:       signatureMismatch,
	sigv4.WrongRegion:        signatureMismatch,
	sigv4.UnsupportedPayload: signatureMismatch,
	sigv4.PayloadMismatch:    signatureMismatch,
	sigv4.ForeignOrigin:      unauthorized,
}

// Refuse writes err as EC2 would: by its row, or as an internal error that
// tells nothing of its cause, which is for the log. Note the capital D of
// RequestID, which answers do not have. Spec: ec2-snapshots §1.3.
func (h *Handler) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	code, text := explain(err)
	audit.Refused(r.Context(), code.name, text)
	if code == tooLarge {
		w.Header().Set("Connection", "close")
	}
	b := append([]byte(query.Header), "<Response><Errors><Error>"...)
	b = query.AppendElement(b, "Code", code.name)
	b = query.AppendElement(b, "Message", text)
	b = append(b, "</Error></Errors>"...)
	b = query.AppendElement(b, "RequestID", requestID(w))
	writeXML(w, code.status, append(b, "</Response>"...))
}

// explain finds the code of err and its message.
func explain(err error) (code, string) {
	if e, ok := errors.AsType[*queryError](err); ok {
		return e.code, e.text
	}
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Code >= 0 && e.Code < snapshot.NumCodes {
		row := serviceRows[e.Code]
		if row.text == nil {
			return row.code, rest.Sentence(e)
		}
		return row.code, row.text(e)
	}
	if e, ok := errors.AsType[*policy.Denied](err); ok {
		return unauthorized, "You are not authorized to perform this operation. " + e.Error()
	}
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Kind >= 0 && e.Kind < rest.NumKinds {
		switch e.Kind {
		case rest.Repeated:
			return invalidCombination, fmt.Sprintf("The parameter '%s' may only be specified once.", e.Field)
		case rest.RateExceeded:
			return requestLimit, rateExceeded
		}
		return requestRows[e.Kind], rest.Sentence(e)
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok && e.Kind >= 0 && e.Kind < sigv4.NumKinds {
		if signatureRows[e.Kind] == authFailure {
			return authFailure, "AWS was not able to validate the provided access credentials"
		}
		return signatureRows[e.Kind], rest.Sentence(e)
	}
	return explain(&snapshot.Error{Code: snapshot.Internal, Err: err})
}
