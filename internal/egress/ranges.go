package egress

import "net/netip"

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i, p := range s {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

var (
	loopback = prefixes("127.0.0.0/8", "::1/128")

	// local are the addresses that reach this host's neighbours or nobody: link-local
	// (RFC 3927, RFC 4291), "this network" (RFC 791; Linux connects 0.0.0.0 to itself),
	// multicast, broadcast. No policy opens them.
	local = prefixes("0.0.0.0/8", "::/128", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")

	// metadata are the addresses at which clouds hand out credentials: AWS, GCP, Azure
	// and others; AWS over IPv6; Alibaba; Azure's host agent.
	metadata = prefixes("169.254.169.254/32", "fd00:ec2::254/128", "100.100.100.200/32", "168.63.129.16/32")

	// private is what policy "private" opens: RFC 1918, RFC 6598, RFC 4193.
	private = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

	// special is what policy "public" refuses: everything in the special purpose
	// registries that is not globally reachable unicast, and transition ranges that
	// carry somebody else's IPv4 address.
	special = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4",
		"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
		"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	)

	// globalV6 is all IPv6 unicast that has been given out so far (RFC 4291, section 2.4,
	// with IANA's registry): outside of it nothing public answers.
	globalV6 = netip.MustParsePrefix("2000::/3")

	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291, section 2.5.5.1, deprecated
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
)

// deniedPorts are refused under "public": services that are no web servers and that
// understand, or choke on, a line of HTTP.
var deniedPorts = map[uint16]bool{
	7: true, 9: true, 13: true, 19: true, // echo, discard, daytime, chargen
	20: true, 21: true, 22: true, 23: true, 25: true, 53: true, 69: true, 79: true,
	109: true, 110: true, 111: true, 119: true, 123: true, 135: true, 137: true, 138: true, 139: true, 143: true,
	161: true, 179: true, 389: true, 445: true, 465: true, 512: true, 513: true, 514: true, 515: true, 548: true,
	554: true, 587: true, 636: true, 873: true, 993: true, 995: true,
	1433: true, 1521: true, 2049: true, 2181: true, 2375: true, 2376: true, 2379: true, 2380: true,
	3306: true, 3389: true, 4369: true, 5060: true, 5061: true, 5432: true, 5672: true, 5900: true,
	6000: true, 6379: true, 6380: true, 6667: true, 10250: true, 11211: true, 26379: true, 27017: true,
}

func in(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// views are the addresses that a packet to a may end up at: the address itself
// and an IPv4 address inside it. All of them must be allowed. The first is the one
// that allow lists are compared with.
func views(a netip.Addr) []netip.Addr {
	a = a.WithZone("").Unmap()
	if !a.Is6() {
		return []netip.Addr{a}
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case nat64.Contains(a):
		return []netip.Addr{last}
	case nat64Local.Contains(a), compatible.Contains(a) && b[12]|b[13]|b[14] != 0:
		return []netip.Addr{a, last}
	case sixToFour.Contains(a):
		return []netip.Addr{a, netip.AddrFrom4([4]byte(b[2:6]))}
	}
	return []netip.Addr{a}
}

func isPublic(a netip.Addr) bool {
	return !in(special, a) && (a.Is4() || globalV6.Contains(a))
}
