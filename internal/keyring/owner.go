package keyring

import (
	"context"
	"fmt"
	"strings"

	"shale/internal/domain"
	"shale/internal/kms"
	"shale/internal/vfs"
)

// OwnersKey gives the key of a domain on behalf of the account that owns its KMS
// key, for work that nobody in particular has asked for. Errors as for Key.
func (k *Keyring) OwnersKey(ctx context.Context, n domain.Number) (*domain.Key, error) {
	e, err := k.find(n)
	if err != nil {
		return nil, err
	}
	owner, ok := e.owner()
	if !ok {
		return nil, fmt.Errorf("domain %v: its KMS key has an ARN without an account", n)
	}
	return k.Key(ctx, owner, n)
}

// owner is the account of the entry's KMS key, in its region.
func (e *entry) owner() (kms.Caller, bool) {
	parts := strings.SplitN(e.arn, ":", 6) // arn:aws:kms:REGION:ACCOUNT:key/ID
	if len(parts) < 6 {
		return kms.Caller{}, false
	}
	return kms.Caller{Account: parts[4], Region: parts[3], Worker: true}, true
}

// ReadARN gives the ARN of the KMS key in the file of a domain. The error is
// domain.ErrLost if that is missing or damaged.
func ReadARN(dir vfs.FS, n domain.Number) (string, error) {
	b, err := vfs.ReadAll(dir, n.String(), maxFile)
	if err == nil {
		var f file
		if f, err = decode(n.String(), b); err == nil {
			return f.arn, nil
		}
	}
	return "", fmt.Errorf("domain %v: %w: %w", n, domain.ErrLost, err)
}
