package snapshot

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"shale/internal/policy"
)

// An Action is what a policy allows or denies, as IAM spells it. Each operation
// of the service is one, or more where the spec says so, and asks for it before
// it looks at anything that its caller may not know. Spec: ebs-direct §11.1,
// ec2-snapshots, the lines IAM.
type Action string

// The actions of the EBS direct APIs.
const (
	StartSnapshot      Action = "ebs:StartSnapshot"
	PutSnapshotBlock   Action = "ebs:PutSnapshotBlock"
	CompleteSnapshot   Action = "ebs:CompleteSnapshot"
	ListSnapshotBlocks Action = "ebs:ListSnapshotBlocks"
	ListChangedBlocks  Action = "ebs:ListChangedBlocks"
	GetSnapshotBlock   Action = "ebs:GetSnapshotBlock"
)

// The actions of EC2.
const (
	CopySnapshot                      Action = "ec2:CopySnapshot"
	CreateTags                        Action = "ec2:CreateTags"
	DeleteSnapshot                    Action = "ec2:DeleteSnapshot"
	DeleteTags                        Action = "ec2:DeleteTags"
	DescribeLockedSnapshots           Action = "ec2:DescribeLockedSnapshots"
	DescribeSnapshotAttribute         Action = "ec2:DescribeSnapshotAttribute"
	DescribeSnapshots                 Action = "ec2:DescribeSnapshots"
	DescribeTags                      Action = "ec2:DescribeTags"
	DisableEbsEncryptionByDefault     Action = "ec2:DisableEbsEncryptionByDefault"
	DisableSnapshotBlockPublicAccess  Action = "ec2:DisableSnapshotBlockPublicAccess"
	EnableEbsEncryptionByDefault      Action = "ec2:EnableEbsEncryptionByDefault"
	EnableSnapshotBlockPublicAccess   Action = "ec2:EnableSnapshotBlockPublicAccess"
	GetEbsDefaultKmsKeyID             Action = "ec2:GetEbsDefaultKmsKeyId"
	GetEbsEncryptionByDefault         Action = "ec2:GetEbsEncryptionByDefault"
	GetSnapshotBlockPublicAccessState Action = "ec2:GetSnapshotBlockPublicAccessState"
	ListSnapshotsInRecycleBin         Action = "ec2:ListSnapshotsInRecycleBin"
	LockSnapshot                      Action = "ec2:LockSnapshot"
	ModifyEbsDefaultKmsKeyID          Action = "ec2:ModifyEbsDefaultKmsKeyId"
	ModifySnapshotAttribute           Action = "ec2:ModifySnapshotAttribute"
	ResetEbsDefaultKmsKeyID           Action = "ec2:ResetEbsDefaultKmsKeyId"
	ResetSnapshotAttribute            Action = "ec2:ResetSnapshotAttribute"
	RestoreSnapshotFromRecycleBin     Action = "ec2:RestoreSnapshotFromRecycleBin"
	UnlockSnapshot                    Action = "ec2:UnlockSnapshot"
)

// free reports whether no policy binds the caller: it is the server itself, or
// an account.
func (c Caller) free() bool {
	return c.By == nil || c.By.Kind == policy.Account && c.By.Policies == nil && c.By.Session == nil
}

// A need is an action that an operation has to be allowed, and what policies may
// ask about the request besides the snapshot that it is about.
type need struct {
	action Action
	// of stands in the ARN in place of the ID of the snapshot that the operation
	// is about, where it is about another: anySnapshot or noSnapshot.
	of    string
	tags  []Tag                     // that the request gives, or takes away
	about func(key string) []string // the action's own condition keys; nil for none
}

const (
	anySnapshot = "*"    // one that is yet to be made
	noSnapshot  = "null" // the parent of a snapshot that has none
)

// admit lets an operation go on that has been understood, on a snapshot that its
// caller can see, or on nil: it asks the caller's policies for all that it needs,
// of which the first is the operation's own action. What else keeps requests from
// being served, whoever sends them, comes here, after that, so that who may not
// do a thing does not use up what others may. The error is a *policy.Denied, or a
// fault.
func (s *Service) admit(ctx context.Context, c Caller, snap *Snapshot, needs ...need) error {
	for i := range needs {
		if err := s.authorize(ctx, c, snap, &needs[i]); err != nil {
			return err
		}
	}
	return nil
}

// admitBoth is admit for an operation on two snapshots, which needs the same of
// both. Spec: ebs-direct §11.2.
func (s *Service) admitBoth(ctx context.Context, c Caller, first, second *Snapshot, needs ...need) error {
	for i := range needs {
		if err := s.authorize(ctx, c, first, &needs[i]); err != nil {
			return err
		}
	}
	return s.admit(ctx, c, second, needs...)
}

