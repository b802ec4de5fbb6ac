package ebs

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

// A family is the layer of AWS's stack that an error comes from. It decides
// the namespace in x-amzn-ErrorType and the spelling of the body's members.
// Spec: ebs-direct §2.3, §4, §9.1.
type family int

const (
	modelled   family = iota // {"Message":…,"Reason":…}
	constraint               // {"message":…}
	transport                // {"message":…}
)

var namespaces = [...]string{
	modelled:   "http://internal.amazon.com/coral/com.amazon.zeppelindataservice/",
	constraint: "http://internal.amazon.com/coral/com.amazon.coral.validate/",
	transport:  "http://internal.amazon.com/coral/com.amazon.coral.service/",
}

// A row says how one condition looks on the wire.
type row struct {
	status int
	code   string
	family family
	reason string // of modelled errors, may be empty
	// hangUp says that what follows in the connection is not worth reading.
	hangUp bool
	// text is the message; nil stands for the error's own. It is given nil
	// for errors that are not the service's.
	text func(*snapshot.Error) string
}

// Shapes that several rows share.
var (
	internal      = row{status: http.StatusInternalServerError, code: "InternalServerException"}
	serialization = row{status: http.StatusBadRequest, code: "SerializationException", family: transport}
	unknown       = row{status: http.StatusNotFound, code: "UnknownOperationException", family: transport}
	rateExceeded  = row{status: http.StatusBadRequest, code: "ThrottlingException", family: transport}.says("Rate exceeded")
)

// validation is a modelled ValidationException.
func validation(reason string, text func(*snapshot.Error) string) row {
	return row{status: http.StatusBadRequest, code: "ValidationException", reason: reason, text: text}
}

