package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"

	"shale/internal/block"
	"shale/internal/policy"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// authenticate verifies the request's signature, which must be for service.
// Unless the body is that of a PutSnapshotBlock (put), it reads it whole,
// checks it against the signature and leaves it in memory for the door. Of a
// put it reads nothing; the digest that it may return is the body's according
// to the signature. An error is a *sigv4.Error, a *rest.Error about the header
// or the body, or the key lookup's. Spec: ebs-direct §2.1.
func (x *exchange) authenticate(service string, put bool) (snapshot.Caller, *block.Digest, error) {
	if err := checkHeader(x.r); err != nil {
		return snapshot.Caller{}, nil, err
	}
	s, err := sigv4.Parse(x.r)
	if err != nil {
		return snapshot.Caller{}, nil, err
	}
	x.asked.key = s.AccessKeyID
	if s.Service != service {
		return snapshot.Caller{}, nil, &sigv4.Error{
			Kind:   sigv4.WrongService,
			Detail: fmt.Sprintf("the credential should be scoped to the service %q", service),
		}
	}
	if !x.serves(s.Region, service) {
		return snapshot.Caller{}, nil, x.wrongRegion()
	}
	x.asked.region = s.Region
	secret, who, err := x.o.Keys.Credential(x.r.Context(), s.AccessKeyID, s.SecurityToken)
	if err != nil {
		return snapshot.Caller{}, nil, fmt.Errorf("look up access key: %w", err)
	}
	x.asked.account = who.Account
	hash, digest, err := x.payload(s, put)
	if err != nil {
		return snapshot.Caller{}, nil, err
	}
	if service == "kms" && !s.HasSigned("x-amz-target") { // which alone says what is to be done
		return snapshot.Caller{}, nil, &sigv4.Error{
			Kind:   sigv4.Mismatch,
			Detail: "the header x-amz-target must be among the signed headers",
		}
	}
	if err := s.Verify(x.r, x.signingKey(s, secret), hash, x.o.Now()); err != nil {
		return snapshot.Caller{}, nil, err
	}
	return x.known(who, s.Region), digest, nil
}

// globalRegion is that of the services that AWS has one of for all regions: the
// SDKs that know so sign for it. Spec: ebs-direct §1.1.
const globalRegion = "us-east-1"

func (x *exchange) serves(region, service string) bool {
	return slices.Contains(x.o.Regions, region) || region == globalRegion && (service == "iam" || service == "sts")
}

// known is the caller of a request that has shown who sent it.
func (x *exchange) known(who *policy.Principal, region string) snapshot.Caller {
	x.caller = who.ARN
	if who.Kind == policy.Account {
		x.caller = who.Account
	}
	x.asked.by(who, region)
	peer := x.w.wire.from()
	if !peer.IsValid() {
		remote, _ := netip.ParseAddrPort(x.r.RemoteAddr)
		peer = remote.Addr().Unmap()
	}
	return snapshot.Caller{Account: who.Account, Region: region, By: &policy.Subject{
		Principal: who,
		Environment: policy.Environment{
			Time: x.o.Clock(), SourceIP: peer.WithZone(""), Secure: x.r.TLS != nil, UserAgent: x.r.UserAgent(), Region: region,
		},
	}}
}

func (x *exchange) wrongRegion() error {
	return &sigv4.Error{
		Kind:   sigv4.WrongRegion,
		Detail: fmt.Sprintf("the region is not served here; the default one is %q", x.o.Regions[0]),
	}
}

// payload returns the last line of the canonical request.
func (x *exchange) payload(s *sigv4.Signature, put bool) (hash string, digest *block.Digest, err error) {
	if put {
		return x.putPayload(s)
	}
	var claimed []byte
	if s.PayloadHash != "" {
		if claimed, err = payloadDigest(s); err != nil {
			return "", nil, err
		}
	}
	b, err := readAll(x.r)
	if err != nil {
		return "", nil, err
	}
	if len(b) == 0 && claimed == nil {
		x.r.Body = http.NoBody
		return sigv4.EmptyPayload, nil, nil
	}
	x.inMemory, x.r.Body = b, io.NopCloser(bytes.NewReader(b))
	sum := sha256.Sum256(b)
	if claimed != nil {
		if !bytes.Equal(claimed, sum[:]) {
			return "", nil, &sigv4.Error{Kind: sigv4.PayloadMismatch}
		}
		return s.PayloadHash, nil, nil
	}
	return hex.EncodeToString(sum[:]), nil, nil
}

// putPayload does without the body, which is not read before its sender is
// known. There are three ways to sign a block: not at all, by its digest in
// x-amz-content-sha256, or by its digest without that header; the last is then
// what x-amz-checksum says, against which the body is checked in any case.
func (x *exchange) putPayload(s *sigv4.Signature) (hash string, digest *block.Digest, err error) {
	checksum := x.r.Header.Get("X-Amz-Checksum")
	switch {
	case s.PayloadHash == sigv4.UnsignedPayload:
		if checksum != "" && !s.HasSigned("x-amz-checksum") && !x.o.AllowUnsignedChecksum {
			return "", nil, &sigv4.Error{
				Kind:   sigv4.Mismatch,
				Detail: "the header x-amz-checksum must be signed when the payload is not",
			}
		}
		return sigv4.UnsignedPayload, nil, nil
	case s.PayloadHash != "":
		sum, err := payloadDigest(s)
		if err != nil {
			return "", nil, err
		}
		return s.PayloadHash, (*block.Digest)(sum), nil
	case x.r.ContentLength == 0:
		return sigv4.EmptyPayload, nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(checksum)
	if err != nil || len(sum) != sha256.Size {
		return "", nil, &sigv4.Error{
			Kind:   sigv4.UnsupportedPayload,
			Detail: "nothing says what the body's signed digest is: neither x-amz-content-sha256 nor x-amz-checksum",
		}
	}
	return hex.EncodeToString(sum), nil, nil
}

// payloadDigest decodes x-amz-content-sha256. What is no digest is a way of
// signing that is not accepted.
func payloadDigest(s *sigv4.Signature) ([]byte, error) {
	sum, err := hex.DecodeString(s.PayloadHash)
	if err != nil || len(sum) != sha256.Size {
		return nil, &sigv4.Error{
			Kind:   sigv4.UnsupportedPayload,
			Detail: "x-amz-content-sha256 must be the SHA-256 of the body in hex; only PutSnapshotBlock may leave it at " + sigv4.UnsignedPayload,
		}
	}
	return sum, nil
}

// A scope is what a signing key is derived from.
type scope struct{ secret, date, region, service string }

// maxSigningKeys bounds the signing keys kept.
const maxSigningKeys = 1000

// signingKey gives the key of the signature's scope, derived once.
func (x *exchange) signingKey(s *sigv4.Signature, secret string) *sigv4.SigningKey {
	of, c := scope{secret, s.Date, s.Region, s.Service}, x.w.wire
	if c != nil && c.signedIn == of {
		return c.signedFor
	}
	key, found := x.signing.GetIfPresent(of)
	if !found {
		key = s.SigningKey(secret)
		x.signing.Set(of, key)
	}
	if c != nil {
		c.signedIn, c.signedFor = of, key
	}
	return key
}
