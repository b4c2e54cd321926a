package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddr is the address of whoever sent the request: that of the connection, unless
// it is a trusted proxy; then X-Forwarded-For is read from right to left, and the
// first address that is not a trusted proxy is the client. proxied says that the
// connection is a trusted proxy's, whose other headers may be believed as well.
func clientAddr(r *http.Request, trusted []netip.Prefix) (addr netip.Addr, proxied bool) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false // a unix socket or a test
	}
	addr = ap.Addr().Unmap().WithZone("")
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if !isTrusted(addr) {
		return addr, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break // what stands left of nonsense is nobody's word
		}
		addr = a.Unmap().WithZone("")
		if !isTrusted(addr) {
			break
		}
	}
	return addr, true
}

// network is what failures are counted by: an IPv4 address, or the /64 of an IPv6 one,
// since a host has all of that.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// allowed says whether an address is in one of the CIDRs; none at all allow every one.
func allowed(a netip.Addr, cidrs []string) bool {
	return len(cidrs) == 0 || slices.ContainsFunc(cidrs, func(c string) bool {
		p, err := parseCIDR(c)
		return err == nil && p.Contains(a)
	})
}

// parseCIDR reads a network, or a single address.
func parseCIDR(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
