// Package domain is the cryptography of one encryption domain: what shares one
// data key, and is deduplicated only inside. A domain belongs to one KMS key.
// From its data key, of 32 random bytes, HKDF-SHA-256 derives four keys:
//
//	identity   names blocks: the block id is HMAC-SHA-256 of the digest
//	digest     seals the digest that stands beside the id
//	payload    gives each block id the key that its bytes are sealed under
//	map        authenticates the root of a block map
//
// So equal blocks have equal ids inside a domain and nowhere else, and without
// the key nobody can tell whether a block that he knows is stored.
//
// # Nonces
//
// Both seals are AES-256-GCM with a random nonce of 96 bits that is kept
// beside the ciphertext. GCM fails if one nonce is used for two messages under
// one key.
//
// A payload's key belongs to its block id, that is to one content. It seals
// more than one message only if that content is stored more than once: by
// writers at the same moment, anew after damage, with another codec. Even 2^32
// times would leave a chance of 2^-33 that two nonces are equal. The nonce is
// random and not derived, because one content in two codecs is two messages.
//
// The digest key seals one digest for each payload stored in the domain. With
// 2^32 of them, 2 PiB of unique blocks, the chance that any two nonces are
// equal is below 2^-32, which is where NIST SP 800-38D, 8.3, draws the line.
//
// A Key is safe for concurrent use. Format: docs/formats.md, Encryption.
package domain

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"shale/internal/block"
)

// A Number names a domain. It is drawn at random when the domain is made.
type Number uint32

// Unencrypted is the domain without a key, in which the id of a block is its
// digest and nothing is sealed.
const Unencrypted Number = 0

// String returns n as its file is named: 8 hex digits.
func (n Number) String() string { return fmt.Sprintf("%08x", uint32(n)) }

const (
	// KeySize is the length of a data key in bytes.
	KeySize = 32
	// NonceSize is the length of a nonce in bytes.
	NonceSize = 12
	// Overhead is what a sealed payload is longer than the payload, in bytes.
	Overhead = 16
)

// A Nonce is what a payload was sealed with.
type Nonce [NonceSize]byte

// A SealedDigest is the digest of a block under the key of its domain: nonce,
// 32 bytes of ciphertext, 16 of tag.
type SealedDigest [NonceSize + sha256.Size + Overhead]byte

// A MAC authenticates the root of a block map. The zero MAC is none.
type MAC [sha256.Size]byte

var (
	// ErrTampered says that bytes are not those that were sealed under the
	// key for this place.
	ErrTampered = errors.New("sealed bytes do not open under the domain's key")
	// ErrLost says that the key of a domain is not there any more, or is
	// damaged: not what the KMS holds, but what it wrapped.
	ErrLost = errors.New("the domain's key is missing or damaged")
)

// A Key is what a domain's data key gives. The nil Key is that of the
// unencrypted domain; only ID and Number may be called on it.
type Key struct {
	number   Number
	identity [sha256.Size]byte
	payload  [sha256.Size]byte
	maps     [sha256.Size]byte
	digests  cipher.AEAD
}

// New derives the keys of the domain from its data key, of which it keeps no
// copy.
func New(n Number, dataKey *[KeySize]byte) *Key {
	k := &Key{number: n}
	var digest [sha256.Size]byte
	for name, key := range map[string]*[sha256.Size]byte{
		"identity": &k.identity, "digest": &digest, "payload": &k.payload, "map": &k.maps,
	} {
		derived, err := hkdf.Key(sha256.New, dataKey[:], nil, "shale domain 1 "+name, len(key))
		if err != nil {
			panic(err) // only for lengths that are not asked for
		}
		copy(key[:], derived)
	}
	k.digests = newGCM(&digest)
	return k
}

func newGCM(key *[32]byte) cipher.AEAD {
	b, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for other lengths of the key
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		panic(err) // only for other block sizes
	}
	return aead
}

// Number is the number of the key's domain.
func (k *Key) Number() Number {
	if k == nil {
		return Unencrypted
	}
	return k.number
}

