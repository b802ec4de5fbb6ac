// Package certificate gives a TLS listener its certificate: from two files that
// may change at any time, or from a certificate authority that speaks ACME.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often at most the files are looked at.
const lookEvery = time.Second

// Files is a certificate with its chain, and its key, in PEM, in two files. When
// they change, the next handshake has what is new; while they do not fit together
// the old one stays. It is safe for concurrent use.
type Files struct {
	cert, key string
	now       func() time.Time
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // held by the one who looks
	looked time.Time
	seen   [2]stamp // of what was last loaded, or could not be
}

// A stamp tells one state of a file from another. It is zero for no file.
type stamp struct {
	modified time.Time
	size     int64
	file     os.FileInfo // for os.SameFile
}

func (s stamp) same(other stamp) bool {
	if s.file == nil || other.file == nil {
		return s.file == other.file
	}
	return s.modified.Equal(other.modified) && s.size == other.size && os.SameFile(s.file, other.file)
}

// Open reads the two files. The error says what is wrong with them, also if the
// certificate is not valid now.
func Open(cert, key string, now func() time.Time, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, now: now, log: log}
	f.looked, f.seen = now(), f.stamps()
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	if info := f.seen[1].file; info != nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("every user of this machine can read the TLS key", "file", key, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	f.current.Store(c)
	return f, nil
}

// Get is for tls.Config.GetCertificate.
func (f *Files) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.refresh()
	return f.current.Load(), nil
}

// refresh loads the files if they have changed. Who comes while another looks
// takes what there is.
func (f *Files) refresh() {
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	now := f.now()
	if d := now.Sub(f.looked); d >= 0 && d < lookEvery {
		return
	}
	f.looked = now
	stamps := f.stamps() // before they are read: what changes meanwhile is seen the next time
	if stamps[0].same(f.seen[0]) && stamps[1].same(f.seen[1]) {
		return
	}
	f.seen = stamps
	c, err := f.load()
	if err != nil {
		f.log.Warn("the TLS certificate has changed and cannot be used; the old one stays", "err", err)
		return
	}
	f.current.Store(c)
	f.log.Info("the TLS certificate was read anew", "file", f.cert, "valid_until", c.Leaf.NotAfter)
}

func (f *Files) stamps() (s [2]stamp) {
	for i, path := range []string{f.cert, f.key} {
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{info.ModTime(), info.Size(), info}
		}
	}
	return s
}

func (f *Files) load() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %s", f.cert, f.key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	switch now := f.now(); {
	case now.After(c.Leaf.NotAfter):
		return nil, fmt.Errorf("TLS certificate %s: it expired on %s", f.cert, c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.Leaf.NotBefore):
		return nil, fmt.Errorf("TLS certificate %s: it is not valid before %s; is this machine's clock right?", f.cert, c.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return &c, nil
}

// Leaf is the certificate in use.
func (f *Files) Leaf() *x509.Certificate { return f.current.Load().Leaf }

// Name returns a name or address under which a client on this machine finds the
// certificate to be right: the listener's own address if it is in it, localhost,
// or the first name that it has. It is empty if there is none.
func (f *Files) Name(ip net.IP) string {
	leaf := f.Leaf()
	if ip.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1)
	}
	for _, name := range append([]string{ip.String(), "localhost"}, leaf.DNSNames...) {
		if !strings.HasPrefix(name, "*") && leaf.VerifyHostname(name) == nil && (name != "localhost" || ip.IsLoopback()) {
			return name
		}
	}
	return ""
}

// ErrNoRoot says that a chain leads to an authority that is neither known to the
// system nor in the file.
var ErrNoRoot = errors.New("the certificate's authority is not known to this system, and its own certificate is not at the end of the file")

// Bundle returns the file that clients have to be shown so that they trust the
// certificate: none where the system does, else the file of the certificate, if it
// is its own authority or has its authority's certificate in it, too. If clients
// cannot be helped, the error is ErrNoRoot.
func (f *Files) Bundle() (string, error) {
	c := f.current.Load()
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range c.Certificate {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return "", fmt.Errorf("TLS certificate %s: %w", f.cert, err)
		}
		intermediates.AddCert(one)
		if one.CheckSignatureFrom(one) == nil || one.Equal(c.Leaf) && string(one.RawIssuer) == string(one.RawSubject) {
			roots.AddCert(one)
		}
	}
	check := x509.VerifyOptions{Intermediates: intermediates, CurrentTime: f.now()}
	if _, err := c.Leaf.Verify(check); err == nil {
		return "", nil
	}
	check.Roots = roots
	if _, err := c.Leaf.Verify(check); err != nil {
		return "", ErrNoRoot
	}
	return f.cert, nil
}
