package kms

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"shale/internal/vfs"
)

const (
	// maxKeys bounds the keys of a server, all of which are in memory.
	maxKeys = 10_000
	// maxTags is AWS's quota of tags on a key.
	maxTags = 50
	// The days that a deletion waits. Source: KMS API Reference,
	// ScheduleKeyDeletion.
	minWindow, maxWindow, defaultWindow = 7, 30, 30
)

// A CreateRequest says what a new key is to be like. What is left out has AWS's
// defaults.
type CreateRequest struct {
	Description string
	Policy      string // empty for the account's own
	Tags        []Tag
	// BypassLockoutCheck admits a policy that the caller cannot change again.
	BypassLockoutCheck bool
}

// CreateKey makes a key with new material.
func (l *Local) CreateKey(_ context.Context, c Caller, r CreateRequest) (Metadata, error) {
	if err := checkTags(r.Tags); err != nil {
		return Metadata{}, err
	}
	if err := c.authorizeOn("*", ask{action: "kms:CreateKey", tags: r.Tags, about: bypass(r.BypassLockoutCheck)}); err != nil {
		return Metadata{}, err
	}
	if len(r.Tags) > 0 {
		if err := c.authorizeOn("*", ask{action: "kms:TagResource", tags: r.Tags}); err != nil {
			return Metadata{}, err
		}
	}
	id := uuid([16]byte(randomBytes(16)), 4)
	k := &key{
		Metadata: Metadata{Key: newKey(id, c.home(), Customer), State: Enabled, Description: r.Description},
		tags:     sortTags(r.Tags),
	}
	if err := k.setPolicy(c, r.Policy, r.BypassLockoutCheck); err != nil {
		return Metadata{}, err
	}
	l.change.Lock()
	defer l.change.Unlock()
	if err := l.add(k); err != nil {
		return Metadata{}, err
	}
	return k.Metadata, nil
}

// add gives k material and stores it. The caller holds change.
func (l *Local) add(k *key) error {
	l.mu.RLock()
	count := 0
	for _, other := range l.keys {
		if other.State != deleted {
			count++
		}
	}
	l.mu.RUnlock()
	if count >= maxKeys {
		return refuse(LimitExceeded, "This server holds at most %d keys.", maxKeys)
	}
	material := randomBytes(RootSize)
	k.Created = l.now().UTC().Truncate(time.Millisecond)
	k.material = newAEAD(material)
	k.wrapped, k.wrappedBy = l.root.wrap(purpose(k.ID), material), l.root.ID
	return l.store(k)
}

// makeDefault makes the default key of the account, unless somebody else has
// by now.
func (l *Local) makeDefault(_ context.Context, c Caller) (*key, error) {
	l.change.Lock()
	defer l.change.Unlock()
	k, err := l.lookUp(reference{home: c.home(), asker: c, alias: DefaultKeyAlias})
	if err == nil {
		return k, nil
	}
	k = &key{Metadata: Metadata{
		Key: newKey(defaultKeyID(c.home()), c.home(), AWS), State: Enabled,
		Description: "Default key that protects my EBS volumes when no other key is defined",
	}}
	if err := k.judgeBy(managedPolicy(c.Account)); err != nil {
		return nil, err
	}
	return k, l.add(k)
}

