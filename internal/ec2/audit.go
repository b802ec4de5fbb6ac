package ec2

import (
	"context"
	"slices"

	"shale/internal/audit"
)

// audited are the parameters that the audit shows. It shows neither tokens of
// pages nor PresignedUrl, which holds a signature.
var audited = audit.Parameters{
	"Attribute":                 {Name: "attributeType", Show: attributeType},
	"CompletionDurationMinutes": {Show: audit.Typed},
	"CoolOffPeriod":             {Show: audit.Typed},
	"CreateVolumePermission":    {}, "Add": {Set: "add"}, "Remove": {Set: "remove"},
	"Description":       {},
	"DestinationRegion": {},
	"DryRun":            {Show: audit.Typed},
	"Encrypted":         {Show: audit.Typed},
	"ExpirationDate":    {},
	"Filter":            {},
	"KmsKeyId":          {Hidden: true},
	"LockDuration":      {Show: audit.Typed},
	"LockMode":          {},
	"MaxResults":        {Show: audit.Typed},
	"NextToken":         {Hidden: true},
	"OperationType":     {},
	"Owner":             {Set: "ownersSet"},
	"ResourceId":        {Set: "resourcesSet"},
	"RestorableBy":      {Set: "sharedUsersSet", Item: "user"},
	"SnapshotId":        {Set: "snapshotSet"},
	"SourceRegion":      {},
	"SourceSnapshotId":  {},
	"State":             {},
	"Tag":               {},
	"TagSpecification":  {},
	"UserGroup":         {Item: "group"},
	"UserId":            {},
}

// attributeType is how CloudTrail spells the one attribute that there is.
func attributeType(text string) any {
	if text == "createVolumePermission" {
		return "CREATE_VOLUME_PERMISSION"
	}
	return text
}

// auditForm tells the parameters. The older way to share, OperationType with
// UserId and UserGroup, is told as the newer one, as CloudTrail does: whoever
// watches for snapshots that are given away looks in one place.
func auditForm(ctx context.Context, f form) {
	r := audit.Management(ctx)
	if r == nil {
		return
	}
	r.Form(f.Values(), audited)
	operation, ok := r.Parameters["operationType"].(string)
	if !ok || r.Parameters["createVolumePermission"] != nil {
		return
	}
	r.Parameters["createVolumePermission"] = map[string]any{
		operation: map[string]any{"items": slices.Concat(items(r.Parameters["userIdSet"]), items(r.Parameters["userGroupSet"]))},
	}
	for _, name := range []string{"operationType", "userIdSet", "userGroupSet"} {
		delete(r.Parameters, name)
	}
}

// items are those of a list that r.Form made.
func items(set any) []any {
	m, _ := set.(map[string]any)
	list, _ := m["items"].([]any)
	return list
}

// auditAnswer tells what an action that changes something answered.
func auditAnswer(ctx context.Context, action, requestID string, members []byte) {
	r := audit.Management(ctx)
	if c, _ := audit.CallOf("ec2:" + action); r == nil || c.ReadOnly {
		return
	}
	r.Response = audit.Elements(members)
	r.Response["requestId"] = requestID
}
