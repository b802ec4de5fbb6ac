package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"shale/internal/sigv4"
)

var oracleCredentials = aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}

// randomRequest returns an unsigned request with an odd path, an odd query,
// blanks in headers, and a body; and the hash of that body.
func randomRequest(rnd *rand.Rand) (*http.Request, string) {
	text := func(alphabet string, most int) string {
		b := make([]byte, rnd.IntN(most+1))
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	const letters = "abcXYZ019-._~"
	path := "/"
	for range rnd.IntN(4) {
		path += url.PathEscape(text(letters+" %+=:@!$&'(),;*?#\"é", 6)) + "/"
	}
	var query []string
	for i := range rnd.IntN(4) {
		name := fmt.Sprintf("p%d", i)
		query = append(query, name+"="+strings.ReplaceAll(url.QueryEscape(text(letters+" /+=&?%;é", 8)), "+", "%20"))
		for range rnd.IntN(3) { // the SDK sorts these before it encodes them, AWS after
			query = append(query, name+"="+text("abcXYZ019", 4))
		}
	}
	rnd.Shuffle(len(query), func(i, j int) { query[i], query[j] = query[j], query[i] })
	host := []string{"127.0.0.1:8484", "ebs.us-east-1.amazonaws.com", "localhost", "[::1]:8484"}[rnd.IntN(4)]
	body := []byte(text(letters, 20))
	r, err := http.NewRequest([]string{"GET", "PUT", "POST", "DELETE"}[rnd.IntN(4)],
		"http://"+host+path+"?"+strings.Join(query, "&"), bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	for i := range rnd.IntN(4) {
		r.Header.Set(fmt.Sprintf("X-Amz-H%d", i), text(letters+"    ;,=", 12))
	}
	if rnd.IntN(2) == 0 {
		r.Header["X-Amz-Twice"] = []string{text(letters, 5), " b  c "}
	}
	sum := sha256.Sum256(body)
	return r, hex.EncodeToString(sum[:])
}

// transmit sends r through the wire format.
func transmit(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestOracleHeader(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for i := range 2000 {
		r, hash := randomRequest(rnd)
		if err := v4.NewSigner().SignHTTP(context.Background(), oracleCredentials, r, hash, "ebs", "eu-west-3", exampleTime); err != nil {
			t.Fatal(err)
		}
		got := transmit(t, r)
		s, err := sigv4.Parse(got)
		if err == nil {
			err = s.Verify(got, s.SigningKey(exampleSecret), hash, exampleTime)
		}
		if err != nil {
			t.Fatalf("seed %d, request %d: %v\n%s %s\n%v", seed, i, err, got.Method, got.RequestURI, got.Header)
		}
		refuseAltered(t, rnd, got, s, hash)
	}
}

func TestOraclePresigned(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 2))
	for i := range 2000 {
		r, hash := randomRequest(rnd)
		q := r.URL.Query()
		q.Set("X-Amz-Expires", "60")
		r.URL.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
		uri, header, err := v4.NewSigner().PresignHTTP(context.Background(), oracleCredentials, r, hash, "ebs", "eu-west-3", exampleTime)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := http.NewRequest(r.Method, uri, r.Body)
		if err != nil {
			t.Fatal(err)
		}
		sent.ContentLength, sent.Header = r.ContentLength, header
		got := transmit(t, sent)
		if !sigv4.Signed(got) {
			t.Fatalf("seed %d, request %d: Signed = false", seed, i)
		}
		s, err := sigv4.Parse(got)
		if err == nil {
			err = s.Verify(got, s.SigningKey(exampleSecret), hash, exampleTime.Add(time.Minute))
		}
		if err != nil {
			t.Fatalf("seed %d, request %d: %v\n%s %s\n%v", seed, i, err, got.Method, got.RequestURI, got.Header)
		}
		if !s.Presigned || s.Expires != time.Minute {
			t.Fatalf("Parse = %+v", s)
		}
		err = s.Verify(got, s.SigningKey(exampleSecret), hash, exampleTime.Add(time.Minute+time.Second))
		if kind, _ := kindOf(err); kind != sigv4.Expired {
			t.Errorf("a second too late: %v", err)
		}
		refuseAltered(t, rnd, got, s, hash)
	}
}

// refuseAltered changes one thing after the other in a good request.
func refuseAltered(t *testing.T, rnd *rand.Rand, r *http.Request, s *sigv4.Signature, hash string) {
	t.Helper()
	alter := func(v string) string {
		if v == "" {
			return "a"
		}
		i := rnd.IntN(len(v))
		c := "ab"[rnd.IntN(2)]
		if v[i] == c {
			c = 'c'
		}
		return v[:i] + string(c) + v[i+1:]
	}
	check := func(what string, change func(r *http.Request)) {
		t.Helper()
		c := r.Clone(context.Background())
		change(c)
		p, err := sigv4.Parse(c)
		if err == nil {
			err = p.Verify(c, p.SigningKey(exampleSecret), hash, exampleTime)
		}
		if _, ok := kindOf(err); !ok {
			t.Errorf("%s altered: got %v, want an *Error\n%s %s", what, err, r.Method, r.RequestURI)
		}
	}
	check("method", func(c *http.Request) { c.Method = alter(c.Method) })
	check("host", func(c *http.Request) { c.Host = alter(c.Host) })
	check("path", func(c *http.Request) { c.URL.Path, c.URL.RawPath = "/"+c.URL.Path, "" })
	check("query", func(c *http.Request) { c.URL.RawQuery += "&p0=more" })
	for _, name := range s.SignedHeaders {
		key := http.CanonicalHeaderKey(name)
		if name == "host" || s.Presigned && name == "content-length" {
			continue
		}
		check(name, func(c *http.Request) { c.Header[key] = []string{alter(c.Header.Get(key)) + "z"} })
		check("absence of "+name, func(c *http.Request) { delete(c.Header, key) })
	}
	if !s.Presigned {
		authorization := r.Header.Get("Authorization")
		at := strings.Index(authorization, "/20260925/")
		for range 20 {
			check("Authorization", func(c *http.Request) {
				c.Header.Set("Authorization", authorization[:at]+alter(authorization[at:]))
			})
		}
	}
	if err := s.Verify(r, s.SigningKey(exampleSecret+"x"), hash, exampleTime); err == nil {
		t.Error("verified with another secret")
	}
	if err := s.Verify(r, s.SigningKey(exampleSecret), sigv4.UnsignedPayload, exampleTime); err == nil {
		t.Error("verified with another payload hash")
	}
}

func BenchmarkVerify(b *testing.B) {
	r := arrive(b, exampleHead)
	b.ReportAllocs()
	for b.Loop() {
		if err := verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
