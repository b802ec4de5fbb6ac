package gateway

import (
	"context"
	"fmt"
	"strings"

	"shale/internal/sigv4"
)

// Tokens finds out whose a bearer token is. It is asked once for each request
// that carries one.
type Tokens interface {
	// BearerToken returns the account of the token. ok is false for one that
	// is not known, was revoked or has expired; an error means that it cannot
	// be known now.
	BearerToken(ctx context.Context, token string) (account string, ok bool, err error)
}

// bearer returns the account of the request's bearer token; given is false for
// a request without credentials. Whoever shows wrong ones is refused and not
// taken for anonymous. Spec: plain-json, Which dialect a request gets.
func (x *exchange) bearer() (account string, given bool, err error) {
	headers := x.r.Header["Authorization"]
	if headers == nil {
		return "", false, nil
	}
	refuse := func(detail string) (string, bool, error) {
		return "", true, &sigv4.Error{Kind: sigv4.Missing, Detail: detail}
	}
	scheme, token, found := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !found || !strings.EqualFold(scheme, "Bearer") {
		return refuse("the credentials are of a kind that is not known here; send Authorization: Bearer and a token")
	}
	if x.o.Tokens == nil {
		return refuse("bearer tokens are not accepted here")
	}
	account, ok, err := x.o.Tokens.BearerToken(x.r.Context(), strings.Trim(token, " "))
	switch {
	case err != nil:
		return "", true, fmt.Errorf("look up bearer token: %w", err)
	case !ok:
		return refuse("the bearer token is not known here: it is wrong, was revoked, or has expired")
	}
	return account, true, nil
}
