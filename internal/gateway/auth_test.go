package gateway_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/gateway"
	"shale/internal/rest"
	"shale/internal/sigv4"
)

const putTarget = "/snapshots/snap-0123456789abcdef0/blocks/3"

// How the body of a request is bound to its signature. Spec: ebs-direct §2.1.
func TestPayload(t *testing.T) {
	const body = "some bytes"
	sum, other := hexSum([]byte(body)), hexSum([]byte("other bytes"))
	checksum := "x-amz-checksum: " + base64Sum([]byte(body))
	sha := func(v string) string { return "x-amz-content-sha256: " + v }
	for _, tt := range []struct {
		name    string
		put     bool
		headers []string
		hash    string // what is signed
		want    string
		digest  string // what the door is told to check
	}{
		{"other, no header", false, nil, sum, "ebs served", ""},
		{"other, header", false, []string{sha(sum)}, sum, "ebs served", ""},
		{"other, header in capitals", false, []string{sha(strings.ToUpper(sum))}, strings.ToUpper(sum), "ebs served", ""},
		{"other, wrong digest signed", false, nil, other, refused("ebs", sigv4.Mismatch), ""},
		{"other, header and body differ", false, []string{sha(other)}, other, refused("ebs", sigv4.PayloadMismatch), ""},
		{"other, header and signature differ", false, []string{sha(sum)}, other, refused("ebs", sigv4.Mismatch), ""},
		{"other, unsigned", false, []string{sha("UNSIGNED-PAYLOAD")}, "UNSIGNED-PAYLOAD", refused("ebs", sigv4.UnsupportedPayload), ""},
		{"other, streaming", false, []string{sha("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")}, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", refused("ebs", sigv4.UnsupportedPayload), ""},
		{"other, nonsense", false, []string{sha("abc")}, "abc", refused("ebs", sigv4.UnsupportedPayload), ""},

		{"put, unsigned", true, []string{sha("UNSIGNED-PAYLOAD"), checksum}, "UNSIGNED-PAYLOAD", "ebs served", ""},
		{"put, unsigned, no checksum is the door's to refuse", true, []string{sha("UNSIGNED-PAYLOAD")}, "UNSIGNED-PAYLOAD", "ebs served", ""},
		{"put, header", true, []string{sha(sum)}, sum, "ebs served", sum},
		{"put, header of another body is the service's to refuse", true, []string{sha(other)}, other, "ebs served", other},
		{"put, header and signature differ", true, []string{sha(sum)}, other, refused("ebs", sigv4.Mismatch), ""},
		{"put, no header", true, []string{checksum}, sum, "ebs served", ""},
		{"put, no header, checksum of another body signed", true, []string{checksum}, other, refused("ebs", sigv4.Mismatch), ""},
		{"put, no header, no checksum", true, nil, sum, refused("ebs", sigv4.UnsupportedPayload), ""},
		{"put, no header, short checksum", true, []string{"x-amz-checksum: AAAA"}, sum, refused("ebs", sigv4.UnsupportedPayload), ""},
		{"put, streaming", true, []string{sha("STREAMING-UNSIGNED-PAYLOAD-TRAILER")}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", refused("ebs", sigv4.UnsupportedPayload), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method, target := "POST", "/snapshots"
			if tt.put {
				method, target = "PUT", putTarget
			}
			f := newFixture(t, nil)
			r := sign(t, request(method, target, body, tt.headers...), signing{hash: tt.hash})
			if got := f.do(r).Body.String(); got != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			digest := ""
			if f.ebs.signed != nil {
				digest = fmt.Sprintf("%x", *f.ebs.signed)
			}
			if digest != tt.digest {
				t.Errorf("signed digest %q, want %q", digest, tt.digest)
			}
			if strings.HasSuffix(tt.want, "served") && string(f.ebs.body) != body {
				t.Errorf("the door read %q, want %q", f.ebs.body, body)
			}
		})
	}
}

// An empty body needs no header to say what was signed.
func TestPayloadEmptyPut(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.do(sign(t, request("PUT", putTarget, ""), signing{})).Body.String(); got != "ebs served" {
		t.Errorf("got %q", got)
	}
}

