package ec2

import (
	"context"
	"slices"
	"strings"

	"shale/internal/query"
	"shale/internal/snapshot"
)

// maxResources is how many resources one call may tag. Spec: ec2-snapshots §4.
const maxResources = 1000

// createTags answers CreateTags. Spec: ec2-snapshots §4.
func (h *Handler) createTags(ctx context.Context, q *call) ([]byte, error) {
	ids, err := q.resources()
	if err != nil {
		return nil, err
	}
	matches, err := q.tags("Tag")
	if err != nil {
		return nil, err
	}
	if matches == nil {
		return nil, refuse(missingParameter, "The request must contain the parameter Tag")
	}
	req := snapshot.TagRequest{IDs: ids, Tags: withValues(matches)}
	if q.dryRun {
		if err := h.service.CheckTags(ctx, q.caller, req); err != nil {
			return nil, err
		}
		return nil, errDryRun
	}
	return done(h.service.CreateTags(ctx, q.caller, req))
}

// deleteTags answers DeleteTags. Without any Tag it deletes all.
// Spec: ec2-snapshots §4.
func (h *Handler) deleteTags(ctx context.Context, q *call) ([]byte, error) {
	var req snapshot.UntagRequest
	var err error
	if req.IDs, err = q.resources(); err != nil {
		return nil, err
	}
	if req.Matches, err = q.tags("Tag"); err != nil {
		return nil, err
	}
	if req.Matches == nil {
		if err := q.checkNoTag(); err != nil {
			return nil, err
		}
	}
	if q.dryRun {
		if err := h.service.CheckUntag(ctx, q.caller, req); err != nil {
			return nil, err
		}
		return nil, errDryRun
	}
	return done(h.service.DeleteTags(ctx, q.caller, req))
}

// describeTags answers DescribeTags. Spec: ec2-snapshots §4.
func (h *Handler) describeTags(ctx context.Context, q *call) ([]byte, error) {
	var req snapshot.ListTagsRequest
	var err error
	if req.MaxResults, req.NextToken, err = q.page(); err != nil {
		return nil, err
	}
	if req.Filters, err = q.filters(); err != nil {
		return nil, err
	}
	l := list{element: "tagSet", size: req.MaxResults, token: req.NextToken}
	return h.list(ctx, q, l, func(b []byte, size *int64, token *string) ([]byte, string, error) {
		req.MaxResults, req.NextToken = size, token
		page, err := h.service.ListTags(ctx, q.caller, req)
		for _, t := range page.Tags {
			b = append(b, "<item>"...)
			b = query.AppendElement(b, "resourceId", t.SnapshotID)
			b = query.AppendElement(b, "resourceType", snapshot.ResourceType)
			b = query.AppendElement(b, "key", t.Tag.Key)
			b = query.AppendElement(b, "value", t.Tag.Value)
			b = append(b, "</item>"...)
		}
		return b, page.NextToken, err
	})
}

// resources decodes ResourceId.N, each ID once.
func (f form) resources() ([]string, error) {
	ids, err := f.List("ResourceId")
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, refuse(missingParameter, "The request must contain the parameter ResourceId")
	}
	if len(ids) > maxResources {
		return nil, refuse(invalidValue, "The request names %d resources. The most is %d.", len(ids), maxResources)
	}
	for _, id := range ids {
		if !strings.HasPrefix(id, "snap-") {
			return nil, refuse(invalidID, "The ID '%s' is not valid", id)
		}
		if err := checkID(id); err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// checkNoTag refuses a request without any Tag that has something alike: tags
// that are misspelt must not be taken for none, which stands for all.
func (f form) checkNoTag() error {
	for _, name := range f.Names() {
		first, _, _ := strings.Cut(strings.ToLower(name), ".")
		if first == "tag" || first == "tags" {
			return refuse(invalidValue, "The parameter '%s' is not known. Name tags by Tag.1.Key, Tag.2.Key and so on; "+
				"without any, all tags are deleted.", name)
		}
	}
	return nil
}

// tags decodes NAME.N.Key and NAME.N.Value, nil if there are none. A value that
// is missing is nil.
func (f form) tags(name string) ([]snapshot.TagMatch, error) {
	var tags []snapshot.TagMatch
	for n := range f.Numbers(name) {
		prefix := name + "." + n
		if !f.Has(prefix+".Key") && !f.Has(prefix+".Value") {
			continue // something that this server does not know
		}
		key, err := f.required(prefix + ".Key")
		if err != nil {
			return nil, err
		}
		tag := snapshot.TagMatch{Key: key}
		if f.Has(prefix + ".Value") {
			value, err := f.Scalar(prefix + ".Value")
			if err != nil {
				return nil, err
			}
			tag.Value = &value
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// withValues makes tags of what was decoded; the value that is missing is the
// empty one.
func withValues(matches []snapshot.TagMatch) []snapshot.Tag {
	tags := make([]snapshot.Tag, len(matches))
	for i, m := range matches {
		tags[i].Key = m.Key
		if m.Value != nil {
			tags[i].Value = *m.Value
		}
	}
	return tags
}
