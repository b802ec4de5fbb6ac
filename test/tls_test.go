package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// A pair is the two files of a certificate that is its own authority.
type pair struct{ cert, key string }

// newPair makes a pair for 127.0.0.1 and localhost, valid until the given time.
func newPair(t *testing.T, until time.Time) pair {
	t.Helper()
	dir := t.TempDir()
	p := pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	p.renew(t, until)
	return p
}

// renew puts a new certificate and key in the place of the old ones, as ACME
// clients do, and returns the certificate.
func (p pair) renew(t *testing.T, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "shale"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeAnew(t, p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeAnew(t, p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeAnew(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func (p pair) flags() []string { return []string{"--tls-cert", p.cert, "--tls-key", p.key} }

// shown returns the certificate that the server shows.
func (s *server) shown(t *testing.T) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// TestTLS takes an image in and out with nothing but the files of the data folder,
// which name the certificate: with the SDK, and with shale's own commands.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t, append(newPair(t, time.Now().Add(time.Hour)).flags(), "--anonymous")...)
	u := uploader{s.ebs(t), s.ec2(t)}
	id, _ := u.upload(t, denseFile(t, 3), nil, "")
	if got := u.download(t, id); !bytes.Equal(got[:blockSize], secretBlock) {
		t.Error("the image came back changed")
	}
	out := filepath.Join(t.TempDir(), "out")
	const script = `eval "$("$0" env --data-dir "$1")" && exec "$0" download "$2" "$3"`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, program, s.dir, id, out)
	cmd.Env = append(os.Environ(), "AWS_CA_BUNDLE=/nonexistent", "HOME="+t.TempDir())
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, _, status := runShale(t, "account", "create", "other", "--data-dir", s.dir); status != 0 {
		t.Fatal("account create failed")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for origin, want := range map[string]int{"https://" + s.address: 200, "http://" + s.address: 403} {
		r, err := http.NewRequest("GET", "https://"+s.address+"/snapshots", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		got, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if got.StatusCode != want {
			t.Errorf("a page of %s: status %d, want %d", origin, got.StatusCode, want)
		}
	}
	if n := strings.Count(string(readFile(t, filepath.Join(s.dir, "config"))), "ca_bundle = /"); n != 2 {
		t.Errorf("%d profiles name the certificate, want both", n)
	}
}

// TestPlainHTTPOnTLS has a client that forgot the s, others that speak neither, and
// one that says nothing.
func TestPlainHTTPOnTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t, newPair(t, time.Now().Add(time.Hour)).flags()...)
	w := s.wire(t)
	w.send([]byte("GET /snapshots HTTP/1.1\r\nHost: a\r\n\r\n"))
	if r := w.reply(); r.status != 400 || !bytes.Contains(r.body, []byte("https://")) {
		t.Errorf("got %v, want 400 and a word of https", r)
	}
	for _, garbage := range []string{"\x00\x01\x02\x03\x04\x05\x06\x07", "get / http\r\n\r\n", "\x16\x03\x01\x00\x05hello"} {
		w := s.wire(t)
		w.send([]byte(garbage))
		if _, err := io.ReadAll(w.in); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %v", garbage, err)
		}
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if c, err := tls.Dial("tcp", s.address, old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	began := time.Now()
	if _, err := io.ReadAll(s.wire(t).in); err != nil || time.Since(began) > 20*time.Second {
		t.Errorf("a client that says nothing was left after %v, %v", time.Since(began), err)
	}
	s.shown(t)
}

// TestCertificateChanges renews the certificate, in two steps, under a connection
// that stays.
func TestCertificateChanges(t *testing.T) {
	t.Parallel()
	p := newPair(t, time.Now().Add(time.Hour))
	s := startServer(t, p.flags()...)
	old := s.shown(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	get := func() *x509.Certificate {
		t.Helper()
		r, err := client.Get("https://" + s.address + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		io.Copy(io.Discard, r.Body)
		return r.TLS.PeerCertificates[0]
	}
	get()
	eventually := func(want func(*x509.Certificate) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !want(s.shown(t)); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the server shows another certificate")
			}
		}
	}
	key := readFile(t, p.key)
	p.renew(t, time.Now().Add(2*time.Hour))
	next := readFile(t, p.key)
	writeAnew(t, p.key, key) // half of it only
	time.Sleep(1100 * time.Millisecond)
	for range 3 {
		if !s.shown(t).Equal(old) {
			t.Fatal("a certificate is shown whose key is not there")
		}
	}
	if n := strings.Count(s.output(t), "the old one stays"); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	writeAnew(t, p.key, next)
	eventually(func(c *x509.Certificate) bool { return !c.Equal(old) })
	if !get().Equal(old) {
		t.Error("the connection that was open is another")
	}
	client.CloseIdleConnections()
	if get().Equal(old) {
		t.Error("a new connection has the old certificate")
	}
}

// TestBadCertificates are refused at the start, in words.
func TestBadCertificates(t *testing.T) {
	t.Parallel()
	good, other := newPair(t, time.Now().Add(time.Hour)), newPair(t, time.Now().Add(time.Hour))
	expired, early := newPair(t, time.Now().Add(-time.Hour)), newPair(t, time.Now().Add(72*time.Hour))
	for name, c := range map[string]struct {
		flags  []string
		says   string
		status int
	}{
		"another's key": {pair{good.cert, other.key}.flags(), "does not match", 1},
		"no such file":  {pair{good.cert, "/nonexistent"}.flags(), "/nonexistent", 1},
		"swapped":       {pair{good.key, good.cert}.flags(), good.key, 1},
		"expired":       {expired.flags(), "it expired on", 1},
		"too early":     {early.flags(), "not valid before", 1},
		"no key":        {good.flags()[:2], "--tls-key", 2},
		"both":          {append(good.flags(), "--acme-domain", "a.example"), "--acme-domain", 2},
		"no domain":     {[]string{"--acme-directory", "https://ca.example"}, "--acme-domain", 2},
		"no full name":  {[]string{"--acme-domain", "shale"}, "full names", 2},
		"an address":    {[]string{"--acme-domain", "127.0.0.1"}, "full names", 2},
	} {
		out, errs, status := runShale(t, append([]string{"serve", "--data-dir", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0"}, c.flags...)...)
		if status != c.status || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit status %d, %q, %q", name, status, out, errs)
		}
	}
	if err := os.Chmod(good.key, 0o644); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, good.flags()...)
	if !strings.Contains(s.output(t), "every user of this machine can read the TLS key") {
		t.Error("nothing is said of a key that everybody can read")
	}
}

// TestUntrusted has a client that does not know the authority: it is told what to
// do.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	s := startServer(t, newPair(t, time.Now().Add(time.Hour)).flags()...)
	cmd := exec.CommandContext(t.Context(), program, "list", "--endpoint-url", "https://"+s.address, "--region", "us-east-1")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=x")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("AWS_CA_BUNDLE")) {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := s.ec2(t).DescribeSnapshots(context.Background(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: aws.Int32(5)}); err != nil {
		t.Error(err)
	}
}
