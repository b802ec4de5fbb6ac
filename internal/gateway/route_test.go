package gateway_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/gateway"
	"shale/internal/identity"
	"shale/internal/policy"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// Which dialect, which service and which region a request gets.
// Spec: ebs-direct §1.1; plain-json, Which dialect a request gets.
func TestDispatch(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    *http.Request
		sign *signing
		want string
	}{
		{"signed is EBS", request("GET", "/snapshots/snap-0/blocks", ""), &signing{}, "ebs served"},
		{"signed is EBS whatever it accepts", request("POST", "/snapshots", "{}", "Accept: application/json"), &signing{}, "ebs served"},
		{"signed and unknown is EBS's to refuse", request("GET", "/nothing", ""), &signing{}, "ebs served"},
		{"second region", request("GET", "/snapshots/snap-0/blocks", ""), &signing{region: "eu-west-3"}, "ebs served"},
		{"EBS for EC2", request("GET", "/snapshots/snap-0/blocks", ""), &signing{service: "ec2"}, refused("ebs", sigv4.WrongService)},
		{"EBS for KMS", request("POST", "/snapshots", "{}"), &signing{service: "kms"}, refused("ebs", sigv4.WrongService)},
		{"region not served", request("GET", "/snapshots/snap-0/blocks", ""), &signing{region: "eu-west-1"}, refused("ebs", sigv4.WrongRegion)},
		{"malformed is never an envelope", request("POST", "/snapshots", "", "Authorization: AWS4-HMAC-SHA256 nonsense"), nil, refused("ebs", sigv4.Malformed)},
		{"AWS alone is signed", request("POST", "/snapshots", "", "Authorization: AWS"), nil, refused("ebs", sigv4.Malformed)},
		{"presigned parameters are signed", request("GET", "/snapshots/snap-0/blocks?X-Amz-Signature=00", ""), nil, refused("ebs", sigv4.Malformed)},

		{"POST / is EC2", request("POST", "/", "Action=DescribeSnapshots"), &signing{service: "ec2"}, "ec2 served"},
		{"GET /?Action is EC2", request("GET", "/?Action=DescribeSnapshots", ""), &signing{service: "ec2"}, "ec2 served"},
		{"POST / for EBS", request("POST", "/", "Action=DescribeSnapshots"), &signing{}, refused("ec2", sigv4.WrongService)},
		{"POST / for IAM", request("POST", "/", "Action=GetUser"), &signing{service: "iam"}, "iam served"},
		{"POST / for STS", request("POST", "/", "Action=GetCallerIdentity"), &signing{service: "sts"}, "sts served"},
		{"GET /?Action for STS", request("GET", "/?Action=GetCallerIdentity", ""), &signing{service: "sts"}, "sts served"},
		{"the scope decides, not the action", request("POST", "/", "Action=DescribeSnapshots&Version=2016-11-15"), &signing{service: "iam"}, "iam served"},
		{"IAM, other region", request("POST", "/", "Action=GetUser"), &signing{service: "iam", region: "mars-1"}, refused("iam", sigv4.WrongRegion)},
		{"IAM, wrong secret", request("POST", "/", "Action=GetUser"), &signing{service: "iam", secret: "other"}, refused("iam", sigv4.Mismatch)},
		{"POST / that cannot be read", request("POST", "/", "", "Authorization: AWS4-HMAC-SHA256 nonsense"), nil, refused("ec2", sigv4.Malformed)},
		{"POST / unsigned", request("POST", "/", "Action=DescribeSnapshots"), nil, refused("ec2", sigv4.Missing)},
		{"POST / with a bearer token", request("POST", "/", "", "Authorization: Bearer x"), nil, refused("ec2", sigv4.Missing)},
		{"GET /?Action unsigned", request("GET", "/?Action=DescribeSnapshots", ""), nil, refused("ec2", sigv4.Missing)},
		{"POST / other region", request("POST", "/", ""), &signing{service: "ec2", region: "mars-1"}, refused("ec2", sigv4.WrongRegion)},

		{"target", request("POST", "/", "{}", "X-Amz-Target: TrentService.ListKeys"), &signing{service: "kms"}, `{"__type":"InvalidSignatureException"`},
		{"target for EC2", request("POST", "/", "{}", "X-Amz-Target: TrentService.ListKeys"), &signing{service: "ec2"}, `{"__type":"InvalidSignatureException"`},
		{"target unsigned", request("POST", "/", "{}", "X-Amz-Target: TrentService.ListKeys"), nil, `{"__type":"MissingAuthenticationTokenException"`},

		{"unsigned is plain", request("GET", "/snapshots", ""), nil, "plain served"},
		{"unsigned and unknown is plain's to refuse", request("GET", "/nothing", ""), nil, "plain served"},
		{"GET / is plain", request("GET", "/", ""), nil, "plain served"},
		{"plain, bearer", request("GET", "/snapshots", "", "Authorization: Bearer AWS4"), nil, refused("plain", sigv4.Missing)},
		{"plain, basic", request("GET", "/snapshots", "", "Authorization: Basic dTpw"), nil, refused("plain", sigv4.Missing)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.sign != nil {
				sign(t, tt.r, *tt.sign)
			}
			f := newFixture(t, func(o *gateway.Options) { o.Anonymous = testAccount })
			w := f.do(tt.r)
			if got := w.Body.String(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if id := w.Header().Get("x-amzn-RequestId"); len(id) != 36 {
				t.Errorf("request id %q", id)
			}
		})
	}
}

