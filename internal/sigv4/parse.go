package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Parse reads r's signature, in header or in presigned form. Every error is an
// *Error, of kind Missing if r is not signed at all and Malformed otherwise.
// Parse checks only that all parts are there and can be read.
func Parse(r *http.Request) (*Signature, error) {
	inHeader, inQuery := headerSigned(r), presigned(r)
	switch {
	case inHeader && inQuery:
		return nil, errorf(Malformed, "the request is signed twice, in its Authorization header and in its query string")
	case inHeader:
		return parseHeader(r)
	case inQuery:
		return parsePresigned(r)
	}
	return nil, &Error{Kind: Missing}
}

func parseHeader(r *http.Request) (*Signature, error) {
	value, err := one(r, "Authorization")
	if err != nil {
		return nil, err
	}
	if len(value) > maxAuthorization {
		return nil, errorf(Malformed, "the Authorization header is longer than %d bytes", maxAuthorization)
	}
	credential, signedHeaders, signature, err := splitAuthorization(value)
	if err != nil {
		return nil, err
	}
	s := &Signature{signature: signature}
	if err := s.parseCredential(credential); err != nil {
		return nil, err
	}
	if err := s.parseSignedHeaders(signedHeaders); err != nil {
		return nil, err
	}
	if err := s.parseTime(r); err != nil {
		return nil, err
	}
	if s.SecurityToken, err = one(r, "X-Amz-Security-Token"); err != nil {
		return nil, err
	}
	if s.PayloadHash, err = one(r, "X-Amz-Content-Sha256"); err != nil {
		return nil, err
	}
	return s, nil
}

// splitAuthorization takes apart "ALGORITHM Credential=…, SignedHeaders=…,
// Signature=…". The three may come in any order, with or without blanks.
func splitAuthorization(v string) (credential, signedHeaders, signature string, err error) {
	algorithm, rest, _ := strings.Cut(v, " ")
	if algorithm != Algorithm {
		return "", "", "", errorf(Malformed, "the Authorization header must begin with %q", Algorithm+" ")
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.Trim(part, " \t"), "=")
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &signedHeaders
		case "Signature":
			into = &signature
		default:
			return "", "", "", errorf(Malformed, "the Authorization header has a part that is none of Credential, SignedHeaders and Signature")
		}
		if *into != "" {
			return "", "", "", errorf(Malformed, "the Authorization header has %s twice", name)
		}
		*into = value
	}
	for _, part := range []struct{ name, value string }{
		{"Credential", credential}, {"SignedHeaders", signedHeaders}, {"Signature", signature},
	} {
		if part.value == "" {
			return "", "", "", errorf(Malformed, "the Authorization header requires a %s", part.name)
		}
	}
	return credential, signedHeaders, signature, nil
}

// The query parameters of a presigned request that Parse looks at.
var (
	requiredParams = []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}
	optionalParams = []string{"X-Amz-Security-Token", "X-Amz-Content-Sha256"}
)

func parsePresigned(r *http.Request) (*Signature, error) {
	params, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	q := map[string]string{}
	for _, p := range params {
		if !slices.Contains(requiredParams, p.name) && !slices.Contains(optionalParams, p.name) {
			continue
		}
		if _, twice := q[p.name]; twice {
			return nil, errorf(Malformed, "the query parameter %s is given more than once", p.name)
		}
		q[p.name] = p.value
	}
	for _, name := range requiredParams {
		if q[name] == "" {
			return nil, errorf(Malformed, "a presigned request requires the query parameter %s", name)
		}
	}
	if q["X-Amz-Algorithm"] != Algorithm {
		return nil, errorf(Malformed, "X-Amz-Algorithm must be %s", Algorithm)
	}
	s := &Signature{Presigned: true, SecurityToken: q["X-Amz-Security-Token"], signature: q["X-Amz-Signature"]}
	if err := s.parseCredential(q["X-Amz-Credential"]); err != nil {
		return nil, err
	}
	if err := s.parseSignedHeaders(q["X-Amz-SignedHeaders"]); err != nil {
		return nil, err
	}
	if err := s.parseAmzDate(q["X-Amz-Date"]); err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseUint(q["X-Amz-Expires"], 10, 32)
	if s.Expires = time.Duration(seconds) * time.Second; err != nil || seconds < 1 || s.Expires > MaxExpires {
		return nil, errorf(Malformed, "X-Amz-Expires must be a number of seconds from 1 to %d", int(MaxExpires.Seconds()))
	}
	if s.PayloadHash, err = one(r, "X-Amz-Content-Sha256"); err != nil {
		return nil, err
	}
	if s.PayloadHash == "" {
		s.PayloadHash = q["X-Amz-Content-Sha256"]
	}
	return s, nil
}

