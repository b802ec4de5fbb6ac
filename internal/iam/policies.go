package iam

import (
	"strings"

	"shale/internal/identity"
	"shale/internal/query"
)

// owner reads the name of the user or role that a policy belongs to, and gives
// the parameter's.
func (d *decoder) owner(kind identity.Kind) (parameter, name string) {
	if kind == identity.Role {
		return "RoleName", d.required("RoleName", newName)
	}
	return "UserName", d.required("UserName", userName)
}

func putPolicy(kind identity.Kind) action {
	return func(c *call) ([]byte, error) {
		d := c.decoder()
		_, name := d.owner(kind)
		policy, text := d.required("PolicyName", policyName), d.required("PolicyDocument", document)
		if err := d.done(); err != nil {
			return nil, err
		}
		return nil, c.service.PutPolicy(c, c.caller, kind, name, policy, text)
	}
}

func getPolicy(kind identity.Kind) action {
	return func(c *call) ([]byte, error) {
		d := c.decoder()
		parameter, name := d.owner(kind)
		policy := d.required("PolicyName", policyName)
		if err := d.done(); err != nil {
			return nil, err
		}
		text, err := c.service.Policy(c, c.caller, kind, name, policy)
		if err != nil {
			return nil, err
		}
		b := query.AppendElement(nil, parameter, name)
		b = query.AppendElement(b, "PolicyName", policy)
		return query.AppendElement(b, "PolicyDocument", escape(text)), nil
	}
}

func listPolicies(kind identity.Kind) action {
	return func(c *call) ([]byte, error) {
		const title = "PolicyNames"
		d := c.decoder()
		_, name := d.owner(kind)
		page := d.page(title)
		if err := d.done(); err != nil {
			return nil, err
		}
		names, err := c.service.PolicyNames(c, c.caller, kind, name)
		if err != nil {
			return nil, err
		}
		names, next := cut(names, strings.Clone, page)
		b := []byte("<" + title + ">")
		for _, n := range names {
			b = query.AppendElement(b, "member", n)
		}
		b = append(b, "</"+title+">"...)
		return appendPage(b, title, next), nil
	}
}

func deletePolicy(kind identity.Kind) action {
	return func(c *call) ([]byte, error) {
		d := c.decoder()
		_, name := d.owner(kind)
		policy := d.required("PolicyName", policyName)
		if err := d.done(); err != nil {
			return nil, err
		}
		return nil, c.service.DeletePolicy(c, c.caller, kind, name, policy)
	}
}