// setPolicy gives a key that is being made or copied the policy.
func (k *key) setPolicy(c Caller, text string, bypassLockoutCheck bool) error {
	if text == "" {
		text = defaultPolicy(c.Account)
	}
	if err := k.judgeBy(text); err != nil {
		return err
	}
	if !bypassLockoutCheck && c.lockedOut(k) {
		return refuse(MalformedPolicy, "The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

// judgeBy gives a key that is being made or copied the policy.
func (k *key) judgeBy(text string) (err error) {
	k.policyText, k.ours = text, text == defaultPolicy(k.Account) || text == managedPolicy(k.Account)
	k.policy, err = parsePolicy(text)
	return err
}

// Describe tells of a key that the caller may name by an alias, too.
func (l *Local) Describe(ctx context.Context, c Caller, name string) (Metadata, error) {
	k, err := l.find(ctx, c, name, ask{action: DescribeKey})
	if err != nil {
		return Metadata{}, err
	}
	return k.Metadata, nil
}

// Keys gives the caller's keys, in the order of their IDs.
func (l *Local) Keys(_ context.Context, c Caller) ([]Key, error) {
	if err := c.authorizeOn("*", ask{action: "kms:ListKeys"}); err != nil {
		return nil, err
	}
	owned := l.owned(c)
	keys := make([]Key, len(owned))
	for i, k := range owned {
		keys[i] = k.Key
	}
	return keys, nil
}

// Rotating reports whether the key's material is exchanged each year: never.
func (l *Local) Rotating(ctx context.Context, c Caller, name string) (Key, error) {
	r, err := parse(c, name)
	if err == nil && r.alias != "" {
		_, err = l.own(ctx, c, name, ask{action: "kms:GetKeyRotationStatus"}) // which takes none
	}
	if err != nil {
		return Key{}, err
	}
	k, err := l.resolve(ctx, r, ask{action: "kms:GetKeyRotationStatus"})
	if err != nil {
		return Key{}, err
	}
	return k.Key, nil
}

// alter stores what edit makes of a copy of the caller's key.
func (l *Local) alter(ctx context.Context, c Caller, name string, a ask, edit func(*key) error) (Metadata, error) {
	l.change.Lock()
	defer l.change.Unlock()
	k, err := l.customers(ctx, c, name, a)
	if err != nil {
		return Metadata{}, err
	}
	edited := *k
	if err := edit(&edited); err != nil {
		return Metadata{}, err
	}
	return edited.Metadata, l.store(&edited)
}

// EnableKey lets a key be used again.
func (l *Local) EnableKey(ctx context.Context, c Caller, name string) error {
	_, err := l.alter(ctx, c, name, ask{action: "kms:EnableKey"}, func(k *key) error {
		err := k.pending()
		k.State = Enabled
		return err
	})
	return err
}

// DisableKey ends all use of a key, until it is enabled.
func (l *Local) DisableKey(ctx context.Context, c Caller, name string) error {
	_, err := l.alter(ctx, c, name, ask{action: "kms:DisableKey"}, func(k *key) error {
		err := k.pending()
		k.State = DisabledState
		return err
	})
	return err
}

// ScheduleDeletion ends all use of a key and destroys it when the days are
// over; nil stands for 30.
func (l *Local) ScheduleDeletion(ctx context.Context, c Caller, name string, days *int64) (Metadata, error) {
	window := int64(defaultWindow)
	if days != nil {
		window = *days
	}
	if window < minWindow || window > maxWindow {
		return Metadata{}, refuse(InvalidValue, "PendingWindowInDays must be between %d and %d inclusive", minWindow, maxWindow)
	}
	return l.alter(ctx, c, name, ask{
		action: "kms:ScheduleKeyDeletion", about: map[string]string{"kms:schedulekeydeletionpendingwindowindays": strconv.FormatInt(window, 10)},
	}, func(k *key) error {
		err := k.pending()
		k.State, k.WindowDays = PendingDeletion, int(window)
		k.Deletion = l.now().UTC().Truncate(time.Millisecond).AddDate(0, 0, int(window))
		return err
	})
}

// CancelDeletion keeps a key that was to be deleted. It is then disabled.
func (l *Local) CancelDeletion(ctx context.Context, c Caller, name string) (Metadata, error) {
	return l.alter(ctx, c, name, ask{action: "kms:CancelKeyDeletion"}, func(k *key) error {
		if k.State != PendingDeletion {
			return refuse(InvalidState, "%s is not pending deletion.", k.ARN)
		}
		k.State, k.WindowDays, k.Deletion = DisabledState, 0, time.Time{}
		return nil
	})
}

// UpdateDescription replaces what is said about a key.
func (l *Local) UpdateDescription(ctx context.Context, c Caller, name, description string) error {
	_, err := l.alter(ctx, c, name, ask{action: "kms:UpdateKeyDescription"}, func(k *key) error {
		k.Description = description
		return k.pending()
	})
	return err
}

// PutPolicy replaces a key's policy.
func (l *Local) PutPolicy(ctx context.Context, c Caller, name, text string, bypassLockoutCheck bool) error {
	_, err := l.alter(ctx, c, name, ask{action: "kms:PutKeyPolicy", about: bypass(bypassLockoutCheck)}, func(k *key) error {
		return k.setPolicy(c, text, bypassLockoutCheck)
	})
	return err
}

// Policy gives a key's policy as it was put.
func (l *Local) Policy(ctx context.Context, c Caller, name string) (string, error) {
	k, err := l.own(ctx, c, name, ask{action: "kms:GetKeyPolicy"})
	if err != nil {
		return "", err
	}
	return k.policyText, nil
}

// PolicyNames gives the names of a key's policies: the one that there is.
func (l *Local) PolicyNames(ctx context.Context, c Caller, name string) ([]string, error) {
	_, err := l.own(ctx, c, name, ask{action: "kms:ListKeyPolicies"})
	return []string{PolicyName}, err
}

// Tags gives a key's tags in the order of their keys.
func (l *Local) Tags(ctx context.Context, c Caller, name string) ([]Tag, error) {
	k, err := l.own(ctx, c, name, ask{action: "kms:ListResourceTags"})
	if err != nil {
		return nil, err
	}
	return k.tags, nil
}

// AddTags adds tags to a key; those of the same names are replaced.
func (l *Local) AddTags(ctx context.Context, c Caller, name string, tags []Tag) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	_, err := l.alter(ctx, c, name, ask{action: "kms:TagResource", tags: tags}, func(k *key) error {
		kept := slices.DeleteFunc(slices.Clone(k.tags), func(old Tag) bool {
			return slices.ContainsFunc(tags, func(t Tag) bool { return t.Key == old.Key })
		})
		k.tags = sortTags(append(kept, tags...))
		if len(k.tags) > maxTags {
			return tooManyTags()
		}
		return k.pending()
	})
	return err
}

// RemoveTags takes the tags with the names away from a key.
func (l *Local) RemoveTags(ctx context.Context, c Caller, name string, keys []string) error {
	gone := make([]Tag, len(keys))
	for i, key := range keys {
		gone[i].Key = key
	}
	_, err := l.alter(ctx, c, name, ask{action: "kms:UntagResource", tags: gone}, func(k *key) error {
		k.tags = slices.DeleteFunc(slices.Clone(k.tags), func(t Tag) bool { return slices.Contains(keys, t.Key) })
		return k.pending()
	})
	return err
}

func tooManyTags() error { return refuse(LimitExceeded, "A key can have at most %d tags.", maxTags) }

func checkTags(tags []Tag) error {
	if len(tags) > maxTags {
		return tooManyTags()
	}
	for i, t := range tags {
		if strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return refuse(InvalidTag, "The prefix aws: is reserved: %s", t.Key)
		}
		if slices.ContainsFunc(tags[:i], func(o Tag) bool { return o.Key == t.Key }) {
			return refuse(InvalidTag, "The tag key %s is given more than once.", t.Key)
		}
	}
	return nil
}

func sortTags(tags []Tag) []Tag {
	tags = slices.Clone(tags)
	slices.SortFunc(tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	return tags
}

// Sweep destroys the keys whose time is over: it overwrites the wrapped material
// where it stands, durably, and then puts a file without any in its place. It
// goes on past a key that fails. Aliases of what is gone are removed.
func (l *Local) Sweep(ctx context.Context) error {
	l.change.Lock()
	defer l.change.Unlock()
	var failed error
	for _, k := range l.overdue() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := l.destroy(k); err != nil {
			failed = fmt.Errorf("delete KMS key %s: %w", k.ID, err)
			continue
		}
		l.log.Info("KMS key deleted: nothing that it has encrypted can be read any more", "key", k.ID)
	}
	orphan := func(a alias) bool { k := l.keys[a.key]; return k != nil && k.State == deleted }
	for _, a := range l.aliases {
		if orphan(a) {
			err := l.storeAliases(func(all map[aliasName]alias) {
				for n, a := range all {
					if orphan(a) {
						delete(all, n)
					}
				}
			})
			if err != nil {
				return err
			}
			break
		}
	}
	return failed
}

// overdue gives the keys that are to be destroyed, and those whose destruction
// was interrupted.
func (l *Local) overdue() []*key {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found []*key
	for _, k := range l.keys {
		if l.gone(k) && (k.State != deleted || k.wrappedBy != RootID{}) {
			found = append(found, k)
		}
	}
	return found
}

func (l *Local) destroy(k *key) error {
	f, err := l.fs.OpenWrite(k.ID)
	if err != nil {
		return err
	}
	err = wipeKey(f)
	f.Close()
	if err != nil {
		return err
	}
	tombstone := key{Metadata: Metadata{Key: k.Key, State: deleted, Created: k.Created, Deletion: k.Deletion, WindowDays: k.WindowDays}}
	// From here on not even a clock that is put back may find the material that
	// is still in memory, and store it again.
	unfinished := tombstone
	unfinished.wrappedBy = k.wrappedBy
	l.set(&unfinished)
	data, err := tombstone.encode()
	if err != nil {
		return err
	}
	if err := vfs.Replace(l.fs, k.ID, data); err != nil {
		return err
	}
	l.set(&tombstone)
	return nil
}
