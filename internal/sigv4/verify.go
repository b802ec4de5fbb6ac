package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"time"
)

// A SigningKey is what a secret key becomes for one day, region and service.
// Whoever has it can sign for that scope.
type SigningKey [sha256.Size]byte

// SigningKey derives the key of s's scope from the secret. It costs four HMACs
// and is the same for all requests of a scope.
func (s *Signature) SigningKey(secret string) SigningKey {
	key := []byte("AWS4" + secret)
	for _, part := range [...]string{s.Date, s.Region, s.Service, terminator} {
		key = mac(key, []byte(part))
	}
	return SigningKey(key)
}

// Verify checks that whoever has the key of s's scope signed r, as it is, at a
// time that is fresh at now. payloadHash is the last line of the canonical request: the
// SHA-256 of the body in lower-case hex, or UnsignedPayload; that the body is
// indeed the one hashed is the caller's to check. Every error is an *Error.
//
// Region and service are covered by the signature but not judged here.
func (s *Signature) Verify(r *http.Request, key SigningKey, payloadHash string, now time.Time) error {
	if !s.HasSigned("host") {
		return errorf(Mismatch, "the host header must be among the signed headers")
	}
	if s.SecurityToken != "" && !s.Presigned && !s.HasSigned("x-amz-security-token") {
		return errorf(Mismatch, "the header x-amz-security-token must be among the signed headers")
	}
	if s.terminator != terminator {
		return errorf(Mismatch, "the credential scope must end in %s", terminator)
	}
	signed := s.Time.Format(timeFormat)
	if s.Date != signed[:len(dateFormat)] {
		return errorf(Mismatch, "the day of the credential scope is not the day on which the request was signed")
	}
	if err := s.fresh(now, signed); err != nil {
		return err
	}
	canonical, err := s.appendCanonical(make([]byte, 0, 1024), r, payloadHash)
	if err != nil {
		return err
	}
	want := s.sign(key, signed, canonical)
	if subtle.ConstantTimeCompare(want, []byte(s.signature)) != 1 {
		return &Error{Kind: Mismatch}
	}
	return nil
}

// fresh checks the time of signing against the clock. signed is that time as it
// was written.
func (s *Signature) fresh(now time.Time, signed string) error {
	now = now.UTC()
	if latest := now.Add(MaxSkew); s.Time.After(latest) {
		return errorf(Expired, "Signature not yet current: %s is still later than %s (%s + 15 min.)",
			signed, latest.Format(timeFormat), now.Format(timeFormat))
	}
	if s.Presigned {
		if end := s.Time.Add(s.Expires); now.After(end) {
			return errorf(Expired, "Signature expired: the presigned request was valid until %s", end.Format(timeFormat))
		}
		return nil
	}
	if earliest := now.Add(-MaxSkew); s.Time.Before(earliest) {
		return errorf(Expired, "Signature expired: %s is now earlier than %s (%s - 15 min.)",
			signed, earliest.Format(timeFormat), now.Format(timeFormat))
	}
	return nil
}

// sign returns the signature of a canonical request, in hex. It needs the request
// no more: what is signed is written over it.
func (s *Signature) sign(key SigningKey, signed string, canonical []byte) []byte {
	hash := sha256.Sum256(canonical)
	b := canonical[:0]
	for _, part := range [...]string{Algorithm, "\n", signed, "\n", s.Date, "/", s.Region, "/", s.Service, "/", terminator, "\n"} {
		b = append(b, part...)
	}
	b = hex.AppendEncode(b, hash[:])
	return hex.AppendEncode(nil, mac(key[:], b))
}

func mac(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}