// ID is the id in the key's domain of the block with the digest.
func (k *Key) ID(d block.Digest) block.ID {
	if k == nil {
		return block.ID(d)
	}
	return block.ID(mac(&k.identity, d[:]))
}

func mac(key *[sha256.Size]byte, pieces ...[]byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, key[:])
	for _, p := range pieces {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// SealDigest seals the digest of the block with the id.
func (k *Key) SealDigest(id block.ID, d block.Digest) (s SealedDigest) {
	_, _ = rand.Read(s[:NonceSize]) // never fails
	k.digests.Seal(s[:NonceSize], s[:NonceSize], d[:], k.associated(id))
	return s
}

// OpenDigest opens the digest of the block with the id. The error is
// ErrTampered.
func (k *Key) OpenDigest(id block.ID, s *SealedDigest) (block.Digest, error) {
	var d block.Digest
	if _, err := k.digests.Open(d[:0], s[:NonceSize], s[NonceSize:], k.associated(id)); err != nil {
		return block.Digest{}, ErrTampered
	}
	return d, nil
}

// SealPayload seals the bytes of the block with the id, kept in the codec. If
// payload has room for Overhead bytes behind it, it is sealed in place, else
// copied.
func (k *Key) SealPayload(id block.ID, codec byte, payload []byte) (n Nonce, sealed []byte) {
	_, _ = rand.Read(n[:]) // never fails
	return n, k.payloads(id).Seal(payload[:0], n[:], payload, k.associated(id, codec))
}

// OpenPayload opens in place what SealPayload sealed. The error is
// ErrTampered, and what sealed then holds is of no use.
func (k *Key) OpenPayload(id block.ID, codec byte, n *Nonce, sealed []byte) ([]byte, error) {
	payload, err := k.payloads(id).Open(sealed[:0], n[:], sealed, k.associated(id, codec))
	if err != nil {
		return nil, ErrTampered
	}
	return payload, nil
}

// payloads gives what seals the bytes of the block with the id.
func (k *Key) payloads(id block.ID) cipher.AEAD {
	key := mac(&k.payload, id[:])
	return newGCM(&key)
}

// associated is what a seal is bound to beside its key: block id, domain, and
// of a payload the codec.
func (k *Key) associated(id block.ID, codec ...byte) []byte {
	var b [len(id) + 5]byte
	copy(b[:], id[:])
	binary.LittleEndian.PutUint32(b[len(id):], uint32(k.number))
	return b[:len(id)+4+copy(b[len(id)+4:], codec)]
}

// A MapKind says which of a snapshot's two block maps a MAC is of.
type MapKind byte

// The kinds.
const (
	BaseMap MapKind = 1 // the one that it starts from, while it is pending
	OwnMap  MapKind = 2 // its own, once it is completed
	claimed MapKind = 3 // none: the same key is for claims
)

// MAC authenticates a block map: that of the snapshot, of a volume of so many
// GiB, with the root.
func (k *Key) MAC(kind MapKind, snapshot string, volumeGiB int64, root block.ID) MAC {
	size := binary.LittleEndian.AppendUint64(nil, uint64(volumeGiB))
	return mac(&k.maps, []byte{byte(kind)}, root[:], size, []byte(snapshot))
}

// Claim is what is kept of the aggregate checksum that was claimed of a
// snapshot's blocks. The checksum itself would tell who has a disk, or guesses
// it, that this is the one.
func (k *Key) Claim(snapshot string, aggregate block.Digest) block.Digest {
	return mac(&k.maps, []byte{byte(claimed)}, aggregate[:], []byte(snapshot))
}

// Verify checks a MAC. The error is ErrTampered.
func (k *Key) Verify(m MAC, kind MapKind, snapshot string, volumeGiB int64, root block.ID) error {
	want := k.MAC(kind, snapshot, volumeGiB, root)
	if !hmac.Equal(m[:], want[:]) {
		return ErrTampered
	}
	return nil
}
