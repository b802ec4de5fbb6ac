package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"shale/internal/vfs"
)

// aliasFile holds all aliases but those of default keys, which follow from the
// keys.
const aliasFile = "aliases"

const (
	aliasPrefix = "alias/"
	awsPrefix   = "alias/aws/"
	// maxAliases bounds the file.
	maxAliases = 50_000
)

// An aliasName is an alias in its account and region.
type aliasName struct {
	home
	name string
}

type alias struct {
	key              string // ID
	created, updated time.Time
}

// An Alias is another name of a key.
type Alias struct {
	Name             string // with "alias/"
	ARN              string
	KeyID            string
	Created, Updated time.Time
}

// An aliasRecord is one alias in the file's JSON.
type aliasRecord struct {
	Account   string `json:"account"`
	Region    string `json:"region"`
	Name      string `json:"name"`
	Key       string `json:"key"`
	CreatedMs int64  `json:"created_ms"`
	UpdatedMs int64  `json:"updated_ms"`
}

func (n aliasName) arn() string { return "arn:aws:kms:" + n.Region + ":" + n.Account + ":" + n.name }

func (r reference) aliasARN() string { return aliasName{r.home, r.alias}.arn() }

// defaultKeyID is the ID of an account's default key in a region. It is the
// same each time, so that a key whose file is damaged is not replaced by
// another.
func defaultKeyID(h home) string {
	sum := sha256.Sum256([]byte("shale kms default key 1\x00" + h.Account + "\x00" + h.Region))
	return uuid([16]byte(sum[:]), 8)
}

// uuid prints the bytes as a UUID of the version.
func uuid(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// readAliases reads the file. If it is damaged no alias can be used or changed,
// and keys can still be named by their IDs.
func (l *Local) readAliases() {
	var all []aliasRecord
	_, err := readFile(l.fs, aliasFile, aliasKind, maxAliasFile, &all)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.aliasDamage = fmt.Errorf("the file of the aliases of KMS keys cannot be used: %w", err)
		l.log.Error("aliases of KMS keys cannot be used until their file is put right", "err", err)
		return
	}
	for _, r := range all {
		l.aliases[aliasName{home{r.Account, r.Region}, r.Name}] = alias{
			r.Key, time.UnixMilli(r.CreatedMs).UTC(), time.UnixMilli(r.UpdatedMs).UTC(),
		}
	}
}

// storeAliases writes what change makes of the aliases, and then makes it what
// is known of them. The caller holds change.
func (l *Local) storeAliases(change func(map[aliasName]alias)) error {
	if l.aliasDamage != nil {
		return l.aliasDamage
	}
	next := make(map[aliasName]alias, len(l.aliases)+1) // only changes write, and this is one
	for n, a := range l.aliases {
		next[n] = a
	}
	change(next)
	all := make([]aliasRecord, 0, len(next))
	for n, a := range next {
		all = append(all, aliasRecord{n.Account, n.Region, n.name, a.key, a.created.UnixMilli(), a.updated.UnixMilli()})
	}
	slices.SortFunc(all, func(a, b aliasRecord) int {
		return strings.Compare(a.Account+" "+a.Region+" "+a.Name, b.Account+" "+b.Region+" "+b.Name)
	})
	data, err := encodeFile(aliasKind, file{}, all)
	if err != nil {
		return fmt.Errorf("store aliases: %w", err)
	}
	if err := vfs.Replace(l.fs, aliasFile, data); err != nil {
		return fmt.Errorf("store aliases: %w", err)
	}
	l.mu.Lock()
	l.aliases = next
	l.mu.Unlock()
	return nil
}

var aliasCharacters = regexp.MustCompile(`^[a-zA-Z0-9/_-]+$`)

// checkAliasName refuses names that a customer's alias cannot have.
func checkAliasName(name string) error {
	rest, ok := strings.CutPrefix(name, aliasPrefix)
	switch {
	case !ok || rest == "":
		return refuse(InvalidValue, "Invalid identifier")
	case strings.HasPrefix(name, awsPrefix):
		return refuse(InvalidAliasName, "The prefix %s is reserved for keys managed by AWS.", awsPrefix)
	case !aliasCharacters.MatchString(rest):
		return refuse(InvalidValue, "%s contains invalid characters for an alias", name)
	}
	return nil
}

// target finds the key that an alias is to stand for.
func (l *Local) target(ctx context.Context, c Caller, name string, a ask) (*key, error) {
	if strings.HasPrefix(name, aliasPrefix) || strings.HasPrefix(name, "arn:") && strings.Contains(name, ":"+aliasPrefix) {
		return nil, refuse(InvalidValue, "Aliases must refer to keys. Not aliases")
	}
	k, err := l.customers(ctx, c, name, a)
	if err != nil {
		return nil, err
	}
	return k, k.pending()
}

