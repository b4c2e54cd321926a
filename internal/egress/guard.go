package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// ErrRefused is the one answer for everything that policy forbids. It names neither
// the address nor what was found there.
var ErrRefused = errors.New("address not allowed by egress.policy")

// Names of policies.
const (
	Public  = "public"  // global unicast only; the default
	Private = "private" // also the private ranges: receivers on the LAN
	Any     = "any"     // everything but loopback, link-local, multicast, metadata
)

// Resolver turns a name into addresses. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Policy is what an operator allows. Its zero value is "public", https only.
type Policy struct {
	Name      string   // Public (also ""), Private or Any
	Allow     []string // opened besides: CIDR, address or host name, each with an optional ":port"
	AllowHTTP bool     // plain http as well; without it only to what Allow lists

	// Mail judges for mail servers instead of web servers: no port is refused, and Any
	// opens loopback too, since a mail server on the same host is usual.
	Mail bool

	Own         []netip.AddrPort // our own listeners; an unspecified address means all of this host's
	Resolver    Resolver         // nil: Go's own resolver
	DialTimeout time.Duration    // one dial with its lookup; 0 = 5 s
}

// Guard is a policy at work.
type Guard struct {
	policy Policy
	allow  []entry
}

// entry is one line of Policy.Allow.
type entry struct {
	prefix netip.Prefix // invalid for a host
	host   string
	port   uint16 // 0 = any
}

// New reads a policy. All problems are joined into the error.
func New(p Policy) (*Guard, error) {
	if p.Name == "" {
		p.Name = Public
	}
	var errs []error
	if p.Name != Public && p.Name != Private && p.Name != Any {
		errs = append(errs, fmt.Errorf("policy %q: must be public, private or any", p.Name))
	}
	if p.Resolver == nil {
		p.Resolver = &net.Resolver{PreferGo: true}
	}
	if p.DialTimeout == 0 {
		p.DialTimeout = 5 * time.Second
	}
	g := &Guard{policy: p}
	for _, s := range p.Allow {
		e, err := parseEntry(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("allow %q: %w", s, err))
			continue
		}
		g.allow = append(g.allow, e)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

func parseEntry(s string) (entry, error) {
	what, port := s, ""
	if rest, ok := strings.CutPrefix(s, "["); ok {
		inner, after, ok := strings.Cut(rest, "]")
		if what = inner; !ok {
			return entry{}, errors.New("bracket is not closed")
		}
		if port, ok = strings.CutPrefix(after, ":"); !ok && after != "" {
			return entry{}, errors.New("a port follows the bracket, or nothing")
		}
	} else if strings.Count(s, ":") == 1 {
		what, port, _ = strings.Cut(s, ":")
		if port == "" {
			port = "0"
		}
	}
	var e entry
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return entry{}, errors.New("a port is 1 to 65535")
		}
		e.port = uint16(n)
	}
	if strings.Contains(what, "/") {
		p, err := netip.ParsePrefix(what)
		if err != nil {
			return entry{}, errors.New("not a CIDR prefix")
		}
		if p != p.Masked() {
			return entry{}, fmt.Errorf("has bits behind the prefix: write %s", p.Masked())
		}
		if p.Addr().Is4In6() {
			return entry{}, errors.New("write IPv4 prefixes as IPv4")
		}
		e.prefix = p
		return e, nil
	}
	if a, err := netip.ParseAddr(what); err == nil {
		a = a.WithZone("").Unmap()
		e.prefix = netip.PrefixFrom(a, a.BitLen())
		return e, nil
	}
	host, err := asciiHost(what)
	if err != nil || host == "" || endsInNumber(host) {
		return entry{}, errors.New("not an address, a CIDR prefix or a host name")
	}
	e.host = host
	return e, nil
}

// How an address is listed in Policy.Allow.
const (
	unlisted       = iota
	listed         // by prefix or by host name
	listedAddr     // as exactly this address
	listedAddrPort // as exactly this address and port
)

func (g *Guard) listing(host string, a netip.Addr, port uint16) int {
	best := unlisted
	for _, e := range g.allow {
		switch {
		case e.port != 0 && e.port != port:
		case e.host != "":
			if e.host == host {
				best = max(best, listed)
			}
		case !e.prefix.Contains(a):
		case !e.prefix.IsSingleIP():
			best = max(best, listed)
		case e.port == 0:
			best = max(best, listedAddr)
		default:
			best = max(best, listedAddrPort)
		}
	}
	return best
}

// judge says whether a connection to addr, found under the name host ("" for a
// literal), is allowed. plain is http without TLS.
func (g *Guard) judge(host string, addr netip.AddrPort, plain bool) error {
	if !addr.IsValid() || addr.Port() == 0 {
		return ErrRefused
	}
	all := views(addr.Addr())
	how := g.listing(host, all[0], addr.Port())
	for _, a := range all {
		if in(metadata, a) && how < listedAddr || g.own(a, addr.Port()) && how < listedAddrPort {
			return ErrRefused
		}
	}
	if how != unlisted {
		return nil
	}
	if plain && !g.policy.AllowHTTP && !g.policy.Mail || g.portDenied(addr.Port()) {
		return ErrRefused
	}
	for _, a := range all {
		if !g.open(a) {
			return ErrRefused
		}
	}
	return nil
}

// open is the policy itself, without the exceptions of judge.
func (g *Guard) open(a netip.Addr) bool {
	switch g.policy.Name {
	case Any:
		return !in(local, a) && (g.policy.Mail || !in(loopback, a))
	case Private:
		return in(private, a) || isPublic(a)
	default:
		return isPublic(a)
	}
}

func (g *Guard) portDenied(port uint16) bool {
	return g.policy.Name == Public && !g.policy.Mail && deniedPorts[port]
}

// own says whether one of our own listeners answers there.
func (g *Guard) own(a netip.Addr, port uint16) bool {
	for _, o := range g.policy.Own {
		if o.Port() != port {
			continue
		}
		at := o.Addr().WithZone("").Unmap()
		if at == a || at.IsUnspecified() && isThisHost(a) {
			return true
		}
	}
	return false
}

func isThisHost(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // unknown is ours: this only closes a port that we listen on
	}
	for _, ia := range addrs {
		if n, ok := ia.(*net.IPNet); ok {
			if b, ok := netip.AddrFromSlice(n.IP); ok && b.Unmap() == a {
				return true
			}
		}
	}
	return false
}

// asciiHost is a host name as DNS and Host headers carry it: lower case, IDNA
// mapped (which also turns full-width digits and dots into plain ones), without the
// root's dot.
func asciiHost(host string) (string, error) {
	ascii, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.Transitional(false)).ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("host name: %w", err)
	}
	ascii = strings.TrimSuffix(strings.ToLower(ascii), ".")
	if strings.Trim(ascii, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return "", errors.New("host name: only letters, digits, hyphens, underscores and dots")
	}
	return ascii, nil
}
