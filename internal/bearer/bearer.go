// Package bearer makes and takes apart the bearer tokens of the plain dialect:
//
//	shale_IIIIIIIIIIIIIIII_SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS
//
// where I is the token's ID, 16 characters of base32 in lower case, by which it
// is looked up, listed and revoked, and S its secret, 32 random bytes in
// base64url. Only a SHA-256 of the secret is kept anywhere: it has 256 random
// bits, so that nothing slower is needed.
//
// Spec: plain-json, Which dialect a request gets.
package bearer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"strings"
)

const (
	prefix     = "shale_"
	idSize     = 10 // bytes
	secretSize = 32 // bytes

	// IDLength is how many characters a token's ID has.
	IDLength = 16
)

var (
	ids     = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	secrets = base64.RawURLEncoding.Strict()
)

// A Sum is what is kept of a secret.
type Sum [sha256.Size]byte

// New makes a token at random. token is for its user only.
func New() (token, id string, sum Sum) {
	var b [idSize + secretSize]byte
	_, _ = rand.Read(b[:]) // never fails
	id = ids.EncodeToString(b[:idSize])
	return prefix + id + "_" + secrets.EncodeToString(b[idSize:]), id, sha256.Sum256(b[idSize:])
}

// Parse takes a token apart. It reports false for what New cannot have made.
func Parse(token string) (id string, sum Sum, ok bool) {
	rest, found := strings.CutPrefix(token, prefix)
	if !found || len(rest) <= IDLength || rest[IDLength] != '_' {
		return "", Sum{}, false
	}
	id = rest[:IDLength]
	if _, err := ids.DecodeString(id); err != nil || strings.ContainsAny(id, "\r\n") {
		return "", Sum{}, false
	}
	encoded := rest[IDLength+1:]
	secret, err := secrets.DecodeString(encoded)
	if err != nil || len(secret) != secretSize || len(encoded) != secrets.EncodedLen(secretSize) {
		return "", Sum{}, false
	}
	return id, sha256.Sum256(secret), true
}

// Equal compares two sums in constant time.
func (s Sum) Equal(other Sum) bool { return subtle.ConstantTimeCompare(s[:], other[:]) == 1 }