func TestCaller(t *testing.T) {
	root, anonymous := identity.Root(testAccount), identity.Root("999900001111")
	clock := testTime.Add(time.Hour)
	for _, tt := range []struct {
		name   string
		host   string
		sign   *signing
		want   *policy.Principal
		region string
	}{
		{"signed", "127.0.0.1", &signing{region: "eu-west-3"}, root, "eu-west-3"},
		{"by a session", "127.0.0.1", &signing{key: sessionKey, token: sessionToken}, alice, "us-east-1"},
		{"the scope decides, not the host", "ebs.us-east-1.amazonaws.com", &signing{region: "eu-west-3"}, root, "eu-west-3"},
		{"anonymous, default region", "127.0.0.1:8484", nil, anonymous, "us-east-1"},
		{"anonymous, region of the host", "EBS.eu-west-3.amazonaws.com:8484", nil, anonymous, "eu-west-3"},
		{"anonymous, no region in the host", "ebs.localhost", nil, anonymous, "us-east-1"},
	} {
		f := newFixture(t, func(o *gateway.Options) {
			o.Anonymous = "999900001111"
			o.Clock = func() time.Time { return clock }
		})
		r, d := request("GET", "/snapshots/snap-0/blocks", "", "User-Agent: tool/1"), f.plain
		r.Host, r.RemoteAddr = tt.host, "[::ffff:192.0.2.7]:1234"
		if tt.sign != nil {
			sign(t, r, *tt.sign)
			d = f.ebs
		}
		f.do(r)
		want := snapshot.Caller{Account: tt.want.Account, Region: tt.region, By: &policy.Subject{Principal: tt.want, Environment: policy.Environment{
			Time: clock, SourceIP: netip.MustParseAddr("192.0.2.7"), UserAgent: "tool/1", Region: tt.region,
		}}}
		if diff := cmp.Diff(want, d.caller, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: caller (-want +got):\n%s", tt.name, diff)
		}
		name := tt.want.ARN
		if tt.want.Kind == policy.Account {
			name = tt.want.Account
		}
		if log := f.log.String(); !strings.Contains(log, "caller="+name+" ") || strings.Contains(log, sessionToken) {
			t.Errorf("%s: the log has\n%s", tt.name, log)
		}
	}
}

// IAM and STS are everywhere, and have one region for all. Spec: ebs-direct §1.1.
func TestGlobalRegion(t *testing.T) {
	for _, service := range []string{"iam", "sts", "ec2"} {
		f := newFixture(t, func(o *gateway.Options) { o.Regions = []string{"eu-west-3"} })
		r := sign(t, request("POST", "/", "Action=X"), signing{service: service, region: "us-east-1"})
		want := service + " served"
		if service == "ec2" {
			want = refused("ec2", sigv4.WrongRegion)
		}
		if got := f.do(r).Body.String(); got != want {
			t.Errorf("%s: got %q, want %q", service, got, want)
		}
	}
}

func TestPlainWithoutAnonymous(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.do(request("GET", "/snapshots", "")).Body.String(); got != refused("plain", sigv4.Missing) {
		t.Errorf("got %q", got)
	}
}

func TestPlainRegionNotServed(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.Anonymous = testAccount })
	r := request("GET", "/snapshots", "")
	r.Host = "ebs.mars-1.amazonaws.com"
	if got := f.do(r).Body.String(); got != refused("plain", sigv4.WrongRegion) {
		t.Errorf("got %q", got)
	}
}

