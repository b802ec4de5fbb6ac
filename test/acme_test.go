package test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// TestACME gets a certificate from Pebble, the authority that Let's Encrypt wrote
// for tests, which asks back on the port of the server itself. After a restart the
// certificate is still there, though the authority is not.
func TestACME(t *testing.T) { // not parallel, because of the environment
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	const name = "shale.example.com"
	ready := make(chan struct{})
	var handler http.Handler
	directory := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ready // the authority has to know the server's port, and the server the authority's
		handler.ServeHTTP(w, r)
	}))
	defer directory.Close()
	trusted := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: directory.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", trusted)
	s := startServer(t, "--acme-domain", name, "--acme-directory", directory.URL+wfe.DirectoryPath)
	host, port, err := net.SplitHostPort(s.address)
	if err != nil || host != name {
		t.Fatalf("the address is %s", s.address)
	}
	portNumber, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	quiet, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the only one"}})
	asker := va.New(quiet, 0, portNumber, false, nameServer(t), store)
	front := wfe.New(quiet, store, asker, authority, []string{"pebble.example"}, false, false, 1, 1)
	handler = front.Handler()
	close(ready)

	roots := x509.NewCertPool()
	roots.AddCert(authority.GetRootCert(0).Cert)
	shown := func() (*x509.Certificate, error) {
		d := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots}}
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
	}
	var first *x509.Certificate
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if first, err = shown(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	// The handshake may be over before the line is there.
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.output(t), "there is a TLS certificate"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log does not say that there is a certificate")
		}
	}
	other := &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true}
	if c, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", port), other); err == nil {
		c.Close()
		t.Error("there is a certificate for a name that nobody asked for")
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	directory.Close()
	s.start(t)
	if _, port, err = net.SplitHostPort(s.address); err != nil {
		t.Fatal(err)
	}
	if again, err := shown(); err != nil || !again.Equal(first) {
		t.Errorf("after the restart: another certificate, %v", err)
	}
}

// nameServer says that every name is at 127.0.0.1.
func nameServer(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if question := q.Question[0]; question.Qtype == dns.TypeA {
			answer.Answer = append(answer.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1),
			})
		}
		w.WriteMsg(answer)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return l.Addr().String()
}
