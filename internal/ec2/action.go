package ec2

import (
	"context"
	"maps"
	"slices"

	"shale/internal/snapshot"
)

// A call is one request: who asks, for which action, and with which parameters.
type call struct {
	form
	name   string // of the action, as policies have it behind "ec2:"
	caller snapshot.Caller
	// dryRun asks whether the request would succeed. An action that finds it
	// set returns errDryRun once it knows, in place of changing anything or
	// answering.
	dryRun bool
	answer answer
}

// An action decodes its parameters, does what they ask for and returns the
// members of its answer, which stand after the request ID. Each decides for
// itself at which point a dry run ends: syntax comes before it, state after it.
// Spec: ec2-snapshots §1.5.
type action func(*Handler, context.Context, *call) (members []byte, err error)

// actions are those that are served, by name.
var actions = map[string]action{
	"CreateTags":                        (*Handler).createTags,
	"DeleteSnapshot":                    (*Handler).deleteSnapshot,
	"DeleteTags":                        (*Handler).deleteTags,
	"DescribeSnapshotAttribute":         (*Handler).describeSnapshotAttribute,
	"DescribeSnapshots":                 (*Handler).describeSnapshots,
	"DescribeTags":                      (*Handler).describeTags,
	"DisableEbsEncryptionByDefault":     (*Handler).disableEncryptionByDefault,
	"DisableSnapshotBlockPublicAccess":  (*Handler).disablePublicAccessBlock,
	"EnableEbsEncryptionByDefault":      (*Handler).enableEncryptionByDefault,
	"EnableSnapshotBlockPublicAccess":   (*Handler).enablePublicAccessBlock,
	"GetEbsDefaultKmsKeyId":             (*Handler).getDefaultKey,
	"GetEbsEncryptionByDefault":         (*Handler).getEncryptionByDefault,
	"GetSnapshotBlockPublicAccessState": (*Handler).getPublicAccessBlock,
	"ModifyEbsDefaultKmsKeyId":          (*Handler).modifyDefaultKey,
	"ModifySnapshotAttribute":           (*Handler).modifySnapshotAttribute,
	"ResetEbsDefaultKmsKeyId":           (*Handler).resetDefaultKey,
	"ResetSnapshotAttribute":            (*Handler).resetSnapshotAttribute,

	"CopySnapshot": (*Handler).copySnapshot,

	"DescribeLockedSnapshots": (*Handler).describeLockedSnapshots,
	"LockSnapshot":            (*Handler).lockSnapshot,
	"UnlockSnapshot":          (*Handler).unlockSnapshot,

	"ListSnapshotsInRecycleBin":     (*Handler).listSnapshotsInRecycleBin,
	"RestoreSnapshotFromRecycleBin": (*Handler).restoreSnapshotFromRecycleBin,

	"CreateSnapshot":             unsupported(noVolumes),
	"DescribeSnapshotTierStatus": unsupported(noTiers),
	"ModifySnapshotTier":         unsupported(noTiers),
	"RestoreSnapshotTier":        unsupported(noTiers),
}

// Actions names the actions that are served, in alphabetical order.
func Actions() []string { return slices.Sorted(maps.Keys(actions)) }

// succeeded is the answer of an action that has none of its own.
// Spec: ec2-snapshots §1.2.
var succeeded = []byte("<return>true</return>")

// done answers with succeeded, unless there is an error.
func done(err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return succeeded, nil
}

// required returns the value of a parameter that must be there, though it may
// be empty.
func (f form) required(name string) (string, error) {
	if !f.Has(name) {
		return "", refuse(missingParameter, "The request must contain the parameter %s", name)
	}
	return f.Scalar(name)
}

// snapshotID returns SnapshotId, which must be there and well formed.
func (f form) snapshotID() (string, error) {
	id, err := f.required("SnapshotId")
	if err != nil {
		return "", err
	}
	return id, checkID(id)
}
