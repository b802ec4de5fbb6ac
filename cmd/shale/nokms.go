package main

import (
	"context"

	"shale/internal/kms"
)

// noKMS is the KMS of a server without one: it has no keys.
type noKMS struct{}

func (noKMS) refuse() error {
	return &kms.Error{Code: kms.NotFound, Text: "This server has no KMS."}
}

// Key implements kms.Provider.
func (n noKMS) Key(context.Context, kms.Caller, string, ...kms.Action) (kms.Key, error) {
	return kms.Key{}, n.refuse()
}

// GenerateDataKey implements kms.Provider.
func (n noKMS) GenerateDataKey(context.Context, kms.Caller, string, map[string]string) (kms.DataKey, error) {
	return kms.DataKey{}, n.refuse()
}

// Decrypt implements kms.Provider.
func (n noKMS) Decrypt(context.Context, kms.Caller, string, []byte, map[string]string) ([32]byte, error) {
	return [32]byte{}, n.refuse()
}
