package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shale/internal/certificate"
)

// tlsFlags say how the listener is encrypted.
type tlsFlags struct {
	TLSCert       string   `name:"tls-cert" group:"tls" and:"tls" xor:"tls" placeholder:"FILE" help:"Serve with TLS: the certificate and its chain, in PEM. Read anew when it changes."`
	TLSKey        string   `name:"tls-key" group:"tls" and:"tls" placeholder:"FILE" help:"The certificate's private key, in PEM."`
	ACMEDomain    []string `name:"acme-domain" group:"tls" xor:"tls" placeholder:"NAME" sep:"none" help:"Serve with TLS, by a certificate for this name that Let's Encrypt makes; can be repeated. Port 443 of the name has to lead here."`
	ACMEDirectory string   `name:"acme-directory" group:"tls" placeholder:"URL" help:"Use the ACME authority there instead."`
}

// A security is what the flags come to.
type security struct {
	config *tls.Config // nil for plain HTTP
	files  *certificate.Files
	acme   *certificate.ACME
}

// check refuses flags that make no sense.
func (f *tlsFlags) check() error {
	if f.ACMEDirectory == "" {
		return nil
	}
	if len(f.ACMEDomain) == 0 {
		return usagef("--acme-directory is for --acme-domain, which says whose certificate to ask for")
	}
	if u, err := url.Parse(f.ACMEDirectory); err != nil || u.Scheme != "https" || u.Host == "" {
		return usagef("--acme-directory %q: want an address such as https://ca.example/acme/acme/directory", f.ACMEDirectory)
	}
	return nil
}

// security reads the certificate, or prepares to ask for one that is kept in the
// folder dir.
func (f *tlsFlags) security(dir string, log *slog.Logger) (s security, err error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	switch {
	case f.TLSCert != "":
		if s.files, err = certificate.Open(f.TLSCert, f.TLSKey, time.Now, log); err != nil {
			return security{}, err
		}
		config.GetCertificate = s.files.Get
	case len(f.ACMEDomain) > 0:
		names := slices.Clone(f.ACMEDomain)
		for i, name := range names {
			if names[i] = strings.ToLower(name); !strings.Contains(name, ".") || net.ParseIP(name) != nil {
				return security{}, usagef("--acme-domain %q: an authority certifies full names such as shale.example.com", name)
			}
		}
		s.acme = certificate.NewACME(names, f.ACMEDirectory, filepath.Join(dir, "acme"))
		config.GetCertificate = s.acme.Get
		config.NextProtos = append(config.NextProtos, certificate.Protocol)
	default:
		return security{}, nil
	}
	s.config = config
	return s, nil
}

// endpoint is the address as clients on this machine can use it, and the file of
// the authority that they have to be told of, if there is one.
func (f *tlsFlags) endpoint(addr net.Addr, s security, log *slog.Logger) (endpoint, bundle string, err error) {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "", "", err
	}
	ip := net.ParseIP(host)
	if ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	switch {
	case s.config == nil:
		return "http://" + net.JoinHostPort(host, port), "", nil
	case s.acme != nil:
		return "https://" + joinPort(strings.ToLower(f.ACMEDomain[0]), port), "", nil
	}
	if name := s.files.Name(ip); name != "" {
		host = name
	} else {
		log.Warn("the TLS certificate is for no name or address that clients here could use", "file", f.TLSCert)
	}
	bundle, err = s.files.Bundle()
	if errors.Is(err, certificate.ErrNoRoot) {
		log.Warn("clients will not trust the TLS certificate unless they are told to, as by AWS_CA_BUNDLE", "file", f.TLSCert, "why", err)
		err = nil
	}
	if err == nil && bundle != "" {
		bundle, err = filepath.Abs(bundle)
	}
	return "https://" + joinPort(host, port), bundle, err
}

// joinPort leaves out the port that a URL with https has anyway: clients sign
// the Host header without it.
func joinPort(host, port string) string {
	if port != "443" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return fmt.Sprintf("[%s]", host)
	}
	return host
}
