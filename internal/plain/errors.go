package plain

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"shale/internal/audit"
	"shale/internal/block"
	"shale/internal/policy"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// A code is what a program looks at. Spec: plain-json, Bodies.
type code string

const (
	validationError  code = "VALIDATION_ERROR"
	unauthenticated  code = "UNAUTHENTICATED"
	accessDenied     code = "ACCESS_DENIED"
	notFound         code = "NOT_FOUND"
	conflict         code = "CONFLICT"
	quotaExceeded    code = "QUOTA_EXCEEDED"
	throttled        code = "THROTTLED"
	checksumMismatch code = "CHECKSUM_MISMATCH"
	methodNotAllowed code = "METHOD_NOT_ALLOWED"
	internalError    code = "INTERNAL_ERROR"
)

// A row says how one condition looks on the wire.
type row struct {
	status int
	code   code
	reason string // AWS's Reason, where there is one
	field  string // the member at fault, unless the error names it
	// hangUp says that what follows in the connection is not worth reading.
	hangUp bool
}

func invalid(reason, field string) row {
	return row{status: http.StatusBadRequest, code: validationError, reason: reason, field: field}
}

var (
	missing = row{status: http.StatusNotFound, code: notFound}
	// stranger answers a caller who is not known.
	stranger = row{status: http.StatusUnauthorized, code: unauthenticated}
	fault    = row{status: http.StatusInternalServerError, code: internalError}
	tooFast  = row{status: http.StatusTooManyRequests, code: throttled}
)

// serviceRows has a row for every code of the service.
var serviceRows = [snapshot.NumCodes]row{
	snapshot.Internal:       fault,
	snapshot.InvalidRequest: invalid("", ""),
	snapshot.NotFound:       {status: http.StatusNotFound, code: notFound, reason: "SNAPSHOT_NOT_FOUND"},

	snapshot.ParentIncomplete:        invalid("INVALID_SNAPSHOT_ID", "parent_snapshot_id"),
	snapshot.VolumeTooLarge:          invalid("INVALID_VOLUME_SIZE", "volume_size"),
	snapshot.VolumeSmallerThanParent: invalid("INVALID_VOLUME_SIZE", "volume_size"),
	snapshot.ParentWithKey:           invalid("INVALID_PARAMETER_VALUE", "kms_key_arn"),
	snapshot.ParentWithEncrypted:     invalid("INVALID_PARAMETER_VALUE", "encrypted"),
	snapshot.KeyWithoutEncryption:    invalid("INVALID_PARAMETER_VALUE", "encrypted"),
	snapshot.EncryptionRequired:      invalid("INVALID_PARAMETER_VALUE", "encrypted"),
	snapshot.ParentUnencrypted:       invalid("INVALID_PARAMETER_VALUE", "parent_snapshot_id"),
	snapshot.InvalidKey:              invalid("INVALID_CUSTOMER_KEY", "kms_key_arn"),
	snapshot.KeyNotFound:             {status: http.StatusNotFound, code: notFound, reason: "DEPENDENCY_RESOURCE_NOT_FOUND"},
	snapshot.KeyRefused:              invalid("INVALID_DEPENDENCY_REQUEST", ""),
	snapshot.KeyThrottled:            {status: http.StatusTooManyRequests, code: throttled, reason: "DEPENDENCY_REQUEST_THROTTLED"},
	snapshot.DomainLost:              fault,
	snapshot.InvalidTag:              invalid("INVALID_TAG", "tags"),
	snapshot.InvalidText:             invalid("INVALID_PARAMETER_VALUE", ""),
	snapshot.ClientTokenReused:       {status: http.StatusConflict, code: conflict, field: "client_token"},

	snapshot.BlockBeyondVolume:    invalid("INVALID_BLOCK", "block_index"),
	snapshot.BodyIncomplete:       invalid("INVALID_PARAMETER_VALUE", ""),
	snapshot.BodyTooLong:          invalid("INVALID_BLOCK", "").hangsUp(),
	snapshot.DataLengthInvalid:    invalid("INVALID_BLOCK", "data_length"),
	snapshot.AlgorithmUnsupported: invalid("INVALID_PARAMETER_VALUE", "checksum_algorithm"),
	snapshot.ChecksumMismatch:     {status: http.StatusForbidden, code: checksumMismatch, field: "checksum"},
	snapshot.SignedDigestMismatch: {status: http.StatusForbidden, code: checksumMismatch},
	snapshot.AlreadyCompleted:     invalid("INVALID_SNAPSHOT_ID", ""),

	snapshot.ChecksumIncomplete: invalid("INVALID_PARAMETER_VALUE", ""),

	snapshot.PublicUnsupported: invalid("INVALID_SNAPSHOT_ID", ""),
	snapshot.PublicBlocked:     {status: http.StatusForbidden, code: accessDenied},
	snapshot.EncryptedPublic:   invalid("INVALID_PARAMETER_VALUE", ""),
	snapshot.DefaultKeyShared:  invalid("INVALID_PARAMETER_VALUE", ""),
	snapshot.ReservedTagKey:    invalid("INVALID_TAG", "tags"),
	snapshot.TooManyTags:       invalid("INVALID_TAG", "tags"),

	snapshot.FirstSnapshotMissing: invalid("INVALID_SNAPSHOT_ID", "first_snapshot_id"),
	snapshot.Unrelated:            invalid("UNRELATED_SNAPSHOTS", "first_snapshot_id"),
	snapshot.InvalidBlockToken:    invalid("INVALID_BLOCK_TOKEN", "block_token"),
	snapshot.InvalidPageToken:     invalid("INVALID_PAGE_TOKEN", "page_token"),
	snapshot.NotPending:           {status: http.StatusConflict, code: conflict},
	snapshot.InvalidFilter:        invalid("", ""),

	snapshot.Throttled: {status: http.StatusTooManyRequests, code: throttled, reason: "RESOURCE_LEVEL_THROTTLE"},

	snapshot.AccountThrottled:  tooFast,
	snapshot.SnapshotThrottled: {status: http.StatusTooManyRequests, code: throttled, reason: "RESOURCE_LEVEL_THROTTLE"},
	snapshot.TooManyPending:    {status: http.StatusPaymentRequired, code: quotaExceeded},
	snapshot.TooManySnapshots:  {status: http.StatusPaymentRequired, code: quotaExceeded, reason: "DEPENDENCY_SERVICE_QUOTA_EXCEEDED"},

	snapshot.StorageFull:    fault,
	snapshot.StorageStopped: fault,
	snapshot.Damaged:        fault,

	snapshot.Locked: {status: http.StatusConflict, code: conflict},
	// No operation of this dialect copies, locks or unlocks.
	snapshot.TooManyCopies: {status: http.StatusConflict, code: conflict},
	snapshot.LockForbidden: {status: http.StatusConflict, code: conflict},
	snapshot.NotLocked:     {status: http.StatusConflict, code: conflict},
	snapshot.NotLockable:   {status: http.StatusConflict, code: conflict},
}

