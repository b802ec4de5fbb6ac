package ec2

import (
	"context"
	"errors"

	"shale/internal/query"
	"shale/internal/snapshot"
)

const (
	// createVolumePermission is the one attribute that can be modified.
	createVolumePermission = "createVolumePermission"
	// maxModification is how many entries one call may have, before equal ones
	// are taken together. Spec: ec2-snapshots §6.1.
	maxModification = 500
)

// A modification is a decoded ModifySnapshotAttribute.
type modification struct {
	req    snapshot.ShareRequest
	remove bool
}

// modifySnapshotAttribute answers ModifySnapshotAttribute. Whose snapshot it is,
// and who asks, come before the verdict of a dry run, whether it may be shared in this way
// after it. Spec: ec2-snapshots §1.5, §6.1.
func (h *Handler) modifySnapshotAttribute(ctx context.Context, q *call) ([]byte, error) {
	m, err := decodeModification(q.form)
	if err != nil {
		return nil, err
	}
	m.req.DryRun = q.dryRun
	change := h.service.Share
	if m.remove {
		change = h.service.Unshare
	}
	if err := change(ctx, q.caller, m.req); err != nil {
		return nil, err
	}
	if q.dryRun {
		return nil, errDryRun
	}
	return succeeded, nil
}

func decodeModification(f form) (m modification, err error) {
	if m.req.SnapshotID, err = f.snapshotID(); err != nil {
		return m, err
	}
	if f.Mentions("CreateVolumePermission") {
		m.req.Accounts, m.remove, err = f.canonicalGrantees()
	} else {
		m.req.Accounts, m.remove, err = f.legacyGrantees()
	}
	switch {
	case err != nil:
		return m, err
	case len(m.req.Accounts) == 0:
		return m, refuse(invalidCombination, "No attributes specified.")
	case len(m.req.Accounts) > maxModification:
		return m, refuse(invalidValue, "Modification size must not be greater than %d.", maxModification)
	}
	return m, nil
}

// canonicalGrantees decodes CreateVolumePermission.Add.N and .Remove.N, of
// which an item may name an account and a group.
func (f form) canonicalGrantees() (accounts []string, remove bool, err error) {
	switch attribute, err := f.Scalar("Attribute"); {
	case err != nil:
		return nil, false, err
	case f.Has("Attribute") && attribute != createVolumePermission:
		return nil, false, refuse(invalidValue, "Unrecognized attribute.")
	case f.Mentions("UserId") || f.Mentions("UserGroup"):
		return nil, false, refuse(invalidCombination, "CreateVolumePermission and UserId or UserGroup cannot be specified together")
	}
	list := "CreateVolumePermission.Add"
	if f.HasNumbers("CreateVolumePermission.Remove") {
		if f.HasNumbers(list) {
			return nil, false, refuse(invalidCombination, "One and only one operation type may be specified for createVolumePermissions")
		}
		list, remove = "CreateVolumePermission.Remove", true
	}
	for n := range f.Numbers(list) {
		item := list + "." + n
		user, err := f.Scalar(item + ".UserId")
		if err != nil {
			return nil, false, err
		}
		group, err := f.Scalar(item + ".Group")
		if err != nil {
			return nil, false, err
		}
		if f.Has(item + ".UserId") {
			if err := checkGrantee(user, "UserId %s"); err != nil {
				return nil, false, err
			}
			accounts = append(accounts, user)
		}
		if f.Has(item + ".Group") {
			if err := checkGroup(group); err != nil {
				return nil, false, err
			}
			accounts = append(accounts, group)
		}
	}
	return accounts, remove, nil
}

