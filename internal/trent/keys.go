package trent

import (
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"shale/internal/kms"
)

// A moment is a time as the protocol has it: a number of seconds since 1970.
type moment time.Time

// MarshalJSON prints milliseconds as three decimal places.
func (m moment) MarshalJSON() ([]byte, error) {
	ms := time.Time(m).UnixMilli()
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', 3, 64), nil
}

func optionalMoment(t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return (*moment)(&t)
}

// keyMetadata is the model's KeyMetadata.
type keyMetadata struct {
	AWSAccountID          string      `json:"AWSAccountId"`
	KeyID                 string      `json:"KeyId"`
	ARN                   string      `json:"Arn"`
	CreationDate          moment      `json:"CreationDate"`
	Enabled               bool        `json:"Enabled"`
	Description           string      `json:"Description"`
	KeyUsage              string      `json:"KeyUsage"`
	KeyState              kms.State   `json:"KeyState"`
	DeletionDate          *moment     `json:"DeletionDate,omitzero"`
	Origin                string      `json:"Origin"`
	KeyManager            kms.Manager `json:"KeyManager"`
	CustomerMasterKeySpec string      `json:"CustomerMasterKeySpec"`
	KeySpec               string      `json:"KeySpec"`
	EncryptionAlgorithms  []string    `json:"EncryptionAlgorithms"`
	MultiRegion           bool        `json:"MultiRegion"`
}

// The only kind of key that there is.
const (
	encryptDecrypt   = "ENCRYPT_DECRYPT"
	symmetricDefault = "SYMMETRIC_DEFAULT"
	originKMS        = "AWS_KMS"
)

type describeAnswer struct {
	KeyMetadata keyMetadata `json:"KeyMetadata"`
}

func describe(m kms.Metadata) describeAnswer {
	return describeAnswer{keyMetadata{
		AWSAccountID: m.Account, KeyID: m.ID, ARN: m.ARN, CreationDate: moment(m.Created),
		Enabled: m.State == kms.Enabled, Description: m.Description, KeyUsage: encryptDecrypt, KeyState: m.State,
		DeletionDate: optionalMoment(m.Deletion), Origin: originKMS, KeyManager: m.Manager,
		CustomerMasterKeySpec: symmetricDefault, KeySpec: symmetricDefault,
		EncryptionAlgorithms: []string{symmetricDefault},
	}}
}

type createKeyInput struct {
	Policy                         *string `json:"Policy"`
	Description                    *string `json:"Description"`
	KeyUsage                       *string `json:"KeyUsage"`
	CustomerMasterKeySpec          *string `json:"CustomerMasterKeySpec"`
	KeySpec                        *string `json:"KeySpec"`
	Origin                         *string `json:"Origin"`
	CustomKeyStoreID               *string `json:"CustomKeyStoreId"`
	BypassPolicyLockoutSafetyCheck *bool   `json:"BypassPolicyLockoutSafetyCheck"`
	Tags                           []tag   `json:"Tags"`
	MultiRegion                    *bool   `json:"MultiRegion"`
	XksKeyID                       *string `json:"XksKeyId"`
}

