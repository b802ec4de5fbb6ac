package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// contactBudget bounds the time until the first answer of a server,
	// retries included, so that an address where nobody listens is reported
	// while the person still watches.
	contactBudget = 12 * time.Second
	// contactAttempts bounds the attempts at an address that never answered.
	contactAttempts = 3
	// attemptTimeout bounds one attempt once the server is known to be there:
	// a block on a slow line, shared with fifteen others, takes its time.
	attemptTimeout = 2 * time.Minute
	// maxAttempts and the pauses between them outlast a server's restart:
	// 31 seconds in all at the least, 47 in the mean.
	maxAttempts  = 13
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// A verdict says whether a failed request is worth repeating.
type verdict int

const (
	final verdict = iota // the same request would fail again
	again                // with backoff, up to maxAttempts
	once                 // a second time, never a third
)

// A caller makes the requests to one service, each as often as its failure
// deserves. Spec: ebs-direct §9.3.
type caller struct {
	endpoint string // immutable
	// met is set once the server has answered: from then on silence is a
	// disturbance to wait out and not a wrong address.
	met atomic.Bool
}

// do calls f until it succeeds or its error is final. Each attempt's context
// carries a deadline. The error is what errors.go makes of the last one.
func (c *caller) do(ctx context.Context, f func(context.Context) error) error {
	return c.doSettling(ctx, time.Time{}, f)
}

// doSettling is do, but until the given time a snapshot that is not found is
// waited for: AWS may deny for a while what it has just announced. Spec:
// ebs-direct §2.5.
func (c *caller) doSettling(ctx context.Context, settled time.Time, f func(context.Context) error) error {
	contactBy := time.Now().Add(contactBudget)
	var last verdict
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx, contactBy, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := classify(err)
		limit := maxAttempts
		if !c.met.Load() && answeredStatus(err) == 0 {
			limit = contactAttempts
		}
		pause := backoff(attempt)
		switch {
		case IsNotFound(err) && time.Now().Before(settled):
			last = again
		case v == final, v == once && last == once, attempt >= limit:
			return c.explain(err)
		case !c.met.Load() && time.Now().Add(pause).After(contactBy):
			return c.explain(err)
		default:
			last = v
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (c *caller) attempt(ctx context.Context, contactBy time.Time, f func(context.Context) error) error {
	deadline := time.Now().Add(attemptTimeout)
	if !c.met.Load() {
		deadline = contactBy
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := f(ctx)
	if status := answeredStatus(err); err == nil || status > 0 && status < http.StatusInternalServerError {
		c.met.Store(true)
	}
	return err
}

// classify judges one failed attempt. An attempt that ran into its own
// deadline is repeated; the caller's cancellation must be looked at first.
func classify(err error) verdict {
	var damaged *DamagedBlockError
	if errors.As(err, &damaged) {
		return again
	}
	if status := answeredStatus(err); status >= http.StatusBadRequest {
		return classifyAnswer(status, err)
	}
	return classifyConnection(err)
}

func classifyAnswer(status int, err error) verdict {
	code, message := apiError(err)
	switch code {
	case "RequestThrottledException", "RequestThrottled", "ThrottlingException", "Throttling", "RequestLimitExceeded":
		return again
	case "ValidationException":
		if strings.Contains(message, "Failed to read block data") {
			return again
		}
	case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired":
		// The SDK corrects its clock by the refusal's Date; and bytes that a
		// line garbled are refused with the same code.
		if strings.Contains(message, "xpired") || strings.Contains(message, "not yet current") ||
			strings.Contains(message, "x-amz-Checksum") {
			return once
		}
	}
	if status >= http.StatusInternalServerError || status == http.StatusTooManyRequests {
		return again
	}
	return final
}

func classifyConnection(err error) verdict {
	var (
		certificate *tls.CertificateVerificationError
		send        *smithyhttp.RequestSendError
		network     net.Error
	)
	switch {
	case errors.As(err, &certificate), errors.Is(err, http.ErrSchemeMismatch):
		return final
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return again
	case errors.As(err, &send), errors.As(err, &network):
		return again
	}
	return final
}

// backoff returns the pause after the given failed attempt, from 1: doubling,
// half of it at random, so that sixteen connections do not come back at once.
func backoff(attempt int) time.Duration {
	pause := longestPause
	if attempt < 10 {
		pause = min(firstPause<<(attempt-1), longestPause)
	}
	return pause/2 + rand.N(pause/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answeredStatus is the HTTP status that a refusal came with; 0 if the server
// did not answer at all, for which the SDK also has a ResponseError.
func answeredStatus(err error) int {
	var answered *smithyhttp.ResponseError
	if errors.As(err, &answered) && answered.Response != nil {
		return answered.HTTPStatusCode()
	}
	return 0
}

func apiError(err error) (code, message string) {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode(), api.ErrorMessage()
	}
	return "", ""
}
