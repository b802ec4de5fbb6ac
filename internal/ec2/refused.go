package ec2

import (
	"context"
)

// unsupported refuses an action of EC2's that clients know and that has no
// meaning here, and says why.
func unsupported(why string) action {
	return func(*Handler, context.Context, *call) ([]byte, error) {
		return nil, refuse(unsupportedOperation, "%s", why)
	}
}

const (
	noTiers = "This server has one storage tier, standard: snapshots are neither archived nor restored from an archive."
	// Spec: ec2-snapshots §11.
	noVolumes = "This server has no volumes to make snapshots of. Write a snapshot with the EBS direct APIs, beginning with StartSnapshot."
)
