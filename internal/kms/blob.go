package kms

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
)

// A ciphertext blob, as Encrypt and the like give it out. Format:
// docs/formats.md, Ciphertext blobs.
//
//	offset  size  field
//	     0     1  version, 1
//	     1    16  ID of the key, a UUID's bytes
//	    17    12  nonce
//	    29     n  ciphertext
//	  29+n    16  tag
//
// The tag covers bytes 0 to 16 and the encryption context, too.
const (
	blobVersion = 1
	blobHeader  = 17
	// blobOverhead is what a blob has beyond its plaintext, in bytes.
	blobOverhead = blobHeader + nonceSize + tagSize
	// maxBlob is the model's limit on a blob.
	maxBlob = 6144
)

// seal encrypts plaintext under the key.
func (k *key) seal(plaintext []byte, encryption map[string]string) []byte {
	b := make([]byte, blobHeader, blobOverhead+len(plaintext))
	b[0] = blobVersion
	id := idBytes(k.ID)
	copy(b[1:], id[:])
	aad := appendContext(b[:blobHeader:blobHeader], encryption)
	nonce := randomBytes(nonceSize)
	b = append(b, nonce...)
	return k.material.Seal(b, nonce, plaintext, aad)
}

// blobKey gives the ID of the key that made the blob; ok is false if it is no
// blob.
func blobKey(b []byte) (id string, ok bool) {
	if len(b) < blobOverhead || len(b) > maxBlob || b[0] != blobVersion {
		return "", false
	}
	s := hex.EncodeToString(b[1:blobHeader])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], true
}

// open decrypts a blob for which blobKey has given this key.
func (k *key) open(b []byte, encryption map[string]string) ([]byte, error) {
	nonce, sealed := b[blobHeader:blobHeader+nonceSize], b[blobHeader+nonceSize:]
	plaintext, err := k.material.Open(nil, nonce, sealed, appendContext(b[:blobHeader:blobHeader], encryption))
	if err != nil {
		return nil, refuse(InvalidCiphertext, "") // AWS says no more either
	}
	return plaintext, nil
}

func idBytes(id string) (b [16]byte) {
	digits := make([]byte, 0, 32)
	for i := range len(id) {
		if id[i] != '-' {
			digits = append(digits, id[i])
		}
	}
	if _, err := hex.Decode(b[:], digits); err != nil {
		panic(err) // the IDs of keys are checked when they are read
	}
	return b
}

// appendContext appends the encryption context in its one form: its pairs in
// the order of their keys, each key and value after its length in four bytes,
// big-endian.
func appendContext(b []byte, encryption map[string]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(encryption)) {
		for _, s := range []string{name, encryption[name]} {
			b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
			b = append(b, s...)
		}
	}
	return b
}
