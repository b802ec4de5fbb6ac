package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shale/internal/policy"
	"shale/internal/sigv4"
)

const (
	// maxKnown bounds the credentials that are kept in memory. A session token
	// and its policy may have some 8 KiB, others have little.
	maxKnown = 1000
	// knownTime bounds how long one is kept: by then a server learns of what it
	// did not do itself. A root user's key is exchanged by another process, and
	// its catalog may be another server's by now. Looking up takes less than a
	// millisecond; a longer time would save nothing that can be measured.
	knownTime = time.Second
)

// presented is what a request shows of its credential.
type presented struct{ key, token string }

// A credential is what is known of one.
type credential struct {
	generation uint64 // of the service, before anything of it was read
	secret     string
	principal  *policy.Principal
	expires    time.Time // of a session; else zero
}

// Credential finds what a request is signed with that names the access key, and
// has the session token if that is not empty: its secret, and who it is. An
// error is a *sigv4.Error of kind UnknownKey, UnknownToken or ExpiredToken; any
// other means that it cannot be known now.
//
// Changes made through this service count for every call that begins after
// they have returned; others do a second later at the latest.
func (s *Service) Credential(ctx context.Context, key, token string) (secret string, p *policy.Principal, err error) {
	c, err := s.remember(presented{key, token}, func(of presented) (credential, error) { return s.look(ctx, of) })
	if err != nil {
		return "", nil, err
	}
	if !c.expires.IsZero() && !s.now().Before(c.expires) {
		return "", nil, &sigv4.Error{Kind: sigv4.ExpiredToken}
	}
	return c.secret, c.principal, nil
}

// Principal gives the user of the ID with its policies, or the root user of the
// account if the ID is empty: ErrNone. What is said of Credential holds for it.
func (s *Service) Principal(ctx context.Context, account, id string) (*policy.Principal, error) {
	c, err := s.remember(presented{key: account + "/" + id}, func(presented) (credential, error) {
		p, err := s.principal(ctx, account, id)
		return credential{principal: p}, err
	})
	return c.principal, err
}

// remember gives what look finds, which it need not do if it has since the last
// change.
func (s *Service) remember(of presented, look func(presented) (credential, error)) (credential, error) {
	generation := s.generation.Load() // before the catalog is read
	c, found := s.known.GetIfPresent(of)
	if found && c.generation == generation {
		return c, nil
	}
	c, err := look(of)
	if err != nil {
		return credential{}, err
	}
	c.generation = generation
	s.known.Set(of, c)
	return c, nil
}

// look finds a credential in the catalog, or in its token.
func (s *Service) look(ctx context.Context, of presented) (credential, error) {
	if of.token != "" {
		return s.lookSession(ctx, of)
	}
	k, err := s.store.Key(ctx, of.key)
	if errors.Is(err, ErrNone) || err == nil && k.Status != Active {
		return credential{}, &sigv4.Error{Kind: sigv4.UnknownKey}
	}
	if err != nil {
		return credential{}, err
	}
	p, err := s.principal(ctx, k.Account, k.User)
	if errors.Is(err, ErrNone) {
		err = &sigv4.Error{Kind: sigv4.UnknownKey} // deleted a moment ago
	}
	return credential{secret: k.Secret, principal: p}, err
}

// lookSession opens a session token.
func (s *Service) lookSession(ctx context.Context, of presented) (credential, error) {
	t, keys, err := s.open(of.token)
	if err != nil || keys.accessKey != of.key {
		return credential{}, &sigv4.Error{Kind: sigv4.UnknownToken}
	}
	p, err := s.principal(ctx, t.account, t.entity)
	if errors.Is(err, ErrNone) {
		return credential{}, &sigv4.Error{Kind: sigv4.UnknownToken}
	}
	if err != nil {
		return credential{}, err
	}
	if p.Issued = t.issued; t.name != "" {
		p.Kind, p.Role = policy.AssumedRole, p.ARN
		p.ARN, p.ID, p.Name = sessionARN(p.Account, p.Name, t.name), p.ID+":"+t.name, ""
	}
	if t.policy != "" {
		parsed, err := policy.Parse(t.policy, policy.Session)
		if err != nil { // one that an older program has understood
			return credential{}, fmt.Errorf("policy of a session of %s: %w", p.ARN, err)
		}
		p.Session = []*policy.Policy{parsed}
	}
	return credential{secret: keys.secret, principal: p, expires: t.expires}, nil
}

// principal reads the user or role of the ID with its policies, or stands for the
// root user of the account if the ID is empty: ErrNone.
func (s *Service) principal(ctx context.Context, account, id string) (*policy.Principal, error) {
	if id == "" {
		return Root(account), nil
	}
	e, err := s.store.EntityByID(ctx, id)
	if err != nil {
		return nil, err
	}
	documents, err := s.store.Documents(ctx, id)
	if err != nil {
		return nil, err
	}
	p := &policy.Principal{Account: e.Account, ARN: e.ARN(), ID: e.ID, Kind: policy.User, Name: e.Name}
	for _, d := range documents {
		parsed, err := policy.Parse(d.Text, policy.Identity)
		if err != nil { // one that an older program has understood; it is not to be ignored
			return nil, fmt.Errorf("policy %s of %s: %w", d.Name, p.ARN, err)
		}
		p.Policies = append(p.Policies, parsed)
	}
	return p, nil
}
