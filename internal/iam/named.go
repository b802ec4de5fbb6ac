package iam

import (
	"errors"

	"shale/internal/identity"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

// typical is the condition that a code stands for where several have it and the
// first of them is not the one that clients meet.
var typical = map[string]error{
	accessDenied.code:     rest.ErrDenied,
	invalidClient.code:    &sigv4.Error{Kind: sigv4.UnknownKey},
	invalidSignature.code: &sigv4.Error{Kind: sigv4.Mismatch},
	requestTooLarge.code:  &rest.Error{Kind: rest.BodyTooLong, Value: "262144"},
	throttling.code:       &rest.Error{Kind: rest.RateExceeded},
	missingAction.code:    errNoAction,
	internalFailure.code:  errInternal,
}

// errNoAction is a request that does not say what it is for.
var errNoAction = &actionError{missingAction, "Missing Action"}

// errInternal is what the server tells as InternalFailure, as it does all that it
// has no other name for.
var errInternal = errors.New(internalFailure.code)

// Named returns an error that Refuse tells by the code on the wire; nil if there
// is none of that code here.
func (h *Handler) Named(name, _ string) error {
	if err := typical[name]; err != nil {
		return err
	}
	if code := identity.Code(name); serviceRows[code] != 0 {
		return &identity.Error{Code: code, Text: rest.Sentence(rest.ErrAsked)}
	}
	for k, r := range requestRows {
		if r.code == name {
			return &rest.Error{Kind: rest.Kind(k), Field: "Action", Value: rest.ErrAsked.Error(), Err: rest.ErrAsked}
		}
	}
	for k, r := range signatureRows {
		if r.code == name {
			return &sigv4.Error{Kind: sigv4.Kind(k)}
		}
	}
	return nil
}
