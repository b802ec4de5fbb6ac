package sigv4_test

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"shale/internal/sigv4"
)

func TestMalformed(t *testing.T) {
	const (
		credential = "Credential=" + exampleKey + "/20260925/us-east-1/ebs/aws4_request"
		headers    = "SignedHeaders=host;x-amz-date"
		signature  = "Signature=5fd62682aa6bdcba79f79d7023de9f46170e6af435fc97f137378693eb4f0075"
	)
	for _, tt := range []struct {
		authorization string
		want          sigv4.Kind
	}{
		{"", sigv4.Missing},
		{"Basic dTpw", sigv4.Missing},
		{"AWS", sigv4.Malformed},
		{"AWS4-HMAC-SHA256", sigv4.Malformed},
		{"AWS4-HMAC-SHA256 ", sigv4.Malformed},
		{"AWS4-HMAC-SHA256 ,,,", sigv4.Malformed},
		{"AWS " + exampleKey + ":c2lnbmF0dXJl", sigv4.Malformed},
		{"AWS4-ECDSA-P256-SHA256 " + credential + ", " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", " + headers, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", " + credential + ", " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", " + headers + ", " + signature + ", More=1", sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + " " + headers + " " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", " + headers + ", Signature=", sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=, " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=host;;x-amz-date, " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=Host;x-amz-date, " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=x-amz-date;host, " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=host;host, " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=ho st, " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 Credential=AKID, " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 Credential=AKID/20260925/us-east-1/ebs, " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 Credential=/20260925/us-east-1/ebs/aws4_request, " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 Credential=A/K/20260925/us-east-1/ebs/aws4_request, " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 Credential=A K/20260925/us-east-1/ebs/aws4_request, " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 Credential=" + strings.Repeat("A", 129) + "/20260925/us-east-1/ebs/aws4_request, " + headers + ", " + signature, sigv4.Malformed},
		{"AWS4-HMAC-SHA256 " + credential + ", " + headers + ", Signature=" + strings.Repeat("0", 8<<10), sigv4.Malformed},

		{"AWS4-HMAC-SHA256 " + credential + ", " + headers + ", " + signature, sigv4.Mismatch},
		{"AWS4-HMAC-SHA256 " + credential + ", " + headers + ", Signature=0", sigv4.Mismatch},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=x-amz-date, " + signature, sigv4.Mismatch},
		{"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=host;x-amz-absent, " + signature, sigv4.Mismatch},
		{"AWS4-HMAC-SHA256 Credential=AKID/20260924/us-east-1/ebs/aws4_request, " + headers + ", " + signature, sigv4.Mismatch},
		{"AWS4-HMAC-SHA256 Credential=AKID/20260925/us-east-1/ebs/aws5_request, " + headers + ", " + signature, sigv4.Mismatch},
	} {
		r := arrive(t, "GET / HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20260925T120000Z\r\n\r\n")
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		err := verify(r)
		if got, ok := kindOf(err); !ok || got != tt.want {
			t.Errorf("%s\ngot %v, want kind %q", tt.authorization, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "5fd62682") {
			t.Errorf("the error holds the signature: %v", err)
		}
	}
}

func TestMalformedHeaders(t *testing.T) {
	const good = "X-Amz-Date: 20260925T120000Z\r\n"
	for name, headers := range map[string]string{
		"no date":                    "",
		"bad date":                   "X-Amz-Date: 2026-09-25T12:00:00Z\r\n",
		"impossible date":            "X-Amz-Date: 20260931T120000Z\r\n",
		"bad Date":                   "Date: yesterday\r\n",
		"two dates":                  good + good,
		"two authorizations":         good + "Authorization: " + exampleAuthorization + "\r\n",
		"two tokens":                 good + "X-Amz-Security-Token: a\r\nX-Amz-Security-Token: b\r\n",
		"two payload hashes":         good + "X-Amz-Content-Sha256: a\r\nX-Amz-Content-Sha256: b\r\n",
		"two kinds of authorization": good + "Authorization: Bearer x\r\n",
	} {
		r := arrive(t, "GET / HTTP/1.1\r\nHost: h\r\n"+headers+"Authorization: "+exampleAuthorization+"\r\n\r\n")
		if _, err := sigv4.Parse(r); err == nil {
			t.Errorf("%s: no error", name)
		} else if kind, ok := kindOf(err); !ok || kind != sigv4.Malformed {
			t.Errorf("%s: got %v, want Malformed", name, err)
		}
	}
}

func TestMalformedPresigned(t *testing.T) {
	good := url.Values{
		"X-Amz-Algorithm":     {"AWS4-HMAC-SHA256"},
		"X-Amz-Credential":    {exampleKey + "/20260925/us-east-1/ebs/aws4_request"},
		"X-Amz-Date":          {"20260925T120000Z"},
		"X-Amz-Expires":       {"60"},
		"X-Amz-SignedHeaders": {"host"},
		"X-Amz-Signature":     {"00"},
	}
	parse := func(q string) error {
		_, err := sigv4.Parse(arrive(t, "GET /?"+q+" HTTP/1.1\r\nHost: h\r\n\r\n"))
		return err
	}
	if err := parse(good.Encode()); err != nil {
		t.Fatal(err)
	}
	alter := func(name, value string) string {
		q := url.Values{}
		for k, v := range good {
			q[k] = v
		}
		q.Set(name, value)
		return q.Encode()
	}
	queries := []string{
		alter("X-Amz-Algorithm", "AWS4-HMAC-SHA1"),
		alter("X-Amz-Date", "now"),
		alter("X-Amz-Expires", "0"),
		alter("X-Amz-Expires", "-1"),
		alter("X-Amz-Expires", "604801"),
		alter("X-Amz-Expires", "99999999999999999999"),
		alter("X-Amz-SignedHeaders", "host host"),
		good.Encode() + "&X-Amz-Date=20260925T120000Z",
	}
	for name := range good {
		queries = append(queries, alter(name, ""))
	}
	for _, q := range queries {
		err := parse(q)
		if kind, ok := kindOf(err); !ok || kind != sigv4.Malformed {
			t.Errorf("%s\ngot %v, want Malformed", q, err)
		}
	}
	// A broken escape hides what the query says: that is no signature, and the
	// door will refuse the query.
	if r := arrive(t, "GET /?X-Amz-Signature=1&a=%zz HTTP/1.1\r\nHost: h\r\n\r\n"); sigv4.Signed(r) {
		t.Error("a query that cannot be decoded counts as signed")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(exampleHead)
	f.Add("GET /a%20b/?x=%41&y&X-Amz-Signature=1 HTTP/1.1\r\nHost: h\r\n\r\n")
	f.Add("GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20260925/b/c/aws4_request&X-Amz-Date=20260925T120000Z" +
		"&X-Amz-Expires=1&X-Amz-SignedHeaders=host&X-Amz-Signature=1 HTTP/1.1\r\nHost: h\r\n\r\n")
	f.Fuzz(func(t *testing.T, head string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			return
		}
		signed := sigv4.Signed(r)
		s, err := sigv4.Parse(r)
		if err != nil {
			if kind, ok := kindOf(err); !ok || (kind == sigv4.Missing) == signed {
				t.Errorf("Signed = %v, Parse: %T %v", signed, err, err)
			}
			return
		}
		if err := s.Verify(r, s.SigningKey(exampleSecret), sigv4.UnsignedPayload, exampleTime); err != nil {
			if _, ok := kindOf(err); !ok {
				t.Errorf("Verify: %T %v, want an *Error", err, err)
			}
			return
		}
		if !s.HasSigned("host") || r.Method != "PUT" || r.URL.EscapedPath() != "/snapshots/snap-033d116c0448c309d/blocks/3" {
			t.Errorf("verified: %q", head)
		}
	})
}
