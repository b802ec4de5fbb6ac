package iam

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"shale/internal/identity"
	"shale/internal/query"
)

// formatTime prints t as IAM and STS do.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// escape writes a policy as IAM's answers have it: percent-encoded as in RFC
// 3986.
func escape(policy string) string { return strings.ReplaceAll(url.QueryEscape(policy), "+", "%20") }

// appendEntity appends a user or a role. A root user has neither path nor name.
func appendEntity(b []byte, e *identity.Entity) []byte {
	title := "User"
	if e.Kind == identity.Role {
		title = "Role"
	}
	if e.Kind != identity.RootUser {
		b = query.AppendElement(b, "Path", e.Path)
		b = query.AppendElement(b, title+"Name", e.Name)
	}
	b = query.AppendElement(b, title+"Id", e.ID)
	b = query.AppendElement(b, "Arn", e.ARN())
	b = query.AppendElement(b, "CreateDate", formatTime(e.Created))
	if e.Kind == identity.Role {
		b = query.AppendElement(b, "AssumeRolePolicyDocument", escape(e.Trust))
		if e.Description != "" {
			b = query.AppendElement(b, "Description", e.Description)
		}
		b = query.AppendElement(b, "MaxSessionDuration", strconv.Itoa(int(e.MaxSession/time.Second)))
	}
	return b
}

// oneEntity is the result of an action that gives an entity.
func oneEntity(title string, e identity.Entity, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b := appendEntity([]byte("<"+title+">"), &e)
	return append(b, "</"+title+">"...), nil
}

func createUser(c *call) ([]byte, error) {
	d := c.decoder()
	name := d.required("UserName", newName)
	where := d.path()
	d.refuse("PermissionsBoundary", "Tags")
	if err := d.done(); err != nil {
		return nil, err
	}
	e, err := c.service.CreateUser(c, c.caller, where, name)
	return oneEntity("User", e, err)
}

// path reads the path of what is to be made.
func (d *decoder) path() string {
	if where := d.optional("Path", path); where != nil {
		return *where
	}
	return "/"
}

func getUser(c *call) ([]byte, error) {
	d := c.decoder()
	name := d.text("UserName", userName)
	if err := d.done(); err != nil {
		return nil, err
	}
	if name == "" {
		e, err := c.service.Self(c, c.caller)
		return oneEntity("User", e, err)
	}
	e, err := c.service.User(c, c.caller, name)
	return oneEntity("User", e, err)
}

func listUsers(c *call) ([]byte, error) { return c.list("Users", c.service.Users) }

func deleteUser(c *call) ([]byte, error) {
	d := c.decoder()
	name := d.required("UserName", userName)
	if err := d.done(); err != nil {
		return nil, err
	}
	return nil, c.service.DeleteUser(c, c.caller, name)
}

// usualSession is how long sessions of a role may be if nobody says so, in
// seconds, and maxSession how long at most. Source: IAM's model.
const (
	usualSession = int(identity.UsualSession / time.Second)
	maxSession   = 43_200
)

func createRole(c *call) ([]byte, error) {
	d := c.decoder()
	r := identity.NewRole{
		Name: d.required("RoleName", newName), Path: d.path(), Description: d.text("Description", description),
		Trust:      d.required("AssumeRolePolicyDocument", document),
		MaxSession: time.Duration(d.number("MaxSessionDuration", usualSession, maxSession, usualSession)) * time.Second,
	}
	d.refuse("PermissionsBoundary", "Tags")
	if err := d.done(); err != nil {
		return nil, err
	}
	e, err := c.service.CreateRole(c, c.caller, r)
	return oneEntity("Role", e, err)
}

func getRole(c *call) ([]byte, error) {
	d := c.decoder()
	name := d.required("RoleName", newName)
	if err := d.done(); err != nil {
		return nil, err
	}
	e, err := c.service.Role(c, c.caller, name)
	return oneEntity("Role", e, err)
}

func listRoles(c *call) ([]byte, error) { return c.list("Roles", c.service.Roles) }

// list answers with a page of entities.
func (c *call) list(
	title string, find func(ctx context.Context, c identity.Caller, prefix string, p identity.Page) ([]identity.Entity, string, error),
) ([]byte, error) {
	d := c.decoder()
	prefix := "/"
	if text := d.optional("PathPrefix", pathPrefix); text != nil {
		prefix = *text
	}
	page := d.page(title)
	if err := d.done(); err != nil {
		return nil, err
	}
	found, next, err := find(c, c.caller, prefix, page)
	if err != nil {
		return nil, err
	}
	b := []byte("<" + title + ">")
	for i := range found {
		b = append(b, "<member>"...)
		b = appendEntity(b, &found[i])
		b = append(b, "</member>"...)
	}
	b = append(b, "</"+title+">"...)
	return appendPage(b, title, next), nil
}

func deleteRole(c *call) ([]byte, error) {
	d := c.decoder()
	name := d.required("RoleName", newName)
	if err := d.done(); err != nil {
		return nil, err
	}
	return nil, c.service.DeleteRole(c, c.caller, name)
}

func updateAssumeRolePolicy(c *call) ([]byte, error) {
	d := c.decoder()
	name, text := d.required("RoleName", newName), d.required("PolicyDocument", document)
	if err := d.done(); err != nil {
		return nil, err
	}
	return nil, c.service.SetTrust(c, c.caller, name, text)
}