// CreateAlias gives a key of the caller's another name.
func (l *Local) CreateAlias(ctx context.Context, c Caller, name, keyName string) error {
	if err := checkAliasName(name); err != nil {
		return err
	}
	l.change.Lock()
	defer l.change.Unlock()
	n := aliasName{c.home(), name}
	create := ask{action: "kms:CreateAlias"}
	if err := c.authorizeOn(n.arn(), create); err != nil {
		return err
	}
	k, err := l.target(ctx, c, keyName, create)
	if err != nil {
		return err
	}
	if _, ok := l.liveAlias(n); ok {
		return refuse(AlreadyExists, "An alias with the name %s already exists", n.arn())
	}
	if len(l.aliases) >= maxAliases {
		return refuse(LimitExceeded, "This server holds at most %d aliases.", maxAliases)
	}
	now := l.now()
	return l.storeAliases(func(all map[aliasName]alias) { all[n] = alias{k.ID, now, now} })
}

// UpdateAlias makes an alias stand for another key. The caller must be allowed
// to by the policies of both.
func (l *Local) UpdateAlias(ctx context.Context, c Caller, name, keyName string) error {
	if err := checkAliasName(name); err != nil {
		return err
	}
	l.change.Lock()
	defer l.change.Unlock()
	n := aliasName{c.home(), name}
	update := ask{action: "kms:UpdateAlias"}
	if err := c.authorizeOn(n.arn(), update); err != nil {
		return err
	}
	k, err := l.target(ctx, c, keyName, update)
	if err != nil {
		return err
	}
	old, err := l.changeableAlias(ctx, c, n, update)
	if err != nil {
		return err
	}
	return l.storeAliases(func(all map[aliasName]alias) { all[n] = alias{k.ID, old.created, l.now()} })
}

// DeleteAlias takes the name away from its key.
func (l *Local) DeleteAlias(ctx context.Context, c Caller, name string) error {
	if err := checkAliasName(name); err != nil {
		return err
	}
	l.change.Lock()
	defer l.change.Unlock()
	n := aliasName{c.home(), name}
	remove := ask{action: "kms:DeleteAlias"}
	if err := c.authorizeOn(n.arn(), remove); err != nil {
		return err
	}
	if _, err := l.changeableAlias(ctx, c, n, remove); err != nil {
		return err
	}
	return l.storeAliases(func(all map[aliasName]alias) { delete(all, n) })
}

// changeableAlias finds an alias whose key's policy allows the action. If that
// key's file is damaged nobody can be asked, and its own account may.
func (l *Local) changeableAlias(ctx context.Context, c Caller, n aliasName, a ask) (alias, error) {
	if l.aliasDamage != nil {
		return alias{}, l.aliasDamage
	}
	found, ok := l.liveAlias(n)
	if !ok {
		return alias{}, noSuchAlias(n.arn())
	}
	if l.damaged[found.key] != nil {
		return found, nil
	}
	_, err := l.own(ctx, c, found.key, a)
	return found, err
}

// liveAlias finds an alias of a key that exists.
func (l *Local) liveAlias(n aliasName) (alias, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	a, ok := l.aliases[n]
	if k := l.keys[a.key]; k != nil && l.gone(k) {
		return alias{}, false
	}
	return a, ok
}

// Aliases gives the caller's aliases, or those of one key, in the order of
// their names.
func (l *Local) Aliases(ctx context.Context, c Caller, keyName string) ([]Alias, error) {
	list := ask{action: "kms:ListAliases"}
	if err := c.authorizeOn("*", list); err != nil {
		return nil, err
	}
	of := ""
	if keyName != "" {
		k, err := l.own(ctx, c, keyName, list)
		if err != nil {
			return nil, err
		}
		of = k.ID
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.aliasDamage != nil {
		return nil, l.aliasDamage
	}
	var found []Alias
	add := func(name string, a alias) {
		if k := l.keys[a.key]; (of == "" || of == a.key) && (k == nil || !l.gone(k)) {
			found = append(found, Alias{name, aliasName{c.home(), name}.arn(), a.key, a.created, a.updated})
		}
	}
	for n, a := range l.aliases {
		if n.home == c.home() {
			add(n.name, a)
		}
	}
	if k := l.keys[defaultKeyID(c.home())]; k != nil {
		add(DefaultKeyAlias, alias{k.ID, k.Created, k.Created})
	}
	slices.SortFunc(found, func(a, b Alias) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}