// authorize asks the caller's policies whether it may do an action to the
// snapshot; with nil, to what the need says, or to nothing in particular.
func (s *Service) authorize(ctx context.Context, c Caller, snap *Snapshot, n *need) error {
	if c.free() { // on the way of each block: nothing is made for these
		return nil
	}
	q := question{service: s, ctx: ctx, caller: c, need: *n}
	if snap != nil && n.of == "" {
		q.snap, q.exists = *snap, true
	}
	return s.storeError(c.By.Authorize(policy.Request{Action: string(n.action), Resource: q.resource(), Keys: q.values}))
}

// denied reports whether an error says that the caller may not.
func denied(err error) bool {
	_, is := errors.AsType[*policy.Denied](err)
	return is
}

// A question is what one authorization may have to know.
type question struct {
	need
	service *Service
	ctx     context.Context //nolint:containedctx // lives for one call of authorize
	caller  Caller
	snap    Snapshot
	exists  bool // there is a snap
	tagged  bool // snap.Tags have been looked up
}

// snapshotARN is the ARN of a snapshot, which names no account. Spec: ebs-direct §11.1.
func snapshotARN(region, id string) string { return "arn:aws:ec2:" + region + "::snapshot/" + id }

func (q *question) resource() string {
	switch {
	case q.exists:
		return snapshotARN(q.snap.Region, q.snap.ID)
	case q.of != "":
		return snapshotARN(q.caller.Region, q.of)
	}
	return "*"
}

// values gives the values of a condition key, as AWS has them for the action.
// Source: Service Authorization Reference, Amazon EC2 and Amazon Elastic Block
// Store. Spec: ebs-direct §11.1, §11.2.
func (q *question) values(key string) ([]string, bool, error) {
	name, rest, _ := strings.Cut(key, "/")
	ec2 := strings.HasPrefix(string(q.action), "ec2:")
	switch {
	case name == "aws:resourcetag", name == "ec2:resourcetag" && ec2:
		return q.resourceTag(rest)
	case name == "aws:requesttag":
		return tagValue(q.tags, rest)
	case name == "aws:tagkeys":
		keys := make([]string, len(q.tags))
		for i, t := range q.tags {
			keys[i] = t.Key
		}
		return keys, len(keys) > 0, nil
	case q.about != nil:
		if v := q.about(key); v != nil {
			return v, true, nil
		}
	}
	switch {
	case key == "ec2:region" && ec2:
		return []string{q.caller.Region}, true, nil
	case !q.exists:
		return nil, false, nil
	case key == "aws:resourceaccount" && q.snap.Account != "":
		return []string{q.snap.Account}, true, nil
	case ec2:
		v := q.snap.value(key, q.caller.Account)
		return v, v != nil, nil
	}
	return nil, false, nil
}

// value gives the value of one of EC2's condition keys of a snapshot, nil if it
// has none.
func (s *Snapshot) value(key, asker string) []string {
	switch key {
	case "ec2:owner":
		return []string{s.Account}
	case "ec2:encrypted":
		return []string{strconv.FormatBool(s.Encrypted())}
	case "ec2:volumesize":
		return []string{strconv.FormatInt(s.VolumeSize, 10)}
	case "ec2:snapshotid":
		return []string{s.ID}
	case "ec2:snapshottime":
		return []string{s.StartTime.UTC().Format(time.RFC3339)}
	case "ec2:parentsnapshot":
		if s.ParentID != "" && s.Account == asker { // the owner's affair
			return []string{snapshotARN(s.Region, s.ParentID)}
		}
	}
	return nil
}

// resourceTag gives the value of the caller's own tag on the snapshot, which it
// may share with its owner. Of a snapshot that starts from none those are taken
// that it is to have. Spec: ebs-direct §11.2.
func (q *question) resourceTag(key string) ([]string, bool, error) {
	if !q.exists {
		if q.action == StartSnapshot {
			return tagValue(q.tags, key)
		}
		return nil, false, nil
	}
	if !q.tagged {
		list := []Snapshot{q.snap}
		if err := q.service.catalog.Tags(q.ctx, q.caller.Account, list); err != nil {
			return nil, false, err
		}
		q.snap.Tags, q.tagged = list[0].Tags, true
	}
	return tagValue(q.snap.Tags, key)
}

// tagValue finds a tag as IAM does: by its key, or else by one that differs from
// it in the case of letters only.
func tagValue(tags []Tag, key string) (values []string, ok bool, _ error) {
	for _, t := range tags {
		if t.Key == key {
			return []string{t.Value}, true, nil
		}
		if values == nil && strings.EqualFold(t.Key, key) {
			values = []string{t.Value}
		}
	}
	return values, values != nil, nil
}

// CheckAction asks whether the caller may do an action that is about no snapshot
// in particular, and does nothing else: it is for dry runs.
func (s *Service) CheckAction(ctx context.Context, c Caller, a Action) error {
	return s.admit(ctx, c, nil, need{action: a})
}
