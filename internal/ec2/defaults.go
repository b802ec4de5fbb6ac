package ec2

import (
	"context"
	"strconv"

	"shale/internal/query"
	"shale/internal/snapshot"
)

// dryRun gives the verdict of a dry run of an action on the account's settings,
// which depends on nothing but who asks.
func (h *Handler) dryRun(ctx context.Context, q *call) error {
	if err := h.service.CheckAction(ctx, q.caller, snapshot.Action("ec2:"+q.name)); err != nil {
		return err
	}
	return errDryRun
}

// publicAccessBlock answers with the state of the account.
// Spec: ec2-snapshots §6.4.
func publicAccessBlock(state snapshot.PublicAccess) []byte {
	return query.AppendElement(nil, "state", string(state))
}

// getPublicAccessBlock answers GetSnapshotBlockPublicAccessState.
func (h *Handler) getPublicAccessBlock(ctx context.Context, q *call) ([]byte, error) {
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	state, err := h.service.PublicAccess(ctx, q.caller)
	if err != nil {
		return nil, err
	}
	return query.AppendElement(publicAccessBlock(state), "managedBy", "account"), nil
}

// enablePublicAccessBlock answers EnableSnapshotBlockPublicAccess.
func (h *Handler) enablePublicAccessBlock(ctx context.Context, q *call) ([]byte, error) {
	value, err := q.required("State")
	if err != nil {
		return nil, err
	}
	state := snapshot.PublicAccess(value)
	if state != snapshot.BlockAll && state != snapshot.BlockNew {
		return nil, refuse(invalidValue, "Value ( %s ) for parameter state is invalid. Expecting %s or %s.",
			value, snapshot.BlockAll, snapshot.BlockNew)
	}
	return h.setPublicAccessBlock(ctx, q, state)
}

// disablePublicAccessBlock answers DisableSnapshotBlockPublicAccess.
func (h *Handler) disablePublicAccessBlock(ctx context.Context, q *call) ([]byte, error) {
	return h.setPublicAccessBlock(ctx, q, snapshot.Unblocked)
}

func (h *Handler) setPublicAccessBlock(ctx context.Context, q *call, state snapshot.PublicAccess) ([]byte, error) {
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	if err := h.service.SetPublicAccess(ctx, q.caller, state); err != nil {
		return nil, err
	}
	return publicAccessBlock(state), nil
}

// getEncryptionByDefault answers GetEbsEncryptionByDefault.
// Spec: ec2-snapshots §7.
func (h *Handler) getEncryptionByDefault(ctx context.Context, q *call) ([]byte, error) {
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	on, err := h.service.EncryptionByDefault(ctx, q.caller)
	if err != nil {
		return nil, err
	}
	return encryptionByDefault(on), nil
}

// enableEncryptionByDefault answers EnableEbsEncryptionByDefault.
func (h *Handler) enableEncryptionByDefault(ctx context.Context, q *call) ([]byte, error) {
	return h.setEncryptionByDefault(ctx, q, true)
}

// disableEncryptionByDefault answers DisableEbsEncryptionByDefault.
func (h *Handler) disableEncryptionByDefault(ctx context.Context, q *call) ([]byte, error) {
	return h.setEncryptionByDefault(ctx, q, false)
}

func (h *Handler) setEncryptionByDefault(ctx context.Context, q *call, on bool) ([]byte, error) {
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	if err := h.service.SetEncryptionByDefault(ctx, q.caller, on); err != nil {
		return nil, err
	}
	return encryptionByDefault(on), nil
}

func encryptionByDefault(on bool) []byte {
	return query.AppendElement(nil, "ebsEncryptionByDefault", strconv.FormatBool(on))
}

// getDefaultKey answers GetEbsDefaultKmsKeyId.
func (h *Handler) getDefaultKey(ctx context.Context, q *call) ([]byte, error) {
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	return defaultKey(h.service.DefaultKey(ctx, q.caller))
}

// modifyDefaultKey answers ModifyEbsDefaultKmsKeyId.
func (h *Handler) modifyDefaultKey(ctx context.Context, q *call) ([]byte, error) {
	name, err := q.required("KmsKeyId")
	if err != nil {
		return nil, err
	}
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	return defaultKey(h.service.SetDefaultKey(ctx, q.caller, name))
}

// resetDefaultKey answers ResetEbsDefaultKmsKeyId.
func (h *Handler) resetDefaultKey(ctx context.Context, q *call) ([]byte, error) {
	if q.dryRun {
		return nil, h.dryRun(ctx, q)
	}
	return defaultKey(h.service.ResetDefaultKey(ctx, q.caller))
}

func defaultKey(name string, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return query.AppendElement(nil, "kmsKeyId", name), nil
}
