package kms

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"shale/internal/policy"
	"shale/internal/vfs"
)

// A State is what can be done with a key.
type State string

// The states of keys, in KMS's words. Deleted is not one of them: a deleted key
// does not exist, and only its file remembers it.
const (
	Enabled         State = "Enabled"
	DisabledState   State = "Disabled"
	PendingDeletion State = "PendingDeletion"
	deleted         State = "Deleted"
)

// A Tag is a name and a value that a key carries.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Metadata is what KMS tells of a key.
type Metadata struct {
	Key
	State       State
	Created     time.Time
	Description string
	Deletion    time.Time // when a key that is pending deletion will be gone
	WindowDays  int       // the days between
}

// LocalOptions say what a Local works on. FS and Root are required.
type LocalOptions struct {
	// FS is the folder of the keys' files.
	FS vfs.FS
	// Root wraps the keys' material.
	Root Root
	// Now is the clock of creation and deletion; nil for time.Now.
	Now func() time.Time
	// Logger is told of damaged files and of deletions; nil discards that.
	Logger *slog.Logger
}

// A Local holds keys in files of a folder, one a key, all of them in memory. It
// is safe for concurrent use. A change is durable when its method returns.
type Local struct {
	fs   vfs.FS
	root Root
	// other is the root key that may wrap keys besides root, while a rotation
	// is unfinished; nil otherwise.
	other *Root
	now   func() time.Time
	log   *slog.Logger

	change sync.Mutex // held through a change, over its I/O

	mu          sync.RWMutex // guards what follows; never held over I/O
	keys        map[string]*key
	damaged     map[string]error // by key ID: why its file cannot be used
	aliases     map[aliasName]alias
	aliasDamage error // why the aliases cannot be used
}

var _ Provider = (*Local)(nil)

// A key is one version of a key: it is immutable, a change makes a new one.
type key struct {
	Metadata
	policyText string
	policy     *policy.Policy
	ours       bool // the policy is one that this package writes
	tags       []Tag
	wrapped    wrapped
	wrappedBy  RootID
	material   cipher.AEAD // nil when it is gone
}

// OpenLocal reads all keys in the folder. A key whose file is damaged is said in
// the log and cannot be used until the file is put right and the server started
// again; all others are served. A root key other than the one that was used in
// the folder before is an error, and nothing is changed.
func OpenLocal(o LocalOptions) (*Local, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Local{
		fs: o.FS, root: o.Root, now: o.Now, log: o.Logger,
		keys: map[string]*key{}, damaged: map[string]error{}, aliases: map[aliasName]alias{},
	}
	names, err := l.fs.List()
	if err != nil {
		return nil, fmt.Errorf("KMS keys: %w", err)
	}
	// A process that was killed may not have got to this; a key that is used from
	// here on must be there after a crash.
	if err := l.fs.SyncDir(); err != nil {
		return nil, fmt.Errorf("KMS keys: %w", err)
	}
	if err := l.openRoots(names); err != nil {
		return nil, err
	}
	for _, name := range names {
		if vfs.IsStaged(name) {
			if err := vfs.Wipe(l.fs, name); err != nil {
				return nil, fmt.Errorf("KMS keys: %w", err)
			}
			continue
		}
		if !keyID.MatchString(name) {
			if name != rootsFile && name != aliasFile {
				l.log.Warn("a file among the KMS keys is none of them and is left alone", "file", name)
			}
			continue
		}
		k, err := l.readKey(name)
		if err != nil {
			l.damaged[name] = fmt.Errorf("the file of KMS key %s cannot be used: %w", name, err)
			l.log.Error("a KMS key cannot be used until its file is put right", "key", name, "err", err)
			continue
		}
		l.keys[name] = k
	}
	l.readAliases()
	return l, nil
}

// keyID is what the ID of a key looks like: a UUID.
var keyID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// purpose binds wrapped material to its key.
func purpose(id string) string { return "shale kms backing key 1 " + id }

// A keyRecord is the JSON of a key's file. Times are Unix milliseconds.
type keyRecord struct {
	ID          string  `json:"id"`
	Account     string  `json:"account"`
	Region      string  `json:"region"`
	Manager     Manager `json:"manager"`
	State       State   `json:"state"`
	CreatedMs   int64   `json:"created_ms"`
	DeletionMs  int64   `json:"deletion_ms,omitzero"`
	WindowDays  int     `json:"window_days,omitzero"`
	Description string  `json:"description,omitzero"`
	Policy      string  `json:"policy,omitzero"`
	Tags        []Tag   `json:"tags,omitzero"`
}

