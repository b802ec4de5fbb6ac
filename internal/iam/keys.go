package iam

import (
	"shale/internal/identity"
	"shale/internal/query"
)

// Names of the statuses of access keys.
const (
	active   = "Active"
	inactive = "Inactive"
)

// appendKey appends what is told of an access key. One of a root user belongs
// to no user name.
func appendKey(b []byte, k *identity.AccessKey, userName string) []byte {
	if userName != "" {
		b = query.AppendElement(b, "UserName", userName)
	}
	b = query.AppendElement(b, "AccessKeyId", k.ID)
	status := active
	if k.Status == identity.Inactive {
		status = inactive
	}
	b = query.AppendElement(b, "Status", status)
	if k.Secret != "" {
		b = query.AppendElement(b, "SecretAccessKey", k.Secret)
	}
	return query.AppendElement(b, "CreateDate", formatTime(k.Created))
}

func createAccessKey(c *call) ([]byte, error) {
	d := c.decoder()
	name := d.text("UserName", userName)
	if err := d.done(); err != nil {
		return nil, err
	}
	k, user, err := c.service.CreateAccessKey(c, c.caller, name)
	if err != nil {
		return nil, err
	}
	b := appendKey([]byte("<AccessKey>"), &k, user.Name)
	return append(b, "</AccessKey>"...), nil
}

func listAccessKeys(c *call) ([]byte, error) {
	const title = "AccessKeyMetadata"
	d := c.decoder()
	name := d.text("UserName", userName)
	page := d.page(title)
	if err := d.done(); err != nil {
		return nil, err
	}
	keys, owner, err := c.service.AccessKeys(c, c.caller, name)
	if err != nil {
		return nil, err
	}
	keys, next := cut(keys, func(k identity.AccessKey) string { return formatTime(k.Created) + k.ID }, page)
	b := []byte("<" + title + ">")
	for i := range keys {
		b = append(b, "<member>"...)
		b = appendKey(b, &keys[i], owner.Name)
		b = append(b, "</member>"...)
	}
	b = append(b, "</"+title+">"...)
	return appendPage(b, title, next), nil
}

func updateAccessKey(c *call) ([]byte, error) {
	d := c.decoder()
	name, key, status := d.text("UserName", userName), d.required("AccessKeyId", keyID), d.required("Status", shape{})
	if d.form.Has("Status") && status != active && status != inactive {
		d.violate("Status", " '"+status+"'", "Member must satisfy enum value set: [Active, Inactive]")
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return nil, c.service.SetAccessKeyStatus(c, c.caller, name, key, status == active)
}

func deleteAccessKey(c *call) ([]byte, error) {
	d := c.decoder()
	name, key := d.text("UserName", userName), d.required("AccessKeyId", keyID)
	if err := d.done(); err != nil {
		return nil, err
	}
	return nil, c.service.DeleteAccessKey(c, c.caller, name, key)
}
