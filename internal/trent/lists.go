package trent

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"shale/internal/kms"
)

// paging is what all listings take.
type paging struct {
	Limit  *int32  `json:"Limit"`
	Marker *string `json:"Marker"`
}

// paged is what all listings answer besides the page. NextMarker is absent on
// the last one.
type paged struct {
	NextMarker *string `json:"NextMarker,omitzero"`
	Truncated  bool    `json:"Truncated"`
}

// cut gives the page of all that p asks for, of as many entries as usual if it
// does not say. All are in the order of their names. A marker is the list's kind
// and the name of the last entry told, so that a page is right whatever has come
// and gone meanwhile.
func cut[T any](kind string, all []T, name func(T) string, p paging, usual int) ([]T, paged, error) {
	if p.Marker != nil {
		b, err := base64.RawURLEncoding.DecodeString(*p.Marker)
		after, ok := strings.CutPrefix(string(b), kind+"\x00")
		if err != nil || !ok {
			return nil, paged{}, &kms.Error{Code: kms.InvalidMarker, Text: "Could not deserialize marker '" + *p.Marker + "'"}
		}
		from, found := slices.BinarySearchFunc(all, after, func(e T, name_ string) int { return strings.Compare(name(e), name_) })
		if found {
			from++
		}
		all = all[from:]
	}
	if p.Limit != nil {
		usual = int(*p.Limit)
	}
	if len(all) <= usual {
		return all, paged{}, nil
	}
	next := base64.RawURLEncoding.EncodeToString([]byte(kind + "\x00" + name(all[usual-1])))
	return all[:usual], paged{&next, true}, nil
}

// How long pages are that nobody asked to be of a length. Source: KMS API
// Reference.
const (
	usualKeys    = 100
	usualAliases = 50
	usualTags    = 50
)

type listKeysInput struct {
	paging
	ResourceOwners []string `json:"ResourceOwners"`
}

func (in *listKeysInput) check(c *checker) {
	c.page(in.paging)
	if in.ResourceOwners != nil {
		c.length("resourceOwners", "", len(in.ResourceOwners), 1, 2)
	}
	for i, owner := range in.ResourceOwners {
		c.enum("resourceOwners."+strconv.Itoa(i+1)+".member", &owner, "SELF", "OTHER_ACCOUNTS_VIA_RAM")
	}
}

type listKeysAnswer struct {
	Keys []keyEntry `json:"Keys"`
	paged
}

type keyEntry struct {
	KeyID  string `json:"KeyId"`
	KeyARN string `json:"KeyArn"`
}

func listKeys(c *call) (any, error) {
	var in listKeysInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	var all []kms.Key
	if in.ResourceOwners == nil || slices.Contains(in.ResourceOwners, "SELF") {
		var err error
		if all, err = c.kms.Keys(c, c.caller); err != nil {
			return nil, err
		}
	}
	page, more, err := cut("keys", all, func(k kms.Key) string { return k.ID }, in.paging, usualKeys)
	if err != nil {
		return nil, err
	}
	out := listKeysAnswer{Keys: make([]keyEntry, len(page)), paged: more}
	for i, k := range page {
		out.Keys[i] = keyEntry{k.ID, k.ARN}
	}
	return out, nil
}

type listAliasesInput struct {
	paging
	KeyID *string `json:"KeyId"`
}

func (in *listAliasesInput) check(c *checker) {
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.page(in.paging)
}

type listAliasesAnswer struct {
	Aliases []aliasEntry `json:"Aliases"`
	paged
}

type aliasEntry struct {
	AliasName       string `json:"AliasName"`
	AliasARN        string `json:"AliasArn"`
	TargetKeyID     string `json:"TargetKeyId"`
	CreationDate    moment `json:"CreationDate"`
	LastUpdatedDate moment `json:"LastUpdatedDate"`
}

func listAliases(c *call) (any, error) {
	var in listAliasesInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	all, err := c.kms.Aliases(c, c.caller, value(in.KeyID, ""))
	if err != nil {
		return nil, err
	}
	page, more, err := cut("aliases", all, func(a kms.Alias) string { return a.Name }, in.paging, usualAliases)
	if err != nil {
		return nil, err
	}
	out := listAliasesAnswer{Aliases: make([]aliasEntry, len(page)), paged: more}
	for i, a := range page {
		out.Aliases[i] = aliasEntry{a.Name, a.ARN, a.KeyID, moment(a.Created), moment(a.Updated)}
	}
	return out, nil
}

// pagedKeyInput is that of listings about one key.
type pagedKeyInput struct {
	keyInput
	paging
}

func (in *pagedKeyInput) check(c *checker) {
	in.keyInput.check(c)
	c.page(in.paging)
}

type listTagsAnswer struct {
	Tags []tagEntry `json:"Tags"`
	paged
}

type tagEntry struct {
	Key   string `json:"TagKey"`
	Value string `json:"TagValue"`
}

func listResourceTags(c *call) (any, error) {
	var in pagedKeyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	all, err := c.kms.Tags(c, c.caller, *in.KeyID)
	if err != nil {
		return nil, err
	}
	page, more, err := cut("tags", all, func(t kms.Tag) string { return t.Key }, in.paging, usualTags)
	if err != nil {
		return nil, err
	}
	out := listTagsAnswer{Tags: make([]tagEntry, len(page)), paged: more}
	for i, t := range page {
		out.Tags[i] = tagEntry(t)
	}
	return out, nil
}

type listPoliciesAnswer struct {
	PolicyNames []string `json:"PolicyNames"`
	paged
}

func listKeyPolicies(c *call) (any, error) {
	var in pagedKeyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	all, err := c.kms.PolicyNames(c, c.caller, *in.KeyID)
	if err != nil {
		return nil, err
	}
	page, more, err := cut("policies", all, func(s string) string { return s }, in.paging, usualKeys)
	if err != nil {
		return nil, err
	}
	return listPoliciesAnswer{page, more}, nil
}