func (l *Local) readKey(id string) (*key, error) {
	var r keyRecord
	f, err := readFile(l.fs, id, keyKind, maxKeyFile, &r)
	if err != nil {
		return nil, err
	}
	if r.ID != id {
		return nil, fmt.Errorf("it is the file of key %q", r.ID)
	}
	k := &key{
		Metadata: Metadata{
			Key: newKey(r.ID, home{r.Account, r.Region}, r.Manager), State: r.State,
			Created: time.UnixMilli(r.CreatedMs).UTC(), Description: r.Description, WindowDays: r.WindowDays,
		},
		tags: r.Tags, wrapped: f.key, wrappedBy: f.root,
	}
	if r.DeletionMs != 0 {
		k.Deletion = time.UnixMilli(r.DeletionMs).UTC()
	}
	switch r.State {
	case deleted:
		return k, nil
	case PendingDeletion:
		if f.key == (wrapped{}) { // a deletion that was interrupted; Sweep finishes it
			k.State = deleted
			return k, nil
		}
	case Enabled, DisabledState:
	default:
		return nil, fmt.Errorf("the state %q is not known", r.State)
	}
	if err := k.judgeBy(r.Policy); err != nil {
		return nil, err
	}
	root, err := l.rootOf(f.root)
	if err != nil {
		return nil, err
	}
	material, err := root.unwrap(purpose(id), f.key)
	if err != nil {
		return nil, err
	}
	k.material = newAEAD(material)
	return k, nil
}

func newKey(id string, h home, m Manager) Key {
	return Key{ID: id, ARN: "arn:aws:kms:" + h.Region + ":" + h.Account + ":key/" + id, Account: h.Account, Region: h.Region, Manager: m}
}

func (l *Local) rootOf(id RootID) (Root, error) {
	if id == l.root.ID {
		return l.root, nil
	}
	if l.other != nil && id == l.other.ID {
		return *l.other, nil
	}
	return Root{}, fmt.Errorf("it is wrapped by the root key %v, which is not here", id)
}

// encode gives the content of k's file.
func (k *key) encode() ([]byte, error) {
	r := keyRecord{
		ID: k.ID, Account: k.Account, Region: k.Region, Manager: k.Manager, State: k.State,
		CreatedMs: k.Created.UnixMilli(), WindowDays: k.WindowDays,
		Description: k.Description, Policy: k.policyText, Tags: k.tags,
	}
	if !k.Deletion.IsZero() {
		r.DeletionMs = k.Deletion.UnixMilli()
	}
	return encodeFile(keyKind, file{root: k.wrappedBy, key: k.wrapped}, r)
}

// store writes k's file and then makes k what is known of the key. The caller
// holds change.
func (l *Local) store(k *key) error {
	data, err := k.encode()
	if err != nil {
		return fmt.Errorf("store KMS key %s: %w", k.ID, err)
	}
	old, err := l.fs.OpenWrite(k.ID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store KMS key %s: %w", k.ID, err)
	}
	if old != nil {
		defer old.Close()
	}
	if err := vfs.Replace(l.fs, k.ID, data); err != nil {
		return fmt.Errorf("store KMS key: %w", err)
	}
	l.set(k)
	// What the file system has freed must not outlive a deletion.
	if old != nil {
		if err := wipeKey(old); err != nil {
			l.log.Error("a replaced file of a KMS key was not wiped: a copy of the wrapped key is left on the disk", "key", k.ID, "err", err)
		}
	}
	return nil
}

// set makes k what is known of the key.
func (l *Local) set(k *key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[k.ID] = k
}

// gone reports whether k does not exist any more, though it may still have a
// file.
func (l *Local) gone(k *key) bool {
	return k.State == deleted || k.State == PendingDeletion && !l.now().Before(k.Deletion)
}

// A reference is what a caller calls a key by.
type reference struct {
	home         // of the key or alias
	id    string // of a key
	alias string // or the name of an alias, with "alias/"
	name  string // as it was given
	arn   bool   // whether it was given as an ARN
	asker Caller // who asks
}

