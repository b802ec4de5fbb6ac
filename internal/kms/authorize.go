package kms

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"shale/internal/policy"
)

// A Caller is who asks, and of which region.
type Caller struct {
	Account string // 12 digits
	Region  string
	// By is who of the account asks; nil for the account itself, whom only the
	// policies of keys bind.
	By *policy.Subject
	// Via is the service that asks on the caller's behalf; empty for a caller who
	// asks himself. It then gives EBSID, the aws:ebs:id of the encryption context
	// that policies are shown, whatever a data key is wrapped in.
	Via   string
	EBSID string
	// Worker says that nobody asks now, and the service goes on with what somebody
	// of the account was allowed when he asked, as with a grant of AWS's. It may
	// use a key as long as its policy allows anything to anybody of the account.
	Worker bool
}

// ViaEC2 is the service that EBS is a part of.
const ViaEC2 = "ec2"

// A home is where a key or an alias is.
type home struct {
	Account string
	Region  string
}

func (c Caller) home() home { return home{c.Account, c.Region} }

// free reports whether the caller has no policies of his own: he is an account.
func (c Caller) free() bool {
	return c.By == nil || c.By.Kind == policy.Account && c.By.Policies == nil && c.By.Session == nil
}

// subject is the caller as policies know him.
func (c Caller) subject() *policy.Subject {
	if c.By != nil {
		return c.By
	}
	return &policy.Subject{Principal: &policy.Principal{Account: c.Account, ARN: c.arn(), ID: c.Account, Kind: policy.Account}}
}

func (c Caller) arn() string {
	if c.By != nil {
		return c.By.ARN
	}
	return "arn:aws:iam::" + c.Account + ":root"
}

// An ask is what policies are to allow: an action, and what they may want to know
// of the request besides the key.
type ask struct {
	action     Action
	encryption map[string]string // the encryption context
	tags       []Tag             // given, or taken away by their keys
	// about has the condition keys of this action alone.
	about map[string]string
}

// Authorize asks the caller's own policies, and not the key's, whether he may do
// an action to the key of the ARN: where the key's policy is another's affair.
// The error is an *Error of code AccessDenied.
func (c Caller) Authorize(a Action, k Key) error {
	if c.free() {
		return nil
	}
	q := question{asker: c, ask: ask{action: a}, key: k}
	return refusal(c.By.Authorize(policy.Request{Action: string(a), Resource: k.ARN, Keys: q.values}))
}

// authorizeOn is Authorize for what is no key: an alias of the ARN, or "*".
func (c Caller) authorizeOn(arn string, a ask) error {
	q := question{asker: c, ask: a}
	return refusal(c.By.Authorize(policy.Request{Action: string(a.action), Resource: arn, Keys: q.values}))
}

// refusal tells a denial in the words of the KMS. It names the key, so that it
// must not be a denial of everybody's, whose text goes to the log.
func refusal(err error) error {
	if d, ok := errors.AsType[*policy.Denied](err); ok {
		return &Error{Code: AccessDenied, Text: d.Error()}
	}
	return err
}

// permit asks the policy of the key and those of the caller.
func (l *Local) permit(k *key, r *reference, a *ask) error {
	c := r.asker
	if c.free() && k.ours && k.Account == c.Account && use[a.action] {
		return nil // on the way of nearly each block: nothing is made for these
	}
	if c.Worker {
		if k.policy.Admits(c.Account) {
			return nil
		}
		return deniedAbroad(c, a.action, r.name)
	}
	q := question{asker: c, ask: *a, key: k.Key, alias: r.alias, local: l, keyTags: k.tags}
	err := c.subject().AuthorizeOn(k.policy, k.Account, policy.Request{Action: string(a.action), Resource: k.ARN, Keys: q.values})
	d, denied := errors.AsType[*policy.Denied](err)
	if denied && k.Account != c.Account && !strings.HasPrefix(d.Why, "because no identity") && !strings.HasPrefix(d.Why, "because no session") {
		return deniedAbroad(c, a.action, r.name) // its owner gives the caller nothing
	}
	return refusal(err)
}

// A question is what one authorization may have to know.
type question struct {
	ask
	asker   Caller
	key     Key // the zero Key if it is about none
	keyTags []Tag
	alias   string // by which the request names the key
	local   *Local // where its aliases are
}

