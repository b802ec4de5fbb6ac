package identity

import (
	"context"
	"errors"
	"regexp"
	"time"
	"unicode/utf8"

	"shale/internal/policy"
)

// Bounds of sessions. Source: AWS STS API Reference.
const (
	maxSessionPolicy = 2048      // characters
	maxChained       = time.Hour // a role's session that a role's session began
	maxRootSession   = time.Hour
	usualUserSession = 12 * time.Hour
)

// A Session is what a client needs to sign as one.
type Session struct {
	AccessKey, Secret, Token string
	Expires                  time.Time
	// ARN and ID are those of the session of a role.
	ARN, ID string
	// PackedPolicy is how much of the room for its policy is used, in percent.
	PackedPolicy int
}

// An AssumeRole says which role a session is to be of.
type AssumeRole struct {
	RoleARN    string
	Name       string // of the session
	Policy     *string
	Duration   time.Duration // whole seconds; 0 for the usual one
	ExternalID *string
}

var roleARN = regexp.MustCompile(`^arn:aws:iam::([0-9]{12}):role/(?:[\x21-\x7e]*/)?([\w+=,.@-]+)$`)

// AssumeRole begins a session of a role, if its policy and the caller's let it.
// A role that is not there is refused in the same words.
func (s *Service) AssumeRole(ctx context.Context, c Caller, r AssumeRole) (Session, error) {
	if c.By.Kind == policy.Account {
		return Session{}, refuse(AccessDenied, "Roles may not be assumed by root accounts.")
	}
	found := roleARN.FindStringSubmatch(r.RoleARN)
	if found == nil {
		return Session{}, refuse(InvalidInput, "%s is invalid", r.RoleARN)
	}
	text, err := sessionPolicy(r.Policy)
	if err != nil {
		return Session{}, err
	}
	role, err := s.assumable(ctx, c, r, found[1], found[2])
	if err != nil {
		return Session{}, err
	}
	if r.Duration == 0 {
		r.Duration = UsualSession
	}
	switch {
	case r.Duration > role.MaxSession:
		return Session{}, refuse(InvalidInput, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	case c.By.Kind == policy.AssumedRole && r.Duration > maxChained:
		return Session{}, refuse(InvalidInput, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	session, err := s.begin(claims{account: role.Account, entity: role.ID, name: r.Name, policy: text}, r.Duration)
	session.ARN, session.ID = sessionARN(role.Account, role.Name, r.Name), role.ID+":"+r.Name
	session.PackedPolicy = (utf8.RuneCountInString(text)*100 + maxSessionPolicy - 1) / maxSessionPolicy
	return session, err
}

// sessionARN names a session of a role: without the role's path.
func sessionARN(account, role, session string) string {
	return "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + session
}

// sessionPolicy checks the policy that is passed for a session, empty for none.
func sessionPolicy(text *string) (string, error) {
	if text == nil {
		return "", nil
	}
	if n := utf8.RuneCountInString(*text); n > maxSessionPolicy {
		return "", refuse(PolicyTooLarge, "Packed policy consumes %d%% of allotted space, please use smaller policy.", n*100/maxSessionPolicy)
	}
	if _, err := policy.Parse(*text, policy.Session); err != nil {
		return "", malformed(err)
	}
	return *text, nil
}

// assumable finds the role that the caller may assume.
func (s *Service) assumable(ctx context.Context, c Caller, r AssumeRole, account, name string) (Entity, error) {
	const action = "sts:AssumeRole"
	denied := refuse(AccessDenied, "User: %s is not authorized to perform: %s on resource: %s", c.By.ARN, action, r.RoleARN)
	role, err := s.store.Entity(ctx, account, Role, name)
	switch {
	case errors.Is(err, ErrNone):
		return Entity{}, denied
	case err != nil:
		return Entity{}, err
	case role.ARN() != r.RoleARN:
		return Entity{}, denied
	}
	trust, err := policy.Parse(role.Trust, policy.Trust)
	if err != nil { // one that an older program has understood
		return Entity{}, err
	}
	own := map[string]string{"sts:rolesessionname": r.Name}
	if r.ExternalID != nil {
		own["sts:externalid"] = *r.ExternalID
	}
	err = c.By.AuthorizeOn(trust, account, policy.Request{Action: action, Resource: r.RoleARN, Keys: keysOf(account, own)})
	if _, ok := errors.AsType[*policy.Denied](err); ok {
		return Entity{}, denied
	}
	return role, err
}

// GetSessionToken begins a session of the user that asks, or of the root user;
// duration 0 is the usual one. No policy is asked: the session may no more than
// who begins it. Source: AWS STS API Reference, GetSessionToken.
func (s *Service) GetSessionToken(_ context.Context, c Caller, duration time.Duration) (Session, error) {
	if !c.By.Issued.IsZero() {
		return Session{}, refuse(AccessDenied, "Cannot call GetSessionToken with session credentials")
	}
	if duration == 0 {
		duration = usualUserSession
	}
	t := claims{account: c.Account, entity: c.By.ID}
	if c.By.Kind == policy.Account {
		t.entity, duration = "", min(duration, maxRootSession)
	}
	return s.begin(t, duration)
}

// begin makes the token of a session that begins now.
func (s *Service) begin(t claims, duration time.Duration) (Session, error) {
	t.issued = s.now().UTC().Truncate(time.Second)
	t.expires = t.issued.Add(duration)
	token, keys, err := s.seal(t)
	return Session{AccessKey: keys.accessKey, Secret: keys.secret, Token: token, Expires: t.expires}, err
}