// With a KMS, the target and the scope's service have to agree. Spec: ebs-direct §1.1.
func TestKMS(t *testing.T) {
	for _, tt := range []struct {
		name, target string
		sign         *signing
		want, op     string
	}{
		{"KMS", "TrentService.ListKeys", &signing{service: "kms"}, "kms served", "kms:ListKeys"},
		{"no operation that is known", "TrentService.Nonsense", &signing{service: "kms"}, "kms served", "kms:unknown"},
		{"for EC2", "TrentService.ListKeys", &signing{service: "ec2"}, refused("kms", sigv4.WrongService), "kms:unknown"},
		{"other region", "TrentService.ListKeys", &signing{service: "kms", region: "mars-1"}, refused("kms", sigv4.WrongRegion), "kms:unknown"},
		{"unsigned", "TrentService.ListKeys", nil, refused("kms", sigv4.Missing), "kms:unknown"},
		{"another service's target", "DynamoDB_20120810.ListTables", &signing{service: "kms"}, `{"__type":"InvalidSignatureException"`, "json:unknown"},
	} {
		f := newFixture(t, func(o *gateway.Options) { o.KMS = &door{name: "kms"} })
		r := request("POST", "/", `{"secret":"bytes"}`, "X-Amz-Target: "+tt.target)
		if tt.sign != nil {
			sign(t, r, *tt.sign)
		}
		if got := f.do(r).Body.String(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if log := f.log.String(); !strings.Contains(log, " op="+tt.op+" ") || strings.Contains(log, "bytes\"") {
			t.Errorf("%s: log %s", tt.name, log)
		}
	}
}

// A target that is not signed might have been put there on the way, and another
// operation with it.
func TestUnsignedTarget(t *testing.T) {
	f := newFixture(t, func(o *gateway.Options) { o.KMS = &door{name: "kms"} })
	r := sign(t, request("POST", "/", `{"KeyId":"k"}`), signing{service: "kms"})
	r.Header.Set("X-Amz-Target", "TrentService.ScheduleKeyDeletion")
	if got := f.do(r).Body.String(); got != refused("kms", sigv4.Mismatch) {
		t.Errorf("got %q", got)
	}
}

// A browser names no origin in what a page reads from its own. So a name that
// was made to resolve to loopback after the page was loaded must not let it
// read; and no other client is asked by which name it came.
func TestReboundName(t *testing.T) {
	for _, tt := range []struct {
		name, host, header string
		ok                 bool
	}{
		{"a page of a name of its own", "example.com:8484", "Accept-Language", false},
		{"a page of a name like ours", "ebs.us-east-1.example.com:8484", "Accept-Language", false},
		{"a page, by what it says of itself", "example.com:8484", "Sec-Fetch-Site", false},
		{"a page of no name", "127.0.0.1.example.com", "Accept-Language", false},
		{"a person, by address", "127.0.0.1:8484", "Accept-Language", true},
		{"a person, by localhost", "localhost:8484", "Accept-Language", true},
		{"a person, by the region's name", "ebs.us-east-1.localhost:8484", "Accept-Language", true},
		{"curl, by any name", "ebs.us-east-1.amazonaws.com", "Accept", true},
	} {
		f := newFixture(t, func(o *gateway.Options) {
			o.Anonymous = testAccount
			o.TestControls = &clock{}
		})
		addr := f.listen(t)
		for path, served := range map[string]string{"/snapshots": "plain served", "/_test/clock": `{"success":true`} {
			r, err := http.NewRequest("GET", "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tt.host
			r.Header.Set(tt.header, "")
			want := served
			if !tt.ok {
				want = refused("plain", sigv4.ForeignOrigin)
			}
			if _, got := send(t, r); !strings.HasPrefix(got, want) {
				t.Errorf("%s, %s: got %q, want %q", tt.name, path, got, want)
			}
		}
	}
}

// A web page must not reach an anonymous server on its visitor's loopback.
func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		name, host string
		origins    []string
		ok         bool
	}{
		{"none", "127.0.0.1:8484", nil, true},
		{"own", "127.0.0.1:8484", []string{"http://127.0.0.1:8484"}, true},
		{"own, by name", "localhost:8484", []string{"http://localhost:8484"}, true},
		{"own, IPv6", "[::1]:8484", []string{"http://[::1]:8484"}, true},
		{"other host", "127.0.0.1:8484", []string{"http://example.com"}, false},
		{"other port", "127.0.0.1:8484", []string{"http://127.0.0.1:80"}, false},
		{"other scheme", "127.0.0.1:8484", []string{"https://127.0.0.1:8484"}, false},
		{"opaque", "127.0.0.1:8484", []string{"null"}, false},
		{"empty", "127.0.0.1:8484", []string{""}, false},
		{"two", "127.0.0.1:8484", []string{"http://127.0.0.1:8484", "http://example.com"}, false},
		{"a name made to resolve to loopback", "example.com:8484", []string{"http://example.com:8484"}, false},
	} {
		f := newFixture(t, func(o *gateway.Options) {
			o.Anonymous = testAccount
			o.TestControls = &clock{}
		})
		addr := f.listen(t)
		for path, served := range map[string]string{"/snapshots": "plain served", "/_test/clock": `{"success":true`} {
			r, err := http.NewRequest("GET", "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tt.host
			r.Header["Origin"] = tt.origins
			want := served
			if !tt.ok {
				want = refused("plain", sigv4.ForeignOrigin)
			}
			if _, got := send(t, r); !strings.HasPrefix(got, want) {
				t.Errorf("%s, %s: got %q, want %q", tt.name, path, got, want)
			}
		}
	}
}
