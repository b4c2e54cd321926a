package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CheckURL judges a URL before it is stored: its form, scheme, port, and the host
// where that is an address, in whatever spelling. Names are judged when they are
// dialled. Errors that policy causes are ErrRefused.
func (g *Guard) CheckURL(rawURL string) error {
	if strings.ContainsFunc(rawURL, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return errors.New("not a URL: it holds blanks, control characters or backslashes")
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("not an absolute http or https URL") // not err: it repeats the URL, which may hold a password
	}
	plain := u.Scheme == "http"
	port := uint64(443)
	if plain {
		port = 80
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return errors.New("not a URL: a port is 1 to 65535")
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return errors.New("not a URL: the port is missing behind its colon")
	}

	host := u.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		return g.checkLiteral("", a, uint16(port), plain)
	}
	name, err := asciiHost(host)
	if err != nil || name == "" {
		return errors.New("not a URL: its host is no host name")
	}
	switch a, err := netip.ParseAddr(name); {
	case err == nil:
		return g.checkLiteral("", a, uint16(port), plain)
	case endsInNumber(name):
		return ErrRefused // 127.1, 0x7f000001, 017700000001: an address to some resolvers, a name to others
	case name == "localhost" || strings.HasSuffix(name, ".localhost"): // RFC 6761 section 6.3
		return g.checkLiteral(name, netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port), plain)
	}
	return g.checkName(name, uint16(port), plain)
}

func (g *Guard) checkLiteral(name string, a netip.Addr, port uint16, plain bool) error {
	err := g.judge(name, netip.AddrPortFrom(a, port), plain)
	if err != nil && plain && g.judge(name, netip.AddrPortFrom(a, port), false) == nil {
		return fmt.Errorf("plain http is off (egress.allowHttp): %w", ErrRefused)
	}
	return err
}

func (g *Guard) checkName(name string, port uint16, plain bool) error {
	prefixListed := false // then the name may turn out to be one of those
	for _, e := range g.allow {
		if e.port != 0 && e.port != port {
			continue
		}
		if e.host == name {
			return nil
		}
		prefixListed = prefixListed || e.host == ""
	}
	switch {
	case prefixListed:
		return nil
	case plain && !g.policy.AllowHTTP:
		return fmt.Errorf("plain http is off (egress.allowHttp): %w", ErrRefused)
	case g.portDenied(port):
		return ErrRefused
	}
	return nil
}

// endsInNumber says whether the last label of a name is a number, decimal or 0x-hex:
// no such top-level domain exists, and lenient parsers read the whole as IPv4.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}
