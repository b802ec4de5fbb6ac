package audit_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shale/internal/audit"
)

var shown = audit.Parameters{
	"SnapshotId": {Set: "snapshotSet"}, "Owner": {Set: "ownersSet"}, "MaxResults": {Show: audit.Typed}, "DryRun": {Show: audit.Typed},
	"Filter": {}, "Tag": {}, "CreateVolumePermission": {}, "Add": {Set: "add"}, "NextToken": {Hidden: true}, "RestorableBy": {Item: "user"},
	"Tags": {}, "TagKeys": {}, "Attribute": {Name: "attributeType"},
}

func form(t testing.TB, query string) string {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Skip(err)
	}
	line := write(t, audit.Options{}, audit.Event{}, func(_ context.Context, r *audit.Record) { r.Form(values, shown) })
	b, err := json.Marshal(fields(t, line)["requestParameters"])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestForm(t *testing.T) {
	for query, want := range map[string]string{
		"":                                       `{}`,
		"Action=X&Version=1&Signature=":          `{}`,
		"SnapshotId=s&MaxResults=05&DryRun=true": `{"dryRun":true,"maxResults":5,"snapshotId":"s"}`,
		"MaxResults=many":                        `{"maxResults":"many"}`,
		"SnapshotId.10=j&SnapshotId.9=i&SnapshotId=s": `{"snapshotId":"s",` +
			`"snapshotSet":{"items":[{"snapshotId":"i"},{"snapshotId":"j"}]}}`,
		"RestorableBy.1=x":    `{"restorableBySet":{"items":[{"user":"x"}]}}`,
		"Attribute=a":         `{"attributeType":"a"}`,
		"NextToken=abcdefghi": `{"nextToken":"HIDDEN_DUE_TO_SECURITY_REASONS"}`,
		"NextToken.1=abc":     `{"nextTokenSet":{"items":[{"nextToken":"HIDDEN_DUE_TO_SECURITY_REASONS"}]}}`,
		"Filter.1.Name=n&Filter.1.Value.1=v&Filter.1.Value.2=w": `{"filterSet":{"items":[{"name":"n",` +
			`"valueSet":{"items":[{"value":"v"},{"value":"w"}]}}]}}`,
		"CreateVolumePermission.Add.1.UserId=u&CreateVolumePermission.Add.2.Group=all": `{"createVolumePermission":` +
			`{"add":{"items":[{"userId":"u"},{"group":"all"}]}}}`,
		"Tags.member.1.Key=k&Tags.member.1.Value=true": `{"tags":[{"key":"k","value":"true"}]}`,
		"TagKeys.member.1=k&TagKeys.member.2=l":        `{"tagKeys":["k","l"]}`,
		"Tag.x=1":                                      `{"tag":{"x":"1"}}`,
		"Tag.1=a&Tag.x=b":                              `{"tag":{"1":"a","x":"b"}}`,
	} {
		if d := cmp.Diff(want, form(t, query)); d != "" {
			t.Errorf("%s (-want +got):\n%s", query, d)
		}
	}
}

// Whatever a form holds becomes a line, of which hidden values are no part.
func FuzzForm(f *testing.F) {
	f.Add("SnapshotId.1=s&Filter.1.Name=n&Filter.1.Value.1=v&NextToken=0123456789")
	f.Add("Tags.member.1.Key=k&Tags.member=&Tags.member.1=x&Tag.-1=&Tag..=&Owner.1.1.1.1.1.1.1=&.=&=")
	f.Fuzz(func(t *testing.T, query string) {
		form(t, strings.ReplaceAll(query, "\xff", ""))
	})
}

func TestElements(t *testing.T) {
	for xml, want := range map[string]string{
		"":                      `{}`,
		"<return>true</return>": `{"_return":true}`,
		"<tagSet><item><key>k</key><value>true</value></item></tagSet><encrypted>false</encrypted>": `{"encrypted":false,` +
			`"tagSet":{"items":[{"key":"k","value":"true"}]}}`,
		"<volumeSize>8</volumeSize><description>a &lt;b</description><x></x>":               `{"description":"a \u003cb","volumeSize":8,"x":""}`,
		"<kmsKeyId>alias/aws/ebs</kmsKeyId>":                                                `{"kmsKeyId":"HIDDEN_DUE_TO_SECURITY_REASONS"}`,
		"<AccessKey><SecretAccessKey>s</SecretAccessKey><UserName>u</UserName></AccessKey>": `{"accessKey":{"userName":"u"}}`,
		"<SecretAccessKey><x>s</x></SecretAccessKey><SessionToken>t</SessionToken>":         `{}`,
		"<Expiration>2026-09-25T12:00:00Z</Expiration><CreateDate>today</CreateDate>": `{"createDate":"today",` +
			`"expiration":"Sep 25, 2026 12:00:00 PM"}`,
		"<AssumeRolePolicyDocument>%7B%22a%22%3A%20%22%2B+%22%7D</AssumeRolePolicyDocument>":            `{"assumeRolePolicyDocument":"{\"a\": \"++\"}"}`,
		"<AssumeRolePolicyDocument>%</AssumeRolePolicyDocument>":                                        `{"assumeRolePolicyDocument":"%"}`,
		"<Users><member><UserName>a</UserName></member><member><UserName>b</UserName></member></Users>": `{"users":[{"userName":"a"},{"userName":"b"}]}`,
	} {
		got, err := json.Marshal(audit.Elements([]byte(xml)))
		if d := cmp.Diff(want, string(got)); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", xml, err, d)
		}
	}
}

func FuzzElements(f *testing.F) {
	f.Add([]byte("<a><item><b>c</b></item></a><return>true</return>"))
	f.Add([]byte(strings.Repeat("<a>", 100)))
	f.Fuzz(func(t *testing.T, xml []byte) {
		write(t, audit.Options{}, audit.Event{}, func(_ context.Context, r *audit.Record) { r.Response = audit.Elements(xml) })
	})
}
