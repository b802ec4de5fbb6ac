package kms_test

import (
	"strings"
	"testing"

	"shale/internal/kms"
)

func policyOf(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

var everyone = policyOf(`{"Sid":"s","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`)

func TestPolicyDecides(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111122223333:key/1"
	for _, tt := range []struct {
		name, statement string
		allowed         bool
	}{
		{"account", `{"Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"kms:Decrypt","Resource":"*"}`, true},
		{"root", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":"kms:Decrypt","Resource":"*"}`, true},
		{"anyone", `{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}`, true},
		{"anyone at AWS", `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:Decrypt","Resource":"*"}`, true},
		{"one of a list", `{"Effect":"Allow","Principal":{"AWS":["111122223333","444455556666"]},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":["x","*"]}`, true},
		{"another account", `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:Decrypt","Resource":"*"}`, false},
		{"a service", `{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"kms:Decrypt","Resource":"*"}`, false},
		{"a service and an account", `{"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com"],"AWS":"444455556666"},"Action":"kms:Decrypt","Resource":"*"}`, true},
		{"case of an action", `{"Effect":"Allow","Principal":"*","Action":"KMS:decrypt","Resource":"*"}`, true},
		{"all actions", `{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`, true},
		{"wildcard", `{"Effect":"Allow","Principal":"*","Action":"kms:De?rypt*","Resource":"*"}`, true},
		{"wildcard of another", `{"Effect":"Allow","Principal":"*","Action":"kms:De?crypt","Resource":"*"}`, false},
		{"resource", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"` + arn + `"}`, true},
		{"resource pattern", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:*:111122223333:key/*"}`, true},
		{"another resource", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111122223333:key/2"}`, false},
		{"deny wins", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"kms:D*","Resource":"*"}`, false},
		{"deny wins, whatever the order", `{"Effect":"Deny","Principal":"*","Action":"kms:D*","Resource":"*"},{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`, false},
		{"deny of others", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}`, true},
	} {
		got, err := kms.PolicyAllows(policyOf(tt.statement), "444455556666", kms.Decrypt, arn)
		if err != nil || got != tt.allowed {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
	}
	one := `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`
	if got, err := kms.PolicyAllows(one, "444455556666", kms.Decrypt, arn); err != nil || !got {
		t.Errorf("one statement without a list: %v, %v", got, err)
	}
}

// What is not understood is refused when it is set, so that no policy says more
// than is enforced.
func TestPolicyRefused(t *testing.T) {
	f := newFolder(t)
	for name, text := range map[string]string{
		"no JSON":           `policy`,
		"a list":            `[]`,
		"no statement":      `{"Version":"2012-10-17"}`,
		"an empty list":     policyOf(),
		"null":              `{"Statement":null}`,
		"version":           `{"Version":"2015-01-01","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`,
		"Condition":         policyOf(`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringIs":{"kms:ViaService":"x"}}}`),
		"NotPrincipal":      policyOf(`{"Effect":"Deny","NotPrincipal":{"AWS":"1"},"Action":"kms:*","Resource":"*"}`),
		"unknown member":    `{"Comment":"","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`,
		"member twice":      policyOf(`{"Effect":"Deny","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`),
		"effect":            policyOf(`{"Effect":"allow","Principal":"*","Action":"kms:*","Resource":"*"}`),
		"no principal":      policyOf(`{"Effect":"Allow","Action":"kms:*","Resource":"*"}`),
		"no action":         policyOf(`{"Effect":"Allow","Principal":"*","Resource":"*"}`),
		"no resource":       policyOf(`{"Effect":"Allow","Principal":"*","Action":"kms:*"}`),
		"empty resource":    policyOf(`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":[]}`),
		"a number":          policyOf(`{"Effect":"Allow","Principal":"*","Action":1,"Resource":"*"}`),
		"other service":     policyOf(`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}`),
		"users by pattern":  policyOf(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/*"},"Action":"kms:*","Resource":"*"}`),
		"half an ARN":       policyOf(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333"},"Action":"kms:*","Resource":"*"}`),
		"a number and root": policyOf(`{"Effect":"Allow","Principal":{"AWS":"111122223333:root"},"Action":"kms:*","Resource":"*"}`),
		"federated":         policyOf(`{"Effect":"Allow","Principal":{"Federated":"f"},"Action":"kms:*","Resource":"*"}`),
	} {
		_, err := f.CreateKey(t.Context(), alice, kms.CreateRequest{Policy: text, BypassLockoutCheck: true})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantCode(t, err, kms.MalformedPolicy, "")
	}
	_, err := f.CreateKey(t.Context(), alice, kms.CreateRequest{Policy: everyone + strings.Repeat(" ", 32<<10)})
	wantCode(t, err, kms.LimitExceeded, "")
	if keys, err := f.Keys(t.Context(), alice); err != nil || len(keys) != 0 {
		t.Errorf("a refused request made %v", keys)
	}
}

func TestLockout(t *testing.T) {
	f := newFolder(t)
	k := f.create(t, kms.CreateRequest{})
	locked := policyOf(`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:Describe*","Resource":"*"}`)
	const text = "The new key policy will not allow you to update the key policy in the future."
	wantCode(t, f.PutPolicy(t.Context(), alice, k.ID, locked, false), kms.MalformedPolicy, text)
	_, err := f.CreateKey(t.Context(), alice, kms.CreateRequest{Policy: locked})
	wantCode(t, err, kms.MalformedPolicy, text)
	must(t, f.PutPolicy(t.Context(), alice, k.ID, locked, true))
	wantCode(t, f.PutPolicy(t.Context(), alice, k.ID, everyone, true), kms.AccessDenied,
		"User: arn:aws:iam::111122223333:root is not authorized to perform: kms:PutKeyPolicy on resource: "+k.ARN+
			" because no resource-based policy allows the kms:PutKeyPolicy action")
}

func FuzzPolicy(f *testing.F) {
	f.Add(everyone)
	f.Add(policyOf(`{"Effect":"Deny","Principal":{"AWS":["444455556666"],"Service":"x"},"Action":["*"],"Resource":["a*b?"]}`))
	f.Fuzz(func(t *testing.T, text string) {
		_, err := kms.PolicyAllows(text, "444455556666", kms.Decrypt, "arn:aws:kms:us-east-1:111122223333:key/1")
		if err != nil && err.Error() == "" {
			t.Error("an error that says nothing")
		}
	})
}
