package kms_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"shale/internal/kms"
	"shale/internal/policy"
)

// user is a user of an account whose identity policy has the statements.
func user(t testing.TB, c kms.Caller, name string, statements ...string) kms.Caller {
	t.Helper()
	p := &policy.Principal{Account: c.Account, ARN: "arn:aws:iam::" + c.Account + ":user/" + name, ID: "AIDA" + name, Kind: policy.User, Name: name}
	if len(statements) > 0 {
		parsed, err := policy.Parse(policyOf(statements...), policy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		p.Policies = []*policy.Policy{parsed}
	}
	c.By = &policy.Subject{Principal: p}
	return c
}

func statement(effect, actions, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Effect":"` + effect + `","Action":[` + actions + `],"Resource":"*"` + condition + `}`
}

// give is a statement of a key's policy for the principal.
func give(principal, actions, condition string) string {
	return strings.Replace(statement("Allow", actions, condition), `"Action"`, `"Principal":{"AWS":"`+principal+`"},"Action"`, 1)
}

// keep lets the account that made the key go on managing it.
var keep = give(alice.Account, `"kms:*"`, "")

// Who may decrypt: the key's policy, the caller's own, and both.
func TestUsersOfKeys(t *testing.T) {
	const all, decrypt = `"kms:*"`, `"kms:Decrypt"`
	uma := "arn:aws:iam::" + alice.Account + ":user/uma"
	for _, tt := range []struct {
		name   string
		of     kms.Caller
		key    []string // policy
		own    []string
		denied string // how the refusal ends, empty if there is none
	}{
		{"the account's key, an own right", alice, []string{keep}, []string{statement("Allow", decrypt, "")}, ""},
		{"the account's key, no right", alice, []string{keep}, nil, "because no identity-based policy allows the kms:Decrypt action"},
		{"the account's key, another right", alice, []string{keep}, []string{statement("Allow", `"kms:Encrypt"`, "")}, "because no identity-based policy allows the kms:Decrypt action"},
		{"the account's key, denied", alice, []string{keep}, []string{statement("Allow", all, ""), statement("Deny", decrypt, "")}, "with an explicit deny in an identity-based policy"},
		{"named by the key", alice, []string{keep, give(uma, decrypt, "")}, nil, ""},
		{"named by the key, denied", alice, []string{keep, give(uma, decrypt, "")}, []string{statement("Deny", decrypt, "")}, "with an explicit deny in an identity-based policy"},
		{"another named by the key", alice, []string{keep, give(uma+"x", decrypt, "")}, nil, "because no identity-based policy allows the kms:Decrypt action"},
		{"only another named by the key", alice, []string{give(uma+"x", all, "")}, []string{statement("Allow", all, "")}, "because no resource-based policy allows the kms:Decrypt action"},
		{"under a condition that holds", alice, []string{keep, give(uma, decrypt, `{"StringEquals":{"kms:CallerAccount":"111122223333"}}`)}, nil, ""},
		{"under one that does not", alice, []string{keep, give(uma, decrypt, `{"StringEquals":{"kms:CallerAccount":"444455556666"}}`)}, nil, "because no identity-based policy allows the kms:Decrypt action"},
		{"another account, both", bob, []string{keep, give(bob.Account, decrypt, "")}, []string{statement("Allow", decrypt, "")}, ""},
		{"another account, its user named, both", bob, []string{keep, give("arn:aws:iam::"+bob.Account+":user/uma", decrypt, "")}, []string{statement("Allow", decrypt, "")}, ""},
		{"another account, the key only", bob, []string{keep, give(bob.Account, decrypt, "")}, nil, "because no identity-based policy allows the kms:Decrypt action"},
		{"another account, its user named only", bob, []string{keep, give("arn:aws:iam::"+bob.Account+":user/uma", decrypt, "")}, nil, "because no identity-based policy allows the kms:Decrypt action"},
		{"another account, its own only", bob, []string{keep}, []string{statement("Allow", all, "")}, "because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFolder(t)
			k := f.create(t, kms.CreateRequest{})
			d, err := f.GenerateDataKey(t.Context(), alice, k.ARN, nil)
			must(t, err)
			must(t, f.PutPolicy(t.Context(), alice, k.ID, policyOf(tt.key...), true))
			u := user(t, tt.of, "uma", tt.own...)
			_, err = f.Decrypt(t.Context(), u, k.ARN, d.Wrapped, nil)
			if tt.denied == "" {
				must(t, err)
				return
			}
			wantCode(t, err, kms.AccessDenied, "User: "+u.By.ARN+" is not authorized to perform: kms:Decrypt on resource: "+k.ARN+" "+tt.denied)
			if strings.Contains(err.Error(), "arn:") {
				t.Errorf("the text for the log names a key: %v", err)
			}
		})
	}
}

