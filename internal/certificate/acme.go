package certificate

import (
	"crypto/tls"
	"errors"
	"log/slog"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Protocol is what an authority speaks with the listener when it asks back.
const Protocol = acme.ALPNProto

// maxAwaited bounds the handshakes that wait for one name's certificate: an
// authority may take minutes.
const maxAwaited = 256

// ACME gives certificates for some names, which an authority makes, and makes
// anew before they expire. The authority asks back on port 443 of each name, which
// has to lead to this listener (TLS-ALPN-01). It is safe for concurrent use.
type ACME struct {
	manager autocert.Manager
	names   []string
	awaited map[string]chan struct{} // has a value for each handshake in progress
}

// NewACME returns an ACME for the names. What the authority gives is kept in the
// folder cache. The directory is the authority's, empty for Let's Encrypt; its
// terms are accepted.
func NewACME(names []string, directory, cache string) *ACME {
	a := &ACME{
		manager: autocert.Manager{
			Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cache), HostPolicy: autocert.HostWhitelist(names...),
		},
		names: names, awaited: make(map[string]chan struct{}),
	}
	if directory != "" {
		a.manager.Client = &acme.Client{DirectoryURL: directory}
	}
	for _, name := range names {
		a.awaited[name] = make(chan struct{}, maxAwaited)
	}
	return a
}

// Obtain asks for the certificates that are not there yet, so that the first
// client need not wait for them. The listener must be answering.
func (a *ACME) Obtain(log *slog.Logger) {
	for _, name := range a.names {
		hello := &tls.ClientHelloInfo{ServerName: name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
		c, err := a.Get(hello)
		if err != nil {
			log.Warn("no TLS certificate yet; each client that comes is a new attempt", "name", name, "err", err)
			continue
		}
		log.Info("there is a TLS certificate", "name", name, "valid_until", c.Leaf.NotAfter)
	}
}

// Get is for tls.Config.GetCertificate.
func (a *ACME) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if awaited := a.awaited[hello.ServerName]; awaited != nil {
		select {
		case awaited <- struct{}{}:
			defer func() { <-awaited }()
		default:
			return nil, errors.New("too many clients wait for this name's certificate")
		}
	}
	return a.manager.GetCertificate(hello)
}
