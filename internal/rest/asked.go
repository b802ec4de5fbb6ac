package rest

import (
	"errors"

	"shale/internal/policy"
)

// ErrAsked is the cause of an error that nothing caused: a test asked for it.
// Spec: test-controls, Behaviour.
var ErrAsked = errors.New("a rule of /_test/behaviour asks for this error")

// ErrDenied is the denial of a test that asked for one, in AWS's words: nobody
// was denied anything. Its principal is the account of AWS's examples.
var ErrDenied error = &policy.Denied{
	Principal: "arn:aws:iam::123456789012:user/denied", Action: "this:Operation", Resource: "*",
	Why: "because " + ErrAsked.Error(),
}
