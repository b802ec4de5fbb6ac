package sigv4_test

import (
	"bufio"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"shale/internal/sigv4"
)

const (
	exampleKey    = "AKIDEXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var exampleTime = time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC)

// exampleHead is the published test vector as it stands on the wire.
// Spec: ebs-direct §2.1.
const exampleHead = "PUT /snapshots/snap-033d116c0448c309d/blocks/3 HTTP/1.1\r\n" +
	"Host: ebs.us-east-1.amazonaws.com\r\n" +
	"X-Amz-Date: 20260925T120000Z\r\n" +
	"x-amz-Checksum: X3om4deM0XGxqrAgjaEz6ZbHUoW5SqjvBsZXjqCyaQM=\r\n" +
	"x-amz-Checksum-Algorithm: SHA256\r\n" +
	"X-Amz-Content-SHA256: UNSIGNED-PAYLOAD\r\n" +
	"x-amz-Data-Length: 524288\r\n" +
	"User-Agent: anything\r\n" +
	"Authorization: " + exampleAuthorization + "\r\n\r\n"

const exampleAuthorization = "AWS4-HMAC-SHA256 Credential=" + exampleKey + "/20260925/us-east-1/ebs/aws4_request, " +
	"SignedHeaders=host;x-amz-checksum;x-amz-checksum-algorithm;x-amz-content-sha256;x-amz-data-length;x-amz-date, " +
	"Signature=5fd62682aa6bdcba79f79d7023de9f46170e6af435fc97f137378693eb4f0075"

// arrive parses a request as a server would.
func arrive(t testing.TB, head string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		t.Fatalf("ReadRequest: %v\n%s", err, head)
	}
	return r
}

// verify parses and verifies r with the example's secret, at the time of the
// example, and with the payload hash that r itself gives.
func verify(r *http.Request) error {
	s, err := sigv4.Parse(r)
	if err != nil {
		return err
	}
	return s.Verify(r, s.SigningKey(exampleSecret), s.PayloadHash, exampleTime)
}

// kindOf returns the kind of err, and whether it is an *sigv4.Error.
func kindOf(err error) (sigv4.Kind, bool) {
	e, ok := errors.AsType[*sigv4.Error](err)
	if !ok {
		return 0, false
	}
	return e.Kind, true
}

func TestVector(t *testing.T) {
	r := arrive(t, exampleHead)
	if !sigv4.Signed(r) {
		t.Error("Signed = false")
	}
	s, err := sigv4.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if s.AccessKeyID != exampleKey || s.Date != "20260925" || s.Region != "us-east-1" || s.Service != "ebs" ||
		!s.Time.Equal(exampleTime) || s.Presigned || s.PayloadHash != sigv4.UnsignedPayload || len(s.SignedHeaders) != 6 {
		t.Errorf("Parse = %+v", s)
	}
	if err := verify(r); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

// The request line and every header that is signed are covered, and so is each
// part of the Authorization header but the key, which chooses the secret.
func TestVectorAltered(t *testing.T) {
	end := strings.Index(exampleHead, "User-Agent")
	authorization := strings.Index(exampleHead, "/20260925/us-east-1")
	for i := range len(exampleHead) - len("\r\n\r\n") {
		inSigned := i < end && !strings.Contains("\r\n", exampleHead[i:i+1])
		if !inSigned && i < authorization {
			continue
		}
		for _, c := range []rune{rune(exampleHead[i]) + 1, 'x', '0', '%', '/', ';', '='} {
			altered := exampleHead[:i] + string(c) + exampleHead[i+1:]
			if strings.EqualFold(string(c), exampleHead[i:i+1]) || c >= 0x7f {
				continue // header names have no case
			}
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(altered)))
			if err != nil || r.Proto != "HTTP/1.1" {
				continue // no request at all, or another protocol
			}
			err = verify(r)
			if err == nil {
				t.Errorf("byte %d altered, and still verified:\n%s", i, altered)
			} else if _, ok := kindOf(err); !ok {
				t.Errorf("byte %d altered: error %T %v, want an *Error", i, err, err)
			}
		}
	}
}

// What a proxy or a client may do to headers does not matter.
func TestVectorEquivalent(t *testing.T) {
	for name, edit := range map[string]*strings.Replacer{
		"blanks around a value":        strings.NewReplacer("SHA256\r", " \t SHA256  \r"),
		"case of header names":         strings.NewReplacer("X-Amz-Date", "x-amz-DATE"),
		"no blanks in Authorization":   strings.NewReplacer(", Signed", ",Signed", ", Signature", ",Signature"),
		"more blanks in Authorization": strings.NewReplacer(", Signed", " ,  Signed"),
		"an unsigned header":           strings.NewReplacer("User-Agent: anything", "User-Agent: other\r\nX-Amz-Progress: 7"),
	} {
		if err := verify(arrive(t, edit.Replace(exampleHead))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFreshness(t *testing.T) {
	r := arrive(t, exampleHead)
	s, err := sigv4.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		off time.Duration
		ok  bool
	}{
		{0, true},
		{-sigv4.MaxSkew, true},
		{sigv4.MaxSkew, true},
		{-sigv4.MaxSkew - time.Second, false},
		{sigv4.MaxSkew + time.Second, false},
		{365 * 24 * time.Hour, false},
		{-365 * 24 * time.Hour, false},
	} {
		err := s.Verify(r, s.SigningKey(exampleSecret), s.PayloadHash, exampleTime.Add(tt.off))
		if kind, _ := kindOf(err); (err == nil) != tt.ok || !tt.ok && kind != sigv4.Expired {
			t.Errorf("clock off by %v: got %v, want ok=%v", tt.off, err, tt.ok)
		}
	}
}

func TestSigned(t *testing.T) {
	for _, tt := range []struct {
		target, authorization string
		want                  bool
	}{
		{"/snapshots", "", false},
		{"/snapshots", "Bearer AWS4", false},
		{"/snapshots", "AWS4-HMAC-SHA256 Credential=", true},
		{"/snapshots", "AWS nonsense", true},
		{"/snapshots", "AWS", true},
		{"/snapshots?X-Amz-Signature=1", "", true},
		{"/snapshots?a=1&X-Amz-Algorithm=", "", true},
		{"/snapshots?X-Amz-Credential", "Bearer x", true},
		{"/snapshots?X-Amz-Date=1", "", false},
		{"/snapshots?pageToken=X-Amz-Signature", "", false},
	} {
		r := arrive(t, "GET "+tt.target+" HTTP/1.1\r\nHost: h\r\n\r\n")
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		if got := sigv4.Signed(r); got != tt.want {
			t.Errorf("Signed(%s, %q) = %v", tt.target, tt.authorization, got)
		}
	}
}