// legacyGrantees decodes the older form: Attribute, OperationType, UserId.N and
// UserGroup.N.
func (f form) legacyGrantees() (accounts []string, remove bool, err error) {
	if !f.Mentions("Attribute") && !f.Mentions("OperationType") && !f.Mentions("UserId") && !f.Mentions("UserGroup") {
		return nil, false, nil
	}
	attribute, err := f.Scalar("Attribute")
	if err != nil {
		return nil, false, err
	}
	operation, err := f.Scalar("OperationType")
	if err != nil {
		return nil, false, err
	}
	switch {
	case attribute == "":
		return nil, false, refuse(missingParameter, "Value for parameter attribute is invalid. Parameter may not be null or empty.")
	case attribute != createVolumePermission:
		return nil, false, refuse(invalidValue, "Unrecognized attribute.")
	case operation != "add" && operation != "remove":
		return nil, false, refuse(invalidCombination, "No operation specified for createVolumePermission attribute.")
	}
	users, err := f.List("UserId")
	if err != nil {
		return nil, false, err
	}
	groups, err := f.List("UserGroup")
	if err != nil {
		return nil, false, err
	}
	for _, v := range users {
		if err := checkGrantee(v, "UserId (%s) is invalid."); err != nil {
			return nil, false, err
		}
	}
	for _, v := range groups {
		if err := checkGroup(v); err != nil {
			return nil, false, err
		}
	}
	return append(users, groups...), operation == "remove", nil
}

func checkGrantee(account, text string) error {
	if isAccount(account) {
		return nil
	}
	return refuse(invalidGrantee, text, account)
}

func checkGroup(group string) error {
	if group == snapshot.Everybody {
		return nil
	}
	return refuse(invalidGrantee, "UserGroup %s", group)
}

// describeSnapshotAttribute answers DescribeSnapshotAttribute. The verdict of a
// dry run comes before the snapshot is looked for. Spec: ec2-snapshots §1.5,
// §6.2.
func (h *Handler) describeSnapshotAttribute(ctx context.Context, q *call) ([]byte, error) {
	attribute, err := q.required("Attribute")
	if err != nil {
		return nil, err
	}
	if attribute != createVolumePermission && attribute != "productCodes" {
		return nil, refuse(invalidRequest, "The request received was invalid.")
	}
	id, err := q.required("SnapshotId")
	if err != nil {
		return nil, err
	}
	grantees, err := h.service.Grantees(ctx, q.caller, snapshot.AttributeRequest{SnapshotID: id, DryRun: q.dryRun})
	if err != nil {
		return nil, malformed(err, checkID(id))
	}
	if q.dryRun {
		return nil, errDryRun
	}
	b := query.AppendElement(nil, "snapshotId", id)
	if attribute != createVolumePermission || len(grantees) == 0 {
		return append(b, "<"+attribute+"/>"...), nil // no snapshot has product codes
	}
	b = append(b, "<createVolumePermission>"...)
	for _, g := range grantees {
		name := "userId"
		if g == snapshot.Everybody {
			name = "group"
		}
		b = append(query.AppendElement(append(b, "<item>"...), name, g), "</item>"...)
	}
	return append(b, "</createVolumePermission>"...), nil
}

// resetSnapshotAttribute answers ResetSnapshotAttribute. The verdict of a dry
// run comes before the snapshot is looked for. Spec: ec2-snapshots §1.5, §6.3.
func (h *Handler) resetSnapshotAttribute(ctx context.Context, q *call) ([]byte, error) {
	attribute, err := q.required("Attribute")
	if err != nil {
		return nil, err
	}
	if attribute != createVolumePermission {
		return nil, refuse(invalidRequest, "The request received was invalid.")
	}
	id, err := q.required("SnapshotId")
	if err != nil {
		return nil, err
	}
	if err := h.service.ResetSharing(ctx, q.caller, snapshot.AttributeRequest{SnapshotID: id, DryRun: q.dryRun}); err != nil {
		var syntax error
		if checkID(id) != nil {
			syntax = refuse(malformedID, "The snapshot ID '%s' is malformed", id)
		}
		return nil, malformed(err, syntax)
	}
	if q.dryRun {
		return nil, errDryRun
	}
	return succeeded, nil
}

// malformed gives the error of an ID's syntax, if it has one, in place of that it
// is nobody's: of these operations the syntax is told after who may.
// Spec: ec2-snapshots §1.5.
func malformed(err, syntax error) error {
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Code == snapshot.NotFound && syntax != nil {
		return syntax
	}
	return err
}
