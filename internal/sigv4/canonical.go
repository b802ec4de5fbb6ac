package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// appendCanonical appends the canonical request, whose hash is what was
// signed, to b:
//
//	METHOD \n path \n query \n
//	name:value \n            for each signed header
//	\n
//	name;name;… \n payload hash
func (s *Signature) appendCanonical(b []byte, r *http.Request, payloadHash string) ([]byte, error) {
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, r.URL.EscapedPath())
	b = append(b, '\n')
	b, err := s.appendQuery(b, r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	for _, name := range s.SignedHeaders {
		values := headerValues(r, name)
		if len(values) == 0 {
			return nil, errorf(Mismatch, "the header %s is signed, but not in the request", name)
		}
		b = append(b, name...)
		for i, v := range values {
			b = append(b, ":,"[min(i, 1)])
			b = appendTrimmed(b, v)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range s.SignedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	return append(b, payloadHash...), nil
}

// headerValues returns the lines of the header of this lower-case name. Package
// net/http moves some headers out of the map.
func headerValues(r *http.Request, name string) []string {
	switch name {
	case "host":
		if r.Host == "" {
			return nil
		}
		return []string{r.Host}
	case "transfer-encoding":
		return r.TransferEncoding
	}
	// Few names need more room, and then it is but slower.
	key := make([]byte, 0, 64)
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		key = append(key, c)
		upper = c == '-'
	}
	return r.Header[string(key)]
}

// appendTrimmed appends v without blanks at its ends and with every inner run
// of blanks as one space.
func appendTrimmed(b []byte, v string) []byte {
	blank, begun := false, false
	for i := range len(v) {
		c := v[i]
		if c == ' ' || c == '\t' {
			blank = true
			continue
		}
		if blank && begun {
			b = append(b, ' ')
		}
		blank, begun = false, true
		b = append(b, c)
	}
	return b
}

// appendPath appends the path, which is escaped as it was received, with each
// segment escaped once more: the rule for every service but S3.
func appendPath(b []byte, path string) []byte {
	if path == "" {
		return append(b, '/')
	}
	return appendEscaped(b, path, '/')
}

// A param is one query parameter, decoded.
type param struct{ name, value string }

// parseQuery decodes a query string in the way in which the doors do, so that
// nothing can be signed as one thing and taken for another. A broken escape is
// an *Error of kind Malformed.
func parseQuery(raw string) ([]param, error) {
	var params []param
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return nil, errorf(Malformed, "the query string has a broken percent-escape")
		}
		params = append(params, param{name, value})
	}
	return params, nil
}

// appendQuery appends the parameters, encoded, in the order of their encoded
// names and then values. The presigned form leaves its own signature out.
func (s *Signature) appendQuery(b []byte, raw string) ([]byte, error) {
	params, err := parseQuery(raw)
	if err != nil {
		return nil, err
	}
	if len(params) == 1 && !s.Presigned {
		b = append(appendEscaped(b, params[0].name, 0), '=')
		return appendEscaped(b, params[0].value, 0), nil
	}
	for i, p := range params {
		params[i] = param{string(appendEscaped(nil, p.name, 0)), string(appendEscaped(nil, p.value, 0))}
	}
	slices.SortFunc(params, func(a, b param) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	first := true
	for _, p := range params {
		if s.Presigned && p.name == "X-Amz-Signature" {
			continue
		}
		if !first {
			b = append(b, '&')
		}
		first = false
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b, nil
}

// appendEscaped percent-encodes every byte of v but RFC 3986's unreserved ones
// and keep, which is 0 for none.
func appendEscaped(b []byte, v string, keep byte) []byte {
	const digits = "0123456789ABCDEF"
	begun := 0 // of what is appended as it is
	for i := range len(v) {
		c := v[i]
		if unreserved[c] || c == keep && keep != 0 {
			continue
		}
		b = append(b, v[begun:i]...)
		b = append(b, '%', digits[c>>4], digits[c&15])
		begun = i + 1
	}
	return append(b, v[begun:]...)
}

// unreserved are the bytes that are never escaped, headerName those that may stand
// in the name of a header.
var unreserved, headerName = func() (u, h [256]bool) {
	for c := range 256 {
		small, digit := 'a' <= c && c <= 'z', '0' <= c && c <= '9'
		u[c] = small || digit || 'A' <= c && c <= 'Z' || strings.IndexByte("-._~", byte(c)) >= 0
		h[c] = small || digit || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return u, h
}()
