// Package kmstest is a KMS in memory, for tests: a kms.Provider whose keys a
// test makes, disables, destroys, and denies to accounts.
package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"shale/internal/kms"
)

// A Provider holds keys. It is safe for concurrent use.
type Provider struct {
	mu    sync.Mutex
	keys  map[string]*key // by ARN
	alias map[string]string
	fail  error
}

var _ kms.Provider = (*Provider)(nil)

// A key may be used by its own account, and by others that it is granted to.
type key struct {
	kms.Key
	aead       cipher.AEAD
	state      kms.Code // why it cannot be used; empty if it can
	asymmetric bool
	granted    map[string]bool                // accounts
	denied     map[string]map[kms.Action]bool // by account
}

// New returns a Provider without keys.
func New() *Provider {
	return &Provider{keys: make(map[string]*key), alias: make(map[string]string)}
}

// Create makes a key of the account in the region and returns its ARN.
func (p *Provider) Create(account, region string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.create(account, region, kms.Customer).ARN
}

func (p *Provider) create(account, region string, m kms.Manager) *key {
	var master [32]byte
	_, _ = rand.Read(master[:])
	b, err := aes.NewCipher(master[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", len(p.keys)+1)
	k := &key{
		Key: kms.Key{
			ID: id, ARN: "arn:aws:kms:" + region + ":" + account + ":key/" + id, Account: account, Region: region, Manager: m,
		},
		aead: aead, granted: make(map[string]bool), denied: make(map[string]map[kms.Action]bool),
	}
	p.keys[k.ARN] = k
	return k
}

// Alias gives the key one more name: alias/NAME.
func (p *Provider) Alias(arn, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.keys[arn]
	p.alias[k.Account+" "+k.Region+" "+name] = arn
}

// change calls f with the key.
func (p *Provider) change(arn string, f func(*key)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.keys[arn])
}

// Disable disables the key.
func (p *Provider) Disable(arn string) { p.change(arn, func(k *key) { k.state = kms.Disabled }) }

// Enable makes a disabled key, or one about to be deleted, usable again.
func (p *Provider) Enable(arn string) { p.change(arn, func(k *key) { k.state = "" }) }

// ScheduleDeletion puts the key into the state before its deletion.
func (p *Provider) ScheduleDeletion(arn string) {
	p.change(arn, func(k *key) { k.state = kms.InvalidState })
}

// Destroy deletes the key for good.
func (p *Provider) Destroy(arn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, arn)
}

// MakeAsymmetric makes the key one that cannot wrap.
func (p *Provider) MakeAsymmetric(arn string) { p.change(arn, func(k *key) { k.asymmetric = true }) }

// Grant lets another account use the key.
func (p *Provider) Grant(arn, account string) {
	p.change(arn, func(k *key) { k.granted[account] = true })
}

// Deny forbids the account the actions, and no others that were forbidden
// before.
func (p *Provider) Deny(arn, account string, actions ...kms.Action) {
	p.change(arn, func(k *key) {
		k.denied[account] = make(map[kms.Action]bool)
		for _, a := range actions {
			k.denied[account][a] = true
		}
	})
}

// Fail makes every call fail with the error, until it is nil.
func (p *Provider) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func refuse(c kms.Code, format string, args ...any) error {
	return &kms.Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// find gives the key that the name is of, for the caller. p.mu is held.
func (p *Provider) find(c kms.Caller, name string, actions []kms.Action) (*key, error) {
	if p.fail != nil {
		return nil, p.fail
	}
	arn := name
	name = strings.TrimPrefix(name, "arn:aws:kms:"+c.Region+":"+c.Account+":alias/")
	if name != arn {
		name = "alias/" + name
	}
	switch {
	case strings.HasPrefix(name, "alias/"):
		at := c.Account + " " + c.Region + " " + name
		if p.alias[at] == "" && name == kms.DefaultKeyAlias {
			p.alias[at] = p.create(c.Account, c.Region, kms.AWS).ARN
		}
		arn = p.alias[at]
	case !strings.HasPrefix(name, "arn:"):
		arn = "arn:aws:kms:" + c.Region + ":" + c.Account + ":key/" + name
	}
	k := p.keys[arn]
	if k == nil || k.Region != c.Region {
		return nil, refuse(kms.NotFound, "Key '%s' does not exist", arn)
	}
	if k.Account != c.Account && (!k.granted[c.Account] || k.Manager == kms.AWS) {
		return nil, refuse(kms.AccessDenied, "no policy allows it")
	}
	for _, a := range actions {
		if k.denied[c.Account][a] {
			return nil, refuse(kms.AccessDenied, "not authorized to perform: %s", a)
		}
		if err := c.Authorize(a, k.Key); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(actions, func(a kms.Action) bool { return a != kms.DescribeKey }) {
		if k.state != "" {
			return nil, refuse(k.state, "%s is not usable.", k.ARN)
		}
		if k.asymmetric {
			return nil, refuse(kms.InvalidUsage, "%s is asymmetric.", k.ARN)
		}
	}
	return k, nil
}

// Key implements kms.Provider.
func (p *Provider) Key(_ context.Context, c kms.Caller, name string, actions ...kms.Action) (kms.Key, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, err := p.find(c, name, actions)
	if err != nil {
		return kms.Key{}, err
	}
	return k.Key, nil
}

// GenerateDataKey implements kms.Provider.
func (p *Provider) GenerateDataKey(_ context.Context, c kms.Caller, arn string, encryption map[string]string) (kms.DataKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, err := p.find(c, arn, []kms.Action{kms.GenerateDataKey})
	if err != nil {
		return kms.DataKey{}, err
	}
	var d kms.DataKey
	_, _ = rand.Read(d.Plaintext[:])
	nonce := make([]byte, k.aead.NonceSize(), 64)
	_, _ = rand.Read(nonce)
	d.Wrapped = k.aead.Seal(nonce, nonce, d.Plaintext[:], associated(encryption))
	return d, nil
}

// Decrypt implements kms.Provider.
func (p *Provider) Decrypt(_ context.Context, c kms.Caller, arn string, wrapped []byte, encryption map[string]string) ([32]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, err := p.find(c, arn, []kms.Action{kms.Decrypt})
	if err != nil {
		return [32]byte{}, err
	}
	n := k.aead.NonceSize()
	if len(wrapped) < n {
		return [32]byte{}, refuse(kms.InvalidCiphertext, "too short")
	}
	plain, err := k.aead.Open(nil, wrapped[:n], wrapped[n:], associated(encryption))
	if err != nil || len(plain) != 32 {
		return [32]byte{}, refuse(kms.InvalidCiphertext, "not wrapped by this key in this context")
	}
	return [32]byte(plain), nil
}

func associated(encryption map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(encryption)) {
		b = fmt.Appendf(b, "%q=%q;", name, encryption[name])
	}
	return b
}