// parse reads the name of a key: an ID, the name of an alias, or an ARN of
// either.
func parse(c Caller, name string) (reference, error) {
	r := reference{home: c.home(), asker: c, name: name}
	resource, isARN := name, strings.HasPrefix(name, "arn:")
	if isARN {
		parts := strings.SplitN(name, ":", 6)
		if len(parts) != 6 || parts[1] != "aws" || parts[2] != "kms" || !accountNumber.MatchString(parts[4]) {
			return r, refuse(InvalidARN, "%s is not the ARN of a KMS key or of an alias.", name)
		}
		if parts[3] != c.Region {
			return r, refuse(NotFound, "Invalid arn %s", parts[3])
		}
		r.Account, resource, r.arn = parts[4], parts[5], true
	}
	switch id, isKey := strings.CutPrefix(resource, "key/"); {
	case strings.HasPrefix(resource, aliasPrefix):
		r.alias = resource
	case isARN && isKey:
		r.id = id
	case isARN:
		return r, refuse(InvalidARN, "%s is not the ARN of a KMS key or of an alias.", name)
	default:
		r.id = resource
	}
	if r.alias == "" && !keyID.MatchString(r.id) {
		return r, refuse(NotFound, "Invalid keyId '%s'", r.id)
	}
	return r, nil
}

var accountNumber = regexp.MustCompile(`^[0-9]{12}$`)

// find gives the key that the caller means by the name, if the caller may do
// the action with it. It makes the account's default key if that is meant and
// not there yet.
func (l *Local) find(ctx context.Context, c Caller, name string, a ask) (*key, error) {
	r, err := parse(c, name)
	if err != nil {
		return nil, err
	}
	return l.resolve(ctx, r, a)
}

// own is find for operations that take no alias and that only the key's own
// account can ask for.
func (l *Local) own(ctx context.Context, c Caller, name string, a ask) (*key, error) {
	r, err := parse(c, name)
	switch {
	case err != nil:
		return nil, err
	case r.alias != "" && r.arn:
		return nil, refuse(InvalidARN, "%s is the ARN of an alias, and this operation takes the ID or ARN of a key.", name)
	case r.alias != "":
		return nil, refuse(NotFound, "Invalid keyId '%s'", name)
	case r.Account != c.Account:
		return nil, deniedAbroad(c, a.action, r.name)
	}
	return l.resolve(ctx, r, a)
}

// customers is own for operations that keys managed by AWS refuse.
func (l *Local) customers(ctx context.Context, c Caller, name string, a ask) (*key, error) {
	k, err := l.own(ctx, c, name, a)
	if err == nil && k.Manager == AWS {
		return nil, denied(c, a.action, k.ARN, "because the key is managed by AWS")
	}
	return k, err
}

func (l *Local) resolve(ctx context.Context, r reference, a ask) (*key, error) {
	k, err := l.lookUp(r)
	if errors.Is(err, errNoDefault) {
		k, err = l.makeDefault(ctx, r.asker)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Code == NotFound && r.Account != r.asker.Account {
		return nil, deniedAbroad(r.asker, a.action, r.name)
	}
	if err != nil {
		return nil, err
	}
	return k, l.permit(k, &r, &a)
}

// errNoDefault says that an account's default key has yet to be made.
var errNoDefault = errors.New("there is no default key yet")

func (l *Local) lookUp(r reference) (*key, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	id := r.id
	if r.alias == DefaultKeyAlias {
		id = defaultKeyID(r.home)
	} else if r.alias != "" {
		if l.aliasDamage != nil {
			return nil, l.aliasDamage
		}
		a, ok := l.aliases[aliasName{r.home, r.alias}]
		if !ok {
			return nil, noSuchAlias(r.aliasARN())
		}
		id = a.key
	}
	if err := l.damaged[id]; err != nil {
		return nil, err
	}
	k, ok := l.keys[id]
	switch {
	case !ok && r.alias == DefaultKeyAlias && r.Account == r.asker.Account:
		return nil, errNoDefault
	case r.alias != "" && (!ok || l.gone(k)):
		return nil, noSuchAlias(r.aliasARN())
	case !ok || l.gone(k) || k.Account != r.Account || k.Region != r.Region:
		return nil, noSuchKey(newKey(id, r.home, Customer).ARN)
	}
	return k, nil
}

// usable says whether the key can encrypt and decrypt now.
func (k *key) usable() error {
	switch k.State {
	case Enabled:
		return nil
	case PendingDeletion:
		return k.pending()
	}
	return refuse(Disabled, "%s is disabled.", k.ARN)
}

// pending refuses what cannot be done with a key that is to be deleted.
func (k *key) pending() error {
	if k.State == PendingDeletion {
		return refuse(InvalidState, "%s is pending deletion.", k.ARN)
	}
	return nil
}

// owned gives the keys that the account has in its region, in the order of
// their IDs.
func (l *Local) owned(c Caller) []*key {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found []*key
	for _, k := range l.keys {
		if k.Account == c.Account && k.Region == c.Region && !l.gone(k) {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(a, b *key) int { return strings.Compare(a.ID, b.ID) })
	return found
}