// serviceRows has a row for every code of the service. The texts are AWS's
// where they were seen. Spec: ebs-direct §3 to §6, §8, §9.
var serviceRows = [snapshot.NumCodes]row{
	snapshot.Internal: internal.says("An internal error occurred."),
	snapshot.InvalidRequest: {
		status: http.StatusBadRequest, code: "ValidationException",
		family: constraint, text: violations,
	},
	snapshot.NotFound: {
		status: http.StatusNotFound, code: "ResourceNotFoundException",
		reason: "SNAPSHOT_NOT_FOUND", text: about("The snapshot '%s' does not exist."),
	},

	snapshot.ParentIncomplete: validation("INVALID_SNAPSHOT_ID", about("Source snapshot (%s) is not complete.")),
	snapshot.VolumeTooLarge: validation("INVALID_VOLUME_SIZE", func(e *snapshot.Error) string {
		return "Invalid volume size: " + e.Value
	}),
	snapshot.VolumeSmallerThanParent: validation("INVALID_VOLUME_SIZE", func(e *snapshot.Error) string {
		return fmt.Sprintf("Invalid volume size: %s. It must not be smaller than that of the parent snapshot: %s", e.Value, e.Expected)
	}),
	snapshot.ParentWithKey:       validation("INVALID_PARAMETER_VALUE", fixed("ParentSnapshotId and KmsKeyArn cannot be specified together")),
	snapshot.ParentWithEncrypted: validation("INVALID_PARAMETER_VALUE", fixed("ParentSnapshotId and Encrypt cannot be specified together")),
	snapshot.KeyWithoutEncryption: validation("INVALID_PARAMETER_VALUE",
		fixed("Encrypt cannot be false when KmsKeyArn is specified")),
	snapshot.EncryptionRequired: validation("INVALID_PARAMETER_VALUE",
		fixed("Encrypted cannot be false when encryption by default is enabled")),
	snapshot.ParentUnencrypted: validation("INVALID_PARAMETER_VALUE",
		about("Encryption by default is enabled and the parent snapshot %s is unencrypted. Copy it to an encrypted snapshot first, and use the copy as the parent")),
	snapshot.InvalidKey: validation("INVALID_CUSTOMER_KEY", func(e *snapshot.Error) string {
		return "The KMS key cannot be used to encrypt this snapshot: " + e.Value
	}),
	snapshot.KeyNotFound: {
		status: http.StatusNotFound, code: "ResourceNotFoundException",
		reason: "DEPENDENCY_RESOURCE_NOT_FOUND", text: fixed("KMS key not found"),
	},
	snapshot.KeyRefused: validation("INVALID_DEPENDENCY_REQUEST", func(e *snapshot.Error) string {
		return "KMS refused the request: " + e.Value
	}),
	snapshot.KeyThrottled: {
		status: http.StatusBadRequest, code: "RequestThrottledException",
		reason: "DEPENDENCY_REQUEST_THROTTLED", text: fixed("KMS is throttling requests. Reduce your request rate."),
	},
	snapshot.DomainLost: internal.says("The key of the snapshot's encryption domain is missing or damaged on the server."),
	snapshot.InvalidTag: validation("INVALID_TAG", func(e *snapshot.Error) string {
		return fmt.Sprintf("Invalid tag: %v", e.Err)
	}),
	snapshot.InvalidText: validation("INVALID_PARAMETER_VALUE", func(e *snapshot.Error) string {
		return fmt.Sprintf("The value of %s contains a character that XML 1.0 cannot represent", e.Field)
	}),
	snapshot.ClientTokenReused: {
		status: http.StatusConflict, code: "ConflictException",
		text: fixed("Current request does not match request stored with this token."),
	},

	snapshot.BlockBeyondVolume: validation("INVALID_BLOCK", func(e *snapshot.Error) string {
		return fmt.Sprintf("Block index %d is beyond the volume size extent", e.Index)
	}),
	snapshot.BodyIncomplete: validation("INVALID_PARAMETER_VALUE", fixed("Failed to read block data")),
	snapshot.BodyTooLong: validation("INVALID_BLOCK",
		fixed(fmt.Sprintf("Block data is longer than the expected %d bytes", block.Size))).hangsUp(),
	snapshot.DataLengthInvalid: validation("INVALID_BLOCK", func(e *snapshot.Error) string {
		return fmt.Sprintf("Block data length %s is not valid, expected %d", e.Value, block.Size)
	}),
	snapshot.AlgorithmUnsupported: validation("INVALID_PARAMETER_VALUE", func(e *snapshot.Error) string {
		return fmt.Sprintf("Unsupported Checksum Algorithm '%s', supported algorithms are SHA256", e.Value)
	}),
	snapshot.ChecksumMismatch: {
		status: http.StatusForbidden, code: "InvalidSignatureException",
		family: transport, text: func(e *snapshot.Error) string {
			return fmt.Sprintf("The value passed in as x-amz-Checksum does not match the computed checksum. "+
				"Computed checksum: %s expected checksum: %s", e.Computed, e.Expected)
		},
	},
	snapshot.SignedDigestMismatch: {
		status: http.StatusForbidden, code: "InvalidSignatureException",
		family: transport, text: fixed("The body does not match the value passed in as x-amz-content-sha256."),
	},
	snapshot.AlreadyCompleted: validation("INVALID_SNAPSHOT_ID", fixed("Snapshot is already completed")),

	snapshot.ChecksumIncomplete: validation("INVALID_PARAMETER_VALUE", checksumIncomplete),

	snapshot.PublicUnsupported: validation("INVALID_SNAPSHOT_ID", fixed("Public snapshots are not supported")),
	// No operation of this dialect shares, sets defaults, or changes tags.
	snapshot.PublicBlocked:    validation("INVALID_PARAMETER_VALUE", nil),
	snapshot.EncryptedPublic:  validation("INVALID_PARAMETER_VALUE", nil),
	snapshot.DefaultKeyShared: validation("INVALID_PARAMETER_VALUE", nil),
	snapshot.ReservedTagKey:   validation("INVALID_TAG", nil),
	snapshot.TooManyTags:      validation("INVALID_TAG", nil),

	snapshot.FirstSnapshotMissing: validation("INVALID_SNAPSHOT_ID", fixed("First snapshot should not be empty or null")),
	snapshot.Unrelated: validation("UNRELATED_SNAPSHOTS",
		fixed("The snapshots do not belong to one lineage and cannot be compared")),
	snapshot.InvalidBlockToken: validation("INVALID_BLOCK_TOKEN", func(e *snapshot.Error) string {
		return fmt.Sprintf("The block token %s is invalid.", e.Value)
	}),
	snapshot.InvalidPageToken: validation("INVALID_PAGE_TOKEN", func(e *snapshot.Error) string {
		return fmt.Sprintf("The pagination token %s is invalid.", e.Value)
	}),
	// Only the plain dialect shows the blocks of a pending snapshot.
	snapshot.NotPending: validation("INVALID_SNAPSHOT_ID", nil),
	// No operation of this dialect has filters.
	snapshot.InvalidFilter: validation("INVALID_PARAMETER_VALUE", nil),

	snapshot.Throttled: {
		status: http.StatusBadRequest, code: "RequestThrottledException",
		reason: "RESOURCE_LEVEL_THROTTLE", text: fixed("Too many blocks are on their way. Reduce your request rate."),
	},

	snapshot.AccountThrottled: rateExceeded,
	snapshot.SnapshotThrottled: {
		status: http.StatusBadRequest, code: "RequestThrottledException",
		reason: "RESOURCE_LEVEL_THROTTLE", text: fixed("Rate exceeded for the snapshot. Reduce your request rate."),
	},
	snapshot.TooManyPending: {
		status: http.StatusBadRequest, code: "ConcurrentLimitExceededException", text: func(e *snapshot.Error) string {
			return fmt.Sprintf("You have reached the limit of %s pending snapshots. Complete or delete some of them.", e.Value)
		},
	},
	snapshot.TooManySnapshots: {
		status: http.StatusPaymentRequired, code: "ServiceQuotaExceededException",
		reason: "DEPENDENCY_SERVICE_QUOTA_EXCEEDED", text: func(e *snapshot.Error) string {
			return fmt.Sprintf("You have reached the limit of %s snapshots.", e.Value)
		},
	},

	snapshot.StorageFull:    internal.says("The server's disk is full. Nothing was stored."),
	snapshot.StorageStopped: internal.says("The server takes no more writes after an error of its disk."),
	snapshot.Damaged: {status: internal.status, code: internal.code, text: func(e *snapshot.Error) string {
		return fmt.Sprintf("Block %d of %s is damaged on the server's disk.", e.Index, e.Snapshot)
	}},

	// No operation of this dialect copies or locks.
	snapshot.TooManyCopies: validation("INVALID_PARAMETER_VALUE", nil),
	snapshot.Locked:        validation("INVALID_SNAPSHOT_ID", nil),
	snapshot.LockForbidden: validation("INVALID_SNAPSHOT_ID", nil),
	snapshot.NotLocked:     validation("INVALID_SNAPSHOT_ID", nil),
	snapshot.NotLockable:   validation("INVALID_SNAPSHOT_ID", nil),
}