// requestRows has a row for every request that does not reach the service.
var requestRows = [rest.NumKinds]row{
	rest.UnknownPath:   missing,
	rest.UnknownMethod: {status: http.StatusMethodNotAllowed, code: methodNotAllowed},
	rest.NotServed:     missing,
	rest.NotAnInteger:  invalid("", ""),
	rest.Repeated:      invalid("", ""),
	rest.BadQuery:      invalid("", ""),
	rest.BadEncoding:   invalid("INVALID_CONTENT_ENCODING", ""),
	rest.BadJSON:       invalid("", ""),
	rest.WrongType:     invalid("", ""),
	rest.BothSpellings: invalid("", ""),
	rest.BodyTooLong:   row{status: http.StatusRequestEntityTooLarge, code: validationError}.hangsUp(),
	rest.BodyUnread:    invalid("", ""),
	rest.HeaderTooLong: {status: http.StatusRequestHeaderFieldsTooLarge, code: validationError},
	rest.Malformed:     invalid("", ""),
	rest.Busy:          {status: http.StatusTooManyRequests, code: throttled, reason: "RESOURCE_LEVEL_THROTTLE"},
	rest.RateExceeded:  tooFast,
}

// signatureRows has a row for every way in which a request fails to show who
// sent it.
var signatureRows = [sigv4.NumKinds]row{
	sigv4.Missing:            stranger,
	sigv4.Malformed:          stranger,
	sigv4.Mismatch:           stranger,
	sigv4.Expired:            stranger,
	sigv4.UnknownKey:         stranger,
	sigv4.UnknownToken:       stranger,
	sigv4.ExpiredToken:       stranger,
	sigv4.WrongService:       stranger,
	sigv4.WrongRegion:        invalid("", ""), // of the host name: nobody signed
	sigv4.UnsupportedPayload: stranger,
	sigv4.PayloadMismatch:    stranger,
	sigv4.ForeignOrigin:      {status: http.StatusForbidden, code: accessDenied},
}

