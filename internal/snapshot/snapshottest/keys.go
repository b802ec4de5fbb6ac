package snapshottest

import (
	"context"
	"strings"

	"shale/internal/snapshot"
)

// ARNs of the keys that Keys knows, beside those that AWS manages.
const (
	KeyARN = "arn:aws:kms:" + Region + ":" + Account + ":key/12345678-1234-1234-1234-123456789012"
	KeyID  = "12345678-1234-1234-1234-123456789012"
	// KeyAlias names the key of the first account.
	KeyAlias = "alias/mine"
)

// Keys is a set of KMS keys: in each account and region the one that AWS
// manages for EBS, and in the first account one of its own.
type Keys struct{}

// ManagedKeyARN is the ARN of the key that AWS manages for the caller.
func ManagedKeyARN(c snapshot.Caller) string {
	return "arn:aws:kms:" + c.Region + ":" + c.Account + ":key/aws-ebs"
}

// ResolveKey implements snapshot.KeyResolver.
func (Keys) ResolveKey(_ context.Context, c snapshot.Caller, name string) (string, error) {
	switch managed := ManagedKeyARN(c); name {
	case snapshot.DefaultKeyAlias, managed:
		return managed, nil
	case KeyID, KeyARN, KeyAlias, "arn:aws:kms:" + Region + ":" + Account + ":" + KeyAlias:
		if c == Caller {
			return KeyARN, nil
		}
	}
	return "", snapshot.ErrKeyUnusable
}

// AWSManaged implements snapshot.KeyResolver.
func (Keys) AWSManaged(_ context.Context, _ snapshot.Caller, arn string) (bool, error) {
	return strings.HasSuffix(arn, ":key/aws-ebs"), nil
}
