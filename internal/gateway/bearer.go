package gateway

import (
	"context"
	"fmt"
	"strings"

	"shale/internal/policy"
	"shale/internal/sigv4"
)

// Tokens finds out whom a bearer token stands for. It is asked once for each request
// that carries one.
type Tokens interface {
	// BearerToken returns whom the token stands for, nil if it is not known,
	// was revoked or has expired; an error means that it cannot be known now.
	BearerToken(ctx context.Context, token string) (*policy.Principal, error)
}

// bearer returns whom the request's bearer token stands for, nil for a request
// without credentials. Whoever shows wrong ones is refused and not taken for
// anonymous. Spec: plain-json, Which dialect a request gets.
func (x *exchange) bearer() (*policy.Principal, error) {
	headers := x.r.Header["Authorization"]
	if headers == nil {
		return nil, nil
	}
	refuse := func(detail string) (*policy.Principal, error) {
		return nil, &sigv4.Error{Kind: sigv4.Missing, Detail: detail}
	}
	scheme, token, found := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !found || !strings.EqualFold(scheme, "Bearer") {
		return refuse("the credentials are of a kind that is not known here; send Authorization: Bearer and a token")
	}
	if x.o.Tokens == nil {
		return refuse("bearer tokens are not accepted here")
	}
	who, err := x.o.Tokens.BearerToken(x.r.Context(), strings.Trim(token, " "))
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up bearer token: %w", err)
	case who == nil:
		return refuse("the bearer token is not known here: it is wrong, was revoked, or has expired")
	}
	return who, nil
}
