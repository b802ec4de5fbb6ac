package identity

import (
	"context"
	"errors"
)

// CreateAccessKey makes an access key for the user, the caller if name is
// empty, and gives the user as well. The secret is not told again.
func (s *Service) CreateAccessKey(ctx context.Context, c Caller, name string) (AccessKey, Entity, error) {
	user, err := s.holder(ctx, c, "iam:CreateAccessKey", name)
	if err != nil {
		return AccessKey{}, Entity{}, err
	}
	k := AccessKey{Account: c.Account, User: user.ID, Status: Active, Created: s.moment()}
	k.ID, k.Secret = NewAccessKey()
	err = s.changing(func() error { return s.store.CreateKey(ctx, k, maxKeys) })
	switch {
	case errors.Is(err, ErrNone):
		return AccessKey{}, Entity{}, noSuch(User, user.Name)
	case errors.Is(err, ErrLimit):
		return AccessKey{}, Entity{}, refuse(LimitExceeded, "Cannot exceed quota for AccessKeysPerUser: %d", maxKeys)
	}
	return k, user, err
}

// AccessKeys gives the access keys of the user, the caller if name is empty,
// and whose they are. No secrets are among them.
func (s *Service) AccessKeys(ctx context.Context, c Caller, name string) ([]AccessKey, Entity, error) {
	name, err := self(c, name)
	if err != nil {
		return nil, Entity{}, err
	}
	owner := Entity{Kind: RootUser, Account: c.Account}
	if name != "" {
		owner, err = s.find(ctx, c, "iam:ListAccessKeys", User, name)
	} else {
		err = refuseSession(c)
	}
	if err != nil {
		return nil, Entity{}, err
	}
	keys, err := s.store.Keys(ctx, c.Account, owner.ID)
	for i := range keys {
		keys[i].Secret = ""
	}
	return keys, owner, err
}

// SetAccessKeyStatus lets a key of the user, the caller if name is empty, sign
// from the next request on, or not.
func (s *Service) SetAccessKeyStatus(ctx context.Context, c Caller, name, key string, status Status) error {
	user, err := s.holder(ctx, c, "iam:UpdateAccessKey", name)
	if err != nil {
		return err
	}
	return noKey(key, s.changing(func() error { return s.store.SetKeyStatus(ctx, user.ID, key, status) }))
}

// DeleteAccessKey removes a key of the user, the caller if name is empty.
func (s *Service) DeleteAccessKey(ctx context.Context, c Caller, name, key string) error {
	user, err := s.holder(ctx, c, "iam:DeleteAccessKey", name)
	if err != nil {
		return err
	}
	return noKey(key, s.changing(func() error { return s.store.DeleteKey(ctx, user.ID, key) }))
}

func noKey(key string, err error) error {
	if errors.Is(err, ErrNone) {
		return refuse(NoSuchEntity, "The Access Key with id %s cannot be found.", key)
	}
	return err
}

// holder finds the user whose keys are to be changed. The one of a root user is
// in a file beside the data, which IAM does not reach.
func (s *Service) holder(ctx context.Context, c Caller, action, name string) (Entity, error) {
	name, err := self(c, name)
	if err != nil {
		return Entity{}, err
	}
	if name == "" {
		return Entity{}, refuse(InvalidInput, "Must specify userName: the access key of the root user belongs to the server's data folder and is not changed here.")
	}
	return s.find(ctx, c, action, User, name)
}