// A checksum that anybody could replace on the way is accepted only where the
// operator says so.
func TestUnsignedChecksum(t *testing.T) {
	for allow, want := range map[bool]string{false: refused("ebs", sigv4.Mismatch), true: "ebs served"} {
		f := newFixture(t, func(o *gateway.Options) { o.AllowUnsignedChecksum = allow })
		r := sign(t, request("PUT", putTarget, "x", "x-amz-content-sha256: UNSIGNED-PAYLOAD"), signing{hash: "UNSIGNED-PAYLOAD"})
		r.Header.Set("x-amz-checksum", base64Sum([]byte("x")))
		if got := f.do(r).Body.String(); got != want {
			t.Errorf("AllowUnsignedChecksum=%v: got %q, want %q", allow, got, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	for _, tt := range []struct {
		name    string
		keys    keys
		sign    signing
		headers []string
		want    string
	}{
		{"unknown key", keys{}, signing{key: "AKIDOTHER"}, nil, refused("ebs", sigv4.UnknownKey)},
		{"wrong secret", keys{}, signing{secret: "other"}, nil, refused("ebs", sigv4.Mismatch)},
		{"session token", keys{}, signing{}, []string{"X-Amz-Security-Token: t"}, refused("ebs", sigv4.UnknownToken)},
		{"session", keys{}, signing{key: sessionKey, token: sessionToken}, nil, "ebs served"},
		{"session, its token another's", keys{}, signing{key: sessionKey, token: "other"}, nil, refused("ebs", sigv4.UnknownToken)},
		{"session, without its token", keys{}, signing{key: sessionKey}, nil, refused("ebs", sigv4.UnknownKey)},
		{"session that is over", keys{}, signing{key: sessionKey, token: expiredToken}, nil, refused("ebs", sigv4.ExpiredToken)},
		{"too old", keys{}, signing{at: testTime.Add(-16 * time.Minute)}, nil, refused("ebs", sigv4.Expired)},
		{"too new", keys{}, signing{at: testTime.Add(16 * time.Minute)}, nil, refused("ebs", sigv4.Expired)},
		{"within the skew", keys{}, signing{at: testTime.Add(14 * time.Minute)}, nil, "ebs served"},
		{"lookup fails", keys{errors.New("disk")}, signing{}, nil, "ebs refused: internal"},
	} {
		f := newFixture(t, func(o *gateway.Options) { o.Keys = tt.keys })
		r := sign(t, request("GET", "/snapshots/snap-0/blocks", "", tt.headers...), tt.sign)
		if got := f.do(r).Body.String(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A session token that is not signed might have been put there on the way.
func TestUnsignedSessionToken(t *testing.T) {
	f := newFixture(t, nil)
	r := sign(t, request("GET", "/snapshots/snap-0/blocks", ""), signing{key: sessionKey})
	r.Header.Set("X-Amz-Security-Token", sessionToken)
	if got := f.do(r).Body.String(); got != refused("ebs", sigv4.Mismatch) {
		t.Errorf("got %q", got)
	}
}

// A body that is not a block is bounded, whether or not it says its length.
func TestBodyTooLong(t *testing.T) {
	for _, length := range []int64{1<<20 + 1, -1} {
		f := newFixture(t, nil)
		r := sign(t, request("POST", "/snapshots", strings.Repeat(" ", 1<<20+1)), signing{})
		r.ContentLength = length
		want := fmt.Sprintf("ebs refused: rest.Kind %d", rest.BodyTooLong)
		if got := f.do(r).Body.String(); got != want {
			t.Errorf("length %d: got %q, want %q", length, got, want)
		}
	}
	f := newFixture(t, nil)
	if got := f.do(sign(t, request("POST", "/snapshots", strings.Repeat(" ", 1<<20)), signing{})).Body.String(); got != "ebs served" {
		t.Errorf("1 MiB: got %q", got)
	}
}

// Authentication comes before everything else, and on a put before the body.
func TestAuthenticationFirst(t *testing.T) {
	f := newFixture(t, nil)
	read := &countingReader{}
	r := sign(t, request("PUT", "/snapshots/bad/blocks/-1", "", "x-amz-content-sha256: UNSIGNED-PAYLOAD"),
		signing{secret: "other", hash: "UNSIGNED-PAYLOAD"})
	r.Body, r.ContentLength = read, block.Size
	r.Header.Set("Expect", "100-continue")
	if got := f.do(r).Body.String(); got != refused("ebs", sigv4.Mismatch) {
		t.Errorf("got %q", got)
	}
	if read.n != 0 {
		t.Errorf("%d reads of the body of a stranger who waits to be asked for it", read.n)
	}
}

type countingReader struct{ n int }

func (r *countingReader) Read(p []byte) (int, error) { r.n++; return len(p), nil }
func (r *countingReader) Close() error               { return nil }
