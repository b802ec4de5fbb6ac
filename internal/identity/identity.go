// Package identity knows who may sign: the root users of accounts, users with
// their access keys, roles, and sessions of both. It finds the policies that
// bind each, has policy judge by them, and lets those be managed who may.
//
// It knows no dialect and no SQL: the door iam turns AWS's queries into its
// methods, and the catalog keeps what Store says.
//
// Sessions are kept nowhere: all there is to know of one stands in its token,
// sealed (session.go). Who an access key belongs to is kept in memory once it
// was looked up, until anything changes (credential.go).
//
// Source: IAM User Guide; AWS STS API Reference. Spec: ebs-direct §1.1, §11.
package identity

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"shale/internal/policy"
)

// Options say what a Service stands on. All are required.
type Options struct {
	Store Store
	// SessionKey seals session tokens: SessionKeySize random bytes.
	SessionKey []byte
	// Now is the clock of sessions.
	Now func() time.Time
}

// A Service is safe for concurrent use.
type Service struct {
	store    Store
	sessions []byte
	now      func() time.Time

	// generation counts the changes made through this service. What was read
	// under another one than the present is not to be relied on.
	generation atomic.Uint64
	known      *otter.Cache[presented, credential]
}

// New returns a Service. It starts nothing.
func New(o Options) *Service {
	return &Service{
		store: o.Store, sessions: o.SessionKey, now: o.Now,
		known: otter.Must(&otter.Options[presented, credential]{
			MaximumSize: maxKnown, ExpiryCalculator: otter.ExpiryWriting[presented, credential](knownTime),
		}),
	}
}

// A Caller is who asks, and for which account.
type Caller struct {
	Account string // 12 digits
	By      *policy.Subject
}

// Root gives the root user of an account, whom no policy binds.
func Root(account string) *policy.Principal {
	return &policy.Principal{Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account, Kind: policy.Account}
}

// authorize asks whether the caller may do the action on a resource of the
// account. keys are the condition keys of the action, besides the global ones.
func (c Caller) authorize(action, resource string) error {
	return c.By.Authorize(policy.Request{Action: action, Resource: resource, Keys: keysOf(c.Account, nil)})
}

// keysOf gives the condition keys of a request about what the account owns.
func keysOf(account string, own map[string]string) func(string) ([]string, bool, error) {
	return func(key string) ([]string, bool, error) {
		if key == "aws:resourceaccount" {
			return []string{account}, true, nil
		}
		value, ok := own[key]
		return []string{value}, ok, nil
	}
}

// changing runs a change, after which nothing that was read before it counts:
// not even if it failed, for then nobody may know what became of it.
func (s *Service) changing(change func() error) error {
	defer s.generation.Add(1)
	return change()
}

// newID makes an ID like AWS's: four letters that say of what, and random ones.
func newID(prefix string, length int) string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return prefix + base32.StdEncoding.EncodeToString(b)[:length]
}

// newSecret makes the secret half of an access key.
func newSecret() string {
	b := make([]byte, 30)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// NewAccessKey makes the ID and the secret of an access key, at random.
func NewAccessKey() (id, secret string) { return newID("AKIA", 16), newSecret() }

// moment is now, to the millisecond, as it is kept.
func (s *Service) moment() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// account tells when the account was made.
func (s *Service) account(ctx context.Context, id string) (Entity, error) {
	created, err := s.store.AccountCreated(ctx, id)
	return Entity{Kind: RootUser, ID: id, Account: id, Created: created}, err
}