// Each condition key has the value that the request has, and no other.
func TestConditionsOfKeys(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{Tags: []kms.Tag{{Key: "Team", Value: "disks"}}})
	must(t, f.CreateAlias(t.Context(), alice, "alias/mine", k.ID))
	ebs := alice
	ebs.Via, ebs.EBSID = kms.ViaEC2, "snap-1"
	encryption := map[string]string{"purpose": "test", "Other": "x"}
	seal := func(c kms.Caller, name string) error {
		_, err := f.Seal(t.Context(), c, []byte("x"), kms.Request{Key: name, Encryption: encryption})
		return err
	}
	for _, tt := range []struct {
		condition string
		caller    kms.Caller
		do        func(kms.Caller) error
		allowed   bool
	}{
		{`{"StringEquals":{"kms:CallerAccount":"111122223333"}}`, alice, nil, true},
		{`{"StringEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}`, alice, nil, false},
		{`{"StringEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}`, ebs, nil, true},
		{`{"StringEquals":{"kms:ViaService":"ec2.eu-west-1.amazonaws.com"}}`, ebs, nil, false},
		{`{"StringEquals":{"kms:EncryptionContext:purpose":"test"}}`, alice, nil, true},
		{`{"StringEquals":{"kms:EncryptionContext:Purpose":"test"}}`, alice, nil, true},
		{`{"StringEquals":{"kms:EncryptionContext:purpose":"other"}}`, alice, nil, false},
		{`{"StringLike":{"kms:EncryptionContext:aws:ebs:id":"snap-*"}}`, alice, nil, false},
		{`{"StringLike":{"kms:EncryptionContext:aws:ebs:id":"snap-*"}}`, ebs, nil, true},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["purpose","Other"]}}`, alice, nil, true},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["purpose"]}}`, alice, nil, false},
		{`{"StringEquals":{"kms:KeyOrigin":"AWS_KMS","kms:KeySpec":"SYMMETRIC_DEFAULT","kms:KeyUsage":"ENCRYPT_DECRYPT"}}`, alice, nil, true},
		{`{"StringEquals":{"aws:ResourceTag/Team":"disks"}}`, alice, nil, true},
		{`{"StringEquals":{"aws:ResourceTag/team":"tapes"}}`, alice, nil, false},
		{`{"StringEquals":{"aws:ResourceAccount":"111122223333"}}`, alice, nil, true},
		{`{"StringEquals":{"kms:RequestAlias":"alias/mine"}}`, alice, nil, false},
		{`{"StringEquals":{"kms:RequestAlias":"alias/mine"}}`, alice, func(c kms.Caller) error { return seal(c, "alias/mine") }, true},
		{`{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/mine"}}`, alice, nil, true},
		{`{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/other"}}`, alice, nil, false},
		{`{"Null":{"kms:GrantIsForAWSResource":"true"}}`, alice, nil, true},
		{`{"StringEquals":{"aws:RequestTag/Cost":"1"}}`, alice, func(c kms.Caller) error {
			return f.AddTags(t.Context(), c, k.ID, []kms.Tag{{Key: "Cost", Value: "1"}})
		}, true},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":"Cost"}}`, alice, func(c kms.Caller) error {
			return f.AddTags(t.Context(), c, k.ID, []kms.Tag{{Key: "Cost"}, {Key: "x"}})
		}, false},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":"Cost"}}`, alice, func(c kms.Caller) error {
			return f.RemoveTags(t.Context(), c, k.ID, []string{"Cost"})
		}, true},
		{`{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":30}}`, alice, func(c kms.Caller) error {
			_, err := f.ScheduleDeletion(t.Context(), c, k.ID, new(int64(7)))
			return err
		}, false},
		{`{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}}`, alice, func(c kms.Caller) error {
			return f.PutPolicy(t.Context(), c, k.ID, policyOf(keep), true)
		}, false},
	} {
		u := user(t, tt.caller, "uma", statement("Allow", `"kms:*"`, tt.condition))
		do := tt.do
		if do == nil {
			do = func(c kms.Caller) error { return seal(c, k.ARN) }
		}
		err := do(u)
		if e, refused := errors.AsType[*kms.Error](err); tt.allowed && err != nil || !tt.allowed && (!refused || e.Code != kms.AccessDenied) {
			t.Errorf("%s, via %q: got %v, want allowed %v", tt.condition, tt.caller.Via, err, tt.allowed)
		}
	}
}