// values gives the values of a condition key. Source: Service Authorization
// Reference, AWS Key Management Service; KMS Developer Guide, Condition keys.
func (q *question) values(key string) ([]string, bool, error) {
	name, rest, _ := strings.Cut(key, "/")
	switch name {
	case "aws:requesttag":
		return tagValue(q.tags, rest)
	case "aws:tagkeys":
		keys := make([]string, len(q.tags))
		for i, t := range q.tags {
			keys[i] = t.Key
		}
		return keys, len(keys) > 0, nil
	case "aws:resourcetag":
		return tagValue(q.keyTags, rest)
	}
	if v, ok := q.about[key]; ok {
		return []string{v}, true, nil
	}
	if v, ok := q.ofContext(key); ok {
		return v, len(v) > 0, nil
	}
	if v := q.ofRequest(key); v != "" {
		return []string{v}, true, nil
	}
	if q.key == (Key{}) {
		return nil, false, nil
	}
	switch key {
	case "aws:resourceaccount":
		return []string{q.key.Account}, true, nil
	case "kms:keyorigin":
		return []string{"AWS_KMS"}, true, nil
	case "kms:keyspec", "kms:customermasterkeyspec":
		return []string{"SYMMETRIC_DEFAULT"}, true, nil
	case "kms:keyusage", "kms:customermasterkeyusage":
		return []string{"ENCRYPT_DECRYPT"}, true, nil
	case "kms:multiregion":
		return []string{"false"}, true, nil
	case "kms:resourcealiases":
		aliases := q.local.aliasesOf(q.key)
		return aliases, len(aliases) > 0, nil
	}
	return nil, false, nil
}

// ofRequest gives the value of a condition key that is about who asks and how.
func (q *question) ofRequest(key string) string {
	switch key {
	case "kms:calleraccount":
		return q.asker.Account
	case "kms:viaservice":
		if q.asker.Via != "" {
			return q.asker.Via + "." + q.asker.Region + ".amazonaws.com"
		}
	case "kms:requestalias":
		return q.alias
	}
	return ""
}

// use are the actions that use a key, which both policies of policy.go let its
// account do. All but DescribeKey have an encryption context.
var use = map[Action]bool{
	DescribeKey: true, Encrypt: true, Decrypt: true, GenerateDataKey: true, "kms:GenerateDataKeyWithoutPlaintext": true,
	ReEncryptFrom: true, ReEncryptTo: true,
}

// ofContext gives the values of a condition key about the encryption context, and
// whether it is one.
func (q *question) ofContext(key string) ([]string, bool) {
	const one = "kms:encryptioncontext:"
	name, isOne := strings.CutPrefix(key, one)
	if !isOne && key != "kms:encryptioncontextkeys" {
		return nil, false
	}
	shown := q.encryption
	if q.asker.EBSID != "" {
		shown = map[string]string{"aws:ebs:id": q.asker.EBSID}
	}
	if !use[q.action] || q.action == DescribeKey || len(shown) == 0 {
		return nil, true
	}
	names := slices.Sorted(maps.Keys(shown))
	if !isOne {
		return names, true
	}
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return []string{shown[n]}, true
		}
	}
	return nil, true
}

// tagValue finds a tag as IAM does: by its key, or else by one that differs from
// it in the case of letters only.
func tagValue(tags []Tag, key string) (values []string, ok bool, _ error) {
	for _, t := range tags {
		if t.Key == key {
			return []string{t.Value}, true, nil
		}
		if values == nil && strings.EqualFold(t.Key, key) {
			values = []string{t.Value}
		}
	}
	return values, values != nil, nil
}

// aliasesOf gives the names of a key's aliases.
func (l *Local) aliasesOf(k Key) []string {
	if l == nil { // of a key elsewhere nothing is known
		return nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	var names []string
	for n, a := range l.aliases {
		if a.key == k.ID {
			names = append(names, n.name)
		}
	}
	if k.Manager == AWS {
		names = append(names, DefaultKeyAlias)
	}
	slices.Sort(names)
	return names
}

// lockedOut reports whether the policy that the key is to have would let neither
// the caller nor his account replace it.
func (c Caller) lockedOut(k *key) bool {
	for _, by := range []Caller{{Account: c.Account, Region: c.Region}, c} {
		q := question{asker: by, ask: ask{action: "kms:PutKeyPolicy", about: bypass(false)}, key: k.Key, keyTags: k.tags}
		if by.subject().AuthorizeOn(k.policy, k.Account, policy.Request{Action: "kms:PutKeyPolicy", Resource: k.ARN, Keys: q.values}) == nil {
			return false
		}
	}
	return true
}

// bypass is what the condition key about the lockout check has.
func bypass(yes bool) map[string]string {
	return map[string]string{"kms:bypasspolicylockoutsafetycheck": strconv.FormatBool(yes)}
}
