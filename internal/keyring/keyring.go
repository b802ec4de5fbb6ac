// Package keyring keeps the data keys of encryption domains: wrapped by the
// KMS, each in a file of its own, and unwrapped in memory while they are
// usable. They are nowhere else, above all not in the catalog or in segments,
// whose free pages and backups would outlive a key that is to be gone.
//
// The KMS has the last word on every use: whoever asks for a key is allowed to
// use it at that moment, or gets none, whether the key is in memory or not.
//
// A Keyring is safe for concurrent use. One process alone has the folder.
package keyring

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shale/internal/domain"
	"shale/internal/kms"
	"shale/internal/vfs"
)

// A Keyring is all domains of one data folder. Make one with Open.
type Keyring struct {
	fs       vfs.FS
	provider kms.Provider
	believed time.Duration // see believer; 0 if the provider is none
	opened   time.Time
	log      *slog.Logger

	making sync.Mutex // held while a domain is made

	mu      sync.RWMutex
	domains map[domain.Number]*entry
	byKey   map[string]*entry // by the ARN of the KMS key
}

// An entry is one domain.
type entry struct {
	file                            // immutable
	key  atomic.Pointer[domain.Key] // nil while it is not in memory
	// asked is when the KMS last unwrapped it, by Keyring.clock.
	asked atomic.Int64
}

// keep keeps the key in memory, which the KMS gave out at the time.
func (e *entry) keep(key *domain.Key, asked int64) {
	e.asked.Store(asked)
	e.key.Store(key)
}

// A believer is a provider whose Key does not find out whether the actions are
// allowed: that shows at Decrypt only, and is believed for some time.
type believer interface{ Believed() time.Duration }

// Open reads the domains in the folder. One whose file is damaged is logged
// and left alone. A nil logger discards.
func Open(dir vfs.FS, p kms.Provider, log *slog.Logger) (*Keyring, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Keyring{fs: dir, provider: p, opened: time.Now(), log: log, domains: make(map[domain.Number]*entry), byKey: make(map[string]*entry)}
	if b, ok := p.(believer); ok {
		k.believed = b.Believed()
	}
	names, err := dir.List()
	if err != nil {
		return nil, fmt.Errorf("list encryption domains: %w", err)
	}
	// A process that was killed may not have got to this; a domain that is used
	// from here on must be there after a crash.
	if err := dir.SyncDir(); err != nil {
		return nil, fmt.Errorf("encryption domains: %w", err)
	}
	for _, name := range names {
		if vfs.IsStaged(name) { // a crash, before anybody used it
			if err := vfs.Wipe(dir, name); err != nil {
				return nil, fmt.Errorf("remove an unfinished encryption domain: %w", err)
			}
			continue
		}
		if _, err := k.load(name); err != nil {
			log.Error("what is encrypted in a domain cannot be read until its file is put back", "domain", name, "err", err)
		}
	}
	return k, nil
}

// load reads the file of a domain.
func (k *Keyring) load(name string) (*entry, error) {
	b, err := vfs.ReadAll(k.fs, name, maxFile)
	if err != nil {
		return nil, err
	}
	f, err := decode(name, b)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.domains[f.number]; e != nil {
		return e, nil // another was faster
	}
	return k.add(&entry{file: f}), nil
}

// add takes a domain in. Of two with one KMS key, of which one was away for a
// time, the first stays the one for new snapshots. k.mu is held.
func (k *Keyring) add(e *entry) *entry {
	k.domains[e.number] = e
	if k.byKey[e.arn] == nil {
		k.byKey[e.arn] = e
	}
	return e
}

// find finds a domain. The error is domain.ErrLost.
func (k *Keyring) find(n domain.Number) (*entry, error) {
	k.mu.RLock()
	e := k.domains[n]
	k.mu.RUnlock()
	if e != nil {
		return e, nil
	}
	e, err := k.load(n.String()) // it may have been put back
	if err != nil {
		return nil, fmt.Errorf("domain %v: %w: %w", n, domain.ErrLost, err)
	}
	return e, nil
}

// Domain gives the domain of the KMS key of the name, for new blocks, and the
// ARN of that key. If the key has no domain yet it gets one, which is durable
// on return. The caller must be allowed to generate data keys and to decrypt.
// Errors: *kms.Error, domain.ErrLost, or a failed write.
func (k *Keyring) Domain(ctx context.Context, c kms.Caller, name string) (arn string, key *domain.Key, err error) {
	found, err := k.provider.Key(ctx, c, name, kms.GenerateDataKey, kms.Decrypt)
	if err != nil {
		return "", nil, err
	}
	k.mu.RLock()
	e := k.byKey[found.ARN]
	k.mu.RUnlock()
	if e == nil {
		if e, err = k.make(ctx, c, found.ARN); err != nil {
			return "", nil, err
		}
	}
	key, err = k.unwrap(ctx, c, e)
	return found.ARN, key, err
}

