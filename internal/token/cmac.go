package token

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
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

// sum puts the MAC of the message into mac. What it gets is all that it needs: a
// page takes ten thousand of them, and each allocation would show.
func (m *cmac) sum(mac *[aes.BlockSize]byte, message []byte) {
	clear(mac[:])
	for len(message) > aes.BlockSize {
		xor(mac, (*[aes.BlockSize]byte)(message))
		m.cipher.Encrypt(mac[:], mac[:])
		message = message[aes.BlockSize:]
	}
	var end [aes.BlockSize]byte
	last := &m.last[0]
	if n := copy(end[:], message); n < aes.BlockSize {
		end[n] = 0x80
		last = &m.last[1]
	}
	xor(mac, &end)
	xor(mac, last)
	m.cipher.Encrypt(mac[:], mac[:])
}

// xor adds b to a. The compiler makes two loads and a store of each half.
func xor(a, b *[aes.BlockSize]byte) {
	order := binary.NativeEndian
	order.PutUint64(a[:8], order.Uint64(a[:8])^order.Uint64(b[:8]))
	order.PutUint64(a[8:], order.Uint64(a[8:])^order.Uint64(b[8:]))
}
