package trent

import (
	"errors"

	"shale/internal/kms"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

// errInternal is what the server tells as KMSInternalException, as it does all
// that it has no other name for.
var errInternal = errors.New(internalError.name)

// Named returns an error that Refuse tells by the name on the wire; nil if there
// is none of that name here.
func (h *Handler) Named(name, _ string) error {
	if serviceRows[kms.Code(name)] != 0 {
		return &kms.Error{Code: kms.Code(name), Text: rest.Sentence(rest.ErrAsked)}
	}
	for k, r := range requestRows {
		if r.name == name {
			return &rest.Error{Kind: rest.Kind(k), Value: rest.ErrAsked.Error(), Err: rest.ErrAsked}
		}
	}
	for k, r := range signatureRows {
		if r.name == name {
			return &sigv4.Error{Kind: sigv4.Kind(k)}
		}
	}
	if name == internalError.name {
		return errInternal
	}
	return nil
}
