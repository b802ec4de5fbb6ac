// Package sigv4 verifies AWS Signature Version 4 on the server's side: it reads
// who signed a request from its Authorization header or its presigned query
// string, rebuilds what they signed from the request as it arrived, and
// compares.
//
// Parse and Verify take hostile input. Their work is linear in the size of the
// request's head, and they never read its body: what the body hashes to is the
// caller's to say. Whether the credential scope names a region and a service
// that are served is the caller's to decide, too.
//
// Not supported, on purpose: SigV4A, chunk signatures (STREAMING-…) and the
// rules that only S3 has.
//
// Spec: ebs-direct §2.1.
package sigv4

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// Algorithm is the only one that is accepted.
	Algorithm = "AWS4-HMAC-SHA256"
	// UnsignedPayload is the payload hash of a request whose signature does
	// not cover its body.
	UnsignedPayload = "UNSIGNED-PAYLOAD"
	// EmptyPayload is the payload hash of a request without a body.
	EmptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	// MaxSkew is how far a client's clock may be from ours, either way.
	MaxSkew = 15 * time.Minute
	// MaxExpires is the longest life of a presigned request.
	MaxExpires = 7 * 24 * time.Hour
)

const (
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"
	// maxAuthorization bounds an Authorization header, in bytes. AWS's own
	// clients stay below one tenth of it.
	maxAuthorization = 8 << 10
	// maxAccessKey is the longest access key ID that AWS's APIs admit.
	maxAccessKey = 128
)

// A Signature is what a request says about its own signature. Nothing in it
// is to be believed before Verify has returned nil.
type Signature struct {
	AccessKeyID string
	// Date, Region and Service are those of the credential scope. Date is the
	// day in the form 20060102.
	Date, Region, Service string
	// SignedHeaders are lower-case names in ascending order, "host" among them.
	SignedHeaders []string
	// Time is when the request says that it was signed, to the second.
	Time time.Time
	// Presigned tells the query form from the header form.
	Presigned bool
	// Expires is the life of a presigned request from Time on; otherwise 0.
	Expires time.Duration
	// SecurityToken is the session token that came along, or empty.
	SecurityToken string
	// PayloadHash is the value of x-amz-content-sha256, or empty if the
	// request has none.
	PayloadHash string

	written    string // Time in timeFormat
	terminator string // the last part of the credential scope
	signature  string // as sent
}

// Signed reports whether r claims to be signed at all, well or badly: whether
// it has an Authorization header that begins with "AWS", or presigned query
// parameters.
func Signed(r *http.Request) bool { return headerSigned(r) || presigned(r) }

func headerSigned(r *http.Request) bool {
	for _, v := range r.Header["Authorization"] {
		if strings.HasPrefix(v, "AWS") {
			return true
		}
	}
	return false
}

func presigned(r *http.Request) bool {
	if !strings.Contains(r.URL.RawQuery, "X-Amz-") {
		return false // the common case, without taking the query apart
	}
	params, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return false
	}
	for _, p := range params {
		switch p.name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			return true
		}
	}
	return false
}

// HasSigned reports whether the header of this lower-case name is among those
// that the signature covers.
func (s *Signature) HasSigned(name string) bool {
	_, found := slices.BinarySearch(s.SignedHeaders, name)
	return found
}
