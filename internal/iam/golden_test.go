package iam_test

import (
	"bytes"
	"net/http"
	"testing"

	"shale/internal/block"
	"shale/internal/iam"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/rest/resttest"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// A pair of doors: the request header Service says which one is meant, and the
// headers Key and Token whose credential is used.
type pair struct {
	service  *identity.Service
	iam, sts *iam.Handler
}

func (p pair) door(r *http.Request) *iam.Handler {
	if r.Header.Get("Service") == "sts" {
		return p.sts
	}
	return p.iam
}

func (p pair) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error {
	if key := r.Header.Get("Key"); key != "" {
		_, who, err := p.service.Credential(r.Context(), key, r.Header.Get("Token"))
		if err != nil {
			return err
		}
		c.Account, c.By = who.Account, &policy.Subject{Principal: who}
	}
	return p.door(r).Serve(w, r, c, signed)
}

func (p pair) Refuse(w http.ResponseWriter, r *http.Request, err error) { p.door(r).Refuse(w, r, err) }

func TestGolden(t *testing.T) {
	resttest.RunEnv(t, func(_ *testing.T, e *snapshottest.Env) resttest.Door {
		s := identity.New(identity.Options{
			Store: e.Catalog, SessionKey: bytes.Repeat([]byte{7}, identity.SessionKeySize), Now: e.Clock.Now,
		})
		return pair{s, iam.New(s), iam.NewSTS(s)}
	})
}
