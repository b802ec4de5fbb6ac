package ebs

import (
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// startBody is the JSON of StartSnapshot. Timeout has 32 bits in the model,
// VolumeSize 64. Spec: ebs-direct §3.
type startBody struct {
	VolumeSize       *int64
	ParentSnapshotID *string `json:"ParentSnapshotId"`
	Tags             []tag
	Description      *string
	ClientToken      *string
	Encrypted        *bool
	KMSKeyARN        *string `json:"KmsKeyArn"`
	Timeout          *int32
}

// A tag's missing Key or Value is the empty string. Spec: ebs-direct §8.3.
type tag struct{ Key, Value string }

// decodeStart decodes the body of a StartSnapshot. Errors are *rest.Error.
func decodeStart(body []byte) (snapshot.StartRequest, error) {
	var b startBody
	if err := rest.DecodeObject(body, &b); err != nil {
		return snapshot.StartRequest{}, err
	}
	req := snapshot.StartRequest{
		VolumeSize:       b.VolumeSize,
		ParentSnapshotID: b.ParentSnapshotID,
		Description:      b.Description,
		ClientToken:      b.ClientToken,
		Encrypted:        b.Encrypted,
		KMSKeyARN:        b.KMSKeyARN,
	}
	for _, t := range b.Tags {
		req.Tags = append(req.Tags, snapshot.Tag(t))
	}
	if b.Timeout != nil {
		minutes := int64(*b.Timeout)
		req.Timeout = &minutes
	}
	return req, nil
}
