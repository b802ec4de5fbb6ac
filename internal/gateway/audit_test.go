package gateway_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shale/internal/audit"
	"shale/internal/block"
	"shale/internal/gateway"
)

// An auditLine is what the tests look at.
type auditLine struct {
	UserIdentity struct{ Type, AccountID, AccessKeyID, ARN string }
	EventSource  string
	EventName    string
	AWSRegion    string `json:"awsRegion"`
	SourceIP     string `json:"sourceIPAddress"`
	ErrorCode    string
	RequestID    string
	Recipient    string `json:"recipientAccountId"`
	EventTime    string
}

// audited returns a fixture with an audit, and what gives the one line that is
// new in it.
func audited(t *testing.T, data bool, change func(*gateway.Options)) (*fixture, func() auditLine) {
	t.Helper()
	var b bytes.Buffer
	f := newFixture(t, func(o *gateway.Options) {
		o.Audit = audit.NewTrail(audit.Options{Out: &b, Data: data})
		if change != nil {
			change(o)
		}
	})
	return f, func() (l auditLine) {
		t.Helper()
		if bytes.Count(b.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("not one line: %q", b.Bytes())
		}
		if err := json.Unmarshal(b.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		return l
	}
}

func TestAuditOfCallers(t *testing.T) {
	f, line := audited(t, true, nil)
	w := f.do(sign(t, request("GET", "/snapshots/snap-1/blocks", ""), signing{}))
	got := line()
	if got.EventName != "ListSnapshotBlocks" || got.UserIdentity.Type != "Root" || got.UserIdentity.AccessKeyID != testKey ||
		got.UserIdentity.ARN != "arn:aws:iam::"+testAccount+":root" || got.Recipient != testAccount || got.SourceIP != "192.0.2.1" ||
		got.RequestID != w.Header().Get("X-Amzn-Requestid") || got.EventTime != "2026-09-25T12:00:00Z" || got.ErrorCode != "" {
		t.Errorf("signed: %+v", got)
	}
	if f.do(sign(t, request("POST", "/snapshots", "{}"), signing{region: "eu-west-3"})); line().AWSRegion != "eu-west-3" {
		t.Error("the region is not the one of the scope")
	}
	bad := sign(t, request("POST", "/snapshots", "{}"), signing{region: "eu-west-3"})
	bad.Header.Set("X-Amz-Date", "20260925T120001Z")
	f.do(bad)
	if got := line(); got.UserIdentity.Type != "Unknown" || got.UserIdentity.AccountID != testAccount || got.UserIdentity.AccessKeyID != testKey || got.UserIdentity.ARN != "" || got.AWSRegion != "eu-west-3" {
		t.Errorf("badly signed: %+v", got)
	}
	f.do(request("GET", "/snapshots", ""))
	if got := line(); got.UserIdentity.Type != "Unknown" || got.UserIdentity.AccountID != "" || got.EventName != "DescribeSnapshots" || got.AWSRegion != "us-east-1" {
		t.Errorf("unsigned: %+v", got)
	}
}

// What fails in the middle of its answer, or panics, has an error in its line.
func TestAuditOfFailures(t *testing.T) {
	f, line := audited(t, true, nil)
	do := func() {
		defer func() { _ = recover() }() // which cuts the connection
		f.do(sign(t, request("GET", "/snapshots/snap-1/blocks", ""), signing{}))
	}
	f.ebs.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
		w.WriteHeader(http.StatusOK)
		return errors.New("the disk is gone")
	}
	if do(); line().ErrorCode != "InternalFailure" {
		t.Error("an answer that was cut has no error")
	}
	f.ebs.serve = func(w http.ResponseWriter, _ *http.Request, _ *block.Digest) error {
		w.WriteHeader(http.StatusOK)
		panic("x")
	}
	if do(); line().ErrorCode != "InternalFailure" {
		t.Error("an answer that was cut by a panic has no error")
	}
	f.ebs.serve = func(http.ResponseWriter, *http.Request, *block.Digest) error { panic("x") }
	if do(); line().EventName != "ListSnapshotBlocks" {
		t.Error("a panic has no line")
	}
}

// An action has its name whatever way it is written, in URL or body.
func TestAuditOfActions(t *testing.T) {
	f, line := audited(t, false, nil)
	for body, want := range map[string]string{
		"Action=DeleteSnapshot":                     "DeleteSnapshot",
		"%41%63tion=Delete%53napshot&SnapshotId=x":  "DeleteSnapshot",
		"Version=1&Action=CreateTags&Action=Delete": "CreateTags",
		"Actions=CreateTags":                        "Unknown",
		"Action=%zz":                                "Unknown",
		"Action=Nothing":                            "Unknown",
	} {
		f.do(sign(t, request("POST", "/", body), signing{service: "ec2"}))
		if got := line(); got.EventName != want || got.EventSource != "ec2.amazonaws.com" {
			t.Errorf("%s: %+v", body, got)
		}
	}
	f.do(request("POST", "/?Action=DeleteSnapshot", ""))
	if got := line(); got.EventName != "DeleteSnapshot" || got.UserIdentity.Type != "Unknown" {
		t.Errorf("unsigned: %+v", got)
	}
	f.do(request("POST", "/", "", "X-Amz-Target: DynamoDB.ListTables"))
	if got := line(); got.ErrorCode != "MissingAuthenticationTokenException" || got.EventName != "Unknown" {
		t.Errorf("another service: %+v", got)
	}
}

// BenchmarkPutAudited is BenchmarkPut with the audit as it may be.
func BenchmarkPutAudited(b *testing.B) {
	for name, data := range map[string]bool{"management": false, "data": true} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, func(o *gateway.Options) {
				o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
				o.Audit = audit.NewTrail(audit.Options{Out: io.Discard, Data: data})
			})
			f.ebs.serve = func(w http.ResponseWriter, r *http.Request, _ *block.Digest) error {
				if record := audit.Data(r.Context()); record != nil {
					record.Parameters = map[string]any{
						"snapshotId": "snap-033d116c0448c309d", "blockIndex": 7, "dataLength": 524288, "checksum": strings.Repeat("A", 43) + "=",
					}
				}
				w.WriteHeader(http.StatusCreated)
				return nil
			}
			headers := []string{
				"x-amz-content-sha256: UNSIGNED-PAYLOAD", "x-amz-data-length: 524288",
				"x-amz-checksum-algorithm: SHA256", "x-amz-checksum: " + strings.Repeat("A", 43) + "=",
			}
			r := sign(b, request("PUT", putTarget, "", headers...), signing{hash: "UNSIGNED-PAYLOAD"})
			b.ReportAllocs()
			for b.Loop() {
				f.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