// make makes the domain of a KMS key.
func (k *Keyring) make(ctx context.Context, c kms.Caller, arn string) (*entry, error) {
	k.making.Lock()
	defer k.making.Unlock()
	k.mu.RLock()
	e := k.byKey[arn]
	k.mu.RUnlock()
	if e != nil {
		return e, nil // made in the meantime
	}
	n, err := k.number()
	if err != nil {
		return nil, err
	}
	data, err := k.provider.GenerateDataKey(ctx, c, arn, encryption(n))
	if err != nil {
		return nil, err
	}
	defer clear(data.Plaintext[:])
	e = &entry{file: file{number: n, arn: arn, wrapped: data.Wrapped}}
	b, err := e.encode()
	if err != nil {
		return nil, err
	}
	// Whoever sees the domain from here on finds it after a crash, too.
	if err := vfs.Replace(k.fs, n.String(), b); err != nil {
		return nil, fmt.Errorf("make an encryption domain: %w", err)
	}
	e.keep(domain.New(n, &data.Plaintext), k.clock())
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log.InfoContext(ctx, "encryption domain made", "domain", n.String())
	return k.add(e), nil
}

// number draws the number of a new domain. It is random, so that the number of
// one whose file was lost is not given to another: blocks are still named by
// it. For the same reason the place of a damaged file is not taken.
func (k *Keyring) number() (domain.Number, error) {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		n := domain.Number(binary.LittleEndian.Uint32(b[:]))
		if n == domain.Unencrypted {
			continue
		}
		f, err := k.fs.Open(n.String())
		if errors.Is(err, fs.ErrNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("make an encryption domain: %w", err)
		}
		f.Close()
	}
}

// encryption is the context in which the data key of the domain is wrapped: it
// is what the KMS shows to policies and to its log.
func encryption(n domain.Number) map[string]string {
	return map[string]string{"aws:ebs:id": "domain-" + n.String()}
}

// Check finds the KMS key of the name and asks whether the caller may do the
// actions with it. The error is *kms.Error if it is refused.
func (k *Keyring) Check(ctx context.Context, c kms.Caller, name string, actions ...kms.Action) (kms.Key, error) {
	return k.provider.Key(ctx, c, name, actions...)
}

// Key gives the key of a domain, if the caller may do the actions with its KMS
// key, and decrypt. Errors: *kms.Error, or domain.ErrLost.
func (k *Keyring) Key(ctx context.Context, c kms.Caller, n domain.Number, actions ...kms.Action) (*domain.Key, error) {
	e, err := k.find(n)
	if err != nil {
		return nil, err
	}
	if _, err := k.provider.Key(ctx, c, e.arn, append(actions, kms.Decrypt)...); err != nil {
		if unusable(err) {
			e.key.Store(nil)
		}
		return nil, err
	}
	return k.unwrap(ctx, c, e)
}

// Forget drops the keys from memory that nobody can use any more, for which
// nobody may ask again.
func (k *Keyring) Forget(ctx context.Context) {
	k.mu.RLock()
	all := slices.Collect(maps.Values(k.domains))
	k.mu.RUnlock()
	for _, e := range all {
		if e.key.Load() == nil {
			continue
		}
		owner, ok := e.owner()
		if !ok {
			continue
		}
		if _, err := k.provider.Key(ctx, owner, e.arn, kms.Decrypt); unusable(err) {
			e.key.Store(nil)
		}
	}
}

// unusable reports whether an error says that nobody can use the key now.
func unusable(err error) bool {
	var refused *kms.Error
	return errors.As(err, &refused) && (refused.Code == kms.Disabled || refused.Code == kms.InvalidState || refused.Code == kms.NotFound)
}

// unwrap gives the domain's key, of which the KMS allows the use.
func (k *Keyring) unwrap(ctx context.Context, c kms.Caller, e *entry) (*domain.Key, error) {
	now := k.clock()
	if key := e.key.Load(); key != nil && !k.outdated(e, now) {
		return key, nil
	}
	data, err := k.provider.Decrypt(ctx, c, e.arn, e.wrapped, encryption(e.number))
	var refused *kms.Error
	if errors.As(err, &refused) && refused.Code == kms.InvalidCiphertext {
		return nil, fmt.Errorf("domain %v: %w: it was not wrapped by its KMS key", e.number, domain.ErrLost)
	}
	if err != nil {
		if k.believed > 0 {
			e.key.Store(nil) // what was believed does not hold, or nobody knows
		}
		return nil, err
	}
	defer clear(data[:])
	key := domain.New(e.number, &data)
	e.keep(key, now)
	return key, nil
}

// outdated reports whether the caller has to ask anew for the entry's key. Of
// many at a time one has to.
func (k *Keyring) outdated(e *entry, now int64) bool {
	asked := e.asked.Load()
	return k.believed > 0 && now-asked >= int64(k.believed) && e.asked.CompareAndSwap(asked, now)
}

// clock is a time that only goes forward, in nanoseconds.
func (k *Keyring) clock() int64 { return int64(time.Since(k.opened)) }

// Cached gives the key of a domain if it is in memory, else nil. It is for
// checks that are made where the key happens to be at hand, never for access.
func (k *Keyring) Cached(n domain.Number) *domain.Key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if e := k.domains[n]; e != nil {
		return e.key.Load()
	}
	return nil
}
