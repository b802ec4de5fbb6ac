package snapshottest

import (
	"strings"
	"testing"
	"time"

	"shale/internal/policy"
	"shale/internal/snapshot"
)

// User is a user of the account whose policy has the statements, as AWS spells
// them; without any it may do nothing.
func User(t testing.TB, c snapshot.Caller, name string, statements ...string) snapshot.Caller {
	t.Helper()
	p := &policy.Principal{Account: c.Account, ARN: "arn:aws:iam::" + c.Account + ":user/" + name, ID: "AIDA" + strings.ToUpper(name), Kind: policy.User, Name: name}
	if len(statements) > 0 {
		text := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
		parsed, err := policy.Parse(text, policy.Identity)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		p.Policies = []*policy.Policy{parsed}
	}
	c.By = &policy.Subject{Principal: p, Environment: policy.Environment{Time: time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC), Region: c.Region}}
	return c
}

// Allow is a statement that allows the actions, separated by commas.
func Allow(actions string) string { return Statement("Allow", actions, "*", "") }

// Deny is a statement that denies them.
func Deny(actions string) string { return Statement("Deny", actions, "*", "") }

// Statement is one about actions and resources, separated by commas, under a
// condition, empty for none.
func Statement(effect, actions, resources, condition string) string {
	list := func(s string) string { return `["` + strings.ReplaceAll(s, ",", `","`) + `"]` }
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Effect":"` + effect + `","Action":` + list(actions) + `,"Resource":` + list(resources) + condition + `}`
}
