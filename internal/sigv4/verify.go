package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"net/http"
	"sync"
	"time"
)

// A SigningKey is what a secret key becomes for one day, region and service.
// Whoever has it can sign for that scope. It is safe for concurrent use.
type SigningKey struct {
	// An HMAC that is used again has its key worked in already.
	pool sync.Pool // of *signer
}

// A signer is what one signature is made with, one at a time.
type signer struct {
	mac hash.Hash // of the signing key
	buf []byte
}

// SigningKey derives the key of s's scope from the secret. It costs four HMACs
// and is the same for all requests of a scope.
func (s *Signature) SigningKey(secret string) *SigningKey {
	key := []byte("AWS4" + secret)
	for _, part := range [...]string{s.Date, s.Region, s.Service, terminator} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return &SigningKey{pool: sync.Pool{New: func() any {
		return &signer{hmac.New(sha256.New, key), make([]byte, 0, 1024)}
	}}}
}

// Verify checks that whoever has the key of s's scope signed r, as it is, at a
// time that is fresh at now. payloadHash is the last line of the canonical request: the
// SHA-256 of the body in lower-case hex, or UnsignedPayload; that the body is
// indeed the one hashed is the caller's to check. Every error is an *Error.
//
// Region and service are covered by the signature but not judged here.
func (s *Signature) Verify(r *http.Request, key *SigningKey, payloadHash string, now time.Time) error {
	if !s.HasSigned("host") {
		return errorf(Mismatch, "the host header must be among the signed headers")
	}
	if s.SecurityToken != "" && !s.Presigned && !s.HasSigned("x-amz-security-token") {
		return errorf(Mismatch, "the header x-amz-security-token must be among the signed headers")
	}
	if s.terminator != terminator {
		return errorf(Mismatch, "the credential scope must end in %s", terminator)
	}
	if s.Date != s.written[:len(dateFormat)] {
		return errorf(Mismatch, "the day of the credential scope is not the day on which the request was signed")
	}
	if err := s.fresh(now); err != nil {
		return err
	}
	by := key.pool.Get().(*signer)
	defer key.pool.Put(by)
	canonical, err := s.appendCanonical(by.buf[:0], r, payloadHash)
	if err != nil {
		return err
	}
	want := s.sign(by.mac, canonical)
	if subtle.ConstantTimeCompare(want, []byte(s.signature)) != 1 {
		return &Error{Kind: Mismatch}
	}
	return nil
}

// fresh checks the time of signing against the clock.
func (s *Signature) fresh(now time.Time) error {
	now = now.UTC()
	if latest := now.Add(MaxSkew); s.Time.After(latest) {
		return errorf(Expired, "Signature not yet current: %s is still later than %s (%s + 15 min.)",
			s.written, latest.Format(timeFormat), now.Format(timeFormat))
	}
	if s.Presigned {
		if end := s.Time.Add(s.Expires); now.After(end) {
			return errorf(Expired, "Signature expired: the presigned request was valid until %s", end.Format(timeFormat))
		}
		return nil
	}
	if earliest := now.Add(-MaxSkew); s.Time.Before(earliest) {
		return errorf(Expired, "Signature expired: %s is now earlier than %s (%s - 15 min.)",
			s.written, earliest.Format(timeFormat), now.Format(timeFormat))
	}
	return nil
}

// sign returns the signature of a canonical request, in hex, by a MAC that has the
// signing key. It needs the request no more: what is signed is written over it.
func (s *Signature) sign(mac hash.Hash, canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	b := canonical[:0]
	for _, part := range [...]string{Algorithm, "\n", s.written, "\n", s.Date, "/", s.Region, "/", s.Service, "/", terminator, "\n"} {
		b = append(b, part...)
	}
	b = hex.AppendEncode(b, sum[:])
	mac.Reset()
	mac.Write(b)
	b = mac.Sum(b[:0])
	return hex.AppendEncode(b, b)[len(b):]
}
