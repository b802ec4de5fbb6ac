package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/quota"
	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// What is not one of the six operations is counted here: by service, by account
// and region, after the signature. What the service refuses is counted in the
// metrics with it.
func TestThrottle(t *testing.T) {
	config, err := quota.Parse([]string{"ec2-rate=1", "kms-rate=1"})
	if err != nil {
		t.Fatal(err)
	}
	kms := &door{name: "kms"}
	f := newFixture(t, func(o *gateway.Options) {
		o.Anonymous, o.KMS = testAccount, kms
		o.Quotas = quota.New(config, func() time.Time { return testTime })
	})
	f.ebs.serve = func(http.ResponseWriter, *http.Request, *block.Digest) error {
		return &snapshot.Error{Code: snapshot.AccountThrottled}
	}
	tooFast := fmt.Sprintf(" refused: rest.Kind %d", rest.RateExceeded)
	ec2 := func(region string) string {
		return f.do(sign(t, request("POST", "/", "Action=DescribeSnapshots"), signing{service: "ec2", region: region})).Body.String()
	}
	decrypt := func() string {
		return f.do(sign(t, request("POST", "/", "{}", "X-Amz-Target: TrentService.Decrypt"), signing{service: "kms"})).Body.String()
	}
	plain := func(target, host string) string {
		r := request("GET", target, "")
		r.Host = host
		return f.do(r).Body.String()
	}
	for _, x := range []struct{ what, got, want string }{
		{"not signed", f.do(sign(t, request("POST", "/", "Action=DescribeSnapshots"), signing{service: "ec2", secret: "x"})).Body.String(), refused("ec2", sigv4.Mismatch)},
		{"EC2", ec2(""), "ec2 served"},
		{"EC2 again", ec2(""), "ec2" + tooFast},
		{"in another region", ec2("eu-west-3"), "ec2 served"},
		{"KMS", decrypt(), "kms served"},
		{"KMS again", decrypt(), "kms" + tooFast},
		{"a plain list, which is EC2's", plain("/snapshots", "localhost"), "plain" + tooFast},
		{"of another region", plain("/snapshots", "ebs.eu-west-3.localhost"), "plain" + tooFast},
		{"one of the six", plain("/snapshots/snap-0/blocks", "localhost"), "plain served"},
	} {
		if x.got != x.want {
			t.Errorf("%s: got %q, want %q", x.what, x.got, x.want)
		}
	}
	f.do(sign(t, request("GET", "/snapshots/snap-0/blocks", ""), signing{}))
	metrics := f.do(request("GET", "/metrics", "")).Body.String()
	for _, want := range []string{
		`shale_throttled_requests_total{operation="ec2:DescribeSnapshots"} 1`,
		`shale_throttled_requests_total{operation="kms:Decrypt"} 1`,
		`shale_throttled_requests_total{operation="ListSnapshots"} 2`,
		`shale_throttled_requests_total{operation="ListSnapshotBlocks"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}

// A server without room is no server that failed, whatever status that has.
func TestNoRoomIsNoFault(t *testing.T) {
	f := newFixture(t, nil)
	f.ec2.serve = func(http.ResponseWriter, *http.Request, *block.Digest) error {
		return &snapshot.Error{Code: snapshot.Throttled}
	}
	w := f.do(sign(t, request("POST", "/", "Action=DescribeSnapshots"), signing{service: "ec2"}))
	if log := f.log.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(log, "level=INFO msg=request") {
		t.Errorf("got %d, and the log says %s", w.Code, log)
	}
}
