package iam_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"shale/internal/iam"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// A judged world has a user with an access key and a policy, a role with a
// policy that trusts its account, and one of each that has nothing.
type judged struct {
	env     *snapshottest.Env
	service *identity.Service
	doors   map[string]*iam.Handler // by the prefix of their actions
	form    url.Values              // what any of the operations needs
}

const (
	trust    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + snapshottest.Account + `"},"Action":"sts:AssumeRole"}}`
	document = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	role     = "arn:aws:iam::" + snapshottest.Account + ":role/victim"
)

func newJudged(t *testing.T) *judged {
	t.Helper()
	j := &judged{env: snapshottest.New(t)}
	j.service = identity.New(identity.Options{
		Store: j.env.Catalog, SessionKey: make([]byte, identity.SessionKeySize), Now: j.env.Clock.Now,
	})
	j.doors = map[string]*iam.Handler{"iam:": iam.New(j.service), "sts:": iam.NewSTS(j.service)}
	j.form = url.Values{
		"UserName": {"victim"}, "RoleName": {"victim"}, "PolicyName": {"p"}, "PolicyDocument": {document}, "AssumeRolePolicyDocument": {trust},
		"Status": {"Inactive"}, "RoleArn": {role}, "RoleSessionName": {"session"},
	}
	ctx, root := t.Context(), identity.Caller{Account: snapshottest.Account, By: &policy.Subject{Principal: identity.Root(snapshottest.Account)}}
	for _, name := range []string{"victim", "bare"} {
		_, err := j.service.CreateUser(ctx, root, "/", name)
		must(t, err)
		_, err = j.service.CreateRole(ctx, root, identity.NewRole{Path: "/", Name: name, Trust: trust, MaxSession: identity.UsualSession})
		must(t, err)
	}
	for _, kind := range []identity.Kind{identity.User, identity.Role} {
		must(t, j.service.PutPolicy(ctx, root, kind, "victim", "p", strings.Replace(document, `"*"`, `"ebs:*"`, 1)))
	}
	key, _, err := j.service.CreateAccessKey(ctx, root, "victim")
	must(t, err)
	j.form.Set("AccessKeyId", key.ID)
	return j
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// call has the operation done, with parameters changed.
func (j *judged) call(t *testing.T, c snapshot.Caller, prefix, operation string, changes url.Values) (w *httptest.ResponseRecorder, refused bool) {
	t.Helper()
	form := url.Values{"Action": {operation}}
	for _, values := range []url.Values{j.form, changes} {
		for name, v := range values {
			form[name] = v
		}
	}
	if operation == "UpdateAssumeRolePolicy" {
		form.Set("PolicyDocument", strings.Replace(trust, "Allow", "Deny", 1))
	}
	w = httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	err := j.doors[prefix].Serve(w, r, c, nil)
	if err != nil {
		j.doors[prefix].Refuse(w, r, err)
	}
	return w, err != nil
}

// state is all that IAM keeps of the account.
func (j *judged) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, kind := range []identity.Kind{identity.User, identity.Role} {
		found, err := j.env.Catalog.Entities(t.Context(), snapshottest.Account, kind, "/", "", 100)
		must(t, err)
		for _, e := range found {
			documents, err := j.env.Catalog.Documents(t.Context(), e.ID)
			must(t, err)
			keys, err := j.env.Catalog.Keys(t.Context(), snapshottest.Account, e.ID)
			must(t, err)
			fmt.Fprintf(&b, "%+v\n  %+v\n  %+v\n", e, documents, keys)
		}
	}
	return b.String()
}

var (
	// unjudged are the operations that everybody may call, whatever policies say:
	// who asks learns who he is, and gets a session that may what he may.
	unjudged = []string{"sts:GetCallerIdentity", "sts:GetSessionToken"}
	// ofSelf are those that mean the caller if they name no user.
	ofSelf = []string{"iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:GetUser", "iam:ListAccessKeys", "iam:UpdateAccessKey"}
	// others need another name than victim to succeed.
	others = map[string]string{"iam:CreateUser": "new", "iam:CreateRole": "new", "iam:DeleteUser": "bare", "iam:DeleteRole": "bare"}
)

// Every operation is judged by the caller's policies: one who may do nothing is
// refused, so is one who may do all but it, and nothing changes. The same
// request of one who may do all is done. Operations come from the doors' own
// tables: a new one that does not ask fails here.
func TestEveryOperationIsJudged(t *testing.T) {
	for prefix, door := range newJudged(t).doors {
		for _, operation := range door.Actions() {
			action := prefix + operation
			t.Run(action, func(t *testing.T) {
				if slices.Contains(unjudged, action) {
					checkUnjudged(t, prefix, operation)
				} else {
					checkJudged(t, prefix, operation)
				}
			})
		}
	}
}

func checkJudged(t *testing.T, prefix, operation string) {
	j, action := newJudged(t), prefix+operation
	changes := []url.Values{nil}
	if name, ok := others[action]; ok {
		changes[0] = url.Values{"UserName": {name}, "RoleName": {name}}
	}
	if slices.Contains(ofSelf, action) {
		changes = append(changes, url.Values{"UserName": nil})
	}
	before := j.state(t)
	for _, c := range []snapshot.Caller{
		snapshottest.User(t, snapshottest.Caller, "nobody"),
		snapshottest.User(t, snapshottest.Caller, "almost", snapshottest.Allow("*"), snapshottest.Deny(action)),
	} {
		for _, change := range changes {
			w, _ := j.call(t, c, prefix, operation, change)
			want := "<Code>AccessDenied</Code><Message>User: " + c.By.ARN + " is not authorized to perform: " + action + " on resource: "
			if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d %s", c.By.Name, w.Code, w.Body)
			}
		}
	}
	if after := j.state(t); after != before {
		t.Errorf("it was refused, and this was\n%sand is\n%s", before, after)
	}
	if w, refused := j.call(t, snapshottest.User(t, snapshottest.Caller, "admin", snapshottest.Allow("*")), prefix, operation, changes[0]); refused {
		t.Errorf("of one who may do all: %d %s", w.Code, w.Body)
	}
	reads := prefix == "sts:" || strings.HasPrefix(operation, "Get") || strings.HasPrefix(operation, "List")
	if changed := j.state(t) != before; changed == reads {
		t.Errorf("of one who may do all: changed %v", changed)
	}
}

func checkUnjudged(t *testing.T, prefix, operation string) {
	j := newJudged(t)
	before := j.state(t)
	for _, c := range []snapshot.Caller{
		snapshottest.Caller,
		snapshottest.User(t, snapshottest.Caller, "nobody"),
		snapshottest.User(t, snapshottest.Caller, "denied", snapshottest.Deny("*")),
	} {
		if w, refused := j.call(t, c, prefix, operation, nil); refused {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	if j.state(t) != before {
		t.Error("it has changed something")
	}
}