// Every operation asks: who has no policy may do nothing, and who may do all may
// do it.
func TestEveryOperationOfTheKMSAsks(t *testing.T) {
	f := newFolder(t)
	k, spare := f.create(t, kms.CreateRequest{}), f.create(t, kms.CreateRequest{})
	must(t, f.CreateAlias(t.Context(), alice, "alias/old", k.ID))
	sealed, err := f.Seal(t.Context(), alice, []byte("x"), kms.Request{Key: k.ID})
	must(t, err)
	operations := []struct {
		action string
		do     func(context.Context, kms.Caller) error
	}{
		{"kms:CreateKey", func(ctx context.Context, c kms.Caller) error {
			_, err := f.CreateKey(ctx, c, kms.CreateRequest{})
			return err
		}},
		{"kms:DescribeKey", func(ctx context.Context, c kms.Caller) error { _, err := f.Describe(ctx, c, k.ID); return err }},
		{"kms:DescribeKey", func(ctx context.Context, c kms.Caller) error { _, err := f.Key(ctx, c, k.ID); return err }},
		{"kms:DescribeKey", func(ctx context.Context, c kms.Caller) error {
			_, err := f.Describe(ctx, c, kms.DefaultKeyAlias)
			return err
		}},
		{"kms:ListKeys", func(ctx context.Context, c kms.Caller) error { _, err := f.Keys(ctx, c); return err }},
		{"kms:ListAliases", func(ctx context.Context, c kms.Caller) error { _, err := f.Aliases(ctx, c, ""); return err }},
		{"kms:ListAliases", func(ctx context.Context, c kms.Caller) error { _, err := f.Aliases(ctx, c, k.ID); return err }},
		{"kms:CreateAlias", func(ctx context.Context, c kms.Caller) error { return f.CreateAlias(ctx, c, "alias/new", k.ID) }},
		{"kms:UpdateAlias", func(ctx context.Context, c kms.Caller) error { return f.UpdateAlias(ctx, c, "alias/old", spare.ID) }},
		{"kms:DeleteAlias", func(ctx context.Context, c kms.Caller) error { return f.DeleteAlias(ctx, c, "alias/old") }},
		{"kms:Encrypt", func(ctx context.Context, c kms.Caller) error {
			_, err := f.Seal(ctx, c, []byte("x"), kms.Request{Key: k.ID})
			return err
		}},
		{"kms:Decrypt", func(ctx context.Context, c kms.Caller) error {
			_, err := f.Open(ctx, c, sealed.Blob, kms.Request{})
			return err
		}},
		{"kms:Decrypt", func(ctx context.Context, c kms.Caller) error {
			_, err := f.Open(ctx, c, sealed.Blob, kms.Request{Key: k.ID})
			return err
		}},
		{"kms:ReEncryptFrom", func(ctx context.Context, c kms.Caller) error {
			_, _, err := f.ReEncrypt(ctx, c, sealed.Blob, kms.Request{}, kms.Request{Key: spare.ID})
			return err
		}},
		{"kms:ReEncryptTo", func(ctx context.Context, c kms.Caller) error {
			_, _, err := f.ReEncrypt(ctx, c, sealed.Blob, kms.Request{}, kms.Request{Key: spare.ID})
			return err
		}},
		{"kms:GenerateDataKey", func(ctx context.Context, c kms.Caller) error {
			_, err := f.GenerateDataKey(ctx, c, k.ARN, nil)
			return err
		}},
		{"kms:TagResource", func(ctx context.Context, c kms.Caller) error { return f.AddTags(ctx, c, k.ID, []kms.Tag{{Key: "a"}}) }},
		{"kms:TagResource", func(ctx context.Context, c kms.Caller) error {
			_, err := f.CreateKey(ctx, c, kms.CreateRequest{Tags: []kms.Tag{{Key: "a"}}})
			return err
		}},
		{"kms:ListResourceTags", func(ctx context.Context, c kms.Caller) error { _, err := f.Tags(ctx, c, k.ID); return err }},
		{"kms:UntagResource", func(ctx context.Context, c kms.Caller) error { return f.RemoveTags(ctx, c, k.ID, []string{"a"}) }},
		{"kms:GetKeyPolicy", func(ctx context.Context, c kms.Caller) error { _, err := f.Policy(ctx, c, k.ID); return err }},
		{"kms:ListKeyPolicies", func(ctx context.Context, c kms.Caller) error { _, err := f.PolicyNames(ctx, c, k.ID); return err }},
		{"kms:PutKeyPolicy", func(ctx context.Context, c kms.Caller) error { return f.PutPolicy(ctx, c, k.ID, policyOf(keep), false) }},
		{"kms:GetKeyRotationStatus", func(ctx context.Context, c kms.Caller) error { _, err := f.Rotating(ctx, c, k.ID); return err }},
		{"kms:UpdateKeyDescription", func(ctx context.Context, c kms.Caller) error { return f.UpdateDescription(ctx, c, k.ID, "d") }},
		{"kms:DisableKey", func(ctx context.Context, c kms.Caller) error { return f.DisableKey(ctx, c, k.ID) }},
		{"kms:EnableKey", func(ctx context.Context, c kms.Caller) error { return f.EnableKey(ctx, c, k.ID) }},
		{"kms:ScheduleKeyDeletion", func(ctx context.Context, c kms.Caller) error {
			_, err := f.ScheduleDeletion(ctx, c, k.ID, nil)
			return err
		}},
		{"kms:CancelKeyDeletion", func(ctx context.Context, c kms.Caller) error { _, err := f.CancelDeletion(ctx, c, k.ID); return err }},
	}
	for _, o := range operations {
		for name, u := range map[string]kms.Caller{
			"without a policy":        user(t, alice, "nobody"),
			"allowed all but this":    user(t, alice, "other", statement("Allow", `"kms:*"`, ""), statement("Deny", `"`+o.action+`"`, "")),
			"of another account, all": user(t, bob, "stranger", statement("Allow", `"*"`, "")),
		} {
			err := o.do(t.Context(), u)
			if u.Account == bob.Account && err == nil && strings.Contains("kms:CreateKey kms:ListKeys kms:ListAliases kms:DescribeKey kms:TagResource", o.action) {
				continue // in its own account
			}
			e, refused := errors.AsType[*kms.Error](err)
			abroad := u.Account == bob.Account && refused && e.Code == kms.NotFound // by its ID alone nobody names another's key
			if !abroad && (!refused || e.Code != kms.AccessDenied) {
				t.Errorf("%s, %s: got %v", o.action, name, err)
			}
		}
	}
	all := user(t, alice, "admin", statement("Allow", `"kms:*"`, ""))
	for _, o := range operations {
		if o.action == "kms:ReEncryptTo" {
			continue // done by the one before
		}
		if err := o.do(t.Context(), all); err != nil {
			t.Errorf("%s, allowed: got %v", o.action, err)
		}
	}
}

