// Package iam has the doors of AWS's Identity and Access Management and of its
// Security Token Service: the query protocol, in which a request is a form and
// an answer XML. It turns forms into calls of identity.Service and its errors
// into AWS's. Shapes and constraints are those of the services' models,
// 2010-05-08 and 2011-06-15; what the operations do is identity's to say.
//
// Spec: ebs-direct §1.1.
package iam

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"shale/internal/block"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/query"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// A Handler serves one of the two. It has no state and is safe for concurrent
// use.
type Handler struct {
	service   *identity.Service
	name      string // of the AWS service, as the gateway has it
	namespace string
	actions   map[string]action
}

// New returns the door of IAM.
func New(s *identity.Service) *Handler {
	return &Handler{service: s, name: "iam", namespace: "https://iam.amazonaws.com/doc/2010-05-08/", actions: actions}
}

// NewSTS returns the door of STS.
func NewSTS(s *identity.Service) *Handler {
	return &Handler{service: s, name: "sts", namespace: "https://sts.amazonaws.com/doc/2011-06-15/", actions: stsActions}
}

// A call is one request: its parameters are decoded as they are asked for.
type call struct {
	context.Context
	service *identity.Service
	caller  identity.Caller
	form    query.Form
}

// An action does what a call asks for and returns the members of its result,
// nil if it has none.
type action func(*call) (members []byte, err error)

// actions are those of IAM that are served.
var actions = map[string]action{
	"CreateAccessKey":        createAccessKey,
	"CreateRole":             createRole,
	"CreateUser":             createUser,
	"DeleteAccessKey":        deleteAccessKey,
	"DeleteRole":             deleteRole,
	"DeleteRolePolicy":       deletePolicy(identity.Role),
	"DeleteUser":             deleteUser,
	"DeleteUserPolicy":       deletePolicy(identity.User),
	"GetRole":                getRole,
	"GetRolePolicy":          getPolicy(identity.Role),
	"GetUser":                getUser,
	"GetUserPolicy":          getPolicy(identity.User),
	"ListAccessKeys":         listAccessKeys,
	"ListRolePolicies":       listPolicies(identity.Role),
	"ListRoles":              listRoles,
	"ListUserPolicies":       listPolicies(identity.User),
	"ListUsers":              listUsers,
	"PutRolePolicy":          putPolicy(identity.Role),
	"PutUserPolicy":          putPolicy(identity.User),
	"UpdateAccessKey":        updateAccessKey,
	"UpdateAssumeRolePolicy": updateAssumeRolePolicy,
}

// stsActions are those of STS.
var stsActions = map[string]action{
	"AssumeRole":        assumeRole,
	"GetCallerIdentity": getCallerIdentity,
	"GetSessionToken":   getSessionToken,
}

// Actions names the actions that are served, in alphabetical order.
func (h *Handler) Actions() []string { return slices.Sorted(maps.Keys(h.actions)) }

// Serve answers r on behalf of c. A form's signature covers its bytes, so the
// signed digest is of no use here: whoever verified it has read the body. Serve
// expects the header x-amzn-RequestId to be set; it returns an error, for
// Refuse, only if it has written nothing.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, _ *block.Digest) error {
	f, err := query.Read(r)
	if err != nil {
		return err
	}
	name, err := f.Scalar("Action")
	if err != nil {
		return err
	}
	if name == "" {
		return errNoAction
	}
	serve, ok := h.actions[name]
	if !ok {
		return &actionError{invalidAction, "The action " + name + " is not valid for this web service: this server does not have it."}
	}
	auditForm(r.Context(), f)
	by := c.By
	if by == nil { // the account itself
		by = &policy.Subject{Principal: identity.Root(c.Account)}
	}
	members, err := serve(&call{r.Context(), h.service, identity.Caller{Account: c.Account, By: by}, f})
	if err != nil {
		return err
	}
	h.auditAnswer(r.Context(), name, members)
	b := append([]byte("<"+name+`Response xmlns="`), h.namespace+`">`...)
	if members != nil {
		b = append(b, "<"+name+"Result>"...)
		b = append(b, members...)
		b = append(b, "</"+name+"Result>"...)
	}
	b = append(b, "<ResponseMetadata>"...)
	b = query.AppendElement(b, "RequestId", requestID(w))
	b = append(b, "</ResponseMetadata></"+name+"Response>"...)
	rest.Send(w, http.StatusOK, contentType, b)
	return nil
}

const contentType = "text/xml"

func requestID(w http.ResponseWriter) string { return w.Header().Get("X-Amzn-Requestid") }
