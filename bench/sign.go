package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A signer writes the head of HTTP/1.1 requests, signed with SigV4 by one
// access key for one region, or by one session. It is safe for concurrent use.
// Spec: ebs-direct §2.1.
type signer struct {
	host      string // host:port, as in the Host header
	accessKey string
	secretKey string
	region    string
	service   string // "ebs" if it is empty
	token     string // of a session; empty for none
}

const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	amzDate         = "20060102T150405Z"
)

// A header is a name in lower case and its value.
type header struct{ name, value string }

// A requestHead is everything of a request but its body.
type requestHead struct {
	method  string
	path    string // characters that need no escaping
	query   string // sorted and escaped, or empty
	headers []header
	// payloadHash is the body's SHA-256 in hex, or unsignedPayload.
	payloadHash   string
	contentLength int
}

// head returns the request line and headers of r, signed, up to and with the
// empty line.
func (s *signer) head(r requestHead) []byte {
	now := time.Now().UTC().Format(amzDate)
	day := now[:8]
	signed := append([]header{{"host", s.host}, {"x-amz-date", now}}, r.headers...)
	if s.token != "" {
		signed = append(signed, header{"x-amz-security-token", s.token})
	}
	slices.SortFunc(signed, func(a, b header) int { return strings.Compare(a.name, b.name) })

	var canonical, names, out strings.Builder
	canonical.WriteString(r.method + "\n" + r.path + "\n" + r.query + "\n")
	out.WriteString(r.method + " " + r.path)
	if r.query != "" {
		out.WriteString("?" + r.query)
	}
	out.WriteString(" HTTP/1.1\r\n")
	for i, h := range signed {
		canonical.WriteString(h.name + ":" + h.value + "\n")
		out.WriteString(h.name + ": " + h.value + "\r\n")
		if i > 0 {
			names.WriteByte(';')
		}
		names.WriteString(h.name)
	}
	canonical.WriteString("\n" + names.String() + "\n" + r.payloadHash)

	service := cmp.Or(s.service, "ebs")
	scope := day + "/" + s.region + "/" + service + "/aws4_request"
	sum := sha256.Sum256([]byte(canonical.String()))
	toSign := "AWS4-HMAC-SHA256\n" + now + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + s.secretKey)
	for _, part := range []string{day, s.region, service, "aws4_request", toSign} {
		key = mac(key, part)
	}
	out.WriteString("authorization: AWS4-HMAC-SHA256 Credential=" + s.accessKey + "/" + scope +
		", SignedHeaders=" + names.String() + ", Signature=" + hex.EncodeToString(key) + "\r\n")
	out.WriteString("content-length: " + strconv.Itoa(r.contentLength) + "\r\n\r\n")
	return []byte(out.String())
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}
