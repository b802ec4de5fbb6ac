package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// answered is an error as the SDK reports a server's refusal.
func answered(status int, code, message string) error {
	return &smithy.OperationError{ServiceID: "EBS", OperationName: "Test", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: message},
	}}
}

// unsent is an error as the SDK reports a request that got no answer; it comes
// with an answer of status 0.
func unsent(err error) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{}},
		Err:      &smithyhttp.RequestSendError{Err: err},
	}
}

func dial(err error) error { return unsent(&net.OpError{Op: "dial", Net: "tcp", Err: err}) }

// What AWS's guide says is worth repeating, and what is not. Spec: ebs-direct
// §9.3.
func TestClassify(t *testing.T) {
	tests := []struct {
		err  error
		want verdict
	}{
		{answered(500, "InternalServerException", "oops"), again},
		{answered(503, "", ""), again},
		{answered(503, "RequestLimitExceeded", "Request limit exceeded."), again},
		{answered(429, "", ""), again},
		{answered(400, "RequestThrottledException", ""), again},
		{answered(400, "ThrottlingException", "Rate exceeded"), again},
		{answered(400, "ValidationException", "Failed to read block data"), again},
		{answered(400, "ValidationException", "Block index 2048 is beyond the volume size extent"), final},
		{answered(400, "ValidationException", "The block token x is invalid."), final},
		{answered(402, "ServiceQuotaExceededException", ""), final},
		{answered(403, "AccessDeniedException", ""), final},
		{answered(403, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than"), once},
		{answered(403, "InvalidSignatureException", "The value passed in as x-amz-Checksum does not match the computed checksum."), once},
		{answered(403, "InvalidSignatureException", "The request signature we calculated does not match"), final},
		{answered(403, "UnrecognizedClientException", ""), final},
		{answered(404, "ResourceNotFoundException", ""), final},
		{answered(409, "ConflictException", ""), final},
		{dial(syscall.ECONNREFUSED), again},
		{dial(&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}), again},
		{unsent(syscall.ECONNRESET), again},
		{unsent(io.EOF), again},
		{io.ErrUnexpectedEOF, again},
		{unsent(&tls.CertificateVerificationError{Err: errors.New("unknown authority")}), final},
		{unsent(http.ErrSchemeMismatch), final},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), again},
		{&DamagedBlockError{}, again},
		{errors.New("no EC2 IMDS role found"), final},
	}
	for _, test := range tests {
		if got := classify(test.err); got != test.want {
			t.Errorf("classify(%v): got %v, want %v", test.err, got, test.want)
		}
	}
}

// script makes a caller's function fail with the given errors, one each time,
// and then succeed; the last is repeated for ever if forever is set.
func script(calls *int, forever bool, errs ...error) func(context.Context) error {
	return func(context.Context) error {
		*calls++
		switch {
		case *calls <= len(errs):
			return errs[*calls-1]
		case forever:
			return errs[len(errs)-1]
		}
		return nil
	}
}

func TestCallerAttempts(t *testing.T) {
	throttled := answered(400, "ThrottlingException", "Rate exceeded")
	expired := answered(403, "InvalidSignatureException", "Signature expired")
	missing := answered(404, "ResourceNotFoundException", "")
	tests := map[string]struct {
		met     bool
		settle  time.Duration
		errs    []error
		forever bool
		calls   int
		ok      bool
	}{
		"at once":                {calls: 1, ok: true},
		"final":                  {met: true, errs: []error{missing}, forever: true, calls: 1},
		"throttled for a while":  {met: true, errs: []error{throttled, throttled, throttled}, calls: 4, ok: true},
		"throttled at contact":   {errs: []error{throttled, throttled, throttled}, calls: 4, ok: true},
		"throttled for ever":     {met: true, errs: []error{throttled}, forever: true, calls: maxAttempts},
		"expired once":           {met: true, errs: []error{expired}, calls: 2, ok: true},
		"expired twice":          {met: true, errs: []error{expired}, forever: true, calls: 2},
		"unwell at contact":      {errs: []error{answered(503, "", ""), answered(500, "", ""), answered(503, "", ""), answered(503, "", "")}, calls: 5, ok: true},
		"nobody there":           {errs: []error{dial(syscall.ECONNREFUSED)}, forever: true, calls: contactAttempts},
		"restarting":             {met: true, errs: []error{dial(syscall.ECONNREFUSED), unsent(io.EOF)}, calls: 3, ok: true},
		"not yet there":          {met: true, settle: time.Minute, errs: []error{missing, missing, missing}, calls: 4, ok: true},
		"not there, settled ago": {met: true, settle: -time.Second, errs: []error{missing}, calls: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &caller{endpoint: "http://server"}
				c.met.Store(test.met)
				calls := 0
				err := c.doSettling(t.Context(), time.Now().Add(test.settle), script(&calls, test.forever, test.errs...))
				if calls != test.calls || (err == nil) != test.ok {
					t.Errorf("got %d calls and %v, want %d calls, success %v", calls, err, test.calls, test.ok)
				}
			})
		})
	}
}

// However a server fails to answer, it is reported within 15 seconds; and one
// that was there a moment ago is waited for.
func TestCallerPatience(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return unsent(ctx.Err())
	}
	for name, f := range map[string]func(context.Context) error{
		"silent":      hang,
		"unavailable": func(context.Context) error { return answered(503, "", "") },
		"refusing":    func(context.Context) error { return dial(syscall.ECONNREFUSED) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := (&caller{endpoint: "http://server:1"}).do(t.Context(), f)
				if took := time.Since(began); err == nil || took > 15*time.Second {
					t.Errorf("at first contact: got %v after %v, want an error within 15 s", err, took)
				}
				c := &caller{endpoint: "http://server:1"}
				c.met.Store(true)
				began = time.Now()
				if err := c.do(t.Context(), f); err == nil || time.Since(began) < 30*time.Second {
					t.Errorf("after contact: gave up with %v after %v, want 30 s of trying", err, time.Since(began))
				}
			})
		})
	}
}

func TestCallerObeysCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		c := &caller{}
		c.met.Store(true)
		err := c.do(ctx, func(context.Context) error { return answered(500, "", "") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestBackoff(t *testing.T) {
	for attempt := 1; attempt < 70; attempt++ {
		pause := backoff(attempt)
		if pause < firstPause/2 || pause > longestPause {
			t.Errorf("backoff(%d) = %v", attempt, pause)
		}
	}
	if backoff(1) >= firstPause || backoff(9) < longestPause/2 {
		t.Errorf("backoff does not grow from %v to %v", backoff(1), backoff(9))
	}
}
