package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"shale/internal/identity"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// identify establishes who sent a request of the plain dialect: whom its bearer
// token stands for, or, where that is switched on, the anonymous one. A page of
// another origin needs a token, for it must not borrow its visitor's place in
// the network. Spec: plain-json, Which dialect a request gets.
func (x *exchange) identify() (snapshot.Caller, error) {
	if err := checkHeader(x.r); err != nil {
		return snapshot.Caller{}, err
	}
	who, err := x.bearer()
	switch {
	case err != nil:
		return snapshot.Caller{}, err
	case who != nil:
	case foreignOrigin(x.r):
		return snapshot.Caller{}, &sigv4.Error{Kind: sigv4.ForeignOrigin}
	case x.o.Anonymous == "":
		return snapshot.Caller{}, &sigv4.Error{
			Kind: sigv4.Missing,
			Detail: "the request has no credentials: send Authorization: Bearer and a token (shale token create), " +
				"sign it, or let the server be started with --anonymous",
		}
	default:
		who = identity.Root(x.o.Anonymous)
		x.asked.anonymous = true
	}
	region := x.o.Regions[0]
	if r, ok := hostRegion(x.r.Host); ok {
		if region = r; !slices.Contains(x.o.Regions, r) {
			return snapshot.Caller{}, x.wrongRegion()
		}
	}
	return x.known(who, region), nil
}

// hostRegion returns the region in a host name of the form ebs.{region}.….
func hostRegion(host string) (string, bool) {
	host = strings.ToLower(host)
	rest, ok := strings.CutPrefix(host, "ebs.")
	if !ok {
		return "", false
	}
	region, rest, ok := strings.Cut(rest, ".")
	return region, ok && region != "" && rest != ""
}

// foreignOrigin reports whether a web page that this server did not send is
// behind the request: such a page must not borrow its visitor's place in the
// network. A browser names the page's origin in everything that can change
// something, and in what the page reads from another origin.
//
// On loopback, an origin is ours only by an address or as localhost. Any other
// name that led a browser here may be a page's own, made to resolve to its
// visitor's loopback after the page was loaded. What such a page then reads is
// of its own origin, and the browser names none.
func foreignOrigin(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	loopback := local != nil && local.IP.IsLoopback()
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return loopback && fromBrowser(r.Header) && !rebindProof(r.Host)
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	if len(origins) > 1 || !strings.EqualFold(origins[0], scheme+r.Host) {
		return true
	}
	return loopback && !rebindProof(r.Host)
}

// fromBrowser reports whether a browser sent the header. Each sends its user's
// languages with every request; a page can change what they are, but not leave
// them out. Programs send none.
func fromBrowser(h http.Header) bool {
	return h["Accept-Language"] != nil || h["Sec-Fetch-Site"] != nil
}

// rebindProof reports whether no name server has a say in where host leads.
func rebindProof(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
