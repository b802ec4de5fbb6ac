package identity

import (
	"context"
	"errors"
	"strings"

	"shale/internal/policy"
)

// aggregate is how much all inline policies of an entity of the kind may have.
func (k Kind) aggregate() int {
	if k == Role {
		return maxRolePolicies
	}
	return maxUserPolicies
}

// PutPolicy gives the user or role an inline policy, in place of any of the
// name. It counts from the next request on.
func (s *Service) PutPolicy(ctx context.Context, c Caller, kind Kind, name, policyName, text string) error {
	e, err := s.find(ctx, c, "iam:Put"+kind.title()+"Policy", kind, name)
	if err != nil {
		return err
	}
	if _, err := policy.Parse(text, policy.Identity); err != nil {
		return malformed(err)
	}
	d := Document{Name: policyName, Text: text, Size: size(text)}
	err = s.changing(func() error { return s.store.PutDocument(ctx, e.ID, d, kind.aggregate()) })
	switch {
	case errors.Is(err, ErrNone):
		return noSuch(kind, name)
	case errors.Is(err, ErrLimit):
		return refuse(LimitExceeded, "Maximum policy size of %d bytes exceeded for %s %s", kind.aggregate(), kind, name)
	}
	return err
}

// Policy gives the text of an inline policy.
func (s *Service) Policy(ctx context.Context, c Caller, kind Kind, name, policyName string) (string, error) {
	all, err := s.documents(ctx, c, "iam:Get"+kind.title()+"Policy", kind, name)
	if err != nil {
		return "", err
	}
	for _, d := range all {
		if d.Name == policyName {
			return d.Text, nil
		}
	}
	return "", noPolicy(kind, policyName)
}

// PolicyNames gives the names of all inline policies, in their order.
func (s *Service) PolicyNames(ctx context.Context, c Caller, kind Kind, name string) ([]string, error) {
	all, err := s.documents(ctx, c, "iam:List"+kind.title()+"Policies", kind, name)
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.Name
	}
	return names, err
}

func (s *Service) documents(ctx context.Context, c Caller, action string, kind Kind, name string) ([]Document, error) {
	e, err := s.find(ctx, c, action, kind, name)
	if err != nil {
		return nil, err
	}
	return s.store.Documents(ctx, e.ID)
}

// DeletePolicy removes an inline policy.
func (s *Service) DeletePolicy(ctx context.Context, c Caller, kind Kind, name, policyName string) error {
	e, err := s.find(ctx, c, "iam:Delete"+kind.title()+"Policy", kind, name)
	if err != nil {
		return err
	}
	err = s.changing(func() error { return s.store.DeleteDocument(ctx, e.ID, policyName) })
	if errors.Is(err, ErrNone) {
		return noPolicy(kind, policyName)
	}
	return err
}

func noPolicy(kind Kind, name string) error {
	return refuse(NoSuchEntity, "The %s policy with name %s cannot be found.", kind, name)
}

// SetTrust says anew who may assume the role. Sessions that there are go on.
func (s *Service) SetTrust(ctx context.Context, c Caller, name, text string) error {
	e, err := s.find(ctx, c, "iam:UpdateAssumeRolePolicy", Role, name)
	if err != nil {
		return err
	}
	if err := checkTrust(text, name); err != nil {
		return err
	}
	err = s.changing(func() error { return s.store.SetTrust(ctx, e.ID, text) })
	if errors.Is(err, ErrNone) {
		return noSuch(Role, name)
	}
	return err
}

func checkTrust(text, name string) error {
	if _, err := policy.Parse(text, policy.Trust); err != nil {
		return malformed(err)
	}
	if size(text) > maxTrust {
		return refuse(LimitExceeded, "Cannot exceed quota for ACLSizePerRole: %d", maxTrust)
	}
	return nil
}

// malformed tells what is wrong with a policy.
func malformed(err error) error {
	if e, ok := errors.AsType[*policy.MalformedError](err); ok {
		return refuse(MalformedPolicy, "%s", e.Error())
	}
	return err
}

// size is the number of characters that quotas count.
func size(text string) int {
	n := 0
	for _, r := range text {
		if !strings.ContainsRune(" \t\r\n", r) {
			n++
		}
	}
	return n
}