// requestRows has a row for every request that does not reach the service.
// Spec: ebs-direct §1.1, §2.2, §2.3, §9.4.
var requestRows = [rest.NumKinds]row{
	rest.UnknownPath:   unknown,
	rest.UnknownMethod: unknown,
	rest.NotServed:     unknown,
	rest.NotAnInteger:  serialization,
	rest.Repeated:      serialization,
	rest.BadQuery:      serialization,
	rest.BadEncoding:   validation("INVALID_CONTENT_ENCODING", nil),
	rest.BadJSON:       serialization,
	rest.WrongType:     serialization,
	rest.BothSpellings: serialization,
	rest.BodyTooLong: row{
		status: http.StatusRequestEntityTooLarge,
		code:   "RequestEntityTooLargeException", family: transport,
	}.hangsUp(),
	rest.BodyUnread: {status: http.StatusBadRequest, code: "RequestAbortedException", family: transport},
	rest.HeaderTooLong: {
		status: http.StatusRequestHeaderFieldsTooLarge,
		code:   "RequestEntityTooLargeException", family: transport,
	},
	rest.Malformed:    {status: http.StatusBadRequest, code: "MalformedHttpRequestException", family: transport},
	rest.Busy:         {status: http.StatusBadRequest, code: "RequestThrottledException", reason: "RESOURCE_LEVEL_THROTTLE"},
	rest.RateExceeded: rateExceeded,
}

// signatureRows has a row for every way in which a request fails to show who
// sent it. Spec: ebs-direct §1.1, §9.4.
var signatureRows = [sigv4.NumKinds]row{
	sigv4.Missing:            forbidden("MissingAuthenticationTokenException"),
	sigv4.Malformed:          forbidden("IncompleteSignatureException"),
	sigv4.Mismatch:           forbidden("InvalidSignatureException"),
	sigv4.Expired:            forbidden("InvalidSignatureException"),
	sigv4.UnknownKey:         forbidden("UnrecognizedClientException").says(invalidToken),
	sigv4.UnknownToken:       forbidden("UnrecognizedClientException").says(invalidToken),
	sigv4.ExpiredToken:       forbidden("ExpiredTokenException"),
	sigv4.WrongService:       forbidden("InvalidSignatureException"),
	sigv4.WrongRegion:        forbidden("InvalidSignatureException"),
	sigv4.UnsupportedPayload: forbidden("InvalidSignatureException"),
	sigv4.PayloadMismatch:    forbidden("InvalidSignatureException"),
	sigv4.ForeignOrigin:      forbidden("AccessDeniedException"),
}

