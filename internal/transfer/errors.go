package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"shale/internal/block"
)

// An UnreachableError reports a server that did not answer.
type UnreachableError struct {
	Endpoint string // as configured, with its scheme
	Err      error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s: %s", e.Endpoint, plainCause(e.Err))
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// A ServiceError is a server's refusal in few words. Its cause is the SDK's
// error, modelled exceptions included.
type ServiceError struct {
	Endpoint string
	// Code is the API's, "ResourceNotFoundException"; empty if what answered
	// does not speak the API.
	Code      string
	Message   string
	Status    int // of HTTP
	RequestID string
	Err       error
}

func (e *ServiceError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s answered HTTP %d, but not as this API does", e.Endpoint, e.Status)
	}
	request := ""
	if e.RequestID != "" {
		request = ", request " + e.RequestID
	}
	if e.Message == "" {
		return fmt.Sprintf("refused with %s (HTTP %d%s)", e.Code, e.Status, request)
	}
	return fmt.Sprintf("%s (%s%s)", strings.TrimRight(e.Message, ". "), e.Code, request)
}

func (e *ServiceError) Unwrap() error { return e.Err }

// A DamagedBlockError reports a block whose bytes do not have the digest that
// came with them.
type DamagedBlockError struct {
	Index     block.Index
	Got, Want string // base64 digests
}

func (e *DamagedBlockError) Error() string {
	return fmt.Sprintf("block %d arrived damaged: its SHA-256 is %s, announced was %s", e.Index, e.Got, e.Want)
}

// A StateError reports a snapshot that is in no state for what was asked.
type StateError struct {
	Snapshot string
	State    string // "pending", "error", …
	Message  string // the server's, may be empty
}

func (e *StateError) Error() string {
	if e.Message != "" {
		return fmt.Sprintf("snapshot %s is in state %s: %s", e.Snapshot, e.State, e.Message)
	}
	return fmt.Sprintf("snapshot %s is in state %s, not completed", e.Snapshot, e.State)
}

// IsNotFound reports whether err says that a snapshot does not exist, or not
// for this caller.
func IsNotFound(err error) bool {
	code, _ := apiError(err)
	switch code {
	case "ResourceNotFoundException", "InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed":
		return true
	}
	return false
}

// IsDenied reports whether err says that the caller may not do this, while
// the credentials themselves are good.
func IsDenied(err error) bool {
	code, _ := apiError(err)
	return code == "AccessDeniedException" || code == "UnauthorizedOperation"
}

func hasReason(err error, reason types.ValidationExceptionReason) bool {
	var invalid *types.ValidationException
	return errors.As(err, &invalid) && invalid.Reason == reason
}

// explain turns the SDK's error into one that a person can use; what it does
// not know it returns as it is.
func (c *caller) explain(err error) error {
	if status := answeredStatus(err); status >= http.StatusBadRequest {
		e := &ServiceError{Endpoint: c.endpoint, Status: status, Err: err}
		// The SDK says UnknownError where it finds no code.
		if code, message := apiError(err); code != "UnknownError" {
			e.Code, e.Message = code, message
		}
		var withID *awshttp.ResponseError
		if errors.As(err, &withID) {
			e.RequestID = withID.ServiceRequestID()
		}
		return e
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) || errors.Is(err, context.DeadlineExceeded) {
		return &UnreachableError{Endpoint: c.endpoint, Err: err}
	}
	return err
}

// plainCause gives the reason of a failed connection without the layers that
// repeat the address.
func plainCause(err error) string {
	var (
		dns *net.DNSError
		op  *net.OpError
		u   *url.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &op) && op.Err != nil:
		if op.Timeout() {
			return "no answer in time"
		}
		return op.Err.Error()
	case errors.As(err, &u):
		return u.Err.Error()
	}
	return err.Error()
}
