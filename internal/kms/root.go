package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"shale/internal/vfs"
)

// RootSize is the length of a root key in bytes.
const RootSize = 32

// A RootID tells root keys apart. It is a check value: it gives nothing of the
// key away.
type RootID [16]byte

func (id RootID) String() string { return hex.EncodeToString(id[:]) }

// A Root is a root key: what wraps the backing keys of all KMS keys.
type Root struct {
	ID   RootID
	key  [RootSize]byte
	aead cipher.AEAD
}

// NewRoot returns the root key of the bytes, of which there must be RootSize.
func NewRoot(key []byte) (Root, error) {
	if len(key) != RootSize {
		return Root{}, fmt.Errorf("a root key has %d bytes, not %d", RootSize, len(key))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("shale kms root key, check value 1"))
	return Root{ID: RootID(mac.Sum(nil)), key: [RootSize]byte(key), aead: newAEAD(key)}, nil
}

// rootFile is the name of the root key's file in the folder of keys.
const rootFile = "root"

// LoadRoot reads the root key that lies in the folder of keys itself. If there
// is none, and none was used there before (first), it makes one; on return it
// is durable.
func LoadRoot(f vfs.FS, first bool) (Root, error) {
	b, err := vfs.ReadAll(f, rootFile, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		if !first {
			return Root{}, errors.New("the file keys/root is missing, and there were KMS keys: " +
				"put it back, or say where the root key is (--root-key-file, SHALE_ROOT_KEY); without it no encrypted snapshot can be read")
		}
		b = randomBytes(RootSize)
		err = vfs.Replace(f, rootFile, b)
	} else if err == nil {
		err = f.SyncDir() // whoever made it may have been killed before that
	}
	if err != nil {
		return Root{}, fmt.Errorf("root key: %w", err)
	}
	root, err := NewRoot(b)
	if err != nil {
		return Root{}, fmt.Errorf("root key: the file keys/root: %w", err)
	}
	return root, nil
}

// Wrapped keys: a nonce, 32 encrypted bytes, a tag.
const (
	nonceSize   = 12
	tagSize     = 16
	wrappedSize = nonceSize + RootSize + tagSize
)

// A wrapped is a key as a root key has wrapped it. All zero stands for a key
// that is no more.
type wrapped [wrappedSize]byte

// wrap wraps a key for a purpose, to which it is bound.
func (r Root) wrap(purpose string, key []byte) wrapped {
	nonce := randomBytes(nonceSize)
	return wrapped(r.aead.Seal(nonce, nonce, key, []byte(purpose)))
}

func (r Root) unwrap(purpose string, w wrapped) ([]byte, error) {
	key, err := r.aead.Open(nil, w[:nonceSize], w[nonceSize:], []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("the wrapped key is not what the root key %v has wrapped", r.ID)
	}
	return key, nil
}

// newAEAD returns AES-256-GCM under a key of 32 bytes.
func newAEAD(key []byte) cipher.AEAD {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has another length
	}
	aead, err := cipher.NewGCM(c)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return aead
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