// parseCredential reads "KEY/20060102/region/service/aws4_request". Whether
// the last part and the day are right is for Verify: a scope that is whole but
// wrong is a signature failure, not a malformed one.
func (s *Signature) parseCredential(v string) error {
	if strings.Count(v, "/") != 4 {
		return errorf(Malformed, "a credential has the form KEY/DATE/REGION/SERVICE/%s", terminator)
	}
	for _, part := range [...]*string{&s.AccessKeyID, &s.Date, &s.Region, &s.Service, &s.terminator} {
		*part, v, _ = strings.Cut(v, "/")
		if *part == "" || len(*part) > maxAccessKey || !graphic(*part) {
			return errorf(Malformed, "a part of the credential is empty, too long or not plain text")
		}
	}
	return nil
}

// graphic reports whether v has nothing but ASCII that can be seen.
func graphic(v string) bool {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}

// parseSignedHeaders reads names separated by semicolons. They must ascend,
// as every signer writes them: so none is there twice.
func (s *Signature) parseSignedHeaders(v string) error {
	names := strings.Split(v, ";")
	for i, n := range names {
		if !isHeaderName(n) {
			return errorf(Malformed, "SignedHeaders must be lower-case header names separated by semicolons")
		}
		if i > 0 && n <= names[i-1] {
			return errorf(Malformed, "SignedHeaders must be in ascending order, each name once")
		}
	}
	s.SignedHeaders = names
	return nil
}

func isHeaderName(v string) bool {
	for i := range len(v) {
		if !headerName[v[i]] {
			return false
		}
	}
	return v != ""
}

// parseTime reads X-Amz-Date or, without one, the Date header.
func (s *Signature) parseTime(r *http.Request) error {
	v, err := one(r, "X-Amz-Date")
	if err != nil {
		return err
	}
	if v != "" {
		return s.parseAmzDate(v)
	}
	if v, err = one(r, "Date"); err != nil {
		return err
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return errorf(Malformed, "a signed request requires an X-Amz-Date or a Date header")
	}
	s.Time = t.UTC()
	s.written = s.Time.Format(timeFormat)
	return nil
}

// A parsedDate is an X-Amz-Date and what it means.
type parsedDate struct {
	text    string
	time    time.Time
	written string // in timeFormat
}

// lastDate is the one parsed last: within a second many requests have the same.
var lastDate atomic.Pointer[parsedDate]

func (s *Signature) parseAmzDate(v string) error {
	d := lastDate.Load()
	if d == nil || d.text != v {
		t, err := time.Parse(timeFormat, v)
		if err != nil {
			return errorf(Malformed, "X-Amz-Date must have the form %s", timeFormat)
		}
		d = &parsedDate{v, t, t.Format(timeFormat)}
		lastDate.Store(d)
	}
	s.Time, s.written = d.time, d.written
	return nil
}

// one returns the value of a header that may come once; name is in canonical
// form.
func one(r *http.Request, name string) (string, error) {
	switch v := r.Header[name]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	}
	return "", errorf(Malformed, "the header %s is given more than once", name)
}
