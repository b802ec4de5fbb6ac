package identity

import (
	"context"
	"errors"
	"time"

	"shale/internal/policy"
)

// AWS's quotas. Source: IAM User Guide, IAM and AWS STS quotas.
const (
	maxUsers        = 5000
	maxRoles        = 1000
	maxKeys         = 2      // of a user
	maxUserPolicies = 2048   // characters of all inline policies of a user, blanks apart
	maxRolePolicies = 10_240 // of a role
	maxTrust        = 2048   // characters of a trust policy, blanks apart
)

// UsualSession is how long a session of a role may be if nobody says so.
const UsualSession = time.Hour

// title is the word for the kind at the beginning of a sentence.
func (k Kind) title() string {
	if k == Role {
		return "Role"
	}
	return "User"
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, c Caller, path, name string) (Entity, error) {
	return s.create(ctx, c, Entity{Kind: User, ID: newID("AIDA", 17), Path: path, Name: name}, maxUsers)
}

// A NewRole is what a role is made of.
type NewRole struct {
	Path, Name, Description string
	Trust                   string // the policy that says who may assume it
	MaxSession              time.Duration
}

// CreateRole makes a role.
func (s *Service) CreateRole(ctx context.Context, c Caller, r NewRole) (Entity, error) {
	e := Entity{
		Kind: Role, ID: newID("AROA", 17), Path: r.Path, Name: r.Name,
		Trust: r.Trust, Description: r.Description, MaxSession: r.MaxSession,
	}
	return s.create(ctx, c, e, maxRoles)
}

func (s *Service) create(ctx context.Context, c Caller, e Entity, limit int) (Entity, error) {
	if err := refuseSession(c); err != nil {
		return Entity{}, err
	}
	e.Account, e.Created = c.Account, s.moment()
	if err := c.authorize("iam:Create"+e.Kind.title(), e.ARN()); err != nil {
		return Entity{}, err
	}
	if e.Kind == Role {
		if err := checkTrust(e.Trust, e.Name); err != nil {
			return Entity{}, err
		}
	}
	err := s.changing(func() error { return s.store.CreateEntity(ctx, e, limit) })
	switch {
	case errors.Is(err, ErrExists):
		return Entity{}, refuse(EntityAlreadyExists, "%s with name %s already exists.", e.Kind.title(), e.Name)
	case errors.Is(err, ErrLimit):
		return Entity{}, refuse(LimitExceeded, "Cannot exceed quota for %ssPerAccount: %d", e.Kind.title(), limit)
	}
	return e, err
}

// Self gives the user that asks, or stands for the root user that does. A
// session of a role has to say whom it means.
func (s *Service) Self(ctx context.Context, c Caller) (Entity, error) {
	name, err := self(c, "")
	if err == nil {
		err = refuseSession(c)
	}
	switch {
	case err != nil:
		return Entity{}, err
	case name == "":
		return s.account(ctx, c.Account)
	}
	return s.User(ctx, c, name)
}

// User finds a user.
func (s *Service) User(ctx context.Context, c Caller, name string) (Entity, error) {
	return s.find(ctx, c, "iam:GetUser", User, name)
}

// Role finds a role.
func (s *Service) Role(ctx context.Context, c Caller, name string) (Entity, error) {
	return s.find(ctx, c, "iam:GetRole", Role, name)
}

// self gives the name of the user that is meant by name, which may be empty:
// the caller then, empty if that is the account's root user.
func self(c Caller, name string) (string, error) {
	switch {
	case name != "" || c.By.Kind == policy.Account:
		return name, nil
	case c.By.Kind == policy.User:
		return c.By.Name, nil
	}
	return "", refuse(InvalidInput, "Must specify userName when calling with non-User credentials")
}

// find finds the entity that an action is about, if the caller may do it. Of
// what is not there its name says enough to ask for that.
func (s *Service) find(ctx context.Context, c Caller, action string, kind Kind, name string) (Entity, error) {
	if err := refuseSession(c); err != nil {
		return Entity{}, err
	}
	e, err := s.store.Entity(ctx, c.Account, kind, name)
	none := errors.Is(err, ErrNone)
	if err != nil && !none {
		return Entity{}, err
	}
	if none {
		e = Entity{Kind: kind, Account: c.Account, Path: "/", Name: name}
	}
	if err := c.authorize(action, e.ARN()); err != nil {
		return Entity{}, err
	}
	if none {
		return Entity{}, noSuch(kind, name)
	}
	return e, nil
}

func noSuch(kind Kind, name string) error {
	return refuse(NoSuchEntity, "The %s with name %s cannot be found.", kind, name)
}

// A Page is which part of a list is asked for.
type Page struct {
	After string // the marker of the page before; empty for the first
	Limit int    // at least 1
}

// Users gives a page of the account's users whose path begins with prefix, and
// the marker of the next one, empty if there is none.
func (s *Service) Users(ctx context.Context, c Caller, prefix string, p Page) ([]Entity, string, error) {
	return s.list(ctx, c, "iam:ListUsers", User, prefix, p)
}

// Roles gives a page of the account's roles likewise.
func (s *Service) Roles(ctx context.Context, c Caller, prefix string, p Page) ([]Entity, string, error) {
	return s.list(ctx, c, "iam:ListRoles", Role, prefix, p)
}

func (s *Service) list(ctx context.Context, c Caller, action string, kind Kind, prefix string, p Page) ([]Entity, string, error) {
	if err := refuseSession(c); err != nil {
		return nil, "", err
	}
	all := Entity{Kind: kind, Account: c.Account, Path: prefix}
	if err := c.authorize(action, all.ARN()); err != nil {
		return nil, "", err
	}
	found, err := s.store.Entities(ctx, c.Account, kind, prefix, p.After, p.Limit+1)
	if err != nil || len(found) <= p.Limit {
		return found, "", err
	}
	found = found[:p.Limit]
	return found, Fold(found[p.Limit-1].Name), nil
}

// DeleteUser removes a user that has neither keys nor policies.
func (s *Service) DeleteUser(ctx context.Context, c Caller, name string) error {
	return s.remove(ctx, c, "iam:DeleteUser", User, name)
}

// DeleteRole removes a role that has no policies. Its sessions end.
func (s *Service) DeleteRole(ctx context.Context, c Caller, name string) error {
	return s.remove(ctx, c, "iam:DeleteRole", Role, name)
}

func (s *Service) remove(ctx context.Context, c Caller, action string, kind Kind, name string) error {
	e, err := s.find(ctx, c, action, kind, name)
	if err != nil {
		return err
	}
	err = s.changing(func() error { return s.store.DeleteEntity(ctx, e.ID) })
	switch {
	case errors.Is(err, ErrNone):
		return noSuch(kind, name)
	case errors.Is(err, ErrHasKeys):
		return refuse(DeleteConflict, "Cannot delete entity, must delete access keys first.")
	case errors.Is(err, ErrHasPolicies):
		return refuse(DeleteConflict, "Cannot delete entity, must delete policies first.")
	}
	return err
}

// refuseSession refuses a session of GetSessionToken's, which ends: what it
// makes here would not. Source: AWS STS API Reference, GetSessionToken.
func refuseSession(c Caller) error {
	if c.By.Kind != policy.AssumedRole && !c.By.Issued.IsZero() {
		return refuse(SessionRefused, "The security token included in the request is invalid: sessions of GetSessionToken cannot call IAM.")
	}
	return nil
}