// What goes on for somebody who has asked needs no more than that the key still
// is for his account, and can be used.
func TestWorker(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	mine, theirs := kms.Caller{Account: alice.Account, Region: alice.Region, Worker: true}, kms.Caller{Account: bob.Account, Region: bob.Region, Worker: true}
	uma, bill := "arn:aws:iam::"+alice.Account+":user/uma", "arn:aws:iam::"+bob.Account+":user/bill"
	for _, tt := range []struct {
		policy       string
		mine, theirs bool
	}{
		{policyOf(keep), true, false},
		{policyOf(give(uma, `"kms:*"`, "")), true, false},
		{policyOf(give(uma, `"kms:*"`, ""), give(bill, `"kms:Decrypt"`, "")), true, true},
		{policyOf(give(bob.Account, `"kms:*"`, "")), false, true},
	} {
		k := f.create(t, kms.CreateRequest{Policy: tt.policy, BypassLockoutCheck: true})
		for c, want := range map[kms.Caller]bool{mine: tt.mine, theirs: tt.theirs} {
			if _, err := f.Key(t.Context(), c, k.ARN, kms.Decrypt); (err == nil) != want {
				t.Errorf("%s, for %s: got %v", tt.policy, c.Account, err)
			}
		}
	}
	must(t, f.DisableKey(t.Context(), alice, k.ID))
	_, err := f.Key(t.Context(), mine, k.ARN, kms.Decrypt)
	wantCode(t, err, kms.Disabled, "")
}

// A user is not locked out of a key by a policy that names him, nor by one that
// leaves it to his account.
func TestLockoutOfUsers(t *testing.T) {
	f := newFolder(t)
	u := user(t, alice, "uma", statement("Allow", `"kms:CreateKey"`, ""))
	for text, ok := range map[string]bool{
		"":                                      true,
		policyOf(give(u.By.ARN, `"kms:*"`, "")): true,
		policyOf(give(u.By.ARN+"x", `"*"`, "")): false,
		policyOf(give(bob.Account, `"*"`, "")):  false,
		policyOf(give(u.By.ARN, `"kms:*"`, `{"StringEquals":{"kms:CallerAccount":"111122223333"}}`)): true,
	} {
		if _, err := f.CreateKey(t.Context(), u, kms.CreateRequest{Policy: text}); (err == nil) != ok {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