var (
	usages = []string{"SIGN_VERIFY", encryptDecrypt, "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE"}
	specs  = []string{
		"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
		symmetricDefault, "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2",
	}
	keySpecs = append(specs[:len(specs):len(specs)], "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ECC_NIST_EDWARDS25519",
		"ML_KEM_512", "ML_KEM_768", "ML_KEM_1024")
	origins = []string{originKMS, "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}
)

func (in *createKeyInput) check(c *checker) {
	c.policy(in.Policy)
	c.text("description", in.Description, 0, 8192)
	c.enum("keyUsage", in.KeyUsage, usages...)
	c.enum("customerMasterKeySpec", in.CustomerMasterKeySpec, specs...)
	c.enum("keySpec", in.KeySpec, keySpecs...)
	c.enum("origin", in.Origin, origins...)
	c.text("customKeyStoreId", in.CustomKeyStoreID, 1, 64)
	c.text("xksKeyId", in.XksKeyID, 1, 128)
	c.tags(in.Tags)
}

// supported refuses the kinds of keys that are not here.
func (in *createKeyInput) supported() error {
	if in.KeySpec != nil && in.CustomerMasterKeySpec != nil {
		return &kms.Error{Code: kms.InvalidValue, Text: "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. " +
			"CustomerMasterKeySpec is deprecated."}
	}
	spec := value(in.KeySpec, value(in.CustomerMasterKeySpec, symmetricDefault))
	usage := value(in.KeyUsage, encryptDecrypt)
	what := ""
	switch {
	case spec != symmetricDefault:
		what = "the key spec " + spec
	case usage != encryptDecrypt:
		return &kms.Error{Code: kms.InvalidValue, Text: fmt.Sprintf("The KeyUsage %s is not compatible with the KeySpec %s.", usage, spec)}
	case value(in.Origin, originKMS) != originKMS:
		what = "the origin " + *in.Origin
	case in.CustomKeyStoreID != nil || in.XksKeyID != nil:
		what = "a custom key store"
	case value(in.MultiRegion, false):
		what = "a multi-Region key"
	default:
		return nil
	}
	return &kms.Error{Code: kms.Unsupported, Text: "This server makes symmetric encryption keys of its own only, without " + what + "."}
}

// value is what p points to, or what is meant if it is absent.
func value[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}

func createKey(c *call) (any, error) {
	var in createKeyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.supported(); err != nil {
		return nil, err
	}
	m, err := c.kms.CreateKey(c, c.caller, kms.CreateRequest{
		Description: value(in.Description, ""), Policy: value(in.Policy, ""), Tags: kmsTags(in.Tags),
		BypassLockoutCheck: value(in.BypassPolicyLockoutSafetyCheck, false),
	})
	if err != nil {
		return nil, err
	}
	return describe(m), nil
}

// keyInput is that of operations that ask for nothing but a key.
type keyInput struct {
	KeyID *string `json:"KeyId"`
}

func (in *keyInput) check(c *checker) { c.key("keyId", in.KeyID) }

// ofKey is an operation on a key that answers with nothing.
func ofKey(c *call, do func(key string) error) (any, error) {
	var in keyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, do(*in.KeyID)
}

// granted is what operations on grants take besides.
type granted struct {
	GrantTokens []string `json:"GrantTokens"`
}

// none refuses grant tokens: no grants are given here, so they are of no grant.
func (g granted) none() error {
	if len(g.GrantTokens) > 0 {
		return &kms.Error{Code: kms.InvalidGrantToken, Text: "A grant token is not valid: this server has no grants."}
	}
	return nil
}

type describeKeyInput struct {
	keyInput
	granted
}

func (in *describeKeyInput) check(c *checker) {
	in.keyInput.check(c)
	c.grants(in.GrantTokens)
}

func describeKey(c *call) (any, error) {
	var in describeKeyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.none(); err != nil {
		return nil, err
	}
	m, err := c.kms.Describe(c, c.caller, *in.KeyID)
	if err != nil {
		return nil, err
	}
	return describe(m), nil
}

func enableKey(c *call) (any, error) {
	return ofKey(c, func(key string) error { return c.kms.EnableKey(c, c.caller, key) })
}

func disableKey(c *call) (any, error) {
	return ofKey(c, func(key string) error { return c.kms.DisableKey(c, c.caller, key) })
}

type scheduleInput struct {
	keyInput
	PendingWindowInDays *int32 `json:"PendingWindowInDays"`
}

func (in *scheduleInput) check(c *checker) {
	in.keyInput.check(c)
	c.number("pendingWindowInDays", in.PendingWindowInDays, 1, 365)
}

type scheduleAnswer struct {
	KeyID               string    `json:"KeyId"`
	DeletionDate        moment    `json:"DeletionDate"`
	KeyState            kms.State `json:"KeyState"`
	PendingWindowInDays int       `json:"PendingWindowInDays"`
}

func scheduleKeyDeletion(c *call) (any, error) {
	var in scheduleInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	var days *int64
	if in.PendingWindowInDays != nil {
		days = new(int64(*in.PendingWindowInDays))
	}
	m, err := c.kms.ScheduleDeletion(c, c.caller, *in.KeyID, days)
	if err != nil {
		return nil, err
	}
	return scheduleAnswer{m.ARN, moment(m.Deletion), m.State, m.WindowDays}, nil
}

// keyAnswer names a key and says no more.
type keyAnswer struct {
	KeyID string `json:"KeyId"`
}

func cancelKeyDeletion(c *call) (any, error) {
	var in keyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	m, err := c.kms.CancelDeletion(c, c.caller, *in.KeyID)
	if err != nil {
		return nil, err
	}
	return keyAnswer{m.ARN}, nil
}

type descriptionInput struct {
	keyInput
	Description *string `json:"Description"`
}

func (in *descriptionInput) check(c *checker) {
	in.keyInput.check(c)
	if in.Description == nil {
		c.missing("description")
	}
	c.text("description", in.Description, 0, 8192)
}

func updateKeyDescription(c *call) (any, error) {
	var in descriptionInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.kms.UpdateDescription(c, c.caller, *in.KeyID, *in.Description)
}

type rotationAnswer struct {
	KeyRotationEnabled bool   `json:"KeyRotationEnabled"`
	KeyID              string `json:"KeyId"`
}

func getKeyRotationStatus(c *call) (any, error) {
	var in keyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, err := c.kms.Rotating(c, c.caller, *in.KeyID)
	if err != nil {
		return nil, err
	}
	return rotationAnswer{false, k.ID}, nil
}

// A tag is the model's Tag.
type tag struct {
	Key   *string `json:"TagKey"`
	Value *string `json:"TagValue"`
}

func (c *checker) tags(tags []tag) {
	for i, t := range tags {
		at := "tags." + strconv.Itoa(i+1) + ".member."
		if t.Key == nil {
			c.missing(at + "tagKey")
		}
		c.text(at+"tagKey", t.Key, 1, 128)
		if t.Value == nil {
			c.missing(at + "tagValue")
		}
		c.text(at+"tagValue", t.Value, 0, 256)
	}
}

func kmsTags(tags []tag) []kms.Tag {
	all := make([]kms.Tag, len(tags))
	for i, t := range tags {
		all[i] = kms.Tag{Key: *t.Key, Value: *t.Value}
	}
	return all
}

type tagInput struct {
	keyInput
	Tags []tag `json:"Tags"`
}

func (in *tagInput) check(c *checker) {
	in.keyInput.check(c)
	if in.Tags == nil {
		c.missing("tags")
	}
	c.tags(in.Tags)
}

func tagResource(c *call) (any, error) {
	var in tagInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.kms.AddTags(c, c.caller, *in.KeyID, kmsTags(in.Tags))
}

type untagInput struct {
	keyInput
	TagKeys []string `json:"TagKeys"`
}

func (in *untagInput) check(c *checker) {
	in.keyInput.check(c)
	if in.TagKeys == nil {
		c.missing("tagKeys")
	}
	for i, key := range in.TagKeys {
		c.text("tagKeys."+strconv.Itoa(i+1)+".member", &key, 1, 128)
	}
}

func untagResource(c *call) (any, error) {
	var in untagInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.kms.RemoveTags(c, c.caller, *in.KeyID, in.TagKeys)
}

type putPolicyInput struct {
	keyInput
	PolicyName                     *string `json:"PolicyName"`
	Policy                         *string `json:"Policy"`
	BypassPolicyLockoutSafetyCheck *bool   `json:"BypassPolicyLockoutSafetyCheck"`
}

func (in *putPolicyInput) check(c *checker) {
	in.keyInput.check(c)
	c.policyName(in.PolicyName)
	if in.Policy == nil {
		c.missing("policy")
	}
	c.policy(in.Policy)
}

// onlyPolicy refuses names that no policy has.
func onlyPolicy(name *string) error {
	if value(name, kms.PolicyName) != kms.PolicyName {
		return &kms.Error{Code: kms.NotFound, Text: "No such policy exists"}
	}
	return nil
}

func putKeyPolicy(c *call) (any, error) {
	var in putPolicyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := onlyPolicy(in.PolicyName); err != nil {
		return nil, err
	}
	return nil, c.kms.PutPolicy(c, c.caller, *in.KeyID, *in.Policy, value(in.BypassPolicyLockoutSafetyCheck, false))
}

type getPolicyInput struct {
	keyInput
	PolicyName *string `json:"PolicyName"`
}

func (in *getPolicyInput) check(c *checker) {
	in.keyInput.check(c)
	c.policyName(in.PolicyName)
}

type policyAnswer struct {
	Policy     string `json:"Policy"`
	PolicyName string `json:"PolicyName"`
}

func getKeyPolicy(c *call) (any, error) {
	var in getPolicyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	text, err := c.kms.Policy(c, c.caller, *in.KeyID)
	if err == nil {
		err = onlyPolicy(in.PolicyName)
	}
	if err != nil {
		return nil, err
	}
	return policyAnswer{text, kms.PolicyName}, nil
}

// absent is a member of which only its being there matters.
type absent = jsontext.Value

func given(v absent) bool { return len(v) > 0 && v.Kind() != 'n' }
