package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"
)

const (
	// SessionKeySize is the length of the key that seals session tokens, in
	// bytes.
	SessionKeySize = 32
	// MaxToken is the longest session token that is looked at, in characters.
	MaxToken = 4096
)

// sessionKind begins every session token, as token.Kind does others.
var sessionKind = [3]byte{2, 0x53, 32}

// Lengths of parts of a token, in bytes.
const (
	tokenID     = 32
	tokenHead   = len(sessionKind) + tokenID
	accountSize = 12
	claimsFixed = 6 + 6 + accountSize
)

// claims are what a session token says.
//
// A token is, in base64url without padding,
//
//	offset  size  field
//	     0     3  kind
//	     3    32  id, random
//	    35     n  claims, encrypted
//	  35+n    16  tag, which covers all before it
//
// and the claims, integers big-endian,
//
//	 0     6  issued, seconds since 1970
//	 6     6  expires, likewise
//	12    12  account
//	24  1+e   ID of the user or role, behind its length; 0 for a root user
//	 …  1+m   name of a role's session, behind its length; 0 for others
//	 …        policy of the session in Latin-1, to the end; may be empty
//
// The key of AES-256-GCM is the token's own, like the access key and the secret
// of the session: HKDF (SHA-256) makes all three of the server's key and the id.
// So the nonce is all zeros: no key seals more than one token, as 256 random
// bits do not come twice.
type claims struct {
	issued, expires time.Time // whole seconds
	account         string
	entity          string // ID of the user or role; empty: the root user
	name            string // of a session of a role
	policy          string // of the session; empty for none
}

// sessionKeys are what a session signs with.
type sessionKeys struct{ accessKey, secret string }

// derive makes what belongs to the token of an id.
func (s *Service) derive(id []byte) (cipher.AEAD, sessionKeys, error) {
	const key, accessKey, secret = 32, 10, 30
	b, err := hkdf.Expand(sha256.New, s.sessions, "shale session "+string(id), key+accessKey+secret)
	if err != nil {
		return nil, sessionKeys{}, err
	}
	block, err := aes.NewCipher(b[:key])
	if err != nil {
		return nil, sessionKeys{}, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, sessionKeys{
		accessKey: "ASIA" + base32.StdEncoding.EncodeToString(b[key:key+accessKey]),
		secret:    base64.StdEncoding.EncodeToString(b[key+accessKey:]),
	}, err
}

// seal makes a token of claims and the keys that go with it.
func (s *Service) seal(c claims) (string, sessionKeys, error) {
	b := make([]byte, tokenHead, MaxToken)
	copy(b, sessionKind[:])
	_, _ = rand.Read(b[len(sessionKind):]) // never fails
	aead, keys, err := s.derive(b[len(sessionKind):])
	if err != nil {
		return "", sessionKeys{}, err
	}
	plain, err := c.encode()
	if err != nil {
		return "", sessionKeys{}, err
	}
	b = aead.Seal(b, make([]byte, aead.NonceSize()), plain, b)
	return base64.RawURLEncoding.EncodeToString(b), keys, nil
}

// errToken says that a session token is not one of this server's, or altered.
var errToken = errors.New("invalid session token")

// open opens a token, expired or not. The error is errToken.
func (s *Service) open(token string) (claims, sessionKeys, error) {
	if len(token) > MaxToken {
		return claims{}, sessionKeys{}, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < tokenHead || [3]byte(b) != sessionKind || strings.ContainsAny(token, "\r\n") {
		return claims{}, sessionKeys{}, errToken
	}
	aead, keys, err := s.derive(b[len(sessionKind):tokenHead])
	if err != nil {
		return claims{}, sessionKeys{}, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), b[tokenHead:], b[:tokenHead])
	if err != nil {
		return claims{}, sessionKeys{}, errToken
	}
	c, ok := decodeClaims(plain)
	if !ok {
		return claims{}, sessionKeys{}, errToken
	}
	return c, keys, nil
}

func (c *claims) encode() ([]byte, error) {
	b := appendSeconds(nil, c.issued)
	b = appendSeconds(b, c.expires)
	b = append(b, c.account...)
	for _, s := range []string{c.entity, c.name} {
		if len(s) > math.MaxUint8 {
			return nil, errors.New("a name in a session token has more than 255 bytes")
		}
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	for _, r := range c.policy {
		if r > 0xff {
			return nil, errors.New("the policy of a session has characters beyond Latin-1")
		}
		b = append(b, byte(r))
	}
	return b, nil
}

func decodeClaims(b []byte) (claims, bool) {
	if len(b) < claimsFixed {
		return claims{}, false
	}
	c := claims{issued: seconds(b), expires: seconds(b[6:]), account: string(b[12:claimsFixed])}
	b = b[claimsFixed:]
	for _, s := range []*string{&c.entity, &c.name} {
		if len(b) == 0 || len(b) <= int(b[0]) {
			return claims{}, false
		}
		end := 1 + int(b[0])
		*s, b = string(b[1:end]), b[end:]
	}
	var policy strings.Builder
	for _, r := range b {
		policy.WriteRune(rune(r))
	}
	c.policy = policy.String()
	return c, true
}

func appendSeconds(b []byte, t time.Time) []byte {
	s := binary.BigEndian.AppendUint64(nil, uint64(max(t.Unix(), 0)))
	return append(b, s[2:]...)
}

func seconds(b []byte) time.Time {
	var s [8]byte
	copy(s[2:], b[:6])
	return time.Unix(int64(binary.BigEndian.Uint64(s[:])), 0).UTC()
}
