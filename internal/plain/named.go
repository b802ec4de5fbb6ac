package plain

import (
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// typical is the condition that a code stands for where several have it and the
// first of them is not the one that clients meet.
var typical = map[code]error{
	throttled:        &snapshot.Error{Code: snapshot.Throttled},
	validationError:  &snapshot.Error{Code: snapshot.BodyIncomplete, Err: rest.ErrAsked},
	accessDenied:     rest.ErrDenied,
	checksumMismatch: &snapshot.Error{Code: snapshot.SignedDigestMismatch},
	methodNotAllowed: &rest.Error{Kind: rest.UnknownMethod, Value: "of this request", Allow: []string{"GET"}},
}

// Named returns an error that Refuse tells by the code on the wire, about the
// snapshot if it is about one; nil if there is none of that code here.
func (h *Handler) Named(name, id string) error {
	if err := typical[code(name)]; err != nil {
		return err
	}
	for c, r := range serviceRows {
		if string(r.code) == name {
			return &snapshot.Error{Code: snapshot.Code(c), Snapshot: id, Err: rest.ErrAsked}
		}
	}
	for k, r := range requestRows {
		if string(r.code) == name {
			return &rest.Error{Kind: rest.Kind(k), Value: rest.ErrAsked.Error(), Err: rest.ErrAsked}
		}
	}
	for k, r := range signatureRows {
		if string(r.code) == name {
			return &sigv4.Error{Kind: sigv4.Kind(k)}
		}
	}
	return nil
}
