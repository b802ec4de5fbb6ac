package identity

import (
	"context"
	"errors"
	"strings"
	"time"
)

// A Kind says what an Entity is.
type Kind int

// The kinds. Their numbers are kept in the catalog.
const (
	RootUser Kind = iota // of an account; none is kept
	User
	Role
)

// String is the word for it in ARNs, and in AWS's messages.
func (k Kind) String() string {
	switch k {
	case User:
		return "user"
	case Role:
		return "role"
	}
	return "root"
}

// An Entity is a user or a role, or stands for the root user of an account.
type Entity struct {
	Kind       Kind
	ID         string // AIDA…, AROA…; the account's number of a root user
	Account    string // 12 digits
	Path, Name string // "/team/", "alice"; empty for a root user
	Created    time.Time

	// What only roles have.
	Trust       string // the policy that says who may assume it
	Description string
	MaxSession  time.Duration // the longest session, whole seconds
}

// ARN names the entity.
func (e *Entity) ARN() string {
	return "arn:aws:iam::" + e.Account + ":" + e.Kind.String() + e.Path + e.Name
}

// A Document is an inline policy of an entity.
type Document struct {
	Name, Text string
	// Size is the number of its characters, without blanks: what quotas count.
	Size int
}

// A Status is what an access key can be.
type Status bool

// The statuses of access keys.
const (
	Active   Status = true
	Inactive Status = false
)

// An AccessKey is what requests are signed with.
type AccessKey struct {
	ID, Secret string
	Account    string // 12 digits
	User       string // ID of the user that it belongs to; empty: the root user
	Status     Status
	Created    time.Time
}

// What a Store says instead of doing something.
var (
	ErrNone        = errors.New("there is no such thing")
	ErrExists      = errors.New("the name is taken")
	ErrLimit       = errors.New("it would be more than is allowed")
	ErrHasKeys     = errors.New("it has access keys")
	ErrHasPolicies = errors.New("it has policies")
)

// A Store keeps entities. Each change is one transaction, durable on return,
// and decides by itself whether what it needs is there: of two that race, one
// is told so.
type Store interface {
	AccountCreated(ctx context.Context, account string) (time.Time, error)

	// CreateEntity adds an entity, unless the account has one of the kind and
	// the name, in whatever letters (ErrExists), or has limit of the kind
	// already (ErrLimit).
	CreateEntity(ctx context.Context, e Entity, limit int) error
	// Entity finds an entity by its name: ErrNone.
	Entity(ctx context.Context, account string, kind Kind, name string) (Entity, error)
	// Entities gives up to limit entities whose path begins with prefix, in the
	// order of their names in lower case, beginning behind after.
	Entities(ctx context.Context, account string, kind Kind, prefix, after string, limit int) ([]Entity, error)
	// DeleteEntity removes an entity, and what the plain dialect has given it:
	// ErrNone, ErrHasKeys, ErrHasPolicies.
	DeleteEntity(ctx context.Context, id string) error
	// SetTrust replaces the trust policy of a role: ErrNone.
	SetTrust(ctx context.Context, id, trust string) error

	// PutDocument adds or replaces a policy, unless all that the entity has
	// would be larger than limit (ErrLimit): ErrNone.
	PutDocument(ctx context.Context, id string, d Document, limit int) error
	// DeleteDocument removes a policy: ErrNone.
	DeleteDocument(ctx context.Context, id, name string) error
	// Documents gives all policies of an entity, by name.
	Documents(ctx context.Context, id string) ([]Document, error)

	// CreateKey adds an access key to a user, unless it has limit already
	// (ErrLimit): ErrNone.
	CreateKey(ctx context.Context, k AccessKey, limit int) error
	// Keys gives the access keys of a user, or of the root user of the account
	// if it is empty, the oldest first.
	Keys(ctx context.Context, account, user string) ([]AccessKey, error)
	// SetKeyStatus: ErrNone if the user has no such key.
	SetKeyStatus(ctx context.Context, user, key string, s Status) error
	// DeleteKey: ErrNone if the user has no such key.
	DeleteKey(ctx context.Context, user, key string) error

	// Key finds an access key: ErrNone.
	Key(ctx context.Context, id string) (AccessKey, error)
	// EntityByID finds an entity: ErrNone.
	EntityByID(ctx context.Context, id string) (Entity, error)
}

// Fold gives a name in the letters by which it is unique and sorted: AWS does
// not tell names apart by their case.
func Fold(name string) string { return strings.ToLower(name) }
