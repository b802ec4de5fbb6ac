package rest

import "errors"

// ErrAsked is the cause of an error that nothing caused: a test asked for it.
// Spec: test-controls, Behaviour.
var ErrAsked = errors.New("a rule of /_test/behaviour asks for this error")
