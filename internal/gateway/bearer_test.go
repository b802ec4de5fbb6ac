package gateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"shale/internal/gateway"
	"shale/internal/policy"
	"shale/internal/sigv4"
)

// A tokenList knows one token.
type tokenList struct{ err error }

const goodToken = "shale_good-token-that-no-log-may-show"

func (l tokenList) BearerToken(_ context.Context, token string) (*policy.Principal, error) {
	if token != goodToken || l.err != nil {
		return nil, l.err
	}
	return alice, nil
}

// Who has a token is whom it stands for, wherever the request comes from; a wrong one
// is never taken for none. Spec: plain-json, Which dialect a request gets.
func TestBearer(t *testing.T) {
	good := "Authorization: Bearer " + goodToken
	foreign := "Origin: http://example.com"
	stranger := refused("plain", sigv4.Missing)
	for _, tt := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"good", []string{good}, "plain served"},
		{"good, scheme in other letters", []string{"Authorization: bEARER  " + goodToken}, "plain served"},
		{"good, foreign origin", []string{good, foreign}, "plain served"},
		{"bad", []string{"Authorization: Bearer x"}, stranger},
		{"bad, foreign origin", []string{"Authorization: Bearer x", foreign}, stranger},
		{"none, foreign origin", []string{foreign}, refused("plain", sigv4.ForeignOrigin)},
		{"empty", []string{"Authorization: "}, stranger},
		{"no token", []string{"Authorization: Bearer"}, stranger},
		{"another scheme", []string{"Authorization: Basic " + goodToken}, stranger},
		{"two", []string{good, good}, stranger},
	} {
		f := newFixture(t, func(o *gateway.Options) {
			o.Tokens = tokenList{}
			o.Anonymous = "999900001111"
		})
		if got := f.do(request("GET", "/snapshots", "", tt.headers...)).Body.String(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if tt.want == "plain served" {
			callerOf(t, f.plain.caller, alice)
		}
		if strings.Contains(f.log.String(), goodToken) {
			t.Errorf("%s: the log shows the token", tt.name)
		}
	}
}

// A token is no use for the signed dialects.
func TestBearerIsNoSignature(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.Tokens = tokenList{} })
	r := request("POST", "/", "Action=DescribeSnapshots", "Authorization: Bearer "+goodToken)
	if got := f.do(r).Body.String(); got != refused("ec2", sigv4.Missing) {
		t.Errorf("EC2: got %q", got)
	}
	r = request("POST", "/", "{}", "Authorization: Bearer "+goodToken, "X-Amz-Target: TrentService.ListKeys")
	if got := f.do(r).Body.String(); !strings.Contains(got, "MissingAuthenticationToken") {
		t.Errorf("X-Amz-Target: got %q", got)
	}
}

// Where it cannot be known, nobody is let in, and nobody is called a stranger.
func TestBearerUnknown(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.Tokens = tokenList{errors.New("disk")} })
	if got := f.do(request("GET", "/snapshots", "", "Authorization: Bearer "+goodToken)).Body.String(); got != "plain refused: internal" {
		t.Errorf("got %q", got)
	}
	f = newFixture(t, nil)
	if got := f.do(request("GET", "/snapshots", "", "Authorization: Bearer "+goodToken)).Body.String(); got != refused("plain", sigv4.Missing) {
		t.Errorf("without tokens: got %q", got)
	}
}
