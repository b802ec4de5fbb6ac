package snapshot

import (
	"context"
	"errors"

	"shale/internal/kms"
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
	if err := s.admit(ctx, c, nil, need{action: GetSnapshotBlockPublicAccessState}); err != nil {
		return "", err
	}
	return s.publicAccess(ctx, c)
}

func (s *Service) publicAccess(ctx context.Context, c Caller) (PublicAccess, error) {
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
	value, action := string(p), EnableSnapshotBlockPublicAccess
	if p == Unblocked {
		value, action = "", DisableSnapshotBlockPublicAccess
	}
	if err := s.admit(ctx, c, nil, need{action: action}); err != nil {
		return err
	}
	return s.storeError(s.catalog.SetAccountSetting(ctx, c, SettingPublicAccess, value))
}

// resolveKey gives the ARN of a KMS key that the caller may encrypt with, by
// any of its names.
func (s *Service) resolveKey(ctx context.Context, c Caller, name string) (string, error) {
	key, err := s.keyring.Check(ctx, c.kms(""), name, kms.GenerateDataKey)
	if _, refused := errors.AsType[*kms.Error](err); refused {
		return "", &Error{Code: InvalidKey, Field: "kmsKeyId", Value: "it does not exist or cannot be used"}
	}
	return key.ARN, err
}

// defaults gives what the caller has set for new snapshots: whether those are
// encrypted that do not ask for it, and with which key when none is given.
func (s *Service) defaults(ctx context.Context, c Caller) (encrypt bool, key string, err error) {
	value, err := s.catalog.AccountSetting(ctx, c, SettingEncryptionByDefault)
	if err != nil {
		return false, "", err
	}
	if key, err = s.catalog.AccountSetting(ctx, c, SettingDefaultKey); key == "" {
		key = kms.DefaultKeyAlias
	}
	return value != "", key, err
}

// EncryptionByDefault tells whether new snapshots of the caller's are
// encrypted unasked. Spec: ec2-snapshots §7.
func (s *Service) EncryptionByDefault(ctx context.Context, c Caller) (bool, error) {
	if err := s.admit(ctx, c, nil, need{action: GetEbsEncryptionByDefault}); err != nil {
		return false, err
	}
	encrypt, _, err := s.defaults(ctx, c)
	return encrypt, s.storeError(err)
}

// SetEncryptionByDefault switches it.
func (s *Service) SetEncryptionByDefault(ctx context.Context, c Caller, on bool) error {
	value, action := "", DisableEbsEncryptionByDefault
	if on {
		value, action = "1", EnableEbsEncryptionByDefault
	}
	if err := s.admit(ctx, c, nil, need{action: action}); err != nil {
		return err
	}
	return s.storeError(s.catalog.SetAccountSetting(ctx, c, SettingEncryptionByDefault, value))
}

// DefaultKey gives the key that encrypts where none is named: the ARN that was
// set, or kms.DefaultKeyAlias. Spec: ec2-snapshots §7.
func (s *Service) DefaultKey(ctx context.Context, c Caller) (string, error) {
	if err := s.admit(ctx, c, nil, need{action: GetEbsDefaultKmsKeyID}); err != nil {
		return "", err
	}
	_, key, err := s.defaults(ctx, c)
	return key, s.storeError(err)
}

// SetDefaultKey sets that key, if the caller may use it now, and gives its ARN.
func (s *Service) SetDefaultKey(ctx context.Context, c Caller, name string) (arn string, err error) {
	if err := s.admit(ctx, c, nil, need{action: ModifyEbsDefaultKmsKeyID}); err != nil {
		return "", err
	}
	if arn, err = s.resolveKey(ctx, c, name); err == nil {
		err = s.catalog.SetAccountSetting(ctx, c, SettingDefaultKey, arn)
	}
	return arn, s.storeError(err)
}

// ResetDefaultKey makes the key that AWS manages the default again, and gives
// its ARN.
func (s *Service) ResetDefaultKey(ctx context.Context, c Caller) (arn string, err error) {
	if err := s.admit(ctx, c, nil, need{action: ResetEbsDefaultKmsKeyID}); err != nil {
		return "", err
	}
	if arn, err = s.resolveKey(ctx, c, kms.DefaultKeyAlias); err == nil {
		err = s.catalog.SetAccountSetting(ctx, c, SettingDefaultKey, "")
	}
	return arn, s.storeError(err)
}
