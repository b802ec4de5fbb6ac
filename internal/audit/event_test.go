package audit_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"shale/internal/audit"
	"shale/internal/policy"
)

const (
	account  = "111122223333"
	snapshot = "snap-033d116c0448c309d"
	keyARN   = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

var root = &policy.Principal{Account: account, ARN: "arn:aws:iam::111122223333:root", ID: account, Kind: policy.Account}

// write returns the line that fill and the event leave.
func write(t testing.TB, o audit.Options, e audit.Event, fill func(context.Context, *audit.Record)) []byte {
	t.Helper()
	var b bytes.Buffer
	o.Out = &b
	trail := audit.NewTrail(o)
	e.Record = trail.NewRecord()
	if fill != nil {
		fill(e.Record.With(t.Context()), e.Record)
	}
	trail.Write(&e)
	if !bytes.HasSuffix(b.Bytes(), []byte("}\n")) || bytes.Count(b.Bytes(), []byte("\n")) != 1 || !json.Valid(b.Bytes()) {
		t.Fatalf("not a line of JSON: %q", b.Bytes())
	}
	return b.Bytes()
}

func call(t testing.TB, op string) audit.Call {
	t.Helper()
	c, ok := audit.CallOf(op)
	if !ok {
		t.Fatalf("%s is no call", op)
	}
	return c
}

// The lines of each kind of call and of caller, byte for byte.
// Spec: ebs-direct §13; CloudTrail User Guide, Record contents, userIdentity element.
func TestLines(t *testing.T) {
	user := &policy.Principal{Account: account, ARN: "arn:aws:iam::111122223333:user/ops/alice", ID: "AIDATESTALICE", Kind: policy.User, Name: "alice"}
	session := &policy.Principal{
		Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/backup/nightly", ID: "AROATESTBACKUP:nightly", Kind: policy.AssumedRole,
		Role: "arn:aws:iam::111122223333:role/ops/backup", Issued: time.Date(2026, 9, 25, 13, 0, 0, 1, time.FixedZone("elsewhere", 7200)),
	}
	temporary := *user
	temporary.Issued = session.Issued
	var got []byte
	add := func(op string, id audit.Identity, change func(*audit.Event), fill func(context.Context, *audit.Record)) {
		t.Helper()
		e := audit.Event{
			Call: call(t, op), Identity: id, Account: account, Region: "us-east-1",
			Time:     time.Date(2026, 9, 25, 13, 57, 20, 999, time.FixedZone("elsewhere", 7200)),
			SourceIP: "192.0.2.1", UserAgent: "Boto3/1", RequestID: "request", ID: "event",
		}
		if change != nil {
			change(&e)
		}
		got = append(got, write(t, audit.Options{Data: true}, e, fill)...)
	}
	add("StartSnapshot", audit.IdentityOf(root, "AKIATEST"), nil, func(_ context.Context, r *audit.Record) {
		r.Parameters = map[string]any{"volumeSize": 1, "parentSnapshotId": snapshot, "kmsKeyArn": r.Hide(keyARN)}
		r.Response = map[string]any{"startTime": audit.Date(time.Date(2026, 9, 25, 0, 7, 5, 0, time.UTC))}
		r.Snapshots = []string{snapshot}
	})
	add("PutSnapshotBlock", audit.IdentityOf(session, "ASIATEST"), func(e *audit.Event) {
		e.TLS, e.Host = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}, "ebs.example:8484"
	}, func(ctx context.Context, r *audit.Record) {
		r.Parameters, r.Snapshots = map[string]any{"blockIndex": 7}, []string{snapshot}
		audit.Refused(ctx, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt on resource: "+keyARN+" because")
	})
	add("GetSnapshotBlock", audit.IdentityOf(user, "AKIATEST"), nil, func(ctx context.Context, r *audit.Record) {
		r.Parameters = map[string]any{"blockToken": r.Hide("AlMBtoken")}
		audit.Refused(ctx, "ValidationException", "The block token AlMBtoken is invalid.")
	})
	add("kms:ScheduleKeyDeletion", audit.IdentityOf(user, "AKIATEST"), nil, func(ctx context.Context, r *audit.Record) {
		r.Parameters = map[string]any{"keyId": keyARN, "policy": `{"Resource":["` + keyARN + `","arn:aws:kms:us-east-1:111122223333:*"]}`}
		audit.Refused(ctx, "DisabledException", keyARN+" is disabled.")
	})
	add("DescribeSnapshot", audit.IdentityOf(&temporary, "ASIATEST"), nil, func(context.Context, *audit.Record) {})
	add("ListSnapshots", audit.Anonymous(), nil, func(_ context.Context, r *audit.Record) { r.Add("operation", "ListSnapshots") })
	add("iam:unknown", audit.Unproved("", "AKIATEST"), func(e *audit.Event) { e.Account, e.UserAgent = "", "" }, func(ctx context.Context, _ *audit.Record) {
		audit.Refused(ctx, "InvalidClientTokenId", "The security token included in the request is invalid.")
	})
	want, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// fields decodes a line.
func fields(t testing.TB, line []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// What a client makes long or unreadable does not make its line so.
func TestBounds(t *testing.T) {
	long := strings.Repeat("ä", 60<<10)
	e := audit.Event{Call: call(t, "ec2:CreateTags"), Identity: audit.Unproved("", long), UserAgent: long}
	got := fields(t, write(t, audit.Options{}, e, func(ctx context.Context, r *audit.Record) {
		r.Parameters = map[string]any{"description": long}
		r.Response = map[string]any{"x": strings.Repeat("y", audit.MaxMembers-len(`{"x":""}`))}
		audit.Refused(ctx, "c", "x"+long)
	}))
	if p := got["requestParameters"].(map[string]any); p["omitted"] != true || p["originalSize"] != float64(len(long)+len(`{"description":""}`)) {
		t.Errorf("parameters: %v", p)
	}
	if p := got["responseElements"].(map[string]any); p["omitted"] != nil {
		t.Errorf("an answer of the longest length is left out: %v", p)
	}
	for _, name := range []string{"userAgent", "errorMessage"} {
		if s := got[name].(string); len(s) < audit.MaxMessage-1 || len(s) > audit.MaxMessage || strings.ContainsRune(s, utf8.RuneError) {
			t.Errorf("%s has %d bytes: …%q", name, len(s), s[len(s)-4:])
		}
	}
	if id := got["userIdentity"].(map[string]any); len(id["accessKeyId"].(string)) != 128 {
		t.Errorf("identity: %v", id)
	}

	got = fields(t, write(t, audit.Options{}, audit.Event{Call: e.Call, UserAgent: "a\xffb"}, func(_ context.Context, r *audit.Record) {
		r.Parameters = map[string]any{"description": "\xff", "\xfe": "\n"}
	}))
	if got["userAgent"] != "a\ufffdb" {
		t.Errorf("user agent %q", got["userAgent"])
	}
}

// Short values are hidden where they stand, and not in words that hold them.
func TestShortSecrets(t *testing.T) {
	got := fields(t, write(t, audit.Options{}, audit.Event{Call: call(t, "ec2:DescribeSnapshots")}, func(ctx context.Context, r *audit.Record) {
		r.Parameters = map[string]any{"nextToken": r.Hide("a")}
		audit.Refused(ctx, "InvalidParameterValue", "a token is invalid")
	}))
	if got["errorMessage"] != "a token is invalid" || got["requestParameters"].(map[string]any)["nextToken"] != audit.Hidden {
		t.Errorf("got %v", got)
	}
}

func TestCalls(t *testing.T) {
	for op, want := range map[string]audit.Call{
		"StartSnapshot":            {Source: "ebs.amazonaws.com", Name: "StartSnapshot"},
		"GetImage":                 {Source: "ebs.amazonaws.com", Name: "GetSnapshotBlock", Data: true, ReadOnly: true},
		"PutSnapshotBlock":         {Source: "ebs.amazonaws.com", Name: "PutSnapshotBlock", Data: true},
		"ec2:DescribeSnapshots":    {Source: "ec2.amazonaws.com", Name: "DescribeSnapshots", ReadOnly: true},
		"ec2:ModifySnapshotTier":   {Source: "ec2.amazonaws.com", Name: "ModifySnapshotTier"},
		"kms:Decrypt":              {Source: "kms.amazonaws.com", Name: "Decrypt", ReadOnly: true},
		"kms:PutKeyPolicy":         {Source: "kms.amazonaws.com", Name: "PutKeyPolicy"},
		"iam:CreateUser":           {Source: "iam.amazonaws.com", Name: "CreateUser"},
		"sts:AssumeRole":           {Source: "sts.amazonaws.com", Name: "AssumeRole", ReadOnly: true},
		"ec2:unknown":              {Source: "ec2.amazonaws.com", Name: "Unknown"},
		"unknown":                  {Source: "ebs.amazonaws.com", Name: "Unknown"},
		"json:unknown":             {Source: "ebs.amazonaws.com", Name: "Unknown"},
		"some operation of later":  {Source: "ebs.amazonaws.com", Name: "Unknown"},
		"sts:GetCallerIdentity":    {Source: "sts.amazonaws.com", Name: "GetCallerIdentity", ReadOnly: true},
		"kms:GenerateDataKey":      {Source: "kms.amazonaws.com", Name: "GenerateDataKey", ReadOnly: true},
		"kms:GetKeyRotationStatus": {Source: "kms.amazonaws.com", Name: "GetKeyRotationStatus", ReadOnly: true},
	} {
		if got := call(t, op); got != want {
			t.Errorf("%s: got %+v, want %+v", op, got, want)
		}
	}
	for _, op := range []string{"/healthz", "/readyz", "/metrics", "/_test", "DescribeAPI"} {
		if c, ok := audit.CallOf(op); ok {
			t.Errorf("%s is the call %+v", op, c)
		}
	}
}

// Without an audit there is no record, and of management alone none for data.
func TestRecords(t *testing.T) {
	ctx := t.Context()
	if audit.Management(ctx) != nil || audit.Data(ctx) != nil {
		t.Error("a record without an audit")
	}
	audit.Refused(ctx, "code", "text")
	for _, data := range []bool{false, true} {
		trail := audit.NewTrail(audit.Options{Data: data})
		r := trail.NewRecord()
		if ctx := r.With(t.Context()); audit.Management(ctx) != r || (audit.Data(ctx) != nil) != data {
			t.Errorf("data %t: wrong records", data)
		}
		if trail.Wants(call(t, "GetSnapshotBlock")) != data || !trail.Wants(call(t, "StartSnapshot")) {
			t.Errorf("data %t: wrong calls", data)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	trail := audit.NewTrail(audit.Options{Out: discard{}, Data: true})
	e := audit.Event{
		Call: call(b, "PutSnapshotBlock"), Identity: audit.IdentityOf(root, "AKIATEST"), Account: account, Region: "us-east-1",
		Time: time.Now(), SourceIP: "192.0.2.1", UserAgent: "Boto3/1.34 md/Botocore#1.34 ua/2.0 os/linux", RequestID: "request", ID: "event",
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Record = trail.NewRecord()
		e.Record.Parameters = map[string]any{
			"snapshotId": snapshot, "blockIndex": 7, "dataLength": 524288, "checksumAlgorithm": "SHA256", "checksum": strings.Repeat("A", 44),
		}
		e.Record.Snapshots = []string{snapshot}
		trail.Write(&e)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
