package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/url"
	"strings"
)

// policyCount and statementCount are what binds the one who writes in
// measurePolicies. As many statements as a role's policies have room for.
const (
	policyCount    = 10
	statementCount = 10
)

// measurePolicies writes unique blocks as the account itself, whom no policy
// binds, and as a session of a role that many policies bind, in turns.
func (b *bench) measurePolicies(ctx context.Context) error {
	n := b.size.blocks
	bound := *b.shale // the same server, as somebody else sees it
	var err error
	if bound.signer, err = b.shale.assumeRole(); err != nil {
		return err
	}
	judged, free := dataset{blocks: n, first: b.fresh(n)}, dataset{blocks: n, first: b.fresh(n)}
	for _, d := range []*dataset{&judged, &free} {
		if d.snapshot, err = b.shale.newSnapshot(n, ""); err != nil {
			return err
		}
	}
	if err := b.shale.waitIdle(ctx); err != nil {
		return err
	}
	onJudged, onFree, err := takeTurns(n, &judged, &free, func(d *dataset, over span) (run, error) {
		s := b.shale
		if d == &judged {
			s = &bound
		}
		return s.write(ctx, b.source, d, over, connections)
	})
	if err != nil {
		return err
	}
	b.policies.add(onJudged.cpuPerGiB(), onFree.cpuPerGiB())
	return nil
}

// assumeRole makes a role that many policies bind, and a user, for an account
// cannot assume a role itself, and gives the keys of a session. The statement
// that allows is the last one.
func (s *server) assumeRole() (signer, error) {
	const trust = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}`
	calls := []url.Values{{"Action": {"CreateRole"}, "RoleName": {"writer"}, "AssumeRolePolicyDocument": {trust}}}
	for i := range policyCount {
		statements := make([]string, statementCount)
		for j := range statements {
			statements[j] = fmt.Sprintf(`{"Effect":"Deny","Action":"ebs:Put*","Resource":"arn:aws:ec2:*:*:snapshot/no-%d%d*"}`, i, j)
		}
		if i == policyCount-1 {
			statements[statementCount-1] = `{"Effect":"Allow","Action":"ebs:*","Resource":"*"}`
		}
		calls = append(calls, url.Values{
			"Action": {"PutRolePolicy"}, "RoleName": {"writer"}, "PolicyName": {fmt.Sprintf("p%d", i)},
			"PolicyDocument": {`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`},
		})
	}
	var made struct {
		ARN string `xml:"CreateRoleResult>Role>Arn"`
	}
	for _, call := range calls {
		call.Set("Version", "2010-05-08")
		if err := s.query("iam", call, &made); err != nil {
			return signer{}, err
		}
	}
	var key struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	for _, action := range []string{"CreateUser", "CreateAccessKey"} {
		err := s.query("iam", url.Values{"Action": {action}, "Version": {"2010-05-08"}, "UserName": {"writer"}}, &key)
		if err != nil {
			return signer{}, err
		}
	}
	user := *s
	user.signer.accessKey, user.signer.secretKey = key.ID, key.Secret
	var assumed struct {
		Key    string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		Secret string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
		Token  string `xml:"AssumeRoleResult>Credentials>SessionToken"`
	}
	err := user.query("sts", url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {made.ARN}, "RoleSessionName": {"bench"},
	}, &assumed)
	as := s.signer
	as.accessKey, as.secretKey, as.token = assumed.Key, assumed.Secret, assumed.Token
	return as, err
}

// query sends a request of the Query protocol to a service and decodes what of
// its answer is wanted.
func (s *server) query(service string, params url.Values, answer any) error {
	body := []byte(params.Encode())
	return s.once(func(c *conn) error {
		to := *c.signer
		to.service = service
		c.signer = &to
		a, err := c.do(requestHead{
			method: "POST", path: "/", headers: []header{{"content-type", "application/x-www-form-urlencoded; charset=utf-8"}},
			payloadHash: hexHash(body), contentLength: len(body),
		}, body)
		if err == nil {
			err = c.want(200, a)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", params.Get("Action"), err)
		}
		return xml.Unmarshal(c.body, answer)
	})
}
