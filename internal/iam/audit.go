package iam

import (
	"context"

	"shale/internal/audit"
	"shale/internal/query"
)

// audited are the parameters that the audit shows. It shows no markers of pages,
// and of external IDs only that there was one: policies may ask for those as for
// a password.
var audited = audit.Parameters{
	"AccessKeyId":              {},
	"AssumeRolePolicyDocument": {},
	"Description":              {},
	"DurationSeconds":          {Show: audit.Typed},
	"ExternalId":               {Hidden: true},
	"Marker":                   {Hidden: true},
	"MaxItems":                 {Show: audit.Typed},
	"MaxSessionDuration":       {Show: audit.Typed},
	"Path":                     {},
	"PathPrefix":               {},
	"Policy":                   {},
	"PolicyDocument":           {},
	"PolicyName":               {},
	"RoleArn":                  {},
	"RoleName":                 {},
	"RoleSessionName":          {},
	"Status":                   {},
	"UserName":                 {},
}

// auditForm tells the parameters.
func auditForm(ctx context.Context, f query.Form) {
	if r := audit.Management(ctx); r != nil {
		r.Form(f.Values(), audited)
	}
}

// issuers are the actions that read and still give what has to be known later:
// under which access key somebody goes on.
var issuers = map[string]bool{"AssumeRole": true, "GetSessionToken": true}

// auditAnswer tells what an action of the service answered that changes
// something or gives credentials.
func (h *Handler) auditAnswer(ctx context.Context, action string, members []byte) {
	r := audit.Management(ctx)
	if r == nil || members == nil {
		return
	}
	if c, _ := audit.CallOf(h.name + ":" + action); !c.ReadOnly || issuers[action] {
		r.Response = audit.Elements(members)
	}
}
