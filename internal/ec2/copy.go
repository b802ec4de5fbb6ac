package ec2

import (
	"context"
	"regexp"
	"slices"

	"shale/internal/query"
	"shale/internal/snapshot"
)

// regionName is the form of the names of AWS's regions. As far as a snapshot
// is to be found in one of them, it is like one that is served here and empty.
var regionName = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]{2,16}){1,3}-\d{1,2}$`)

// copySnapshot answers CopySnapshot. PresignedUrl proves to another region who
// asks; here all is one domain of trust, and it is not looked at.
// Spec: ec2-snapshots §5.
func (h *Handler) copySnapshot(ctx context.Context, q *call) ([]byte, error) {
	req, err := h.decodeCopy(q.form, q.caller)
	if err != nil {
		return nil, err
	}
	req.DryRun = q.dryRun
	s, err := h.service.Copy(ctx, q.caller, req)
	if err != nil {
		return nil, err
	}
	if q.dryRun {
		return nil, errDryRun
	}
	b := query.AppendElement(nil, "snapshotId", s.ID)
	if len(s.Tags) > 0 {
		b = appendTags(b, s.Tags)
	}
	return b, nil
}

func (h *Handler) decodeCopy(f form, c snapshot.Caller) (req snapshot.CopyRequest, err error) {
	if req.SourceID, err = f.required("SourceSnapshotId"); err != nil {
		return req, err
	}
	if checkID(req.SourceID) != nil {
		return req, refuse(invalidValue, "The specified snapshotId is invalid")
	}
	if req.SourceRegion, err = f.required("SourceRegion"); err != nil {
		return req, err
	}
	if !slices.Contains(h.regions, req.SourceRegion) && !regionName.MatchString(req.SourceRegion) {
		return req, refuse(invalidRegion, "%s is not a valid region name", req.SourceRegion)
	}
	destination, err := f.Scalar("DestinationRegion")
	if err != nil {
		return req, err
	}
	if destination != "" && destination != c.Region {
		return req, refuse(invalidValue, "DestinationRegion '%s' does not match the current region (%s).", destination, c.Region)
	}
	for _, name := range []string{"DestinationOutpostArn", "DestinationAvailabilityZone"} {
		if f.Has(name) {
			return req, refuse(unsupportedOperation, "The parameter %s is not supported: this server has no Outposts and no Local Zones.", name)
		}
	}
	if req.Description, err = f.Optional("Description"); err != nil {
		return req, err
	}
	if f.Has("Encrypted") {
		encrypted, err := f.boolean("Encrypted")
		if err != nil {
			return req, err
		}
		req.Encrypted = &encrypted
	}
	if req.KMSKey, err = f.Optional("KmsKeyId"); err != nil {
		return req, err
	}
	if req.CompletionMinutes, err = f.integer("CompletionDurationMinutes"); err != nil {
		return req, err
	}
	req.Tags, err = f.tagSpecification()
	return req, err
}

// tagSpecification decodes TagSpecification.N, which may name snapshots only.
func (f form) tagSpecification() ([]snapshot.Tag, error) {
	var tags []snapshot.Tag
	for n := range f.Numbers("TagSpecification") {
		name := "TagSpecification." + n
		kind, err := f.required(name + ".ResourceType")
		if err != nil {
			return nil, err
		}
		if kind != "snapshot" {
			return nil, refuse(invalidValue, "'%s' is not a valid taggable resource type for this operation.", kind)
		}
		matches, err := f.tags(name + ".Tag")
		if err != nil {
			return nil, err
		}
		tags = append(tags, withValues(matches)...)
	}
	return tags, nil
}