const invalidToken = "The security token included in the request is invalid."

func forbidden(code string) row {
	return row{status: http.StatusForbidden, code: code, family: transport}
}

// Refuse writes err as AWS would: an error of the service, of the request or of
// its signature by its row, any other as an internal one that tells nothing of
// its cause, which is for the log.
func (h *Handler) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	row, text := describe(err)
	audit.Refused(r.Context(), row.code, text)
	w.Header().Set("X-Amzn-Errortype", row.code+":"+namespaces[row.family])
	if row.hangUp {
		w.Header().Set("Connection", "close")
	}
	rest.Send(w, row.status, "application/json", appendError(nil, row, text))
}

// refused is the row of what the caller's policies do not allow. Like AWS for
// these, it has no Reason. Spec: ebs-direct §9.2.
var refused = row{status: http.StatusForbidden, code: "AccessDeniedException"}

// describe finds the row of err and its message.
func describe(err error) (row, string) {
	var (
		row     = serviceRows[snapshot.Internal]
		failure *snapshot.Error
	)
	if e, ok := errors.AsType[*askedError](err); ok {
		row = e.row
	} else if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Code >= 0 && e.Code < snapshot.NumCodes {
		row, failure, err = serviceRows[e.Code], e, e
	} else if e, ok := errors.AsType[*policy.Denied](err); ok {
		row, err = refused, e
	} else if e, ok := errors.AsType[*rest.Error](err); ok && e.Kind >= 0 && e.Kind < rest.NumKinds {
		row, err = requestRows[e.Kind], e
	} else if e, ok := errors.AsType[*sigv4.Error](err); ok && e.Kind >= 0 && e.Kind < sigv4.NumKinds {
		row, err = signatureRows[e.Kind], e
	}
	if row.text == nil {
		return row, rest.Sentence(err)
	}
	return row, row.text(failure)
}

func appendError(b []byte, row row, text string) []byte {
	if row.family != modelled {
		b = append(b, `{"message":`...)
		b = rest.AppendString(b, text)
		return append(b, '}')
	}
	b = append(b, `{"Message":`...)
	b = rest.AppendString(b, text)
	if row.reason != "" {
		b = append(b, `,"Reason":`...)
		b = rest.AppendString(b, row.reason)
	}
	return append(b, '}')
}

// violations is the framework's message: all that is wrong with a request's
// values. Spec: ebs-direct §2.3.
func violations(e *snapshot.Error) string {
	var b strings.Builder
	plural := "s"
	if len(e.Violations) == 1 {
		plural = ""
	}
	fmt.Fprintf(&b, "%d validation error%s detected: ", len(e.Violations), plural)
	for i, v := range e.Violations {
		if i > 0 {
			b.WriteString("; ")
		}
		value := "null"
		if v.Value != nil {
			value = "'" + *v.Value + "'"
		}
		fmt.Fprintf(&b, "Value %s at '%s' failed to satisfy constraint: %s", value, v.Field, v.Constraint)
	}
	return b.String()
}

// checksumIncomplete names the missing member of CompleteSnapshot's trio.
// Spec: ebs-direct §5.
func checksumIncomplete(e *snapshot.Error) string {
	missing := "Snapshot checksum"
	switch e.Field {
	case "checksumAlgorithm":
		missing = "Checksum algorithm"
	case "checksumAggregationMethod":
		missing = "Checksum aggregation method"
	}
	return "Invalid parameter combination. " + missing + " is missing."
}

// fixed is a message without variables.
func fixed(text string) func(*snapshot.Error) string {
	return func(*snapshot.Error) string { return text }
}

// about is a message that names the snapshot.
func about(format string) func(*snapshot.Error) string {
	return func(e *snapshot.Error) string { return fmt.Sprintf(format, e.Snapshot) }
}

func (r row) says(text string) row {
	r.text = fixed(text)
	return r
}

func (r row) hangsUp() row {
	r.hangUp = true
	return r
}
