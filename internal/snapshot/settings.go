package snapshot

import (
	"context"
	"errors"
)

// AccountSettings is the part of a Catalog that keeps what an account has set
// for a region.
type AccountSettings interface {
	// AccountSetting gives a setting, empty if it has not been set.
	AccountSetting(ctx context.Context, c Caller, name string) (string, error)
	// SetAccountSetting sets one; the empty value takes it back.
	SetAccountSetting(ctx context.Context, c Caller, name, value string) error
}

// Names of the settings, as the catalog keeps them.
const (
	SettingEncryptionByDefault = "encryption-by-default" // "1" while on
	SettingDefaultKey          = "default-key"           // the ARN of a KMS key
	SettingPublicAccess        = "block-public-access"   // a PublicAccess other than Unblocked
)

// A PublicAccess says what an account lets become, and be, public in a region.
// Spec: ec2-snapshots §6.4.
type PublicAccess string

// The values. BlockAll hides snapshots that are public already; BlockNew
// leaves them.
const (
	Unblocked PublicAccess = "unblocked"
	BlockNew  PublicAccess = "block-new-sharing"
	BlockAll  PublicAccess = "block-all-sharing"
)

// PublicAccess gives what the caller has set, Unblocked if nothing.
func (s *Service) PublicAccess(ctx context.Context, c Caller) (PublicAccess, error) {
	value, err := s.catalog.AccountSetting(ctx, c, SettingPublicAccess)
	if err != nil {
		return "", s.storeError(err)
	}
	if value == "" {
		return Unblocked, nil
	}
	return PublicAccess(value), nil
}

// SetPublicAccess sets it, durably and at once. Grants stay as they are.
func (s *Service) SetPublicAccess(ctx context.Context, c Caller, p PublicAccess) error {
	value := string(p)
	if p == Unblocked {
		value = ""
	}
	return s.storeError(s.catalog.SetAccountSetting(ctx, c, SettingPublicAccess, value))
}

// A KeyResolver knows KMS keys by the names that callers give them: an ID, an
// ARN, or the name or ARN of an alias.
type KeyResolver interface {
	// ResolveKey gives the ARN of a symmetric key that the caller may use to
	// encrypt. The error is ErrKeyUnusable unless the keys cannot be asked.
	ResolveKey(ctx context.Context, c Caller, name string) (arn string, err error)
	// AWSManaged tells whether AWS, and not a customer, manages the key.
	AWSManaged(ctx context.Context, c Caller, arn string) (bool, error)
}

// ErrKeyUnusable says that a key is not there, or not for this caller and
// purpose. It does not name the key, so that it may be logged.
var ErrKeyUnusable = errors.New("no such key, or not for this use")

// DefaultKeyAlias is the alias of the key that AWS manages for EBS in each
// account, and the default key until another is set.
const DefaultKeyAlias = "alias/aws/ebs"

func (s *Service) resolveKey(ctx context.Context, c Caller, name string) (string, error) {
	if s.keys == nil {
		return "", &Error{Code: EncryptionUnsupported}
	}
	arn, err := s.keys.ResolveKey(ctx, c, name)
	if errors.Is(err, ErrKeyUnusable) {
		return "", &Error{Code: KeyUnusable, Field: "kmsKeyId", Err: err}
	}
	return arn, err
}

func (s *Service) awsManaged(ctx context.Context, c Caller, arn string) (bool, error) {
	if s.keys == nil {
		return false, &Error{Code: EncryptionUnsupported}
	}
	return s.keys.AWSManaged(ctx, c, arn)
}

// EncryptionByDefault tells whether new snapshots of the caller's are
// encrypted unasked. Spec: ec2-snapshots §7.
func (s *Service) EncryptionByDefault(ctx context.Context, c Caller) (bool, error) {
	value, err := s.catalog.AccountSetting(ctx, c, SettingEncryptionByDefault)
	return value != "", s.storeError(err)
}

// SetEncryptionByDefault switches it. A server without keys refuses it: it
// could not keep the promise.
func (s *Service) SetEncryptionByDefault(ctx context.Context, c Caller, on bool) error {
	value := ""
	if on {
		if s.keys == nil {
			return &Error{Code: EncryptionUnsupported}
		}
		value = "1"
	}
	return s.storeError(s.catalog.SetAccountSetting(ctx, c, SettingEncryptionByDefault, value))
}

// DefaultKey gives the key that encrypts where none is named: the ARN that was
// set, or DefaultKeyAlias. Spec: ec2-snapshots §7.
func (s *Service) DefaultKey(ctx context.Context, c Caller) (string, error) {
	arn, err := s.catalog.AccountSetting(ctx, c, SettingDefaultKey)
	if err == nil && arn == "" {
		arn = DefaultKeyAlias
	}
	return arn, s.storeError(err)
}

// SetDefaultKey sets that key, if the caller may use it now, and gives its ARN.
func (s *Service) SetDefaultKey(ctx context.Context, c Caller, name string) (arn string, err error) {
	if arn, err = s.resolveKey(ctx, c, name); err == nil {
		err = s.catalog.SetAccountSetting(ctx, c, SettingDefaultKey, arn)
	}
	return arn, s.storeError(err)
}

// ResetDefaultKey makes the key that AWS manages the default again, and gives
// its ARN.
func (s *Service) ResetDefaultKey(ctx context.Context, c Caller) (arn string, err error) {
	if arn, err = s.resolveKey(ctx, c, DefaultKeyAlias); err == nil {
		err = s.catalog.SetAccountSetting(ctx, c, SettingDefaultKey, "")
	}
	return arn, s.storeError(err)
}
