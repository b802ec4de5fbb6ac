package kms

import (
	"context"
)

// The limits on what is encrypted, in bytes. Source: KMS API Reference,
// Encrypt; the encryption context's is AWS's quota.
const (
	MaxPlaintext = 4096
	maxContext   = 8192
)

// Sealed is the outcome of an encryption: the blob, and the key that made it.
type Sealed struct {
	Blob []byte
	Key  Key
}

// Opened is the outcome of a decryption.
type Opened struct {
	Plaintext []byte
	Key       Key
}

// A Request is what all uses of a key have in common.
type Request struct {
	Key        string // its name; Open can do without
	Encryption map[string]string
	// DryRun does everything but the work, and is then refused with
	// DryRunSucceeded.
	DryRun bool
}

// Key implements Provider.
func (l *Local) Key(ctx context.Context, c Caller, name string, actions ...Action) (Key, error) {
	if len(actions) == 0 {
		actions = []Action{DescribeKey}
	}
	var k *key
	use := false
	for _, a := range actions {
		var err error
		if k, err = l.find(ctx, c, name, ask{action: a}); err != nil {
			return Key{}, err
		}
		use = use || a != DescribeKey
	}
	if use {
		if err := k.usable(); err != nil {
			return Key{}, err
		}
	}
	return k.Key, nil
}

// GenerateDataKey implements Provider.
func (l *Local) GenerateDataKey(ctx context.Context, c Caller, arn string, encryption map[string]string) (DataKey, error) {
	var d DataKey
	opened, sealed, err := l.MakeDataKey(ctx, c, GenerateDataKey, len(d.Plaintext), Request{Key: arn, Encryption: encryption})
	if err != nil {
		return DataKey{}, err
	}
	return DataKey{Plaintext: [32]byte(opened.Plaintext), Wrapped: sealed.Blob}, nil
}

// Decrypt implements Provider.
func (l *Local) Decrypt(ctx context.Context, c Caller, arn string, wrapped []byte, encryption map[string]string) ([32]byte, error) {
	opened, err := l.Open(ctx, c, wrapped, Request{Key: arn, Encryption: encryption})
	if err != nil {
		return [32]byte{}, err
	}
	if len(opened.Plaintext) != 32 {
		return [32]byte{}, refuse(InvalidCiphertext, "")
	}
	return [32]byte(opened.Plaintext), nil
}

// MakeDataKey makes size random bytes and encrypts them; a is the action by
// which the policy calls that.
func (l *Local) MakeDataKey(ctx context.Context, c Caller, a Action, size int, r Request) (Opened, Sealed, error) {
	k, err := l.forUse(ctx, c, a, r)
	if err != nil {
		return Opened{}, Sealed{}, err
	}
	plaintext := randomBytes(size)
	return Opened{plaintext, k.Key}, Sealed{k.seal(plaintext, r.Encryption), k.Key}, nil
}

// Seal encrypts up to MaxPlaintext bytes.
func (l *Local) Seal(ctx context.Context, c Caller, plaintext []byte, r Request) (Sealed, error) {
	k, err := l.forUse(ctx, c, Encrypt, r)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{k.seal(plaintext, r.Encryption), k.Key}, nil
}

// Open decrypts a blob, which names its key itself. If r names one it has to be
// the same.
func (l *Local) Open(ctx context.Context, c Caller, blob []byte, r Request) (Opened, error) {
	return l.open(ctx, c, Decrypt, blob, r)
}

// ReEncrypt decrypts a blob and encrypts what was in it, under another key or
// in another context. A dry run is asked for by to.
func (l *Local) ReEncrypt(ctx context.Context, c Caller, blob []byte, from, to Request) (source Key, _ Sealed, _ error) {
	from.DryRun = false
	opened, err := l.open(ctx, c, ReEncryptFrom, blob, from)
	if err != nil {
		return Key{}, Sealed{}, err
	}
	k, err := l.forUse(ctx, c, ReEncryptTo, to)
	if err != nil {
		return Key{}, Sealed{}, err
	}
	return opened.Key, Sealed{k.seal(opened.Plaintext, to.Encryption), k.Key}, nil
}

// forUse finds the key that r names and that is to encrypt or decrypt now.
func (l *Local) forUse(ctx context.Context, c Caller, a Action, r Request) (*key, error) {
	if err := checkContext(r.Encryption); err != nil {
		return nil, err
	}
	k, err := l.find(ctx, c, r.Key, ask{action: a, encryption: r.Encryption})
	if err != nil {
		return nil, err
	}
	if err := k.usable(); err != nil {
		return nil, err
	}
	if r.DryRun {
		return nil, errDryRun
	}
	return k, nil
}

var errDryRun = refuse(DryRunSucceeded, "The request would have succeeded, but the DryRun option is set.")

func (l *Local) open(ctx context.Context, c Caller, a Action, blob []byte, r Request) (Opened, error) {
	if err := checkContext(r.Encryption); err != nil {
		return Opened{}, err
	}
	id, ok := blobKey(blob)
	if !ok {
		return Opened{}, refuse(InvalidCiphertext, "")
	}
	k, err := l.opener(ctx, c, a, id, r)
	if err != nil {
		return Opened{}, err
	}
	if k.ID != id {
		return Opened{}, refuse(IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	if err := k.usable(); err != nil {
		return Opened{}, err
	}
	plaintext, err := k.open(blob, r.Encryption)
	if err != nil {
		return Opened{}, err
	}
	if r.DryRun {
		return Opened{}, errDryRun
	}
	return Opened{plaintext, k.Key}, nil
}

// opener finds the key that r names, or else the one of the ID that a blob
// holds. Of the latter a caller learns nothing that may not use it.
func (l *Local) opener(ctx context.Context, c Caller, a Action, id string, r Request) (*key, error) {
	if r.Key != "" {
		return l.find(ctx, c, r.Key, ask{action: a, encryption: r.Encryption})
	}
	l.mu.RLock()
	k, damage := l.keys[id], l.damaged[id]
	l.mu.RUnlock()
	if damage != nil {
		return nil, damage
	}
	unknown := refuse(AccessDenied, "The ciphertext refers to a customer master key that does not exist, "+
		"does not exist in this region, or you are not allowed to access.")
	if k == nil || l.gone(k) || k.Region != c.Region {
		return nil, unknown
	}
	if l.permit(k, &reference{home: c.home(), asker: c, name: k.ARN}, &ask{action: a, encryption: r.Encryption}) != nil {
		return nil, unknown
	}
	return k, nil
}

// checkContext refuses an encryption context that is too large.
func checkContext(encryption map[string]string) error {
	size := 0
	for name, value := range encryption {
		size += len(name) + len(value)
	}
	if size > maxContext {
		return refuse(InvalidValue, "The encryption context has more than %d bytes.", maxContext)
	}
	return nil
}