// retryAfter is when what was refused for coming too fast may come again, in
// seconds: rates are of requests a second.
const retryAfter = "1"

// A fieldError is a parameter that only this dialect has, with a value out of
// range.
type fieldError struct{ field, text string }

func (e *fieldError) Error() string { return e.text }

// Refuse writes err in the envelope of failure. An error that is not one of
// the service, of the request or of its authentication is an internal one; its
// cause is for the log.
func (h *Handler) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	row, text := explain(err)
	if row.code == validationError {
		text = "Invalid request parameters: " + text
	}
	audit.Refused(r.Context(), string(row.code), text)
	if e, ok := errors.AsType[*rest.Error](err); ok && len(e.Allow) > 0 {
		w.Header().Set("Allow", strings.Join(e.Allow, ", "))
	}
	if row.status == http.StatusUnauthorized {
		// What would be accepted; a 401 has to name it.
		w.Header().Set("Www-Authenticate", "Bearer")
	}
	if e, ok := errors.AsType[*rangeError](err); ok {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", e.size))
	}
	if row.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	if row.hangUp {
		w.Header().Set("Connection", "close")
	}
	b := append([]byte(nil), `{"success":false,"error":{"code":"`...)
	b = append(b, row.code...)
	b = append(b, `","message":`...)
	b = rest.AppendString(b, text)
	if row.reason != "" {
		b = append(b, `,"reason":`...)
		b = rest.AppendString(b, row.reason)
	}
	if row.field != "" {
		b = append(b, `,"field":`...)
		b = rest.AppendString(b, row.field)
	}
	b = append(b, `,"request_id":`...)
	b = rest.AppendString(b, w.Header().Get("X-Amzn-Requestid"))
	rest.Send(w, row.status, "application/json", append(b, `}}`...))
}

// explain finds the row of err, its field filled in, and a message for people.
func explain(err error) (row, string) {
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Code > snapshot.Internal && e.Code < snapshot.NumCodes {
		row := serviceRows[e.Code]
		switch {
		case e.Code == snapshot.InvalidRequest && len(e.Violations) > 0:
			row.field, _, _ = strings.Cut(snake(e.Violations[0].Field), ".")
			return row, violations(e.Violations)
		case e.Code == snapshot.InvalidFilter: // named by a query parameter
			row.field = e.Field
		case e.Field != "":
			e := *e
			e.Field = snake(e.Field)
			row.field = e.Field
			return row, e.Error()
		}
		return row, e.Error()
	}
	if e, ok := errors.AsType[*policy.Denied](err); ok {
		return row{status: http.StatusForbidden, code: accessDenied}, e.Error()
	}
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Kind >= 0 && e.Kind < rest.NumKinds {
		e := *e
		e.Field = snake(e.Field)
		row := requestRows[e.Kind]
		row.field = e.Field
		return row, e.Error()
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok && e.Kind >= 0 && e.Kind < sigv4.NumKinds {
		return signatureRows[e.Kind], e.Error()
	}
	if e, ok := errors.AsType[*fieldError](err); ok {
		return invalid("", e.field), e.text
	}
	if e, ok := errors.AsType[*rangeError](err); ok {
		return row{status: http.StatusRequestedRangeNotSatisfiable, code: validationError, field: "range"}, e.text
	}
	return fault, "an error of the server's own; its log has the cause under this request_id"
}

// violations words the broken constraints for a person: the member as this
// dialect spells it, what it must be and what it was.
func violations(vs []snapshot.Violation) string {
	parts := make([]string, len(vs))
	for i, v := range vs {
		name := snake(v.Field)
		switch {
		case v.Value != nil:
			parts[i] = fmt.Sprintf("%s %s; it was %q", name, strings.TrimPrefix(v.Constraint, "Member "), *v.Value)
		case name == "volume_size":
			parts[i] = fmt.Sprintf("volume_size is required: the size of the volume in GiB, from 1 to %d", block.MaxVolumeGiB)
		default:
			parts[i] = name + " is required"
		}
	}
	return strings.Join(parts, ". ")
}

// snake turns the lowerCamel name of a member into snake_case. In a path to a
// member of a list it leaves out the word that AWS puts after the number.
func snake(s string) string {
	var b strings.Builder
	for _, c := range strings.ReplaceAll(s, ".member", "") {
		if 'A' <= c && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (r row) hangsUp() row {
	r.hangUp = true
	return r
}
