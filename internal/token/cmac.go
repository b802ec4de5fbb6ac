package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// A cmac computes AES-CMAC (NIST SP 800-38B, RFC 4493), which over the few bytes
// of a token takes four blocks of AES where HMAC-SHA-256 takes two rounds of the
// hash and sets it up twice. It is safe for concurrent use.
type cmac struct {
	cipher cipher.Block
	// last is mixed into the last block: the first if that is whole, the second
	// if it is padded.
	last [2][aes.BlockSize]byte
}

// newCMAC panics unless the key has a length that AES knows.
func newCMAC(key []byte) *cmac {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	m := &cmac{cipher: c}
	var l [aes.BlockSize]byte
	c.Encrypt(l[:], l[:])
	m.last[0] = double(l)
	m.last[1] = double(m.last[0])
	return m
}

// double multiplies by x in GF(2^128).
func double(b [aes.BlockSize]byte) (d [aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(b) - 1; i >= 0; i-- {
		d[i] = b[i]<<1 | carry
		carry = b[i] >> 7
	}
	d[len(d)-1] ^= 0x87 & -carry
	return d
}

// sum gives the MAC of the message.
func (m *cmac) sum(message []byte) (mac [aes.BlockSize]byte) {
	for len(message) > aes.BlockSize {
		subtle.XORBytes(mac[:], mac[:], message)
		m.cipher.Encrypt(mac[:], mac[:])
		message = message[aes.BlockSize:]
	}
	subtle.XORBytes(mac[:], mac[:], message)
	last := &m.last[0]
	if len(message) < aes.BlockSize {
		mac[len(message)] ^= 0x80
		last = &m.last[1]
	}
	subtle.XORBytes(mac[:], mac[:], last[:])
	m.cipher.Encrypt(mac[:], mac[:])
	return mac
}
